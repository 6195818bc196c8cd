"""What a CUDA card does and the CPU of a trace does not, emulated during a trace.

attention.py      attention as CUDA's kernels save it and compute it
cuda_paths.py     what a CUDA card does differently from the CPU that traces for it
fake_four_bit.py  bitsandbytes' 4-bit layer as the trace sees it
grouped_mm.py     grouped products of experts on fake tensors, in every type
import_stubs.py   imports that a trace does not need, stubbed
valid_tokens.py   the loss on tokens that are no padding, whose number fake tensors do not have
"""
