"""`python -m orchestrator.store.maintenance.new_migration "what changes"`, after a change of schema/tables.py."""

from __future__ import annotations

import sys

from migrations.run import write
from orchestrator.store.schema.tables import metadata

if __name__ == "__main__":
    write(" ".join(sys.argv[1:]), metadata)
