"""What a job file says of other jobs: `after: 12`, `after: prepare`, `after: [{job: 12, on: any}]`."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BeforeValidator, WithJsonSchema

from jobs.errors import Fault
from jobs.jobfile.cross_field_rules import hold
from jobs.jobfile.fields import NAME
from jobs.state import On

MAX_LINKS = 1000  # of one job
_MOST_ID = 2**31 - 1
_NAMED = "the id of a job, or the name of one that is submitted together with this"


def written_links(value: Any) -> Any:
    """A job file's `after` as a list of {job, on}. Raises RuleError with every fault in it."""
    if value is None:
        return []
    items = value if isinstance(value, list) else [value]
    made: list[dict[str, Any]] = []
    faults: list[Fault] = []
    for index, item in enumerate(items[: MAX_LINKS + 1]):
        where = f"after.{index}" if isinstance(value, list) else "after"
        given = item if isinstance(item, dict) else {"job": item}
        found = _faults(given, where)
        faults += found
        if not found:
            link = {"job": given["job"], "on": str(given.get("on", On.SUCCESS))}
            if any(known["job"] == link["job"] for known in made):
                faults.append(Fault(where, str(link["job"]), "stands twice", "name each job once"))
            made.append(link)
    if len(items) > MAX_LINKS:
        faults.append(Fault("after", f"{len(items)} jobs", "is too many", f"at most {MAX_LINKS}"))
    hold(faults)
    return made


def _faults(given: dict[Any, Any], where: str) -> list[Fault]:
    faults = [
        Fault(f"{where}.{key}", str(given[key])[:80], "unknown key", "known here: job, on")
        for key in given
        if key not in ("job", "on")
    ]
    job, on = given.get("job"), given.get("on", On.SUCCESS)
    at = f"{where}.job" if "on" in given else where
    if job is None:
        faults.append(Fault(f"{where}.job", "", "is required", f"write {_NAMED}"))
    elif not _is_id(job) and not (isinstance(job, str) and re.fullmatch(NAME, job)):
        faults.append(Fault(at, str(job)[:80], "names no job", f"write {_NAMED}"))
    if on not in list(On):
        faults.append(Fault(f"{where}.on", str(on)[:80], "is not one of the choices", f"use {', '.join(On)}"))
    return faults


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_ID


_JOB = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": f"^{NAME}$"}]}
_LINK = {
    "anyOf": [
        *_JOB["anyOf"],
        {
            "type": "object",
            "properties": {"job": _JOB, "on": {"enum": list(On), "default": "success"}},
            "required": ["job"],
            "additionalProperties": False,
        },
    ]
}
WrittenLinks = BeforeValidator(written_links)
LinksSchema = WithJsonSchema({"anyOf": [*_LINK["anyOf"], {"type": "array", "items": _LINK}], "default": []})
