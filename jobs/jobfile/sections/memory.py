"""`memory`: checkpointing, offload, micro-batch."""

from __future__ import annotations

from pydantic import Field

from jobs.jobfile.fields import Checkpointing, MicroBatch, Number, Offload
from jobs.jobfile.sections.base import Section


class MemorySpec(Section):
    """How much activation checkpointing, and how sure to be that it fits."""

    checkpointing: Checkpointing = Field(
        "auto", description="auto, off, every_layer, or {every_n: k} (every k-th layer)."
    )
    offload: Offload = Field(
        "auto",
        description="Keep what checkpointing saves in host memory. auto leaves it off until it is needed.",
    )
    micro_batch: MicroBatch = Field(
        "auto", description="Sequences per GPU per forward pass; accumulation makes up the global batch."
    )
    confidence: Number = Field(
        0.95, ge=0.5, le=0.999, description="How sure the projection must be that the job fits."
    )
