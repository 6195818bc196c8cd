"""What a card has and the CPU of a trace has not, put in place for the length of a trace.

attention.py      attention as CUDA's kernels keep it and work in it
cuda_paths.py     what a CUDA card does differently from the CPU that traces for it
fake_four_bit.py  bitsandbytes' 4-bit layer as the trace sees it
grouped_mm.py     grouped products of experts on fake tensors, in every type
import_stubs.py   what a trace has no use for of what its libraries import
"""
