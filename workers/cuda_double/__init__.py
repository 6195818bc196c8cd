"""CUDA cards that are not there: a library that stands in for NVIDIA's. Real allocator, no GPU.

__main__.py     `python -m workers.cuda_double --cards rtx4090 -- CMD`
answers.py      values that decide shapes, and whether numbers are finite
build.py        the libraries of an environment, from the shell
cards.py        what CUDA shows of each card of the catalogue
environment.py  where the environment is, the variables of a process in it
hook.py         answers in every process that imports torch
host.py         an environment made of this machine's own torch
imports.py      what CUDA libraries import, and which of it may do nothing
library.py      compiles and links what stands in for NVIDIA's libraries
numbers.py      numbers that are finite, or not any more
traces.py       counts of kernels and calls
"""
