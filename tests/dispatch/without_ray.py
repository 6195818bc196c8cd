"""The dispatcher without Ray: python -m tests.dispatch.without_ray HOME.

Each that starts takes the next line of HOME/modes, and the last is left for those after it:

    well          connects at once, and says of each start that it is made
    init hangs    blocks in ray.init
    call hangs    connects, and blocks at the first look at its hosts
    takes none    connects, and reads no command
    init fails    the head does not answer
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import orchestrator.dispatch.ray_driver as dispatch


def taken(home: Path) -> str:
    """What this one is to do."""
    modes = (home / "modes").read_text().splitlines()
    if len(modes) > 1:
        (home / "modes").write_text("\n".join(modes[1:]))
    return modes[0]


def block(*_: Any, **__: Any) -> Any:
    time.sleep(600)


def fail(*_: Any, **__: Any) -> Any:
    raise RuntimeError("the Ray head does not answer")


def start(command: dict[str, Any], pool: dispatch.Pool) -> None:
    dispatch.emit("started", attempt_id=command["attempt_id"])


def main() -> None:
    mode = taken(Path(sys.argv[1]))
    dispatch.ray.init = block if mode == "init hangs" else lambda **_: None
    dispatch.connect = fail if mode == "init fails" else dispatch.connect
    dispatch.read_commands = block if mode == "takes none" else dispatch.read_commands
    dispatch.hosts_alive = block if mode == "call hangs" else dict
    dispatch.CONNECT_S = dispatch.CALL_S = 1.0
    dispatch.end_idle_actors = lambda: None
    dispatch.start = start
    dispatch.main()


if __name__ == "__main__":
    main()
