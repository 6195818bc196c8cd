"""`make bench-memory ARGS='--double'`: projections against torch's real CUDA allocator, on a card that is not there."""
