"""What the server asks of one job, in a process of its own: its memory profile, then the lengths of its data.

`python -m workers.profiler REQUEST.json RESULT.json` turns one TraceRequest into a TraceResult;
workers/agent/profile_child.py runs that with limits, as a model's own code or a library's fault must not take the host
agent with it. The result is written after each of the two: a scan that ends badly costs no profile.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path

from jobs.errors import InputError, SpecError, TuneyardError, words_of
from jobs.memory.dropped_rows import nothing_left
from jobs.messages.reports import TraceRequest, TraceResult
from workers.durable import publish
from workers.profiler.emulation.import_stubs import lean_imports

NICENESS = 10  # trainers on this host come first


def profiled(request: TraceRequest) -> TraceResult:
    """The profile that was asked for, or why there is none; nothing where none was asked for."""
    if not request.key:
        return TraceResult()
    gc.disable()  # importing makes millions of objects that stay, which no collection need look through
    with lean_imports():
        # Here: TRL and the tracer cost seconds, which a scan alone need not wait for.
        from workers.profiler.trace import answer

        gc.freeze()
        gc.enable()
        return answer(request)


def scanned(request: TraceRequest, done: TraceResult) -> TraceResult:
    """done, with the lengths of the job's data, or why there are none."""
    # Here: the profile must not wait for what only the scan imports, nor fail with it.
    try:
        from workers.model.host_checks import check_on_host, positions_of
        from workers.profiler.length_scan import scan

        told = check_on_host(request.spec, request.trusted_models)
        found = scan(request.spec, request.trusted_models)
        found = replace(found, warnings=(*told, *found.warnings))
        if nothing_left(found, request.spec) is not None:
            fault = nothing_left(found, request.spec, positions_of(request.spec))
            raise SpecError([fault] if fault else [], "data")
        lengths = found.as_dict()
    except InputError as error:
        at_fault = {"data_bad_input": True, "data_missing": error.missing}
        return done.model_copy(update={"data_key": request.data_key, "data_error": error.line, **at_fault})
    except TuneyardError as error:
        why = str(error)
    except MemoryError:
        why = "the scan ran out of the memory it was given"
    except Exception as error:  # a library's fault, at the edge of this process: the job goes on without
        why = words_of(error)
    else:
        return done.model_copy(update={"data_key": request.data_key, "lengths": lengths})
    return done.model_copy(update={"data_key": request.data_key, "data_error": why})


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("usage: python -m workers.profiler REQUEST.json RESULT.json", file=sys.stderr)
        return 2
    source, target = Path(arguments[0]), Path(arguments[1])
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    request = TraceRequest.model_validate_json(source.read_text())
    result = profiled(request)
    publish(target, result.model_dump_json())
    if request.data_key:
        publish(target, scanned(request, result).model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
