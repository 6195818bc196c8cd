"""Terms of projects."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from jobs.errors import NotFound
from orchestrator.store import Store
from orchestrator.store.rows import ProjectRow
from tests.builders import NOW, a_job, joined, opened, submitted


def test_terms_are_made_changed_and_removed(store: Store) -> None:
    assert store.projects() == []
    assert store.set_project("ours", {"guarantee": 8}, NOW) == ProjectRow("ours", 8, 1.0, True)
    assert store.set_project("ours", {"weight": 2.5}, NOW) == ProjectRow("ours", 8, 2.5, True)
    store.set_project("ours", {"guarantee": None, "borrows": False}, NOW)
    assert store.set_project("apart", {}, NOW) == ProjectRow("apart")
    terms = [ProjectRow("apart"), ProjectRow("ours", None, 2.5, False)]
    assert store.projects() == store.fleet_rows().projects == terms
    store.remove_project("ours", NOW)
    assert store.set_project("apart", {}, NOW) == ProjectRow("apart")
    assert [row.name for row in store.projects()] == ["apart"]
    with pytest.raises(NotFound, match="'ours' has terms"):
        store.remove_project("ours", NOW)


@pytest.mark.parametrize("terms", [{"guarantee": -1}, {"weight": 0.0}])
def test_the_database_refuses_what_no_terms_are(store: Store, terms: dict[str, float]) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        store.set_project("ours", terms, NOW)


def test_what_projects_hold_and_wait_for(store: Store) -> None:
    host_id, gpu_ids = joined(store, gpus=3)
    opened(store, submitted(store, project="ours"), host_id, gpu_ids[:2])
    store.submit([a_job(project="ours"), a_job(), a_job()], NOW)
    assert store.project_loads() == {"ours": (1, 2), "default": (2, 0)}
