"""One server decides; what another decides that thinks it does is refused by the database, in that very transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from jobs.errors import Deposed, Unavailable
from jobs.state import Code, Reason
from orchestrator.store import Store
from orchestrator.store.leader_lease import Candidate, Fence
from orchestrator.store.schema.tables import leader
from tests.builders import NOW, joined, opened, start_attempt, submitted


def candidate(name: str) -> Candidate:
    return Candidate(name, f"lock of {name}", f"http://{name}", name)


def leading(store: Store, name: str) -> tuple[Store, Fence]:
    """A store through which that server decides, from now on."""
    fence = Fence(name)
    fence.epoch = store.take_lead(candidate(name), store.lead(), NOW)
    assert fence.epoch is not None
    return store.for_leader(fence), fence


def test_nobody_leads_a_new_database_and_who_takes_it_is_told(store: Store) -> None:
    assert (store.lead().holder, store.lead().epoch) == (None, 0)
    led, _ = leading(store, "a")
    led.keep_lead("10.0.0.1:6379")
    found = store.lead()
    assert (found.holder, found.epoch, found.url, found.host) == ("a", 1, "http://a", "a")
    assert (found.since, found.ray_address) == (NOW, "10.0.0.1:6379")


def test_it_is_taken_from_what_was_seen_or_not_at_all(store: Store) -> None:
    led, _ = leading(store, "a")
    seen = store.lead()
    led.keep_lead(None)
    assert store.take_lead(candidate("b"), seen, NOW) is None, "it lives"
    assert store.take_lead(candidate("b"), store.lead(), NOW) == 2
    led.close()


def test_every_decision_is_a_beat(store: Store) -> None:
    led, _ = leading(store, "a")
    job, before = submitted(store), store.lead().beat
    assert led.fail_queued(job.id, Reason(Code.BAD_INPUT, "no"), NOW)
    assert store.lead().beat == before + 1


def test_a_deposed_one_decides_nothing(store: Store) -> None:
    host_id, gpu_ids = joined(store, gpus=2)
    led, fence = leading(store, "a")
    attempt = opened(led, submitted(led), host_id, gpu_ids[:1])
    waiting = submitted(store)
    leading(store, "b")
    with pytest.raises(Deposed, match="another took over after epoch 1"):
        start_attempt(led, waiting.id, host_id, gpu_ids[1:], {}, {}, NOW)
    assert fence.epoch is None
    decisions: list[Callable[[], object]] = [
        lambda: led.fail_queued(waiting.id, Reason(Code.BAD_INPUT, "no"), NOW),
        lambda: led.request_stop(attempt.id, "preempted", NOW),
        lambda: led.mark_dispatched([attempt.id], NOW),
        lambda: led.prune_history(NOW),
        lambda: led.keep_lead(None),
        led.release_lead,
    ]
    for decision in decisions:
        with pytest.raises(Deposed):
            decision()
    assert store.job(waiting.id).state == "queued"
    assert store.attempt(attempt.id).outcome is None
    assert (store.lead().holder, store.lead().epoch) == ("b", 2)
    assert submitted(store).id, "what people ask for is taken by any server"


def test_one_of_an_epoch_before_a_restore_is_refused_though_its_number_came_again(store: Store) -> None:
    led, _ = leading(store, "a")
    with store.write() as connection:  # as the backup has it
        connection.execute(leader.update().values(epoch=0, holder=None))
    leading(store, "b")
    assert store.lead().epoch == 1
    with pytest.raises(Deposed):
        led.keep_lead(None)


def test_one_that_releases_it_is_followed_at_once(store: Store) -> None:
    led, _ = leading(store, "a")
    led.release_lead()
    assert store.lead().holder is None
    assert leading(store, "b")[1].epoch == 2


def test_a_decision_and_a_takeover_come_one_after_the_other(open_store: Callable[[], Store]) -> None:
    """Whichever is first: a decision is never committed after the takeover."""
    store, other = open_store(), open_store()
    led, _ = leading(store, "a")
    job = submitted(store)
    began, go = threading.Event(), threading.Event()
    failed: list[Exception] = []

    def decide() -> None:
        try:
            with led.write() as connection:
                began.set()
                assert go.wait(60)
                connection.execute(sa.text("UPDATE jobs SET priority = 99 WHERE id = :id"), {"id": job.id})
        except Exception as error:
            failed.append(error)

    deciding = threading.Thread(target=decide)
    deciding.start()
    assert began.wait(60)
    seen = other.lead()
    taken: list[int | None] = []
    taking = threading.Thread(target=lambda: taken.append(other.take_lead(candidate("b"), seen, NOW)))
    taking.start()
    taking.join(0.3)
    assert not taken, "it waits for the decision"
    go.set()
    deciding.join(60)
    taking.join(60)
    assert not failed and store.job(job.id).priority == 99
    assert taken == [None], "the decision was a beat: the leader lives"


def test_postgresql_ends_a_decision_whose_process_says_nothing(open_store: Callable[[], Store]) -> None:
    """As one that was stopped in the midst of it: the takeover does not wait for ever."""
    store, other = open_store(), open_store()
    if store.is_sqlite:
        pytest.skip("SQLite has nobody who could: a stopped process holds the file's lock")
    led, _ = leading(store, "a")
    job, seen = submitted(store), store.lead()
    with pytest.raises(Unavailable), led.write() as connection:
        connection.execute(sa.text("UPDATE jobs SET priority = 99 WHERE id = :id"), {"id": job.id})
        assert other.take_lead(candidate("b"), seen, NOW) == 2
    assert store.job(job.id).priority != 99
