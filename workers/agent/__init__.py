"""The host agent: what it does for the server beside supervising trainers."""
