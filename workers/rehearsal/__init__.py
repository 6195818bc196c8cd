"""A job's first steps in front of the CUDA double: the trainer that would run it, torch's real allocator, no GPU."""
