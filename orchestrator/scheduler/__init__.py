"""plan(fleet, now) -> Plan: who starts where, who is stopped for whom, and why the others wait.

eta.py           How far an expected end may be off. Pure
fair_share.py    who is served next in a plan
fleet.py         the snapshot
job_class.py     kinds of jobs, which fit the same cards alike
plan.py          plan(fleet, now) -> Plan: the scheduler
policy.py        the rules of a policy, and what a job is ranked by under them
reasons.py       why a job waits that some card would take
reservations.py  starts to come, and what may run before them
usage.py         how what was used fades
cache/           what the scheduler keeps between plans. Dropping it changes no plan
placement/       which cards a job gets: the free capacity of the fleet, and the cheapest card and rung that fit
preemption/      who is stopped for whom, and for whom the cleared cards are kept
"""
