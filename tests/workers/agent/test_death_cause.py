"""A trainer that dies without a word: whether that was its CPU card's memory."""

from __future__ import annotations

import pytest

from jobs.messages.reports import Progress
from jobs.state import Outcome
from jobs.units import GiB, MiB
from tests.workers.agents import Host
from tests.workers.builders import make_assignment
from tests.workers.fake_server import FakeServer
from workers.agent.death_cause import ran_out
from workers.attempt_folder import AttemptFolder

# make_assignment's card has 8 GiB.
DIES = """
steps(1, 2)
folder.append_progress(Progress(ts=time.time(), step=3, total_steps=100, loss=1.0, device_bytes={used}))
with folder.log_path.open("a") as log:
    log.write({words!r})
{how}
"""
BAD_ALLOC = "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n"
RUST = "memory allocation of 4194304 bytes failed\n"
KILLS = "import signal; os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    ("used", "words", "how", "outcome", "says"),
    [
        (300 * MiB, BAD_ALLOC, "os.abort()", Outcome.OOM, "the process ended itself (std::bad_alloc)"),
        (300 * MiB, RUST, "os.abort()", Outcome.OOM, "memory allocation of 4194304 bytes failed"),
        (8 * GiB - 40 * MiB, "", "import ctypes; ctypes.string_at(0)", Outcome.OOM, "with 7.96 GiB in use"),
        (8 * GiB - 40 * MiB, "", KILLS, Outcome.OOM, "with 7.96 GiB in use"),
        (300 * MiB, "", KILLS, Outcome.LOST, "ended without an outcome"),
        (300 * MiB, "", "os.abort()", Outcome.LOST, "ended without an outcome"),
        (300 * MiB, BAD_ALLOC + "x" * 9000, KILLS, Outcome.LOST, "ended without an outcome"),
    ],
)
def test_running_out_by_a_signal_is_told_from_other_deaths(
    server: FakeServer, host: Host, used: int, words: str, how: str, outcome: Outcome, says: str
) -> None:
    server.open_attempt(7)
    host.train(7, DIES.format(used=used, words=words, how=how))
    host.tick_until(lambda: 7 in server.ended)
    ended = server.ended[7]
    assert (ended.outcome, ended.steps, ended.device_bytes) == (outcome, 3, used), ended.message
    assert says in ended.message
    assert (outcome is Outcome.OOM) == ended.message.startswith("memory ran out on cpu with 8.00 GiB")


def test_of_a_share_it_is_the_share_that_counts_and_of_a_gpu_nothing(host: Host) -> None:
    folder = AttemptFolder(host.root, 9)
    mine = make_assignment(host.root, host.root)
    line = Progress(ts=1.0, step=1, total_steps=2, device_bytes=1 * GiB)
    shared = mine.model_copy(update={"shared": True, "upper_bytes": 1 * GiB})
    assert "a share" not in (ran_out(folder, shared, line) or "") and ran_out(folder, shared, line)
    assert ran_out(folder, mine, line) is None and ran_out(folder, None, line) is None
    gpu = mine.gpus[0].model_copy(update={"kind": "cuda"})
    assert ran_out(folder, shared.model_copy(update={"gpus": [gpu]}), line) is None
