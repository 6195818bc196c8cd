"""The migrations, on both databases."""
