"""A job's rehearsal on this machine: the rung that a plan chooses for a card, run in front of the CUDA double."""
