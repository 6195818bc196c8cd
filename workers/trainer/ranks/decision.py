"""What the ranks of an attempt do after a step, as one number that they can agree on."""

from __future__ import annotations

from dataclasses import dataclass

from workers.attempt_folder import STOP_REASONS, StopReason


@dataclass(frozen=True)
class Decision:
    """What to do after a step. Every rank of a gang must do the same: rank 0 decides, and any host may have it stop.

    diverged: what is trained is not finite, as any rank may see.
    """

    log: bool = False
    save: bool = False
    stop: StopReason | None = None
    diverged: bool = False

    def code(self) -> int:
        reason = STOP_REASONS.index(self.stop) + 1 if self.stop else 0
        return int(self.log) | int(self.save) << 1 | reason << 2 | int(self.diverged) << 8

    @classmethod
    def of(cls, code: int) -> Decision:
        reason = code >> 2 & 63
        stop = STOP_REASONS[reason - 1] if reason else None
        return cls(bool(code & 1), bool(code & 2), stop, bool(code >> 8))
