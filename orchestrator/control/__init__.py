"""Parts of the controller's loop."""
