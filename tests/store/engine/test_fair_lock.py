"""Writers of one process take turns."""

from __future__ import annotations

import threading

from orchestrator.store.engine.fair_lock import InTurn

LONG_S = 60.0


def test_who_writes_piece_after_piece_lets_others_in_between() -> None:
    turn, order, asked = InTurn(), list[str](), threading.Semaphore(0)

    def write(name: str) -> None:
        asked.release()
        with turn:
            order.append(name)

    others = [threading.Thread(target=write, args=(name,)) for name in ("first", "second")]
    with turn:
        for number, one in enumerate(others, 1):
            one.start()
            assert asked.acquire(timeout=LONG_S)
            while len(turn._waiting) < number:
                one.join(0.001)
    with turn:
        order.append("the next piece")
    for one in others:
        one.join(LONG_S)
    assert order == ["first", "second", "the next piece"]


def test_an_error_gives_it_back() -> None:
    turn = InTurn()
    for _ in range(2):
        try:
            with turn:
                raise KeyError
        except KeyError:
            continue
    with turn:
        assert not turn._waiting
