"""plan(given) -> Plan: who starts where, who is stopped for whom, and why the others wait. README.md: the cycle.

eta.py           How far an expected end may be off. Pure
fair_share.py    who is served next in a plan
feasibility.py   which cards of a host could take a job, and why none could
fleet.py         the snapshot
job_class.py     classes of equivalent jobs, which fit the same cards alike
plan.py          plan(given) -> Plan: the scheduling cycle
policy.py        the rules of a policy, and what a job is ranked by under them
reasons.py       why a job waits that some card would take
reservations.py  starts to come, and what may run before them
steps.py         what follows a training: jobs that take no card
usage.py         how what was used fades
cache/           what the scheduler keeps between plans, behind one door. Dropping it changes no plan
placement/       which cards a job gets: the free capacity of the fleet, and the cheapest card and rung that fit
preemption/      who is stopped for whom, and for whom the cleared cards are kept
"""
