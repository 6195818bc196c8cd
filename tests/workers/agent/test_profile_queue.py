"""The tracer: what is wanted is done once, and kept until the server has it."""

from __future__ import annotations

import queue
import threading

import pytest

from jobs.jobfile.spec import JobSpec
from jobs.messages.reports import TraceRequest, TraceResult
from workers.agent.profile_queue import Tracer

SPEC = JobSpec.model_validate({"model": "org/model", "data": "org/data"})


class Bench:
    """A tracer whose traces wait until they are let go."""

    def __init__(self) -> None:
        self.begun: queue.Queue[tuple[str, ...]] = queue.Queue()
        self.may_end = threading.Semaphore(0)
        self.done = threading.Semaphore(0)
        self.tracer = Tracer(self._trace, self.done.release)

    def _trace(self, request: TraceRequest) -> TraceResult:
        self.begun.put(request.keys)
        assert self.may_end.acquire(timeout=10)
        if request.key == "bad":
            raise RuntimeError("no")
        return TraceResult(key=request.key, data_key=request.data_key)

    def order(self, *keys: tuple[str, str]) -> None:
        self.tracer.order([TraceRequest(key=key, data_key=data, spec=SPEC) for key, data in keys])

    def end(self) -> tuple[str, ...]:
        """Let one trace end. Returns what it was of."""
        keys = self.begun.get(timeout=10)
        self.may_end.release()
        assert self.done.acquire(timeout=10)
        return keys

    def keys(self) -> list[tuple[str, ...]]:
        return [result.keys for result in self.tracer.results()]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_is_under_way_or_done_is_not_done_again(bench: Bench) -> None:
    bench.order(("a", ""))
    bench.order(("a", "x"), ("b", "y"))  # the lengths are news, the profile is not
    bench.order(("a", "x"), ("", "y"), ("b", ""))
    assert [bench.end() for _ in range(3)] == [("a",), ("x",), ("b", "y")]
    bench.order(("a", "x"), ("b", "y"))
    assert bench.begun.empty()
    assert bench.keys() == [("a",), ("x",), ("b", "y")]


def test_a_result_goes_once_the_server_wants_none_of_it(bench: Bench) -> None:
    bench.order(("a", "x"), ("b", ""))
    bench.end(), bench.end()
    sent = bench.tracer.results()
    bench.tracer.acknowledge(sent, {"x"})
    assert bench.keys() == [("a", "x")]
    bench.tracer.acknowledge([], set())  # it was in no report yet
    assert bench.keys() == [("a", "x")]
    bench.tracer.acknowledge(sent, set())
    assert bench.keys() == []


def test_a_fault_of_ours_is_an_answer_to_all_that_was_wanted(bench: Bench) -> None:
    bench.order(("bad", "x"), ("b", ""))
    bench.end(), bench.end()
    bad, good = bench.tracer.results()
    assert (bad.keys, good.keys) == (("bad", "x"), ("b",))
    assert bad.error == bad.data_error == "the trace failed: RuntimeError: no"
