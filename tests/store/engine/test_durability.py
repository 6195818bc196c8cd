"""What was acknowledged outlives the process that did it; what was not is stored whole or not at all."""

from __future__ import annotations

import subprocess
import sys

from orchestrator.store import Store
from tests.invariants import check_all

SUBMITS = """
import sys
from orchestrator.store import Store
from tests.builders import NOW, a_job
store = Store(sys.argv[1])
while True:
    print(*(row.id for row in store.submit([a_job(), a_job()], NOW)), flush=True)
"""


def test_a_killed_server_lost_nothing_it_acknowledged(url: str) -> None:
    with subprocess.Popen([sys.executable, "-c", SUBMITS, url], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(30)]
        child.kill()
        said += child.stdout.readlines()[:-1]  # the last line may be cut
    acknowledged = {int(job_id) for line in said for job_id in line.split()}
    store = Store(url)
    stored = {row.id for row in store.jobs(limit=100_000)}
    assert len(acknowledged) >= 60 and acknowledged <= stored
    assert len(stored) % 2 == 0, "jobs submitted together are stored together"
    check_all(store)
    store.close()
