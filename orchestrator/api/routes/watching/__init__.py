"""Routes for who watches.

cards.py       one card: what it does, which jobs ran on it
curves.py      a job's curves, by step and over time
fleet.py       the fleet as it is now: by column, and as a stream
notify.py      who is told of what happens to jobs and hosts
prometheus.py  /metrics
series.py      what was measured over time: lines of cards, hosts, jobs, the fleet
session.py     signing in to the page, and out
usage.py       where GPU-seconds and energy went
"""
