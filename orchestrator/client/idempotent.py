"""A submission that is made once, however often it takes to get the answer. Used by the CLI and the Python client."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from jobs.errors import Busy, Unanswered, Unavailable

TRIES = 3
PAUSE_S = 1.0
PATIENCE_S = 120.0  # with a server that is busy
T = TypeVar("T")


def once(
    key: str,
    ask: Callable[[], T],
    say: Callable[[str], object] = lambda text: None,
    sleep: Callable[[float], None] = time.sleep,
    takes_key: bool = True,
) -> T:
    """What ask() returns. It sends `key` each time: the server stores a submission once under it.

    Asks again when no answer came, and when a server that was there before is away; waits for one that is busy. Raises
    what ask() does, Unanswered with what then can be done. takes_key: whether the user can give the key again.
    """
    waited_s, tries = 0.0, 0
    lost: Unavailable | None = None
    while True:
        try:
            return ask()
        except Busy as error:
            waited_s += error.retry_after_s
            if waited_s > PATIENCE_S:
                raise
            say(f"{error} (waiting)")
            sleep(error.retry_after_s)
        except Unavailable as error:
            if lost is None and not isinstance(error, Unanswered):
                raise  # nothing was taken
            lost = lost or error
            tries += 1
            if tries >= TRIES:
                again = f"; asking again with --key {key} makes no second job" if takes_key else ""
                raise Unanswered(f"{lost}. It may have been taken: see `tuneyard list`{again}") from None
            say(f"{error}; it may have been taken: asking again, which makes no second job")
            sleep(PAUSE_S)
