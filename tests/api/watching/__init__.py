"""Routes of what was measured."""
