"""How an attempt ends whose numbers are not finite: which step, and the checkpoint from before it that is good."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from jobs.state import Outcome
from workers.checkpoints.folders import listed
from workers.checkpoints.manifest import Corrupt, verify
from workers.checkpoints.safetensors_header import Malformed
from workers.trainer.callbacks import Figures
from workers.trainer.finite import Fault, not_finite_in

log = logging.getLogger(__name__)


def diverged(fault: Fault, figures: Figures, root: Path) -> dict[str, Any]:
    """Outcome and message. root: the job's checkpoints.

    figures.last_checkpoint becomes the good one, or None.
    """
    good = last_good(root)
    figures.last_checkpoint = str(good[0]) if good else None
    kept = f"the last good checkpoint is of step {good[1]}" if good else "there is no good checkpoint"
    return {"outcome": Outcome.DIVERGED, "message": f"{fault}; {kept}"}


def last_good(root: Path) -> tuple[Path, int] | None:
    """The newest checkpoint that verifies, and whose weights are finite: steps that were left out changed none."""
    for path, step in reversed(listed(root)):
        try:
            verify(path)
            bad = not_finite_in(path)
        except (Corrupt, Malformed, OSError) as error:
            log.warning("checkpoint %s is passed over: %s", path.name, error)
            continue
        if bad is None:
            return path, step
        log.warning("checkpoint %s is passed over: its %s is not finite", path.name, bad)
    return None
