"""The routes, by subject.

accuracy.py    route of accuracy: coverage, the worst misses
actions.py     route of the audit listing: what people asked for
changes.py     routes that change a job that waits: set, hold, release
groups.py      routes of groups: the jobs of a sweep side by side; cancel, hold and release for all
history.py     route of history: ended jobs, for a simulation
hosts.py       routes of hosts and cards
jobs.py        routes of jobs: submit, list, show, logs, cancel, requeue
metrics.py     route of metrics: what a training told of its steps
projects.py    routes of projects: their terms, what they hold
quarantine.py  the route of what is left alone
reports.py     the route of hosts' reports, past FastAPI's layers
requeue.py     an ended job submitted again, from where it had come to
results.py     routes of results: their bytes, on their way from the host to a client
whatif.py      routes that ask the planner: plan, why
"""
