"""History, on both databases."""
