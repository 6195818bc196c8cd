"""Who runs where, and the record of it."""
