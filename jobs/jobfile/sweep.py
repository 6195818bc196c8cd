"""One job file with a matrix -> the jobs of a group: every combination of the values, every fault at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from jobs.errors import Fault, SpecError
from jobs.jobfile.alike import parsed
from jobs.jobfile.overrides import apply_overrides
from jobs.jobfile.spec import JobSpec, parse_spec

MAX_MEMBERS = 1000
MAX_NAME = 100
# What one job says of others, or what makes the jobs, is the same for all of them.
_NOT_AXES = ("matrix", "sweep", "after", "project")

Values = dict[str, Any]
Prepare = Callable[[dict[str, Any]], dict[str, Any]]
Check = Callable[[JobSpec], list[Fault]]


class Member(NamedTuple):
    """A job of a group. values: what its matrix gave it, by dotted key; empty where there is no matrix; stored: see
    jobs.jobfile.alike.
    """

    spec: JobSpec
    values: Values
    stored: dict[str, Any]


class _Draft(NamedTuple):
    """A member before it is validated. indices: which value of each axis it has."""

    value: dict[str, Any]
    values: Values
    indices: dict[str, int]

    def placed(self, fault: Fault) -> Fault:
        """The fault at the place in the matrix that it comes from, where it comes from one."""
        for axis, index in self.indices.items():
            if fault.path == axis or fault.path.startswith(f"{axis}."):
                if fault.problem == "unknown key":  # whatever its value is
                    return replace(fault, path=f"matrix.{fault.path}", given="")
                return replace(fault, path=f"matrix.{axis}.{index}{fault.path[len(axis) :]}")
        return fault


def read_members(
    value: Mapping[str, Any],
    source: str = "job",
    prepare: Prepare | None = None,
    check: Check | None = None,
) -> list[Member]:
    """The jobs that a job file's mapping stands for: one, or as many as its matrix makes, in its order.

    The last axis varies fastest. Members of a group that has a name are NAME-1, NAME-2 and so on; where it has an
    output folder, theirs are in it by these numbers. prepare: changes a mapping before it is validated; check: further
    faults of a valid job. Raises SpecError with every fault of every member, each told once.
    """
    faults: dict[Fault, None] = {}
    members = []
    for draft in _drafts(value, source):
        try:
            spec, stored = parsed(prepare(draft.value) if prepare else draft.value, source)
            found = check(spec) if check else []
            members.append(Member(spec, draft.values, stored))
        except SpecError as error:
            found = error.faults
        if found:
            faults |= dict.fromkeys(map(draft.placed, found))
    if faults:
        raise SpecError(list(faults), source)
    return members


def only_one(members: list[Member], source: str = "job") -> JobSpec:
    """The job of a file without a matrix. Raises SpecError for one that makes a group."""
    if len(members) == 1 and not members[0].values:
        return members[0].spec
    fix = "add --set matrix=null, and the values of one of them"
    raise SpecError(
        [Fault("matrix", f"{len(members)} jobs", "makes a group, and this is about one job", fix)], source
    )


def worst(losses: Mapping[int, float], keep: float) -> list[int]:
    """Those of the jobs of a sweep that an early stop may end, the worst first: all but the share `keep` of least loss.

    losses: by job id, of all that have come to the step; one that is no number is the worst. Of equals the first goes
    on.
    """
    ranked = sorted(losses, key=lambda job_id: (math.isnan(losses[job_id]), losses[job_id], job_id))
    return ranked[kept(len(ranked), keep) :][::-1]


def kept(count: int, keep: float) -> int:
    """How many of so many jobs go on."""
    return math.ceil(round(keep * count, 9))


def first_name(name: str) -> str:
    """The name of the first job of the group of that name; see read_members."""
    return f"{name[: MAX_NAME - 2]}-1"


def differences(specs: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[Values]]:
    """What tells the jobs of a group apart: the dotted keys whose values differ, and these values of each job.

    specs: as they are stored. Names and output folders differ always, and are left out.
    """
    flat = [{key: value for key, value in _flat(spec) if key not in ("name", "output")} for spec in specs]
    keys = list(dict.fromkeys(key for values in flat for key in values))
    differ = [key for key in keys if len({repr(values.get(key)) for values in flat}) > 1]
    return differ, [{key: values.get(key) for key in differ} for values in flat]


def best_first(scores: Sequence[Score]) -> list[int]:
    """Positions of the jobs of a sweep by what they came to: least evaluation loss, then least loss, then none;
    those that failed, and those whose loss is no number, last.
    """

    def rank(position: int) -> tuple[bool, bool, float, bool, float, int]:
        score = scores[position]
        evaluated, trained = _number(score.evaluation), _number(score.loss)
        bad = score.failed or any(
            loss is not None and math.isnan(loss) for loss in (score.evaluation, score.loss)
        )
        return (bad, evaluated is None, evaluated or 0.0, trained is None, trained or 0.0, position)

    return sorted(range(len(scores)), key=rank)


@dataclass(frozen=True)
class Score:
    """What a job of a sweep came to. NaN: the loss is no number any more; None: there is none yet."""

    loss: float | None
    evaluation: float | None
    failed: bool


def _number(loss: float | None) -> float | None:
    return None if loss is None or math.isnan(loss) else loss


def label(values: Values) -> str:
    """A member's values for people: training.learning_rate=0.0001, method.rank=8."""
    return ", ".join(f"{path}={given}" for path, given in values.items())


def _drafts(value: Mapping[str, Any], source: str) -> Iterator[_Draft]:
    matrix = value.get("matrix")
    base = {**value}
    base.pop("matrix", None)
    if matrix is None:
        if isinstance(sweep := base.get("sweep"), dict) and sweep.get("early_stop") is not None:
            lone = Fault(
                "sweep.early_stop", "", "compares the jobs of a matrix, and there is none", "leave it out"
            )
            raise SpecError([lone, *_others(base, (), source)], source)
        yield _Draft(base, {}, {})
        return
    pairs = list(_flat(matrix)) if isinstance(matrix, dict) else []
    axes = dict(pairs)
    if faults := _matrix_faults(matrix, axes, [path for path, _ in pairs]):
        raise SpecError([*faults, *_others(base, axes, source)], source)
    for number, picked in enumerate(itertools.product(*(range(len(given)) for given in axes.values())), 1):
        indices = dict(zip(axes, picked, strict=True))
        values = {path: axes[path][index] for path, index in indices.items()}
        made = apply_overrides(base, values, source)
        yield _Draft(_numbered(made, number, values), values, indices)


def _flat(matrix: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The axes by dotted key: {training: {steps: [1, 2]}} is {training.steps: [1, 2]}, as --set has it."""
    for key, given in matrix.items():
        if isinstance(given, dict) and given:
            yield from _flat(given, f"{above}{key}.")
        else:
            yield f"{above}{key}", given


def _matrix_faults(matrix: Any, axes: Mapping[str, Any], paths: Sequence[str]) -> list[Fault]:
    example = "write lists of values by dotted key, such as {training.learning_rate: [1.0e-4, 2.0e-4]}"
    if not axes:
        return [Fault("matrix", str(matrix)[:80], "has no axis", example)]
    faults = [Fault(f"matrix.{path}", "", "stands twice", "give one of the two") for path in _repeated(paths)]
    for path, given in axes.items():
        where = f"matrix.{path}"
        if not all(path.split(".")):
            faults.append(Fault(where, "", "is not a dotted path", example))
        elif path.split(".")[0] in _NOT_AXES:
            faults.append(
                Fault(where, "", "can't differ between the jobs of a group", "leave it out of the matrix")
            )
        if any(path != other and path.startswith(f"{other}.") for other in axes):
            faults.append(Fault(where, "", "is part of another axis", "give one of the two"))
        if not isinstance(given, list):
            faults.append(Fault(where, str(given)[:80], "is not a list of values", example))
        elif not given:
            faults.append(Fault(where, "[]", "has no values", example))
        elif twice := _repeated(given):
            faults.append(Fault(where, str(twice[0])[:80], "stands twice", "give each value once"))
    if not faults and (count := math.prod(map(len, axes.values()))) > MAX_MEMBERS:
        faults.append(
            Fault("matrix", f"{count:,} jobs", "makes too many", f"a group has at most {MAX_MEMBERS:,}")
        )
    return faults


def _repeated(given: Sequence[Any]) -> list[Any]:
    seen: set[str] = set()
    twice = []
    for value in given:
        if (shown := repr(value)) in seen:
            twice.append(value)
        seen.add(shown)
    return twice


def _others(base: dict[str, Any], axes: Iterable[str], source: str) -> list[Fault]:
    """Faults of the file beside its matrix; what stands where an axis goes is not told of, for it may fix it."""
    try:
        parse_spec(base, source)
    except SpecError as error:
        heads = {path.split(".")[0] for path in axes}
        return [fault for fault in error.faults if fault.path.split(".")[0] not in heads]
    return []


def _numbered(made: dict[str, Any], number: int, values: Values) -> dict[str, Any]:
    name, output = made.get("name"), made.get("output")
    if isinstance(name, str) and name and "name" not in values:
        made["name"] = (
            f"{name[: MAX_NAME - len(str(number)) - 1]}-{number}" if len(name) <= MAX_NAME else name
        )
    if isinstance(output, str) and output and "output" not in values:
        made["output"] = f"{output.rstrip('/')}/{number}"
    return made
