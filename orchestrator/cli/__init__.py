"""The command line: one small module a group of verbs, imported when the verb runs."""
