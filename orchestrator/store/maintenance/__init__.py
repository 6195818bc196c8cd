"""The database as a whole: upgrades, backups, restores, epochs, the audit of what must hold.

audit.py             what must always hold, checked
epoch.py             which database this is, and since when: a restore begins a new epoch
migrate.py           revision, upgrade, check, backup
new_migration.py     writes the migration to the tables of today
restore.py           a backup put back into place
unclean_shutdown.py  a SQLite database that nobody closed, looked at before it is worked with
"""
