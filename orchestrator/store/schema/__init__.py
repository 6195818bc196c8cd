"""Tables, constraints, indexes and column types.

column_types.py  JSON and text as columns hold them
tables.py        tables, constraints, indexes
"""
