"""Verbs about jobs: submit, list, show, logs, metrics, pull, cancel and changes.

changes.py         tuneyard set, hold, release
columns.py         the columns that a list of jobs can have
control.py         tuneyard cancel and requeue
curves.py          the curves of a training: in a terminal, as a picture
follow_metrics.py  the lines of a training as they come
list.py            tuneyard list
logs.py            tuneyard logs
metrics.py         tuneyard metrics
pull.py            tuneyard pull
report.py          tuneyard report: one job as one file
show.py            tuneyard show and why: one job in sections
submit.py          tuneyard submit
sweep.py           a sweep as a table: what differs, and what came of it
"""
