"""Whose files are whose on a host: what is not what the server has by its id is set aside, never used or deleted."""
