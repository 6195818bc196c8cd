"""tuneyard top ends with its terminal."""

from __future__ import annotations

import os
import pty

from orchestrator.cli.top.app import hung_up


def test_a_terminal_whose_other_end_is_closed_has_hung_up() -> None:
    other, terminal = pty.openpty()
    try:
        assert not hung_up(terminal)
        os.close(other)
        assert hung_up(terminal)
    finally:
        os.close(terminal)


def test_no_terminal_at_all_has_not() -> None:
    with open(os.devnull) as nothing:
        assert not hung_up(nothing.fileno())
