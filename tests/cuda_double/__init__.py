"""The CUDA double, and what runs in front of it: real allocator, no GPU."""
