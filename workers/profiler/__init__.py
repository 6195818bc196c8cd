"""The real training step on fake tensors -> MemoryProfile.

attention.py  attention as CUDA's kernels keep it and work in it
"""
