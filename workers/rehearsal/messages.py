"""What the process of a rehearsal is asked, and what it answers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from jobs.message_base import Message
from jobs.messages.reports import Assignment

Ending = Literal["fits", "out_of_memory", "bad_input", "failed"]


class Request(Message):
    """assignment: with the job, rung and card of the rehearsal, which no host ever sees; steps: of the optimizer."""

    assignment: Assignment
    steps: int


class Answer(Message):
    """Peaks in bytes, as torch's allocator and the driver's stand-in have them; None where it did not get to CUDA.

    steps: that were made; longest: tokens of the longest row; held: bytes by what they are for, at the moment when
    memory ran out; where: in which part of the step that was; total_bytes: what processes can have of the card.
    """

    ending: Ending
    message: str = ""
    steps: int = 0
    longest: int | None = None
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    device_bytes: int | None = None
    total_bytes: int | None = None
    expandable: bool | None = None
    where: str = ""
    held: dict[str, int] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)
