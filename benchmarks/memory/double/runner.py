"""A process that has imported the libraries and forks a child for each case that it reads, all on one card.

Reads cases as JSON lines, answers each with a JSON line. It never touches CUDA itself: a child could not use it then.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
import traceback
from multiprocessing import Pipe
from typing import Any

# import peft imports bitsandbytes, which asks for a card: it is kept out until a child may.
sys.modules["bitsandbytes"] = None  # type: ignore[assignment]

import peft.import_utils  # noqa: E402
import torch  # noqa: E402
import torch._inductor.compile_fx  # noqa: E402  bitsandbytes needs it: two seconds of each child else
from transformers.conversion_mapping import get_checkpoint_conversion_mapping  # noqa: E402
from transformers.utils import logging  # noqa: E402

from benchmarks.memory.double import child  # noqa: E402
from benchmarks.memory.double.cases import Case  # noqa: E402
from workers.cuda_double import answers  # noqa: E402

LONGEST_S = 300


def _own(case: Case, out: Any) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    if not os.environ.get("DOUBLE_LOUD"):
        os.dup2(quiet, 2)
    if case.method == "qlora" or "8bit" in case.optimizer:
        del sys.modules["bitsandbytes"]
        for asked in (peft.import_utils.is_bnb_available, peft.import_utils.is_bnb_4bit_available):
            asked.cache_clear()
    os.environ["PYTORCH_CUDA_ALLOC_CONF"] = f"expandable_segments:{case.allocator == 'expandable'}"
    answers.begin()
    try:
        found = child.measured(case)
        if doubts := answers.doubts():
            found |= {"outcome": "failed", "error": doubts[0][:160]}
    except Exception as error:  # the edge of this process: the row says what went wrong
        if os.environ.get("DOUBLE_LOUD"):
            traceback.print_exc()
        found = {"outcome": "failed", "error": f"{type(error).__name__}: {error}".splitlines()[0][:160]}
    out.send(found)
    os._exit(0)  # torch's threads may abort at a quick end


def run(case: Case) -> dict[str, Any]:
    """What a child of this process finds; it ends after LONGEST_S."""
    ours, theirs = Pipe(duplex=False)
    started = time.monotonic()
    child_id = os.fork()
    if not child_id:
        _own(case, theirs)
    theirs.close()
    found: dict[str, Any] = {"outcome": "failed", "error": "no answer"}
    try:
        if ours.poll(LONGEST_S):
            found = ours.recv()
        else:
            os.kill(child_id, 9)
    except EOFError:
        pass
    *_, used = os.wait4(child_id, 0)
    found["cpu_s"] = round(used.ru_utime + used.ru_stime, 1)
    found["wall_s"] = round(time.monotonic() - started, 1)
    return found


def main() -> None:
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    assert importlib.util.find_spec("triton"), "TRL's loss needs Triton on CUDA"
    get_checkpoint_conversion_mapping("llama")  # what it works out once, children have from here
    for line in sys.stdin:
        print(json.dumps(run(Case(**json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
