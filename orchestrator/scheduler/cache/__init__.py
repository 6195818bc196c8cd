"""What the scheduler keeps between plans, behind one door (scheduler_cache.py). An empty one gives the same plans.

job_classes.py      the classes of jobs in a fleet, worked out once for all jobs of a shape
pending_queue.py    the pending jobs in their order, kept from plan to plan
running_index.py    the running jobs by card group, and how far ahead a waiting one must be to stop some
scheduler_cache.py  the door: submitted, started, changed, ended; and what a plan is made from
"""
