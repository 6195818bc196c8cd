"""`tuneyard top` by Textual's own Pilot, over a real server."""
