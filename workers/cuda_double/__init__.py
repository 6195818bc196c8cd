"""CUDA cards that are not there: NVIDIA's libraries stood in for by ours. Real allocator, no GPU."""
