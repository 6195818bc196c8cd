"""What torch's CUDA allocator holds beside live tensors: terms with a reason each, and how far off they were.

fitted.py     the terms in numbers, and how they are worked out again
residuals.py  how far off they were on the CUDA double: the prior margin
terms.py      what torch's CUDA allocator holds beside live tensors, each term with its reason
"""
