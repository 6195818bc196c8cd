"""The sections of a job file, each with its keys, defaults and descriptions.

base.py       what every section has in common
data.py       what it is trained on
memory.py     checkpointing, offload, micro-batch
method.py     which weights are trained
model.py      what is trained
resources.py  what a job needs of the fleet
sweep.py      what jobs of one submission have to do with each other
training.py   learning rate, length and batch
"""
