"""What the store takes: jobs to submit, attempts to open, who asks. Times are Unix seconds, memory is bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from jobs.identity import new_uuid
from jobs.state import On


class Note(StrEnum):
    """Kinds of events that move no job (those that do are jobs.state.Event)."""

    SUBMITTED = "submitted"  # the first event of every job
    COPIED = "copied"  # an ended job was submitted again as another
    CANCEL_REQUESTED = "cancel_requested"
    HELD = "held"  # a queued job is not to start
    RELEASED = "released"
    CHANGED = "changed"  # its job file was changed while it waited
    DISPATCHED = "dispatched"  # the attempt's assignment was handed to Ray
    TRAINING = "training"  # its process is up
    DATA_CHANGED = "data_changed"  # since the checkpoint that the attempt goes on from
    WAITING = "waiting"  # for longer than serve --waiting-after
    TRACKER_LOST = "tracker_lost"  # training goes on without one that report_to names
    STOP_REQUESTED = "stop_requested"
    HOST_JOINED = "host_joined"
    HOST_DRAINED = "host_drained"
    HOST_RESUMED = "host_resumed"
    HOST_FAULT = "host_fault"  # no trainer could start there
    CARD_FAULT = "card_fault"  # its host can't use the card: it is set aside
    CARD_WELL = "card_well"  # it takes work again
    CARD_XID = "card_xid"  # an error of its driver
    CARD_ECC = "card_ecc"  # errors of its memory that could not be corrected
    CARD_ECC_CORRECTED = "card_ecc_corrected"
    CARD_SLOW = "card_slow"  # heat or power hold its clocks down
    CARD_FULL_SPEED = "card_full_speed"
    CARD_GONE = "card_gone"  # its host has it no more
    CARD_BACK = "card_back"  # on that host or another
    QUARANTINED = "quarantined"  # a record that can't be handled is left alone; the rest goes on
    RESTORED = "restored"  # the database went back to a backup, or was moved: a new epoch
    SET_ASIDE = "set_aside"  # something on a host that is not what the database has by its id
    FORGOTTEN = "forgotten"  # what was measured of some attempts no longer counts
    PROJECT_SET = "project_set"
    PROJECT_REMOVED = "project_removed"
    SECRET_SET = "secret_set"
    SECRET_REMOVED = "secret_removed"
    TARGET_ADDED = "target_added"
    TARGET_REMOVED = "target_removed"
    NOTICE_LOST = "notice_lost"  # a target did not take it for a day


# Events of what people and hosts ask for, by kind: any server stores them, and the plan of the one that leads has to
# follow. A cancel of a job that waits needs no plan.
ASKED = (
    *(Note.SUBMITTED, Note.COPIED, Note.CANCEL_REQUESTED, Note.HELD, Note.RELEASED, Note.CHANGED),
    *(Note.TRAINING, Note.HOST_JOINED, Note.HOST_DRAINED, Note.HOST_RESUMED, Note.FORGOTTEN),
    *(Note.PROJECT_SET, Note.PROJECT_REMOVED),
)
# Events that targets are told of, by kind.
NOTIFIED = (
    *("succeeded", "failed", "cancelled", "requeued", "waiting"),
    *("host_fault", "card_fault", "card_well", "card_xid", "card_ecc", "tracker_lost", "quarantined"),
)


@dataclass(frozen=True)
class Actor:
    """Who asks for something. user: as the client states it, "" where it does not; address: where it comes from."""

    user: str
    address: str = ""


@dataclass(frozen=True)
class NewLink:
    """A job to wait for: one of the database by its id or, with `here`, one of this submission by its position."""

    job: int
    on: On = On.SUCCESS
    here: bool = False


@dataclass(frozen=True)
class NewJob:
    """A job to submit. spec is what jobs.jobfile.spec.parse_spec accepts again; its `after` is in links, not there.

    group: those of one submission that have the same number here make one group; address: where it comes from;
    held_by: who wants it held, None: nobody; continues: the job whose checkpoints it goes on from; values: what a
    matrix gave it; step_of: the job whose training it follows, None: it trains itself; uuid: its own.
    """

    name: str
    user: str
    spec: dict[str, Any]
    priority: int = 50
    project: str = "default"
    group: int | None = None
    links: tuple[NewLink, ...] = ()
    address: str | None = None
    held_by: str | None = None
    continues: int | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    step_of: NewLink | None = None
    uuid: str = field(default_factory=new_uuid)


@dataclass(frozen=True)
class SubmitKey:
    """What a client calls a submission, so that asking again makes no second one. digest: of all that was asked."""

    key: str
    digest: str


@dataclass(frozen=True)
class NewSubmission:
    """Jobs to store together: all or none."""

    jobs: Sequence[NewJob]
    key: SubmitKey | None = None


@dataclass(frozen=True)
class Start:
    """An attempt to open. host_id: of rank 0; gpu_ids: in rank order, none of a step; basis: what the projection
    stood on (orchestrator.control.snapshot.cache.basis_of), for its observation; shared: others may share the cards,
    as long as the projections' upper_bytes fit together; host_ids: of each card, where they are on several hosts;
    revision: of the job that was planned; uuid: the attempt's.
    """

    job_id: int
    host_id: int
    gpu_ids: tuple[int, ...]
    rung: Mapping[str, Any]
    projection: Mapping[str, Any]
    basis: Mapping[str, Any] | None = None
    shared: bool = False
    host_ids: tuple[int, ...] = ()
    revision: int = 0
    uuid: str = field(default_factory=new_uuid)
