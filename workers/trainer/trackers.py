"""Where a run's curves go besides: transformers' own callbacks, which can't hold up or end the training.

All attempts of a job are one run. TensorBoard's files lie in the job's folder and go with its checkpoints, so that an
attempt adds to those of the checkpoint that it goes on from, and the result has them all. The others talk to a server:
each has a thread, and one that fails is given up with one warning.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import logging
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from jobs.messages.reports import Assignment
from workers.attempt_folder import jobs_root

log = logging.getLogger(__name__)

FOLDER = "tensorboard"  # of its event files, in the job's folder, in checkpoints and in the result
# For what is still to be sent when the training is over: the card is held meanwhile, and who stopped it waits.
FINISH_S, STOPPED_S = 15.0, 5.0
WAITING = 10_000  # lines that a server may be behind
JOB_TAG = "tuneyard.job"  # MLflow names runs itself: this tag finds that of a job again


def run_name(assignment: Assignment) -> str:
    """What the run is called: trackio knows a run by its name, and a job's name may come again."""
    name = assignment.spec.name
    return f"job-{assignment.job_id}" + (f"-{name}" if name else "")


def run_id(assignment: Assignment) -> str:
    """The same for all attempts of a job, and no other job's."""
    return assignment.mine.job_uuid or f"tuneyard-job-{assignment.job_id}"


def environment(assignment: Assignment, folder: Path, given: Mapping[str, str]) -> dict[str, str]:
    """What trackers read from their environment. What the host or the job has set in `given` stands, but for the run.

    folder: the job's on this host.
    """
    project = assignment.spec.project
    wished = {
        "WANDB_PROJECT": project,
        "WANDB_NAME": run_name(assignment),
        "WANDB_DIR": str(folder),
        "WANDB_CONSOLE": "off",
        "WANDB_SILENT": "true",
        "WANDB_DISABLE_CODE": "true",
        "MLFLOW_EXPERIMENT_NAME": project,
        # Of a server that is away one would hear after minutes.
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "TRACKIO_DIR": str(folder / "trackio"),
    }
    return {
        **{name: value for name, value in wished.items() if name not in given},
        "WANDB_RUN_ID": run_id(assignment),
        "WANDB_RESUME": "allow",
        "MLFLOW_TAGS": json.dumps({JOB_TAG: run_id(assignment)}),
        "TENSORBOARD_LOGGING_DIR": str(folder / FOLDER),
    }


def load(assignment: Assignment, host_home: Path | str) -> None:
    """Set their environment and import them, before the baseline is taken: their memory is not the job's."""
    names = assignment.spec.report_to if assignment.rank == 0 else []
    if not names:
        return
    folder = jobs_root(host_home) / str(assignment.job_id)
    os.environ.update(environment(assignment, folder, os.environ))
    for name in names:
        # One that can't be imported is told of when it is to begin.
        with contextlib.suppress(Exception):
            importlib.import_module("torch.utils.tensorboard" if name == "tensorboard" else name)


class Trackers(TrainerCallback):
    """Of rank 0: hands what is logged to each tracker of the job.

    folder: the job's on this host.
    """

    def __init__(self, assignment: Assignment, folder: Path) -> None:
        self._assignment, self._folder = assignment, folder / FOLDER
        self._lock, self._news = threading.Lock(), list[str]()
        self.lost: list[str] = []  # names of those that were given up
        names = assignment.spec.report_to if assignment.rank == 0 else []
        self._events: _Direct | None = None
        if "tensorboard" in names:
            self._events = _Direct("tensorboard", self._give_up)
        self._servers = [
            _Threaded(name, self._give_up, assignment) for name in names if name != "tensorboard"
        ]

    def begin(self, args: TrainingArguments, checkpoint: Path | None) -> None:
        """The training is about to begin, from this checkpoint or from step 0."""
        args.run_name, args.project = run_name(self._assignment), self._assignment.spec.project
        if self._events is None:
            return
        with self._events.guarded():
            shutil.rmtree(self._folder, ignore_errors=True)
            if checkpoint is not None and (checkpoint / FOLDER).is_dir():
                shutil.copytree(checkpoint / FOLDER, self._folder)

    def news(self) -> str | None:
        """Trackers that were given up since the last call, in words."""
        with self._lock:
            told, self._news = self._news, []
        return "; ".join(told) or None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._each("on_train_begin", args, state, control, model=kwargs.get("model"))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        self._each("on_log", args, state, control, logs=dict(logs or {}), model=kwargs.get("model"))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._events is not None:
            self._events.tell("on_train_end", (args, state, control), {})

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.keep(Path(args.output_dir or ""), state.global_step)

    def keep(self, staging: Path, step: int) -> None:
        """Put TensorBoard's files into the staged checkpoint of a step, as they are at that step."""
        if self._events is None or not self._folder.is_dir():
            return
        target = staging / f"checkpoint-{step}" / FOLDER
        try:
            shutil.copytree(self._folder, target, dirs_exist_ok=True)
        except OSError as error:
            shutil.rmtree(target, ignore_errors=True)
            log.warning("the checkpoint of step %d has no TensorBoard files: %s", step, error)

    @contextlib.contextmanager
    def running(self, succeeded: Callable[[], bool]) -> Iterator[None]:
        """While the job trains; then all of them end their run, within the time for that.

        succeeded: whether all steps are done, asked at the end.
        """
        done = False
        try:
            yield
            done = succeeded()
        finally:
            self._close(done)

    def _close(self, succeeded: bool) -> None:
        until = time.monotonic() + (FINISH_S if succeeded else STOPPED_S)
        for one in self._servers:
            one.finish(succeeded)
        for one in self._servers:
            one.join(max(0.0, until - time.monotonic()))

    def _each(self, event: str, *about: Any, **more: Any) -> None:
        if self._events is not None:
            self._events.tell(event, about, more)
        args, state, control = about
        for one in self._servers:
            one.tell(event, (args, copy.copy(state), control), more)

    def _give_up(self, name: str, why: str) -> None:
        text = f"{name}: {why}; training goes on without it"
        log.warning("report_to: %s", text)
        with self._lock:
            self._news.append(text)
            self.lost.append(name)


class _Direct:
    """A tracker that writes to this host's disk. give_up: told its name and why, once."""

    def __init__(self, name: str, give_up: Callable[[str, str], None]) -> None:
        self.name, self._give_up = name, give_up
        self._callback: Any = None
        self._gone = False

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """What goes wrong inside ends this tracker, not the training."""
        try:
            yield
        except Exception as error:  # whatever type: the libraries have many
            self._fail(_said(error))

    def tell(self, event: str, about: tuple[Any, ...], more: Mapping[str, Any]) -> None:
        if self._gone:
            return
        with self.guarded():
            self._callback = self._callback or INTEGRATION_TO_CALLBACK[self.name]()
            getattr(self._callback, event)(*about, **more)

    def _fail(self, why: str) -> None:
        if not self._gone:
            self._gone = True
            self._give_up(self.name, why)


class _Threaded(_Direct):
    """A tracker that talks to a server, from a thread of its own."""

    def __init__(self, name: str, give_up: Callable[[str, str], None], assignment: Assignment) -> None:
        super().__init__(name, give_up)
        self._assignment = assignment
        self._waiting: queue.Queue[tuple[str, tuple[Any, ...], Mapping[str, Any]] | bool] = queue.Queue(
            WAITING
        )
        self._thread = threading.Thread(target=self._run, name=f"tracker-{name}", daemon=True)
        self._begun = False

    def tell(self, event: str, about: tuple[Any, ...], more: Mapping[str, Any]) -> None:
        if self._gone:
            return
        if not self._begun:
            self._begun = True
            self._thread.start()
        try:
            self._waiting.put_nowait((event, about, more))
        except queue.Full:
            self._fail(f"its server is {WAITING:,} lines behind")

    def finish(self, succeeded: bool) -> None:
        """Nothing more comes."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(succeeded)

    def join(self, timeout_s: float) -> None:
        if not self._begun:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._fail("it did not take the rest in time")

    def _run(self) -> None:
        with self.guarded():
            if self.name == "mlflow":
                _find_mlflow_run(run_id(self._assignment))
        while not self._gone and not isinstance(item := self._waiting.get(), bool):
            super().tell(*item)
        if self._callback is not None and not self._gone:
            with self.guarded():
                _finish(self.name, self._callback, succeeded=bool(item))


def _find_mlflow_run(job: str) -> None:
    """Have MLflow go on with the run that an earlier attempt began. Raises where nobody said which server."""
    mlflow: Any = importlib.import_module("mlflow")
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise LookupError("MLFLOW_TRACKING_URI is not set: give it as a secret of the project or on the host")
    mlflow.set_tracking_uri(uri)
    experiment = mlflow.set_experiment(os.environ["MLFLOW_EXPERIMENT_NAME"])
    found = mlflow.MlflowClient().search_runs(
        [experiment.experiment_id], filter_string=f"tags.`{JOB_TAG}` = '{job}'", max_results=1
    )
    os.environ.pop("MLFLOW_RUN_ID", None)
    if found:
        os.environ["MLFLOW_RUN_ID"] = found[0].info.run_id
        # A parameter can't change there, and the folder of each attempt is another.
        os.environ["MLFLOW_MAX_LOG_PARAMS"] = "0"


def _finish(name: str, callback: Any, succeeded: bool) -> None:
    library: Any = importlib.import_module(name)
    if name == "wandb":
        library.finish(exit_code=0 if succeeded else 1)
    elif name == "mlflow":
        library.end_run("FINISHED" if succeeded else "FAILED")
    else:
        library.finish()


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
