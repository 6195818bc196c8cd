"""Connections, transactions, locks and time-outs, on SQLite and PostgreSQL alike.

bulk.py       inserts of many rows
database.py   SQLite and PostgreSQL alike
fair_lock.py  a lock that is given in the order in which it was asked for
text.py       text that is no UTF-8
timeouts.py   how long a PostgreSQL is waited for
"""
