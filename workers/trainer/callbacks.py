"""What a running trainer does besides training: progress, checkpoints, stopping, figures."""

from __future__ import annotations

import logging
import math
import statistics
import time
from array import array
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from jobs.messages.reports import Assignment, Ended, Evaluated, Progress
from workers.attempt_folder import AttemptFolder, StopReason
from workers.checkpoints import disk_space
from workers.checkpoints.folders import prune, publish_checkpoint, staging_folder
from workers.checkpoints.job_folder import check_job_folder, home_of, made_by
from workers.checkpoints.manifest import size_of
from workers.data.fingerprint import Fingerprint
from workers.trainer.finite import Fault, Guard, weights_fault, word
from workers.trainer.memory_meter import Meter
from workers.trainer.ranks.decision import Decision
from workers.trainer.ranks.rendezvous import Others
from workers.trainer.saving.best import Best
from workers.trainer.saving.resume import asked_steps, follow_schedule

log = logging.getLogger(__name__)

LINE_EVERY_S = 1.0
# Where the job leaves checkpoint_steps to us: not sooner than this, and saving takes 1% of the time at most.
SAVE_EVERY_S = 30.0
SAVE_SHARE = 0.01


@dataclass
class Figures:
    """What was measured of an attempt; filled while it runs, so that a failure leaves what there was."""

    meter: Meter
    steps: int = 0
    total_steps: int | None = None
    tokens: int = 0
    first_loss: float | None = None
    last_loss: float | None = None
    eval_loss: float | None = None
    last_checkpoint: str | None = None
    result: str | None = None
    skipped: int = 0
    train_s: float | None = None
    step_times: array[float] = field(default_factory=lambda: array("d"))
    marks: list[tuple[float, int]] = field(default_factory=list)  # first and last line: seconds, tokens
    trackers_lost: list[str] = field(default_factory=list)
    measured: bool = True  # False: this attempt trained nothing, so its memory says nothing

    def take_up(self, step: int, manifest: dict[str, Any]) -> None:
        """All steps were done before: this attempt has only their result to publish."""
        self.steps = self.total_steps = step
        self.first_loss, self.last_loss = manifest.get("first_loss"), manifest.get("last_loss")
        self.measured = False

    def ended(self, **how: Any) -> Ended:
        """The attempt's end as it is reported. how: ts, outcome, message."""
        peaks = self.meter.read() if self.measured else None
        later = self.step_times[1:]
        return Ended(
            steps=self.steps,
            total_steps=self.total_steps,
            last_checkpoint=self.last_checkpoint,
            checkpoint_bytes=size_of(Path(self.last_checkpoint)) if self.last_checkpoint else None,
            result=self.result,
            train_s=self.train_s,
            step_s=statistics.median(later) if later else None,
            tokens_per_s=self.tokens_per_s(),
            first_loss=self.first_loss,
            last_loss=self.last_loss,
            eval_loss=self.eval_loss,
            skipped=self.skipped,
            allocated_bytes=peaks.allocated_bytes if peaks else None,
            reserved_bytes=peaks.reserved_bytes if peaks else None,
            device_bytes=peaks.device_bytes if peaks else None,
            expandable=self.meter.expandable,
            **how,
        )

    def tokens_per_s(self) -> float | None:
        """Between the first and the last line, so that the first step's warm-up does not count."""
        if len(self.marks) < 2:
            return self.tokens / self.train_s if self.train_s and self.tokens else None
        (begin, before), (end, after) = self.marks
        return (after - before) / (end - begin) if end > begin else None


class Reporter(TrainerCallback):
    """Writes progress, saves checkpoints, obeys the stop file and the time limit.

    line_every_s: seconds between progress lines at least; the first and the last step always have one, and the one at
    which an early stop compares losses.
    """

    def __init__(
        self,
        assignment: Assignment,
        folder: AttemptFolder,
        checkpoints: Path,
        figures: Figures,
        line_every_s: float = LINE_EVERY_S,
        guard: Guard | None = None,
    ) -> None:
        self.guard = guard or Guard(skip=False)
        self.stopped: StopReason | None = None
        self.others: Others | None = None  # of an attempt over several hosts
        self.best = Best(assignment.spec.training)
        self._assignment, self._folder, self._checkpoints = assignment, folder, checkpoints
        self._figures, self._line_every_s = figures, line_every_s
        early = assignment.spec.sweep.early_stop
        self._compared_at = early.after_steps if early else None  # jobs of a sweep
        self._gang = assignment.world_size > 1
        self._leads = assignment.rank == 0
        self._listens = assignment.local_rank == 0  # for its host
        self._publisher = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._publishing: Future[Path] | None = None
        self._began = self._step_ended = self._lined = self._saved = self._save_cost_s = 0.0
        self._since_line = self._skipped_before = 0
        self._save_every = 0
        self._mute = False  # the last line could not be written
        self.data: Fingerprint | None = None  # of the rows, for checkpoints
        self.longest_first = False  # whether the first step has the longest rows, for checkpoints
        self.note: str | None = None  # what the next progress line is to tell of besides
        self.lost_trackers: Callable[[], str | None] = lambda: None  # the same, asked for each line
        self.last: Path | None = None  # the checkpoint of the last step, once it is published

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._began = self._step_ended = self._lined = self._saved = time.monotonic()
        self._figures.steps, self._figures.total_steps = state.global_step, state.max_steps
        asked = self._assignment.spec.training.checkpoint_steps
        self._save_every = asked or max(1, state.max_steps // 10)
        if state.global_step and (scheduler := kwargs.get("lr_scheduler")) is not None:
            follow_schedule(scheduler, args.learning_rate)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        now = time.monotonic()
        self._figures.step_times.append(now - self._step_ended)
        self._figures.steps, self._figures.train_s = state.global_step, now - self._began
        self._step_ended = now
        self._since_line += 1
        self._figures.skipped = self.guard.skipped
        decision = self._agreed(self._decide(state, now) if self._leads else self._heard(state), args.device)
        if (
            not decision.diverged
            and decision.save
            and (bad := weights_fault(kwargs.get("model"), state.global_step))
        ):
            self.guard.fault, decision = bad, Decision(True, diverged=True)  # the same on all ranks
        if decision.diverged:
            self.guard.fault = self.guard.fault or Fault(
                state.global_step, "another rank's loss is not finite"
            )
            control.should_log = control.should_training_stop = True
            return
        control.should_log = control.should_log or decision.log
        control.should_save = control.should_save or decision.save
        if decision.stop:
            self.stopped = decision.stop
            control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return  # the summary at the end
        now, figures = time.monotonic(), self._figures
        before, tokens = figures.tokens, int(logs.get("num_tokens", 0))
        loss, took = self._mean(logs["loss"]), now - self._lined
        figures.tokens = tokens
        if math.isfinite(loss):
            figures.last_loss = loss
            figures.first_loss = loss if figures.first_loss is None else figures.first_loss
        figures.marks = [*figures.marks[:1], (now, tokens)]
        if self._leads:
            peaks = figures.meter.read()
            steps = figures.step_times[-self._since_line :] if self._since_line else None
            self._tell(
                Progress(
                    ts=time.time(),
                    step=state.global_step,
                    total_steps=state.max_steps,
                    loss=loss if math.isfinite(loss) else None,
                    loss_text=None if math.isfinite(loss) else word(loss),
                    skipped=figures.skipped,
                    learning_rate=logs.get("learning_rate"),
                    grad_norm=norm if math.isfinite(norm := float(logs.get("grad_norm", math.nan))) else None,
                    tokens=tokens,
                    tokens_per_s=(tokens - before) / took if took > 0 else None,
                    step_s=statistics.fmean(steps) if steps else None,
                    allocated_bytes=peaks.allocated_bytes,
                    reserved_bytes=peaks.reserved_bytes,
                    device_bytes=peaks.device_bytes,
                    expandable=figures.meter.expandable,
                    note=self.note,
                    tracker=self.lost_trackers(),
                )
            )
            self.note = None
        self._lined, self._since_line, self._skipped_before = now, 0, figures.skipped

    def _mean(self, loss: float) -> float:
        """Of the steps since the last line that were trained: transformers divides by all of them."""
        skipped = self._figures.skipped - self._skipped_before
        trained = self._since_line - skipped
        if not skipped or not self._since_line:
            return loss
        return loss * self._since_line / trained if trained else math.nan

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        loss = (metrics or {}).get("eval_loss", math.nan)
        self._figures.eval_loss = loss
        log.info("step %d: evaluation loss %.4f", state.global_step, loss)
        if not math.isfinite(loss):
            log.warning("step %d: the loss of the rows held out is %s", state.global_step, word(loss))
        if self._leads:
            said = {"loss": loss} if math.isfinite(loss) else {"loss_text": word(loss)}
            evaluated = Evaluated(ts=time.time(), step=state.global_step, **said)
            self._written(lambda: self._folder.append_evaluation(evaluated))
        self.best.judge(state, control)
        self._step_ended = time.monotonic()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._take(state.global_step)

    def save_last(self, trainer: Trainer) -> None:
        """Make the trained model a checkpoint, too: what comes after it can be tried again.

        A disk that does not take it is no reason to give up: the result may go to another.
        """
        refused = None
        try:
            trainer._save_checkpoint(trainer.model, trial=None)
        except Exception as error:  # whatever type: the libraries have several for a full disk
            refused = disk_space.refused(error)
            if refused is None:
                raise
        if self._any(refused is not None, trainer.args.device):
            log.warning("the last step has no checkpoint: %s", refused or "another rank could not save")
            return
        self._take(trainer.state.global_step, last=True)

    def _any(self, here: bool, device: torch.device) -> bool:
        """Whether it is so on any rank."""
        if not self._gang:
            return here
        found = torch.tensor([int(here)], device=device)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return bool(found.item())

    def _take(self, step: int, last: bool = False) -> None:
        """Publish what the trainer has saved, beside the training; of the last step at once."""
        staging = staging_folder(self._checkpoints, self._assignment.attempt_id)
        staged = staging / f"checkpoint-{step}"
        if self._gang:
            torch.distributed.barrier()  # every rank has written its part
        if self.others is not None:
            self.others.bring_home(staged)
        if self._leads and last:
            self._publish_last(staged, step)
        elif self._leads:
            self._submit(staged, step)
        now = time.monotonic()
        self._save_cost_s = now - self._step_ended
        self._saved = self._step_ended = now

    def _publish_last(self, staged: Path, step: int) -> None:
        try:
            self._submit(staged, step)
            self._finish_publishing()
        except Exception as error:  # as in save_last
            if (refused := disk_space.refused(error)) is None:
                raise
            log.warning("the last step has no checkpoint: %s", refused)
        else:
            self.last = Path(self._figures.last_checkpoint) if self._figures.last_checkpoint else None

    def _submit(self, staged: Path, step: int) -> None:
        self._finish_publishing()
        known = self.guard.left_out, self.best.step
        self._publishing = self._publisher.submit(self._publish, staged, step, *known)

    def trained_whole(self) -> bool:
        return self.stopped is None and self.guard.fault is None

    def close(self) -> None:
        """Wait until the last checkpoint is published. Raises what its publishing raised."""
        self._finish_publishing()
        self._publisher.shutdown()

    def _tell(self, progress: Progress) -> None:
        self._written(lambda: self._folder.append_progress(progress))

    def _written(self, write: Callable[[], None]) -> None:
        """A line that can't be written, on a full disk for instance, is no reason to stop training."""
        try:
            write()
            self._mute = False
        except OSError as error:
            if not self._mute:
                log.warning("progress can't be written: %s", error)
            self._mute = True

    def _decide(self, state: TrainerState, now: float) -> Decision:
        last = state.global_step >= state.max_steps
        stop = None if last else self._stop_reason(now)
        if last or stop or self._save_due(state.global_step, now):
            self.guard.settle()
        if self.guard.fault is not None:
            return Decision(True, diverged=True)
        first = len(self._figures.step_times) == 1
        compared = state.global_step == self._compared_at
        line = first or last or compared or stop is not None or now - self._lined >= self._line_every_s
        save = not last and self._save_due(state.global_step, now)
        return Decision(line, stop != "stale" if stop else save, stop)

    def _heard(self, state: TrainerState) -> Decision:
        """What a rank other than 0 says: only whether its host is to stop, which rank 0 can't see from another."""
        if state.global_step >= state.max_steps:
            self.guard.settle()
        if self.guard.fault is not None:
            return Decision(True, diverged=True)
        heard = self._listens and state.global_step < state.max_steps
        stop = self._folder.stop_requested() if heard else None
        return Decision(True, stop != "stale", stop) if stop else Decision()

    def _stop_reason(self, now: float) -> StopReason | None:
        if reason := self._folder.stop_requested():
            return reason
        limit = self._assignment.spec.time_limit
        return "timeout" if limit is not None and now - self._began > limit else None

    def _save_due(self, step: int, now: float) -> bool:
        if step % self._save_every:
            return False
        if self._assignment.spec.training.checkpoint_steps is not None:
            return True
        return now - self._saved >= max(SAVE_EVERY_S, self._save_cost_s / SAVE_SHARE)

    def _agreed(self, decision: Decision, device: torch.device) -> Decision:
        if not self._gang:
            return decision
        code = torch.tensor([decision.code()], device=device)
        # Of all that is said the greatest: a stop by any host, else what rank 0 decided.
        torch.distributed.all_reduce(code, torch.distributed.ReduceOp.MAX)
        return Decision.of(int(code.item()))

    def _publish(self, staged: Path, step: int, left_out: int, best: int | None) -> Path:
        """Off the training thread: hashing and fsync of gigabytes need not hold up the next steps."""
        (staged / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing needs
        assignment, figures = self._assignment, self._figures
        facts = {
            **made_by(assignment),
            "total_steps": figures.total_steps,
            "left_out": left_out,
            "longest_first": self.longest_first,
            "asked": asked_steps(assignment.spec),
            "first_loss": figures.first_loss,
            "last_loss": figures.last_loss,
            **({"data": asdict(self.data)} if self.data else {}),
        }
        check_job_folder(home_of(self._checkpoints), assignment.mine)
        path = publish_checkpoint(staged, self._checkpoints, step, facts)
        prune(self._checkpoints, assignment.spec.training.keep_checkpoints, best)
        return path

    def _finish_publishing(self) -> None:
        if self._publishing is not None:
            publishing, self._publishing = self._publishing, None
            path = publishing.result()
            self._figures.last_checkpoint = str(path)
            log.info("checkpoint %s", path)
