"""Verbs that ask before anything runs: plan, rehearse, simulate, accuracy, init, convert.

accuracy.py    tuneyard accuracy
convert.py     tuneyard convert: a job file from a configuration of another tool
init.py        tuneyard init and schema: what a job file looks like
plan.py        tuneyard plan
rehearse.py    `tuneyard rehearse`
simulate.py    tuneyard simulate: its flags
simulation.py  a simulation as it asks for it
"""
