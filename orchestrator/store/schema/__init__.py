"""Tables, constraints, indexes and column types.

column_types.py    JSON and text as columns hold them
history_tables.py  the tables of what was measured, in steps and thinned
metadata.py        what every table is made with
notice_tables.py   who is told of what, and the outbox
secret_tables.py   secrets of projects, sealed
tables.py          tables, constraints, indexes
telemetry_tables.py  the tables of what arrives by the thousand
"""
