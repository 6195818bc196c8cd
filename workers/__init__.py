"""What runs on a GPU host. Knows jobs, never the orchestrator, never the database."""
