"""Changes of the database's tables, by Alembic. They know no table of today's: metadata is an argument.

checks.py  CHECK constraints changed in place
env.py     alembic's entry
run.py     migrations on an engine, from any folder
versions/  one file a change; the four digits that begin its name are its revision
"""

from __future__ import annotations

from pathlib import Path


def revisions() -> list[str]:
    """All revisions, oldest first. Alembic could tell, but an idle server does not pay for importing it."""
    folder = Path(__file__).parent / "versions"
    return sorted(path.name[:4] for path in folder.glob("[0-9][0-9][0-9][0-9]_*.py"))
