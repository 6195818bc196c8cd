"""What follows training: steps of the same submission, each a job of its own once the training has succeeded."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from jobs.errors import Fault
from jobs.jobfile.cross_field_rules import RuleError, hold
from jobs.jobfile.fields import Number, Text, Whole
from jobs.jobfile.sections.base import Section

# In this order they are written and run, each once.
KINDS = ("merge",)
Taken = Literal["job"]


class MergeSpec(Section):
    """Puts the adapter into its base: a model of its own, made on the CPU and checked against base and adapter."""

    base: Text | None = Field(
        None,
        description="Hub id or folder of the base that is not quantised; model.path when left out. Needed where that "
        "is quantised.",
    )
    max_difference: Number | None = Field(
        None,
        gt=0,
        description="Largest mean KL divergence, in nats a token, between base with adapter and the merged model; "
        "0.01 by default, 0.0001 of float32.",
    )
    rows: Whole = Field(8, ge=1, le=1000, description="Rows of the job's data that both are compared on.")
    retries: Whole = Field(0, ge=0, le=100, description="How often to try again after a failure of its own.")


class StepSpec(Section):
    """One step: exactly one of its keys is there."""

    merge: MergeSpec | None = Field(None, description="Put the adapter into its base.")

    @property
    def kind(self) -> str:
        """Which step it is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def options(self) -> Section:
        """Of that kind."""
        found: Section = getattr(self, self.kind)
        return found


class StepOf(StepSpec):
    """A step as its own job has it. takes: whose result it works on: that of the training."""

    takes: Taken = "job"


def written_steps(value: Any) -> Any:
    """A job file's `then` as a list of {kind: options}. Raises RuleError with every fault of what is written."""
    if value is None:
        return []
    listed = isinstance(value, list)
    made, faults, kinds = [], [], []
    for index, item in enumerate(value if listed else [value]):
        where = f"then.{index}" if listed else "then"
        given = {item: {}} if isinstance(item, str) else item
        if not isinstance(given, dict) or len(given) != 1:
            example = "write a name, or {name: {option: value}}, such as {merge: {rows: 16}}"
            faults.append(Fault(where, str(item)[:80], "is not one step", example))
            continue
        ((kind, options),) = given.items()
        if kind not in KINDS:
            faults.append(Fault(where, str(kind)[:80], "is no step", _meant(str(kind))))
            continue
        made.append({kind: {} if options is None else options})
        kinds.append((where, kind))
    faults += _order(kinds)
    hold(faults)
    return made


def _meant(kind: str) -> str:
    close = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(KINDS)}"


def _order(kinds: list[tuple[str, str]]) -> list[Fault]:
    """Each once, and in the order in which one goes on from the other."""
    faults = []
    for at, (where, kind) in enumerate(kinds):
        before = [other for _, other in kinds[:at]]
        if kind in before:
            faults.append(Fault(where, kind, "stands twice", "name each step once"))
        elif later := [other for other in before if KINDS.index(other) > KINDS.index(kind)]:
            fix = f"write them in the order {', '.join(KINDS)}"
            faults.append(Fault(where, kind, f"stands behind {later[0]}, which goes on from it", fix))
    return faults


def rule_faults(value: Any) -> list[Fault]:
    """What a job file's raw mapping asks to follow that can't; silent where `then` itself is at fault."""
    try:
        steps = written_steps(value.get("then")) if isinstance(value, dict) else []
    except RuleError:
        return []
    if not steps:
        return []
    method, trainer = value.get("method"), value.get("trainer", "sft")
    kind = method.get("kind", "lora") if isinstance(method, dict) else method
    listed = isinstance(value.get("then"), list)
    merges = next(
        (f"then.{at}" if listed else "then" for at, step in enumerate(steps) if "merge" in step), None
    )
    if merges is None:
        return []
    if kind == "full":
        fix = "leave merge out: the result of full is a whole model already"
        return [Fault(merges, "merge", "has no adapter to merge, for method is full", fix)]
    if trainer != "sft":
        fix = "leave merge out, and merge it with PEFT's merge_and_unload"
        return [Fault(merges, "merge", f"compares on rows of sft, and trainer is {trainer}", fix)]
    return []


Steps = Annotated[list[StepSpec], BeforeValidator(written_steps)]
