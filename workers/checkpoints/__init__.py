"""Checkpoints of a job: published whole, verified by checksum, pruned; the room that they take."""
