"""Verbs about jobs and what came of them: list, sweeps, metrics, pull.

columns.py         the columns that a list of jobs can have
curves.py          the curves of a training: in a terminal, as a picture
follow_metrics.py  the lines of a training as they come
listing.py         tuneyard list
metrics.py         tuneyard metrics
pull.py            tuneyard pull
sweep.py           a sweep as a table: what differs, and what came of it
"""
