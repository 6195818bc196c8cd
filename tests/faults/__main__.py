"""Worlds of faults, seed after seed: `python -m tests.faults SEED` replays one, `make soak` goes on for an hour."""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path

from orchestrator.store import upgrade
from tests.faults.world import World

CALM_STEPS = 300


def template(folder: Path) -> Path:
    """A new database, to be copied: to make it takes longer than most worlds."""
    path = folder / "template.db"
    upgrade(f"sqlite:///{path}")
    return path


def live(made: Path, folder: Path, seed: int) -> None:
    """One world, to its end: every job has ended once nothing fails any more. AssertionError names the command."""
    world = World(made, folder, seed)
    try:
        for _ in range(world.fault_steps):
            world.step()
        world.calm()
        for _ in range(CALM_STEPS):
            if world.over:
                return
            world.step()
        raise AssertionError(f"{[job.reason.text for job in world.store.jobs(limit=100)]} stand still")
    except BaseException as error:
        error.add_note(f"in step {world.steps} of seed {seed}; again: python -m tests.faults {seed}")
        raise
    finally:
        world.close()


def main() -> int:
    """Prints how many worlds came to their end."""
    parser = argparse.ArgumentParser(prog="make soak ARGS='...'", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="only this one")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--first", type=int, default=0, help="the seed to begin with")
    given = parser.parse_args()
    until, done = time.monotonic() + given.seconds, 0
    with tempfile.TemporaryDirectory(prefix="tuneyard-faults-") as name:
        made = template(Path(name))
        for seed in [given.seed] if given.seed is not None else itertools.count(given.first):
            if time.monotonic() > until:
                break
            live(made, Path(name), seed)
            done += 1
    print(f"{done} worlds came to their end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
