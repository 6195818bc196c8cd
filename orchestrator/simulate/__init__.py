"""The scheduler on a virtual clock: a trace and a fleet through the very same plan().

engine.py      a trace through plan() on a virtual clock
fleet_file.py  a fleet in YAML or CSV -> hosts, projects
generate.py    traces made up from published distributions
history.py     a server's answers -> a trace, a fleet
metrics.py     completion and waiting times, utilisation, fairness
pools.py       what pools mean: walls, guarantees, nothing
trace.py       a job of a trace, and what became of it
trace_csv.py   a CSV file -> a trace, every fault with its line
usage.py       GPU-seconds of projects and users, counted as a server does
"""
