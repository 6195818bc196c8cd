"""Tables, constraints, indexes and column types.

column_types.py    JSON and text as columns hold them
history_tables.py  the tables of what was measured, in steps and thinned
metadata.py        what every table is made with
tables.py          tables, constraints, indexes
"""
