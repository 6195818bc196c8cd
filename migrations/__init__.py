"""Changes of the database's tables, by Alembic.

checks.py  CHECK constraints changed in place
env.py     alembic's entry
run.py     migrations on an engine, from any folder
versions/  one file a change. The four digits that begin its name are its revision: orchestrator.store reads
           them
"""
