"""What stands in front of every route: the gate, what a query may have, and the shape of every refusal.

budget.py          what a request and a client may cost
connections.py     half-sent requests end, and there is a most of connections
database_probe.py  what health tells of the database, without waiting for it
gate.py            the token and a bound on the body
lanes.py           the threads that submissions are worked on
listener.py        the event loop, which says that it is not held up
query.py           only parameters that a route knows
refusals.py        one shape of every refusal
report_batches.py  reports of hosts, collected so that many are stored under one commit
surviving.py       answers without the records that can't be read, which they name
"""
