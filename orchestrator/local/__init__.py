"""What runs on this machine alone, without a server: a plan, and a rehearsal in front of the CUDA double.

plan.py       a plan made on this machine alone
prepare.py    its job, card and projection
rehearsal.py  a rehearsal on this machine, from the job file to what it came to
report.py     what it came to, as one JSON value
"""
