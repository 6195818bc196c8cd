"""A job's first steps in front of the CUDA double: the trainer that would run it, torch's real allocator, no GPU.

__main__.py     the process that rehearses
child.py        starts that process, and takes its answer
from_config.py  a job whose weights are not on this machine, built from its config
held.py         what held a card's memory when it ran out
messages.py     its request and its answer
run.py          makes the steps
trainer.py      the trainer, with the longest rows in each step
weights.py      whether weights are on this machine; models built without them
"""
