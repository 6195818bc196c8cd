"""The query of a request: only parameters that its route knows, each once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from difflib import get_close_matches

from fastapi import Request
from fastapi.dependencies.models import Dependant

from jobs.errors import Fault
from orchestrator.api.edge.refusals import unreadable


async def only_known(request: Request) -> None:
    """A dependency of every route. Raises BadRequest with every parameter that it does not take."""
    if request.scope["query_string"]:
        check_query(request, _names(request.scope["route"].dependant))


def check_query(request: Request, known: Collection[str]) -> None:
    """Raises BadRequest. known: the parameters of its route."""
    given = Counter(name for name, _ in request.query_params.multi_items())
    faults = [
        _unknown(name, known) if name not in known else Fault(name, "", "is given more than once")
        for name, times in given.items()
        if name not in known or times > 1
    ]
    if faults:
        raise unreadable(faults)


def _unknown(name: str, known: Collection[str]) -> Fault:
    if not known:
        return Fault(name, "", "is not a parameter of this route", "it takes none")
    near = get_close_matches(name, known, 1)
    meant = f"did you mean {near[0]}? " if near else ""
    return Fault(name, "", "is not a parameter of this route", f"{meant}It takes {', '.join(sorted(known))}")


def _names(dependant: Dependant) -> set[str]:
    return {field.alias for field in dependant.query_params}
