"""A job's result on its way from the GPU host through the server to a client."""
