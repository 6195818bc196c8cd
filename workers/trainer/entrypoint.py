"""A process that runs one rank of an attempt: its group, log, environment, imports; then the training."""

from __future__ import annotations

import importlib
import importlib.util
import io
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from jobs.messages.reports import Assignment, Ended
from jobs.state import Outcome
from workers.attempt_folder import AttemptFolder
from workers.checkpoints.transfer import Reach
from workers.expandable_segments import ALLOCATOR, EXPANDS
from workers.hidden_values import filter_to, hide
from workers.model.late_imports import load, put_off
from workers.trainer.ranks import rank_watch

# Nothing heavy is imported above: a process must set its environment before torch comes in, and the
# dispatcher reads the module of the Ray actor without needing torch.
TRAINING = "workers.trainer.train"
STEPS = "workers.steps.run"  # in its place where the attempt is a step that follows a training
# What workers.trainer.train brings in, in parts of a second or two, so that somebody who waits can have a word
# between them.
PARTS = ("torch", "transformers", "datasets", "peft", "trl")
# What these import, and what starts CUDA when it is imported: not before the job's card is known.
LATE = ("bitsandbytes",)
# Loaded by transformers and torch when first used: the first job should find them there.
LAZY = ("transformers.models.llama.modeling_llama", "torch._dynamo", "torch.distributed")


def before_imports() -> None:
    """Environment that the libraries read when they are imported. Call it first, in a process of our own."""
    # Ray sets OMP_NUM_THREADS=1 for an actor that asks for no CPU; torch would train on one core.
    os.environ.pop("OMP_NUM_THREADS", None)
    # Arrow's default allocator maps 1 GiB at its first use, which would count against a CPU card's memory.
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    # torch.cuda.is_available() would else start CUDA, which then never looks at CUDA_VISIBLE_DEVICES again.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    if not any(name in os.environ for name in ALLOCATOR):
        os.environ[ALLOCATOR[0]] = EXPANDS
    # A host without a way out would wait for these calls' time-outs before its first step.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


def warm(before_each: Callable[[], None] = lambda: None) -> None:
    """Import what training needs, and leave CUDA alone. Takes 5 to 9 s the first time.

    before_each: called before every part; it may wait.
    """
    before_imports()
    for name in LATE:
        put_off(name)
    for name in (*PARTS, TRAINING, *LAZY):
        before_each()
        importlib.import_module(name)
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():  # nothing can start it
        for name in LATE:
            if importlib.util.find_spec(name):
                load(name)
    importlib.import_module("transformers.utils.logging").disable_progress_bar()
    importlib.import_module("workers.trainer.memory_meter").set_threads()
    if torch.cuda.is_initialized():
        raise RuntimeError("an import started CUDA; this process can't be given a card any more")


def run_rank(
    assignment: Assignment,
    host_home: Path | str,
    output_root: Path | str,
    env: dict[str, str] | None = None,
    reach: Reach | None = None,
) -> Ended:
    """Run a claimed rank in this process, which must end afterwards: its memory and limits are the job's.

    env: secrets of the job, which are in no file: the log has their names in their place. reach: the way to
    checkpoints on other hosts.
    """
    folder = AttemptFolder(host_home, assignment.attempt_id)
    own_process_group()
    hide(env or {})
    redirect_output(folder.log_path, env or {})
    os.environ.update({**(env or {}), **rank_watch.environment(assignment)})
    try:
        warm()
        training = importlib.import_module(TRAINING if assignment.taken is None else STEPS)
    except Exception as error:  # the edge of the process: what an import may raise, nobody knows
        traceback.print_exception(error)
        message = f"the trainer's libraries can't be loaded: {type(error).__name__}: {error}"
        ended = Ended(ts=time.time(), outcome=Outcome.HOST_FAULT, message=message, rank=assignment.rank)
        folder.write_ended(ended, assignment.local_rank)
        return ended
    return cast(Ended, training.run_attempt(assignment, folder, host_home, output_root, reach))


def own_process_group() -> None:
    """Lead a process group, so that the host agent can end the trainer with whatever it started."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)


def redirect_output(path: Path, hidden: Mapping[str, str] | None = None) -> None:
    """Everything this process prints goes to the end of a file, also from C and from other threads.

    hidden: what the file is not to have, by name.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    path.parent.mkdir(parents=True, exist_ok=True)
    file = filter_to(path, hidden) if hidden else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    sys.stdout = io.TextIOWrapper(
        io.FileIO(1, "w", closefd=False), "utf-8", "backslashreplace", write_through=True
    )
    sys.stderr = io.TextIOWrapper(
        io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", write_through=True
    )
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s", force=True
    )
