"""The fleet is read once for all who ask, and less often the longer it takes."""

from __future__ import annotations

import threading

import pytest

from jobs.errors import Unavailable
from orchestrator.api.live.window import APART_S, SHARE, Window


class Reader:
    def __init__(self) -> None:
        self.now, self.worked_s, self.reads, self.away = 0.0, 0.0, 0, False
        self.works_s, self.waits_s = 0.0, 0.0  # of each read: for a core, for the database

    def clock(self) -> float:
        return self.now

    def read(self):
        self.reads += 1
        self.worked_s += self.works_s
        self.now += self.works_s + self.waits_s
        if self.away:
            raise Unavailable("the database is away")
        return {"reads": self.reads}


@pytest.fixture
def reader():
    return Reader()


@pytest.fixture
def window(reader):
    made = Window(reader.clock, lambda: reader.worked_s)
    made.read = reader.read
    return made


def test_it_is_read_again_once_it_is_a_second_old(reader, window):
    assert [window.look()["reads"] for _ in range(3)] == [1, 1, 1]
    reader.now += APART_S - 0.01
    assert window.look()["reads"] == 1
    reader.now += 0.02
    assert window.look()["reads"] == 2


def test_what_takes_long_is_read_less_often(reader, window):
    reader.works_s = 1.0
    window.look()
    assert window.wait_s == pytest.approx(1.0 / SHARE - 1.0)
    reader.now += 1.0 / SHARE - 1.01
    assert window.look()["reads"] == 1


def test_a_slow_database_is_left_alone_a_quarter_of_the_time(reader, window):
    reader.works_s, reader.waits_s = 0.1, 0.3
    window.look()
    assert window.wait_s == pytest.approx(APART_S - 0.4), "it waited for a core, which costs nobody"
    reader.now, reader.waits_s = reader.now + APART_S, 5.9
    window.look()
    assert window.wait_s == pytest.approx(2.0)


def test_a_database_that_is_away_is_not_asked_by_each(reader, window):
    reader.away = True
    for _ in range(3):
        with pytest.raises(Unavailable):
            window.look()
    assert reader.reads == 1
    reader.away, reader.now = False, reader.now + APART_S
    assert window.look()["reads"] == 2


def test_threads_that_ask_at_once_share_one_read(reader, window):
    go, found = threading.Barrier(8), []

    def ask():
        go.wait()
        found.append(window.look()["reads"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert (found, reader.reads) == ([1] * 8, 1)
