"""Where GPU-seconds and energy went.

parts.py   the time of one lease, split: start-up, training, recomputing, lost, idle. Pure
report.py  all leases of a span of time, with what their cards drew
"""
