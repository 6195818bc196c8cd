"""TRL: builds the trainer of an assignment, runs it, and says how it ended."""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import shutil
import time
import traceback
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
from transformers import TrainerCallback

from jobs.errors import TuneyardError
from jobs.jobfile.spec import JobSpec
from jobs.messages.reports import Assignment, Ended, Started
from jobs.state import Outcome
from jobs.units import counted
from workers.attempt_folder import STOP_OUTCOMES, AttemptFolder, StopReason, checkpoints_root
from workers.checkpoints import disk_space
from workers.checkpoints.folders import clear_leftovers, staging_folder
from workers.checkpoints.job_folder import take_job_folder
from workers.checkpoints.transfer import Reach
from workers.checks.generation import SavesGeneration
from workers.checks.inputs import resolve_output
from workers.data.datasets import build_dataset, split
from workers.expandable_segments import note_found
from workers.model import unsloth_engine
from workers.model.adapters import cast_adapters, check_saved_modules, lora_config
from workers.model.build import build_config, build_model, build_tokenizer, check_method, trusts
from workers.model.heads import for_trainer
from workers.model.late_imports import load
from workers.model.token_ids import Room
from workers.trainer import trackers as tracking
from workers.trainer.allocator import settle
from workers.trainer.callbacks import LINE_EVERY_S, Figures, Reporter
from workers.trainer.config import trl_config
from workers.trainer.faults.diverging import diverged
from workers.trainer.faults.failing import failure
from workers.trainer.finite import Guard
from workers.trainer.guarded import Guarded
from workers.trainer.memory_meter import Meter, card_limit, set_threads
from workers.trainer.metrics import Metrics
from workers.trainer.publishing import check_room, publish
from workers.trainer.ranks import rank_watch, rendezvous
from workers.trainer.saving.artifacts import check_free, clear_unfinished
from workers.trainer.saving.resume import checkpoint_of, finished, left_out, longest_first, take_rows
from workers.trainer.trackers import Trackers
from workers.trainer.trainers import trainer_of

log = logging.getLogger(__name__)


class Stopped(TuneyardError):
    """The attempt was asked to end before it trained, or before it published its result."""

    def __init__(self, reason: StopReason, text: str = "") -> None:
        self.reason = reason
        super().__init__(text or f"{reason} before the first step")


def train(
    assignment: Assignment,
    folder: AttemptFolder,
    host_home: Path | str,
    output_root: Path | str,
    figures: Figures | None = None,
    line_every_s: float = LINE_EVERY_S,
    reach: Reach | None = None,
) -> Ended:
    """Train to the end, or until the attempt is to stop.

    figures: filled on the way, for the caller if this raises. line_every_s: see Reporter. reach: the way to
    checkpoints on other hosts.
    Raises TuneyardError for what the job asks and can't have, and whatever the libraries raise.
    """
    spec, card = assignment.spec, assignment.card
    figures = figures or Figures(Meter(card, assignment.shared))
    target, fleet = resolve_output(output_root, spec, assignment.job_id), Path(host_home).name
    checkpoints = checkpoints_root(host_home, assignment.job_id)
    if assignment.rank == 0:
        clear_unfinished(target, assignment, fleet)
    if assignment.at_lead:
        check_free(target, assignment)
    check_method(spec, assignment.rung, card.kind == "cpu")
    trust = trusts(spec.model, assignment.trusted_models)
    if assignment.local_rank == 0:
        take_job_folder(host_home, assignment.mine)
        clear_leftovers(checkpoints, assignment.attempt_id)
    _obey_stop(folder)
    guard = Guard(spec.training.on_nan == "skip", card.kind == "cuda", assignment.world_size == 1)
    reporter = Reporter(assignment, folder, checkpoints, figures, line_every_s, guard)
    staging = staging_folder(checkpoints, assignment.attempt_id)
    metrics = Metrics(trainer_of(spec.trainer).metrics)
    try:
        trained = _trained(assignment, folder, target, checkpoints, reporter, figures, metrics, trust, reach)
    finally:
        if assignment.local_rank == 0:
            shutil.rmtree(staging, ignore_errors=True)
    if reporter.stopped:
        outcome, message = STOP_OUTCOMES[reporter.stopped], f"stopped after step {figures.steps}"
        echo = reporter.stopped == "stale"
        return figures.ended(ts=time.time(), outcome=outcome, message=message, echo=echo)
    if guard.fault is not None:
        return figures.ended(ts=time.time(), **diverged(guard.fault, figures, checkpoints))
    message = "; ".join(filter(None, [_summary(figures, metrics), reporter.best.note]))
    if assignment.rank == 0:
        if folder.stop_requested() == "stale" or not folder.is_mine(assignment):
            raise Stopped("stale", "the server does not know this attempt any more: nothing is published")
        try:
            made = publish(trained, target, assignment, figures, fleet)
        except disk_space.NoStorage as error:
            raise disk_space.NoStorage(f"trained to the end, result not published: {error}") from error
        figures.result = str(made)
        if made != target:
            message += f"; the result is in {made}, because {target} was taken while this job trained"
            log.warning("%s", message)
    return figures.ended(ts=time.time(), outcome=Outcome.SUCCEEDED, message=message)


def _trained(
    assignment: Assignment,
    folder: AttemptFolder,
    target: Path,
    checkpoints: Path,
    reporter: Reporter,
    figures: Figures,
    metrics: Metrics,
    trust: bool,
    reach: Reach | None,
) -> Guarded | Path:
    """The checkpoint of the last step, or the trainer with its model where there is none; also one that was stopped."""
    staging = staging_folder(checkpoints, assignment.attempt_id)

    def give_up(**how: Any) -> None:
        folder.write_ended(figures.ended(ts=time.time(), **how), assignment.local_rank)

    trackers = Trackers(assignment, checkpoints.parent)
    reporter.lost_trackers, figures.trackers_lost = trackers.news, trackers.lost
    with (
        trackers.running(reporter.trained_whole),
        closing(reporter),
        rank_watch.Watch(assignment, folder, give_up),
    ):
        # Hosts first meet: what one of them has to resume from all of them need.
        others = reporter.others = rendezvous.join(assignment, staging, give_up) if assignment.spans else None
        with figures.meter.apart():
            resume = checkpoint_of(
                assignment, folder, checkpoints, staging, lambda: _obey_stop(folder), reach, others
            )
        if resume:
            figures.last_checkpoint = str(resume[0]) if assignment.at_lead else None
            if manifest := finished(*resume, assignment.spec, reporter.best):
                figures.take_up(resume[1], manifest)
                made = reporter.best.result(checkpoints, assignment.mine, resume[0]) or resume[0]
                log.info("all %d steps are done: the result is made from %s", resume[1], made)
                return made
            log.info("resuming after step %d from %s", resume[1], resume[0])
            reporter.guard.left_out = left_out(resume[0])
        if assignment.rank == 0:
            check_room(assignment, target, checkpoints)
        # Trackers first: what they put into a checkpoint is there when it is published.
        callbacks, guard = [trackers, reporter, metrics, SavesGeneration()], reporter.guard
        trainer = build_trainer(assignment, staging, trust, callbacks, folder.data_path, guard)
        reporter.data, note = take_rows(trainer.args, folder.data_path, resume, assignment.spec, others)
        allocator = figures.meter.allocator
        fixed = allocator is not None and not allocator.expandable
        trainer.fixed_segments = fixed
        trainer.longest_first = reporter.longest_first = longest_first(resume, fixed)
        if trainer.longest_first:
            log.info("segments are fixed: the first step has the longest rows")
        refusal = allocator.refusal if allocator else None
        reporter.note = "; ".join(filter(None, [note, refusal])) or None
        _obey_stop(folder)
        trackers.begin(trainer.args, resume[0] if resume else None)
        trainer.train(resume_from_checkpoint=str(resume[0]) if resume else None)
        if reporter.stopped is None and guard.fault is None:
            guard.fault = trainer.fault_of_all()
            if guard.fault is None:
                trackers.keep(staging, trainer.state.global_step)
                reporter.save_last(trainer)
    return reporter.best.result(checkpoints, assignment.mine, reporter.last) or trainer


def build_trainer(
    assignment: Assignment,
    output_dir: Path | str,
    trust: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
    data_folder: Path | None = None,
    guard: Guard | None = None,
    ordered: type | None = None,
) -> Guarded:
    """The trainer of an assignment, with its model, adapters, tokenizer and data, ready to train.

    data_folder: for the rows as tokens, the same for all ranks of this host; in output_dir when left out. ordered:
    stands before the trainer's own class, with another order of the rows.
    """
    spec = assignment.spec
    use_cpu = assignment.card.kind == "cpu"
    tokenizer = build_tokenizer(spec.model, assignment.trusted_models)
    config = build_config(spec.model, trust)
    token_room = Room(spec.model, tokenizer, config)
    token_room.check_padding()
    if use_cpu:
        # A thread for each core would count as the job's memory there.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
    folder = data_folder or Path(output_dir) / "data"
    rows, held_out = split(
        build_dataset(spec, tokenizer, folder, assignment.local_rank == 0, token_room.check), spec
    )
    unsloth = spec.model.engine == "unsloth"
    kind = trainer_of(spec.trainer)
    for_trainer(config, spec.trainer, tokenizer.pad_token_id or tokenizer.eos_token_id)
    model = (
        unsloth_engine.build_model(spec, assignment.rung, trust)
        if unsloth
        else build_model(spec, config, trust, use_cpu)
    )
    beside: dict[str, Any] = {}
    if not unsloth:
        check_saved_modules(model, spec.method)
    if kind.reference(spec, assignment.rung):
        beside["ref_model"] = build_model(spec, config, trust, use_cpu)
    made = kind.trainer if ordered is None else type(ordered.__name__, (ordered, kind.trainer), {})
    trainer: Guarded = made(
        guard=guard or Guard(spec.training.on_nan == "skip"),
        model=model,
        args=trl_config(spec, assignment.rung, output_dir, use_cpu=use_cpu, world_size=assignment.world_size),
        train_dataset=rows,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=None if unsloth else lora_config(spec.method, spec.trainer),
        callbacks=list(callbacks),
        **beside,
    )
    if spec.method.kind != "full":
        cast_adapters(trainer.model, spec)
    return trainer


def run_attempt(
    assignment: Assignment,
    folder: AttemptFolder,
    host_home: Path | str,
    output_root: Path | str,
    reach: Reach | None = None,
) -> Ended:
    """Train under the card's limit and record the outcome. A trainer's outermost edge: nothing is raised.

    reach: the way to checkpoints on other hosts.
    """
    card = assignment.card
    if card.kind == "cpu":
        set_threads(len(assignment.ranks_here))
        _load_bitsandbytes(assignment.spec)
    tracking.load(assignment, host_home)
    figures = Figures(Meter(card, assignment.shared))
    try:
        if not folder.is_mine(assignment):
            raise Stopped("stale")
        folder.write_started(_started(figures.meter), assignment.local_rank)
        if card.kind == "cuda":
            figures.meter.allocator = settle(assignment.local_rank)
            note_found(host_home, card.uuid, not figures.meter.allocator.refusal)
        with card_limit(card, assignment.upper_bytes, assignment.shared, assignment.local_rank):
            ended = train(assignment, folder, host_home, output_root, figures, reach=reach)
    except Stopped as stopped:
        outcome, echo = STOP_OUTCOMES[stopped.reason], stopped.reason == "stale"
        ended = figures.ended(ts=time.time(), outcome=outcome, message=str(stopped), echo=echo)
    except Exception as error:  # the edge of the process: every failure becomes an outcome
        ended = failure(error, figures, assignment, folder)
        # Its frames hold the model; what they hold must go before the outcome is written.
        traceback.clear_frames(error.__traceback__)
    gc.collect()
    if assignment.local_rank == 0:
        shutil.rmtree(folder.data_path, ignore_errors=True)
    if assignment.spans and ended.rank is None:
        ended = ended.model_copy(update={"rank": assignment.rank})
    if folder.is_mine(assignment):
        folder.write_ended(ended, assignment.local_rank)
    log.info("ended: %s %s", ended.outcome, ended.message)
    return ended


def _load_bitsandbytes(spec: JobSpec) -> None:
    """Import it before the baseline is taken: PEFT will wherever it is installed, and its memory is not the job's.

    Where the host has CUDA cards, workers/trainer/entrypoint.py put it off.
    """
    if (spec.libraries or spec.method.kind != "full") and importlib.util.find_spec("bitsandbytes"):
        load("bitsandbytes")


def _obey_stop(folder: AttemptFolder) -> None:
    if reason := folder.stop_requested():
        raise Stopped(reason)


def _started(meter: Meter) -> Started:
    process = psutil.Process()
    return Started(
        ts=time.time(),
        pid=process.pid,
        create_time=process.create_time(),
        baseline_bytes=meter.baseline_bytes,
    )


def _summary(figures: Figures, metrics: Metrics) -> str:
    text = counted(figures.steps, "step")
    if figures.first_loss is not None and figures.last_loss is not None:
        text += f", loss {figures.first_loss:.3f} to {figures.last_loss:.3f}"
    text += str(metrics)
    if figures.skipped:
        text += f"; {counted(figures.skipped, 'step')} skipped: the loss or the gradients were not finite"
    if figures.trackers_lost:
        text += f"; not reported to {', '.join(figures.trackers_lost)}, see the log"
    return text
