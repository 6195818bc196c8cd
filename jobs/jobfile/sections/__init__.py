"""The sections of a job file, each with its keys, defaults and descriptions.

base.py       what every section has in common
data.py       what it is trained on
dpo.py        options of trainer: dpo
kto.py        options of trainer: kto
memory.py     checkpointing, offload, micro-batch
method.py     which weights are trained
model.py      what is trained
resources.py  what a job needs of the fleet
reward.py     options of trainer: reward
sweep.py      what jobs of one submission have to do with each other
then.py       what follows training
training.py   learning rate, length and batch
"""
