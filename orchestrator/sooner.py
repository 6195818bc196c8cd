"""What would let a waiting job start now: its own settings loosened one at a time, and tried on the fleet as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from jobs.errors import SpecError
from jobs.spec import JobSpec, parse_spec
from orchestrator.fleet import Fleet, Waiting
from orchestrator.placement import Chooser, Placement
from orchestrator.plan import explain


def sooner(job: Waiting, fleet: Fleet, chooser: Chooser) -> list[str]:
    """Changes to the job file each of which would start the job at once, with where; the nearest to it first."""
    found = []
    for text, spec in _loosened(job.spec):
        placed = explain(replace(job, spec=spec, shape=None), fleet, chooser)
        if isinstance(placed, Placement):
            where = f"{placed.host.name} ({placed.gpus[0].label}, {placed.choice.rung.label})"
            found.append(f"{text} would start it now on {where}")
    return found


def _loosened(spec: JobSpec) -> Iterator[tuple[str, JobSpec]]:
    """The job with one thing changed that leaves what is trained as it is."""
    memory, resources = spec.memory, spec.resources
    fixed = _words(memory.checkpointing)
    if memory.checkpointing != "auto":
        yield f"memory.checkpointing: auto instead of {fixed}", _with(spec, "memory", checkpointing="auto")
    if memory.micro_batch != "auto":
        text = f"memory.micro_batch: auto instead of {memory.micro_batch}"
        yield text, _with(spec, "memory", micro_batch="auto")
    if memory.checkpointing != "auto" and memory.micro_batch != "auto":
        loose = _with(spec, "memory", checkpointing="auto", micro_batch="auto")
        yield "memory: {checkpointing: auto, micro_batch: auto}", loose
    if resources.card is not None:
        yield f"any card instead of resources.card: {resources.card}", _with(spec, "resources", card=None)
    if resources.min_memory is not None:
        yield "no resources.min_memory", _with(spec, "resources", min_memory=None)
    for name in resources.labels:
        rest = {key: value for key, value in resources.labels.items() if key != name}
        yield f"no resources.labels.{name}", _with(spec, "resources", labels=rest)
    gpus = resources.gpus
    while gpus > 1:
        gpus = next(fewer for fewer in range(gpus - 1, 0, -1) if spec.training.global_batch % fewer == 0)
        fewer = _fewer(spec, gpus)
        if fewer is not None:
            yield f"resources.gpus: {gpus} instead of {resources.gpus} (slower)", fewer


def _words(value: object) -> str:
    return f"every_n {value['every_n']}" if isinstance(value, dict) else str(value)


def _with(spec: JobSpec, section: str, **values: object) -> JobSpec:
    return spec.model_copy(update={section: getattr(spec, section).model_copy(update=values)})


def _fewer(spec: JobSpec, gpus: int) -> JobSpec | None:
    """The same on fewer GPUs; None where its micro-batch does not divide what each of them gets."""
    said = spec.model_dump(mode="json", exclude_unset=True)
    try:
        return parse_spec({**said, "resources": {**said.get("resources", {}), "gpus": gpus}})
    except SpecError:
        return None
