"""Questions to the planner that change nothing: job figures, likely start times, what would help.

changes.py      what in its own job file would let a job start sooner, tried with all that wait
job_figures.py  profile, card and choice -> the figures of a plan
start_times.py  when queued jobs are likely to start
"""
