"""The database's history: one file in versions/ for each change, run by Alembic without an alembic.ini."""
