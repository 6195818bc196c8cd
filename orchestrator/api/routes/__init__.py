"""The routes, by subject.

accuracy.py    route of accuracy: coverage, the worst misses
actions.py     route of the audit listing: what people asked for
changes.py     routes that change a job that waits: set, hold, release
groups.py      routes of groups: the jobs of a sweep side by side; cancel, hold and release for all
history.py     route of ended jobs, for a simulation
hosts.py       routes of hosts and cards
jobs.py        routes of jobs: submit, list, show, logs, cancel, requeue
metrics.py     route of metrics: losses and speed by step
projects.py    routes of projects: their terms, what they hold
quarantine.py  route of quarantined records
reports.py     the route of hosts' reports, past FastAPI's layers
requeue.py     route of requeue: an ended job submitted again
results.py     routes of results: their bytes, on their way from the host to a client
secrets.py     routes of secrets of projects: set, listed by name, removed
whatif.py      routes that ask the planner: plan, why
watching/      routes for who watches
"""
