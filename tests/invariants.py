"""What must always hold (DESIGN, section 5), asked of a database at the end of every test that touches it."""

from __future__ import annotations

from orchestrator.store import Store
from orchestrator.store.audit import faults


def check_all(store: Store) -> None:
    """Fails with every breach. tests/store/test_audit.py shows that each kind of breach is found."""
    with store.read() as connection:
        found = faults(connection)
    assert not found, "the database breaks its invariants:\n" + "\n".join(f"  {fault}" for fault in found)
