"""The attempts on this host: which run, which are to end, which ended without a word."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from jobs.identity import AttemptKey, Owner
from jobs.messages.reports import AttemptOffsets, Ended, Progress, Started, StopOrder
from jobs.state import Outcome
from workers import processes
from workers.agent.death_cause import ran_out
from workers.attempt_folder import STOP_OUTCOMES, AttemptFolder, StopReason, attempt_folders, checkpoints_root
from workers.checkpoints.job_folder import claim_job_folder, newest_of
from workers.checkpoints.manifest import size_of

log = logging.getLogger(__name__)

LOST_GRACE_S = 3.0  # between a trainer's death and the verdict: its last file may still be on the way
LOST_CARD_S = 15.0  # for a trainer to notice that its card is lost; it may wait for the card for ever
LINGER_S = 15.0  # for a trainer to exit after its outcome
LIMIT_SLACK_S = 30.0  # a trainer looks at its time limit between steps; this long after it, we end it
LIMIT_GRACE_S = 20.0  # which gives it this long to save a checkpoint


@dataclass
class _Stop:
    reason: StopReason
    deadline: float  # Unix seconds; by force from then on
    grace_s: float
    fenced: bool  # for the server did not hold it open, rather than asked for its end


@dataclass
class _Local:
    """One attempt as this host sees it. Its ranks here are numbered from 0."""

    folder: AttemptFolder
    inode: int | None = None  # of the folder; None until there is one
    ranks: list[int] | None = (
        None  # those of this host, as all hosts number them; None until the assignment is there
    )
    cards: list[str] = field(default_factory=list)  # uuid by rank
    key: AttemptKey | None = None  # as its folder names it; None until the assignment is there
    owner: Owner | None = None  # its job
    limit_s: float | None = None  # the job's time limit
    carries: bool = False  # whether it may first have to fetch its checkpoint, which the limit does not count
    started: dict[int, Started] = field(default_factory=dict)  # by rank
    live: dict[int, psutil.Process] = field(default_factory=dict)  # by rank
    over_since: float | None = None  # since when an outcome is seen
    dead_since: float | None = None  # since when a rank is seen gone that left no outcome
    dead: int = 0  # that rank
    leads: bool = True  # whether rank 0 is here, which alone writes progress and checkpoints
    stop: _Stop | None = None
    foreign: bool = False  # the server's attempt of this id is another
    unwritten: str = ""  # why its outcome could not be written so far
    lost_card: tuple[str, float] | None = None  # uuid of a card of its live ranks that is lost, since when
    oom_kills: int | None = None  # the kernel's count when all ranks were last seen alive


class Supervisor:
    """Everything under <home>/attempts, and the processes that belong to it. It owns the kill."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._local: dict[int, _Local] = {}
        self._to_forget: set[int] = set()
        self._strange: dict[int, AttemptKey] = {}  # the server does not know them: to be set aside

    def supervise(self, now: float) -> None:
        """Look at every folder and process; end what is to end; write the outcome of what died silently."""
        self._local = {folder.attempt_id: self._same(folder) for folder in attempt_folders(self._home)}
        for key, local in self._local.items():
            _look(local, now)
            if _is_overdue(local, now):
                self.stop(StopOrder(attempt_id=key, reason="timeout", grace_s=LIMIT_GRACE_S), now)
            _decide(local, now)
        for key in [key for key in self._to_forget if not self._is_live(key)]:
            folder, gone = AttemptFolder(self._home, key), self._local.get(key)
            if gone is not None and not gone.leads and gone.owner is not None:
                claim_job_folder(self._home, gone.owner)
                folder.keep_log(gone.owner.job_id)
            folder.remove()
            self._to_forget.discard(key)
            self._local.pop(key, None)
        for key in [key for key in self._strange if not self._is_live(key)]:
            if AttemptFolder(self._home, key).set_aside_if(self._strange[key]):
                del self._strange[key]
                self._local.pop(key, None)

    def _same(self, folder: AttemptFolder) -> _Local:
        """What is known of this folder; nothing, if it took the place of one that was set aside."""
        inode = folder.inode()
        local = self._local.get(folder.attempt_id)
        if local is None or local.inode not in (None, inode):
            return _Local(folder, inode)
        local.inode = inode
        return local

    def known(self) -> set[int]:
        """Attempts that have a folder."""
        return set(self._local)

    def running(self) -> list[int]:
        """Attempts with a live process."""
        return [key for key, local in self._local.items() if local.live]

    def jobs(self) -> set[int]:
        """Jobs with a live process."""
        return {one.owner.job_id for one in self._local.values() if one.live and one.owner is not None}

    def here(self) -> list[AttemptKey]:
        """Every attempt with a folder, as that names it."""
        return [one.key for one in self._local.values() if one.key is not None]

    def over(self) -> set[int]:
        """Attempts with an outcome and no live process."""
        return {key for key, one in self._local.items() if one.over_since is not None and not one.live}

    def is_quiet(self) -> bool:
        """Whether all attempts are over."""
        return len(self.over()) == len(self._local)

    def unheld(self, open_ids: set[int] | None) -> dict[str, int]:
        """uuid -> attempt that is on this card and on its way out, though the server does not hold it open.

        open_ids: what it holds open; None while that is not known: then every trainer counts.
        """
        found: dict[str, int] = {}
        for key, local in self._local.items():
            ending = local.stop is not None or local.over_since is not None
            if open_ids is None or local.foreign or (ending and key not in open_ids):
                found |= {local.cards[rank]: key for rank in local.live if rank < len(local.cards)}
        return found

    def pids(self) -> set[int]:
        """Live trainer processes of attempts that have no outcome yet."""
        return {p.pid for one in self._local.values() if one.over_since is None for p in one.live.values()}

    def on_cards(self) -> dict[str, dict[int, int]]:
        """uuid -> pid -> baseline bytes of the trainers that are on a card now: several where it is shared."""
        found: dict[str, dict[int, int]] = {}
        for local in self._local.values():
            for rank, process in local.live.items():
                if rank < len(local.cards):
                    baseline = local.started[rank].baseline_bytes
                    found.setdefault(local.cards[rank], {})[process.pid] = baseline
        return found

    def jobs_on_cards(self) -> dict[str, list[int]]:
        """uuid -> the jobs of the trainers that are on a card now."""
        found: dict[str, list[int]] = {}
        for local in self._local.values():
            if local.key is None:
                continue
            for rank in local.live:
                if rank < len(local.cards):
                    found.setdefault(local.cards[rank], []).append(local.key.job_id)
        return found

    def stop(self, order: StopOrder, now: float, fenced: bool = False) -> None:
        """Ask the trainer to end, and hold it to that. The same order again changes nothing."""
        local = self._local.setdefault(order.attempt_id, _Local(AttemptFolder(self._home, order.attempt_id)))
        if local.over_since is not None or (local.stop and local.stop.reason == order.reason):
            return
        if order.uuid and local.key is not None and local.key.uuid not in ("", order.uuid):
            return  # it is of another attempt by this id
        log.info("attempt %d is to end (%s), by force in %g s", order.attempt_id, order.reason, order.grace_s)
        try:
            local.folder.request_stop(order.reason)
        except OSError as error:  # a full disk, for instance: then it is ended by force
            log.warning("attempt %d can't be asked to stop: %s", order.attempt_id, error)
        deadline = now + order.grace_s
        if local.stop:  # another reason gives no more time
            deadline = min(deadline, local.stop.deadline)
        local.stop = _Stop(order.reason, deadline, order.grace_s, fenced)

    def lose_cards(self, lost: Collection[str], now: float) -> None:
        """End what is on these cards, for it can't go on, once it had LOST_CARD_S to say so itself."""
        for local in self._local.values():
            gone = [rank for rank in sorted(local.live) if set(local.cards[rank : rank + 1]) & set(lost)]
            if not gone or local.over_since is not None:
                local.lost_card = None
            elif local.lost_card is None:
                local.lost_card, local.dead = (local.cards[gone[0]], now), gone[0]
            elif now - local.lost_card[1] >= LOST_CARD_S:
                _end(local)
                if not local.live:
                    _write_outcome(local, now, forced=False)

    def admit(self, attempts: Iterable[AttemptOffsets]) -> None:
        """Clear the folders of these attempts of what another attempt by the same id left there."""
        for one in attempts:
            local = self._local.get(one.attempt_id)
            if local is None:
                continue
            # A stop before any trainer claimed the folder leaves an outcome that names no attempt. It is this
            # one's only where the server asked for it.
            ours = local.stop is not None and not local.stop.fenced
            unclaimed = local.key is None and local.over_since is not None and not ours
            if not unclaimed and (local.key is None or local.key.is_of(one.key)):
                continue
            local.foreign = True
            _end(local)
            if local.folder.set_aside_unless(one.key, unclaimed):
                del self._local[one.attempt_id]

    def reject(self, keys: Iterable[AttemptKey], now: float) -> None:
        """End these, which the server does not know, and set their folders aside."""
        for key in keys:
            local = self._local.get(key.attempt_id)
            if local is not None and local.key == key:
                local.foreign = True
                self._strange[key.attempt_id] = key
                if local.over_since is None:
                    self.stop(
                        StopOrder(attempt_id=key.attempt_id, reason="stale", grace_s=0.0), now, fenced=True
                    )
                else:
                    _end(local)

    def fence(self, open_ids: set[int], listed_before: set[int], now: float) -> None:
        """End what the server no longer holds open.

        listed_before: attempts seen here before the report was sent whose answer names open_ids. The server
        opens an attempt before it sends it here, so what it leaves out of that answer is stale, not new.
        """
        for key in listed_before - open_ids:
            local = self._local.get(key)
            if local is not None and local.over_since is None:
                self.stop(StopOrder(attempt_id=key, reason="stale", grace_s=0.0), now, fenced=True)

    def forget(self, ids: Iterable[int]) -> None:
        """Delete these folders, once nothing runs in them: a trainer exits some time after its outcome."""
        self._to_forget |= (self._local.keys() & set(ids)) - self._strange.keys()

    def _is_live(self, key: int) -> bool:
        local = self._local.get(key)
        return bool(local and local.live)


def _look(local: _Local, now: float) -> None:
    # The outcome first: the process that wrote it had said before which process it is.
    if local.over_since is None and local.folder.outcome_path().exists():
        local.over_since = now
    if local.ranks is None and (assignment := local.folder.assignment()) is not None:
        local.ranks = assignment.ranks_here
        local.cards = [gpu.uuid for gpu in assignment.cards_here]
        local.leads = assignment.at_lead
        local.key, local.owner = assignment.key, assignment.mine
        local.limit_s = assignment.spec.time_limit
        local.carries = bool(assignment.kept)
    if local.ranks is None or len(local.started) < len(local.ranks):
        local.started = local.folder.processes()
    found = {rank: processes.find(one.pid, one.create_time) for rank, one in local.started.items()}
    local.live = {rank: process for rank, process in found.items() if process is not None}
    gone = [rank for rank in local.started if rank not in local.live]
    if not gone:
        local.oom_kills = processes.oom_kills()
    silent = [rank for rank in gone if not local.folder.outcome_path(rank).exists()]
    if not silent:
        local.dead_since = None
    elif local.dead_since is None:
        local.dead_since, local.dead = now, silent[0]


def _is_overdue(local: _Local, now: float) -> bool:
    """Whether a trainer that hangs in a step is past its time limit."""
    started = local.started.get(0)
    if local.limit_s is None or started is None or not local.live or local.stop is not None:
        return False
    began = local.folder.resumed() if local.carries else started
    return began is not None and now - began.ts > local.limit_s + LIMIT_SLACK_S


def _decide(local: _Local, now: float) -> None:
    forced = local.stop is not None and now >= local.stop.deadline
    if local.over_since is not None:
        if local.live and (forced or now >= local.over_since + LINGER_S):
            _end(local)
        return
    if forced:
        _end(local)
        if not local.live:
            _write_outcome(local, now, forced)
    elif local.dead_since is not None and now >= local.dead_since + LOST_GRACE_S:
        _end(local)  # the other ranks of a gang wait for this one in vain
        _write_outcome(local, now, forced)


def _end(local: _Local) -> None:
    for rank, process in local.live.items():
        log.warning("ending rank %d of attempt %d (pid %d)", rank, local.folder.attempt_id, process.pid)
    gone = processes.end_all(local.live.values(), timeout_s=0.5)
    still = {process.pid for process in gone}
    local.live = {rank: process for rank, process in local.live.items() if process.pid in still}


def _write_outcome(local: _Local, now: float, forced: bool) -> None:
    """The outcome of an attempt that left none, from what its files tell. The trainer's own would win."""
    lines = local.folder.progress()
    last = lines[-1] if lines else None
    losses = [line.loss for line in lines if line.loss is not None]
    checkpoint = _last_checkpoint(local) if local.leads else None
    memory = (
        None
        if local.stop or local.unwritten
        else ran_out(local.folder, local.folder.assignment(local.dead), last)
    )
    known = _what_is_known(local, last, checkpoint, forced)
    ended = Ended(
        ts=now,
        # What could not be written to, the trainer could not write to either.
        outcome=STOP_OUTCOMES[local.stop.reason]
        if local.stop
        else Outcome.STORAGE
        if local.unwritten
        else Outcome.OOM
        if memory
        else Outcome.LOST,
        message=f"{memory}; {known}" if memory else known,
        rank=local.ranks[local.dead] if local.ranks else None,
        echo=local.stop is not None and local.stop.reason == "stale" and forced,
        steps=last.step if last else 0,
        total_steps=last.total_steps if last else None,
        last_checkpoint=checkpoint,
        checkpoint_bytes=size_of(Path(checkpoint)) if checkpoint else None,
        tokens_per_s=last.tokens_per_s if last else None,
        first_loss=losses[0] if losses else None,
        last_loss=losses[-1] if losses else None,
        allocated_bytes=last.allocated_bytes if last else None,
        reserved_bytes=last.reserved_bytes if last else None,
        device_bytes=last.device_bytes if last else None,
        expandable=last.expandable if last else None,
    )
    try:
        written = local.folder.write_ended(ended)
    except OSError as error:  # tried again at the next look; what else runs here is not to suffer from it
        if not local.unwritten:
            log.warning("the outcome of attempt %d can't be written: %s", local.folder.attempt_id, error)
        local.unwritten = error.strerror or str(error)
        return
    if written:
        log.warning("attempt %d: %s: %s", local.folder.attempt_id, ended.outcome, ended.message)
    local.over_since = now


def _what_is_known(local: _Local, last: Progress | None, checkpoint: str | None, forced: bool) -> str:
    trainer = local.started.get(local.dead)
    which = f"of rank {local.ranks[local.dead]} " if local.ranks and len(local.ranks) > 1 else ""
    if local.lost_card and not local.stop:
        text = f"the trainer {which}was ended: its card {local.lost_card[0]} is lost"
    elif local.stop and trainer is None:
        text = f"ended ({_said(local.stop.reason)}) before a trainer started"
    elif local.stop and forced:
        grace_s = local.stop.grace_s
        text = f"ended by force ({_said(local.stop.reason)}), {grace_s:g} s after it was asked to stop"
    else:
        text = f"the trainer process {which}(pid {trainer.pid if trainer else '?'}) ended without an outcome"
        if trainer and processes.killed_by_kernel(trainer.pid):
            text += ": the kernel ended it because the host's memory ran out"
        elif local.oom_kills is not None and (processes.oom_kills() or 0) > local.oom_kills:
            text += ": the kernel ended processes at that time because the host's memory ran out"
    if local.unwritten:
        text += f": nothing could be written to the host's disk ({local.unwritten})"
    if not local.leads:
        return text
    text += f"; {last.step} of {last.total_steps} steps done" if last else "; no step was done"
    return text + (f"; last checkpoint {Path(checkpoint).name}" if checkpoint else "; no checkpoint")


def _said(reason: StopReason) -> str:
    return "its host was stopped" if reason == "host_stopped" else reason


def _last_checkpoint(local: _Local) -> str | None:
    """The newest with a manifest. Whether it is good is checked where it is resumed: checksums take long."""
    if local.owner is None:
        return None
    root = checkpoints_root(local.folder.path.parent.parent, local.owner.job_id)
    found = newest_of(root, local.owner)
    return None if found is None else str(found)
