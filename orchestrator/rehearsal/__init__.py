"""A job's rehearsal on this machine: the rung that a plan chooses for a card, run in front of the CUDA double.

here.py     a rehearsal on this machine, from the job file to what it came to
prepare.py  its job, card and projection
report.py   what it came to, as one JSON value
"""
