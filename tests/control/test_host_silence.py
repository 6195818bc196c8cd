"""The clock that stands still while the server is deaf, and what silence is by it."""

from __future__ import annotations

from orchestrator.control.host_silence import Hearing, Wakefulness


class Time:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_goes_while_all_beat_and_stands_still_while_one_does_not() -> None:
    time = Time()
    awake = Wakefulness({"loop": 1.0, "database": 5.0}, time)
    time.now += 50
    awake.beat("loop")
    time.now += 0.5
    assert awake.now_s() == 0.0, "nobody was heard before all of it was up"
    awake.beat("database")
    for _ in range(8):
        time.now += 0.5
        awake.beat("loop")
    assert awake.now_s() == 4.0
    time.now += 100  # stopped, suspended, or a loop that was blocked
    assert awake.now_s() == 5.0
    for source in ("loop", "database"):
        awake.beat(source)
    assert awake.now_s() == 5.0
    for _ in range(20):  # the loop beats, the database is away
        time.now += 0.5
        awake.beat("loop")
    assert awake.now_s() == 10.0


def test_silence_is_counted_by_it_and_not_by_the_time_of_day() -> None:
    awake, day = Time(), 1e9
    heard = Hearing(awake)
    host = ("host", 1)
    assert heard.silent_s(host, day - 500, day) == 0.0, "before it began, nobody listened"
    awake.now += 7
    assert heard.silent_s(host, day - 500, day + 1e6) == 7.0
    awake.now += 2
    assert heard.silent_s(host, day + 2, day + 3) == 1.0, "news, a second old"
    awake.now += 4
    assert heard.silent_s(host, day - 3600, day - 3600) == 0.0, "news, after the clock was put back"
    awake.now += 4
    assert heard.silent_s(host, day + 9, day + 3600) == 4.0, "news can't be older than the last look"
    heard.restart()
    awake.now += 2
    assert heard.silent_s(host, day + 9, day + 3600) == 2.0


def test_what_has_ended_is_forgotten() -> None:
    awake = Time()
    heard = Hearing(awake)
    awake.now += 10
    for number in (1, 2):
        assert heard.silent_s(("opened", number), 0.0, 10.0) == 10.0
    heard.silent_s(("host", 1), 10.0, 10.0)
    awake.now += 1
    heard.keep_only(("opened",), {2})
    assert list(heard._marks) == [("opened", 2), ("host", 1)]
