"""A job's first steps in front of the CUDA double: the trainer that would run it, torch's real allocator, no GPU.

__main__.py     the process of it
child.py        starts that process, and takes its answer
from_config.py  a job whose weights are not here, its config in their place
held.py         who held what of a card when its memory ran out
messages.py     what it is asked, what it answers
run.py          makes the steps
trainer.py      the trainer, with the longest rows in each step
weights.py      whether weights are here; models built without any
"""
