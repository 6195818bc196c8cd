"""Tables, column types, migrations, backups: the database as a whole.

column_types.py      JSON and text as columns hold them
epoch.py             which database this is, and since when: a restore begins a new epoch
migrate.py           revision, upgrade, check, backup
restore.py           a backup put back into place
tables.py            tables, constraints, indexes
unclean_shutdown.py  a SQLite database that nobody closed, looked at before it is worked with
"""
