"""What torch's CUDA allocator holds beside live tensors: simulated or by terms, and how far off that was.

caching_allocator.py  torch's allocator with segments that don't expand: its rules without its card
events.py             what a traced step allocates and frees, in order
fitted.py             the terms in numbers, and how they are worked out again
replay.py             a job's first steps on the simulated allocator
residuals.py          how far off projections were on the CUDA double: the prior margin
terms.py              what torch's CUDA allocator holds beside live tensors, each term with its reason
"""
