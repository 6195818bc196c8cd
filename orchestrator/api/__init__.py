"""The HTTP API: the one door to the server."""
