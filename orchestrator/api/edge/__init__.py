"""In front of every route: authentication, limits, known query parameters, one shape of every refusal.

bodies.py          parses bodies on a thread
budget.py          limits on what a request and a client may cost
connections.py     time limits of requests, and a limit of connections
database_probe.py  the state of the database for health, without waiting for it
gate.py            the token and a bound on the body
lanes.py           the threads that work on submissions
listener.py        the event loop's beat, which shows that it is not blocked
query.py           refuses parameters that a route does not know
refusals.py        one shape of every refusal
report_batches.py  reports of hosts, collected so that many are stored under one commit
surviving.py       answers without the records that can't be read, which they name
threads.py         threads that do what they are handed
times.py           moments as people and programs write them
whole_answers.py   an answer leaves in one piece
"""
