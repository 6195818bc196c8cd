"""Rows of the store -> the fleet snapshot that a plan is made from.

build.py             rows -> snapshot
cache.py             what follows from immutable rows, worked out once: specs, keys, profiles, choices
pending_jobs.py      queued jobs, one record each: what did not change is the same object, with the same generation
progress.py          how far jobs have come, and when they end
readable.py          the rows of one instant without what can't be read
sequence_lengths.py  lengths of data, filled into the snapshot
"""
