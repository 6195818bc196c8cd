"""Job files that differ only in the names of their jobs and results are validated once.

A sweep's jobs come by the thousand, in one request or one after the other, and share nearly everything.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jobs.jobfile.fields import valid_name, valid_output
from jobs.jobfile.spec import JobSpec, parse_spec

MOST, MOST_BYTES = 256, 16 * 1024  # files that are known, and of one of them
# What no rule compares with any other value, with what it has to be.
_OWN: dict[str, Callable[[str], str]] = {"name": valid_name, "output": valid_output}


class Parsed(NamedTuple):
    """A valid job. stored: as the database keeps it, without what is kept beside it; not to be changed."""

    spec: JobSpec
    stored: dict[str, Any]


_known: dict[bytes, Parsed] = {}


def parsed(value: Mapping[str, Any], source: str = "job") -> Parsed:
    """As parse_spec(): a valid job, or SpecError with every fault. Any number of threads may call it."""
    key = _key(value)
    found = None if key is None else _known.get(key)
    if found is None:
        spec = parse_spec(value, source)
        # What a job waits for is kept as links: a name means a job of its submission, and nothing later.
        found = Parsed(spec, spec.model_dump(mode="json", exclude_unset=True, exclude={"after", "matrix"}))
        if key is not None:
            if len(_known) >= MOST:
                _known.clear()
            _known[key] = found
        return found
    own = {name: value[name] for name in _OWN if name in value}
    try:
        for name, given in own.items():
            _OWN[name](given)
    except ValueError:
        parse_spec(value, source)  # tells of it
        raise
    return Parsed(found.spec.model_copy(update=own), {**found.stored, **own})


def _key(value: Mapping[str, Any]) -> bytes | None:
    """Equal for job files that are the same but for what is in _OWN; None where nobody can tell.

    marshal tells True from 1 and 1 from 1.0, and refuses what is no plain value.
    """
    own = [name for name in _OWN if name in value]
    if any(type(value[name]) is not str for name in own):
        return None
    try:
        key = marshal.dumps((own, {name: given for name, given in value.items() if name not in _OWN}), 2)
    except ValueError:
        return None
    return key if len(key) <= MOST_BYTES else None
