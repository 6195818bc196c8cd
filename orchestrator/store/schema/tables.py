"""The tables, their constraints and indexes. Times are Unix seconds, memory is bytes.

The migrations make the same.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from jobs.identity import new_uuid
from jobs.state import JobState, On, Outcome
from orchestrator.store.schema.column_types import Flag, Json, Words
from orchestrator.store.schema.history_tables import curves as curves
from orchestrator.store.schema.history_tables import history as history
from orchestrator.store.schema.history_tables import history_late as history_late
from orchestrator.store.schema.history_tables import history_state as history_state
from orchestrator.store.schema.metadata import Key
from orchestrator.store.schema.metadata import metadata as metadata
from orchestrator.store.schema.notice_tables import notices as notices
from orchestrator.store.schema.notice_tables import notify_targets as notify_targets
from orchestrator.store.schema.secret_tables import project_secrets as project_secrets
from orchestrator.store.schema.telemetry_tables import evaluations as evaluations
from orchestrator.store.schema.telemetry_tables import log_chunks as log_chunks
from orchestrator.store.schema.telemetry_tables import progress as progress
from orchestrator.store.schema.telemetry_tables import samples as samples


def _one_of(column: str, values: type[StrEnum]) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    quoted = f'"{column}"' if column == "on" else column  # a word of SQL's own
    return sa.CheckConstraint(f"{quoted} IN ({listed})", name=column)


def _unique_while(name: str, column: sa.Column[Any], condition: str) -> sa.Index:
    return sa.Index(
        name, column, unique=True, sqlite_where=sa.text(condition), postgresql_where=sa.text(condition)
    )


# Which database this is: one row, made with it. Ids are only unique within one, and within an epoch.
yard = sa.Table(
    "yard",
    metadata,
    sa.Column("uuid", sa.Text, primary_key=True),
    # When it began, in Unix milliseconds: with the database, or as it went back to a backup.
    sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"),
    # Where it was when a server last opened it (orchestrator.store.maintenance.epoch); empty: none has.
    sa.Column("place", sa.Text, nullable=False, server_default=""),
    sa.Column("restores", sa.Integer, nullable=False, server_default="0"),  # how often it went back
)

# Who leads (orchestrator.store.leader_lease): one row.
leader = sa.Table(
    "leader",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"),  # rises with each that takes over
    sa.Column("beat", sa.BigInteger, nullable=False, server_default="0"),  # rises while that one lives
    sa.Column("holder", sa.Text),  # a uuid of its process; NULL: nobody leads
    sa.Column("place", sa.Text, nullable=False, server_default=""),  # of the lock that it holds
    sa.Column("url", Words, nullable=False, server_default=""),
    sa.Column("host", Words, nullable=False, server_default=""),
    sa.Column("since", sa.Double, nullable=False, server_default="0"),
    sa.Column("ray_address", Words),  # of its head
    sa.CheckConstraint("id = 1", name="one"),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", Key, primary_key=True),
    sa.Column("name", Words, nullable=False),
    sa.Column("user", Words, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason_code", sa.Text, nullable=False),
    sa.Column("reason_text", Words, nullable=False),
    sa.Column("reason_figures", Json, nullable=False),
    sa.Column("spec", Words, nullable=False),  # JSON, read on demand: a queue of 10,000 is read every tick
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("submitted_at", sa.Double, nullable=False),
    sa.Column("started_at", sa.Double),  # of its first attempt
    sa.Column("ended_at", sa.Double),
    sa.Column("cancel_requested_at", sa.Double),
    sa.Column("not_before", sa.Double),  # back-off after a failure
    sa.Column("project", Words, nullable=False, server_default="default"),
    sa.Column("group_id", Key),  # the first job of the sweep that it is of
    sa.Column("queued_at", sa.Double, nullable=False, server_default="0"),  # when it was queued last
    sa.Column("held_at", sa.Double),  # not to start until it is released
    sa.Column("held_by", Words),
    sa.Column("revision", sa.Integer, nullable=False, server_default="0"),  # how often its spec was changed
    sa.Column("continues", Key),  # the job whose checkpoints it goes on from
    sa.Column("uuid", sa.Text, nullable=False, server_default="", default=new_uuid),
    sa.Column("step_of", Key),  # the job whose training it follows
    _one_of("state", JobState),
    sa.Index("ix_jobs_state_id", "state", "id"),
    sa.Index("ix_jobs_name_id", "name", "id"),
)
sa.Index("ix_jobs_queue", jobs.c.state, jobs.c.priority.desc(), jobs.c.id)
sa.Index("ix_jobs_project_state_id", jobs.c.project, jobs.c.state, jobs.c.id)
_IN_A_GROUP = sa.text("group_id IS NOT NULL")
sa.Index("ix_jobs_group_id", jobs.c.group_id, sqlite_where=_IN_A_GROUP, postgresql_where=_IN_A_GROUP)
_A_STEP = sa.text("step_of IS NOT NULL")
sa.Index("ix_jobs_step_of", jobs.c.step_of, sqlite_where=_A_STEP, postgresql_where=_A_STEP)
_CONTINUES = sa.text("continues IS NOT NULL")
sa.Index("ix_jobs_continues", jobs.c.continues, sqlite_where=_CONTINUES, postgresql_where=_CONTINUES)

# Submissions that had a key, so that who has to ask again makes no second one.
submissions = sa.Table(
    "submissions",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),  # of all that was asked
    sa.Column("made_at", sa.Double, nullable=False, index=True),
    sa.Column("jobs", Json, nullable=False),  # their ids
    sa.Column("values", Json, nullable=False),  # what a matrix gave each of them
    sqlite_with_rowid=False,
)

# What a job waits for. Whether it still does follows from the other job's state.
job_links = sa.Table(
    "job_links",
    metadata,
    sa.Column("job_id", Key, sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Column("after_id", Key, sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Column("on", sa.Text, nullable=False),
    _one_of("on", On),
    sa.Index("ix_job_links_after_id", "after_id"),
    sqlite_with_rowid=False,
)

# Projects with terms of their own: jobs of any other name share without.
projects = sa.Table(
    "projects",
    metadata,
    sa.Column("name", Words, primary_key=True),
    sa.Column("guarantee", sa.Integer),  # GPUs; NULL: only its share
    sa.Column("weight", sa.Double, nullable=False),
    sa.Column("borrows", Flag, nullable=False),
    sa.CheckConstraint("guarantee >= 0", name="guarantee"),
    sa.CheckConstraint("weight > 0", name="weight"),
)

hosts = sa.Table(
    "hosts",
    metadata,
    sa.Column("id", Key, primary_key=True),
    sa.Column("name", Words, nullable=False, unique=True),
    sa.Column("info", Json, nullable=False),  # jobs.messages.reports.HostInfo
    sa.Column("boot", Words),  # of the agent that reported last; empty: it has left
    sa.Column("joined_at", sa.Double, nullable=False),
    sa.Column("last_seen", sa.Double, nullable=False),
    sa.Column("drained", Flag, nullable=False),
    sa.Column("ray_ready", Flag, nullable=False),
    sa.Column("running", Json, nullable=False),  # attempt ids with a live process, as last reported
    sa.Column(
        "fault", Words
    ),  # why no trainer can start there, since fault_at; NULL once one did, or the agent joined
    sa.Column("fault_at", sa.Double),
    sa.Column("fault_times", sa.Integer, nullable=False, server_default="0"),  # in a row
    sa.Column("disks", Json),  # jobs.messages.reports.Disk of each, as last reported; NULL: it has not said
    sa.Column("aside", Json),  # jobs.identity.Aside of all that was set aside there, as last reported
)

gpus = sa.Table(
    "gpus",
    metadata,
    sa.Column("id", Key, primary_key=True),
    sa.Column("uuid", Words, nullable=False, unique=True),
    sa.Column("host_id", Key, sa.ForeignKey("hosts.id"), nullable=False, index=True),
    sa.Column("idx", sa.Integer, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", Words, nullable=False),
    sa.Column("memory_bytes", sa.BigInteger, nullable=False),
    sa.Column("fault", Words),
    sa.Column("present", Flag, nullable=False),
    sa.Column("expandable", Flag, nullable=False, server_default=sa.true()),
    # What was told last of its faults, errors and slow clocks (orchestrator.store.hosts.card_signs); NULL: nothing.
    sa.Column("signs", Json),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", Key, primary_key=True),
    sa.Column("job_id", Key, sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),  # within its job: the fencing token
    sa.Column("host_id", Key, sa.ForeignKey("hosts.id"), nullable=False),
    sa.Column("rung", Json, nullable=False),
    sa.Column("projection", Json, nullable=False),
    sa.Column("opened_at", sa.Double, nullable=False),
    sa.Column("dispatched_at", sa.Double),
    sa.Column("started_at", sa.Double),  # by the host's clock
    sa.Column("started", Json),  # jobs.messages.reports.Started
    sa.Column("stop_requested_at", sa.Double),
    sa.Column("stop_reason", sa.Text),
    sa.Column("log_bytes", sa.BigInteger, nullable=False),
    sa.Column(
        "reported", Json
    ),  # jobs.messages.reports.Ended as the host said it, until the controller acts on it
    sa.Column("outcome", sa.Text),  # NULL while the attempt is open
    sa.Column("message", Words),
    sa.Column("ended_at", sa.Double),
    sa.Column("steps", sa.Integer),
    sa.Column("last_checkpoint", Words),
    sa.Column("result", Words),
    sa.Column("measured", Json),  # the figures of jobs.messages.reports.Ended
    sa.Column(
        "basis", Json
    ),  # what the projection stood on, for calibration: family, length, confidence, margin
    sa.Column("stop_for", Key),  # the job that it was asked to make room for
    sa.Column("resumed", Json),  # jobs.messages.reports.Resumed
    sa.Column(
        "checkpoints", Json
    ),  # jobs.messages.reports.Checkpoint of each on its host, newest first, as last reported
    sa.Column("uuid", sa.Text, nullable=False, server_default="", default=new_uuid),  # see jobs.identity
    _one_of("outcome", Outcome),
    sa.CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name="ended"),
    sa.UniqueConstraint("job_id", "number"),
    sa.Index("ix_attempts_host_id_outcome", "host_id", "outcome"),
)
_STOPPED_FOR = sa.text("stop_for IS NOT NULL")
sa.Index(
    "ix_attempts_stop_for", attempts.c.ended_at, sqlite_where=_STOPPED_FOR, postgresql_where=_STOPPED_FOR
)
_unique_while("uq_attempts_open", attempts.c.job_id, "outcome IS NULL")

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("attempt_id", Key, sa.ForeignKey("attempts.id"), primary_key=True),
    sa.Column("gpu_id", Key, sa.ForeignKey("gpus.id"), primary_key=True),
    sa.Column("rank", sa.Integer, nullable=False),  # of the trainer that gets this card
    sa.Column("exclusive", Flag, nullable=False),
    sa.Column("memory_bytes", sa.BigInteger, nullable=False),  # promised to the attempt
    sa.Column("released_at", sa.Double),  # NULL while the lease is open
    sa.Index("ix_leases_gpu_id_released_at", "gpu_id", "released_at"),
    sa.Index("ix_leases_released_at", "released_at"),
)
_unique_while("uq_leases_exclusive", leases.c.gpu_id, "exclusive AND released_at IS NULL")

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", Key, primary_key=True),
    sa.Column("ts", sa.Double, nullable=False),
    sa.Column("job_id", Key, sa.ForeignKey("jobs.id")),
    sa.Column("attempt_id", Key, sa.ForeignKey("attempts.id")),
    sa.Column("host_id", Key, sa.ForeignKey("hosts.id")),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("text", Words, nullable=False),
    sa.Column("data", Json, nullable=False),
    sa.Column(
        "actor", Words
    ),  # who asked for it, as the client says; NULL: nobody did, or a submission's user
    sa.Column("address", Words),  # from where
    sa.Column("gpu_id", Key),  # cards are never deleted: no foreign key, which SQLite can't add to a table
    sa.Index("ix_events_job_id_id", "job_id", "id"),
)
_OF_A_HOST = sa.text("host_id IS NOT NULL")
sa.Index(
    "ix_events_host_id_id",
    events.c.host_id,
    events.c.id,
    sqlite_where=_OF_A_HOST,
    postgresql_where=_OF_A_HOST,
)
_OF_A_CARD = sa.text("gpu_id IS NOT NULL")
sa.Index(
    "ix_events_gpu_id_id", events.c.gpu_id, events.c.id, sqlite_where=_OF_A_CARD, postgresql_where=_OF_A_CARD
)
_ASKED_FOR = sa.text("actor IS NOT NULL")
sa.Index("ix_events_asked", events.c.id, sqlite_where=_ASKED_FOR, postgresql_where=_ASKED_FOR)

profiles = sa.Table(
    "profiles",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("spec", Json, nullable=False),  # of a job that needs it: what the host traces
    sa.Column("profile", Json),
    sa.Column("error", Words),
    sa.Column("bad_input", Flag, nullable=False),
    sa.Column("host_id", Key, sa.ForeignKey("hosts.id")),  # who traces it, or traced it
    sa.Column("requested_at", sa.Double, nullable=False),
    sa.Column("assigned_at", sa.Double),
    sa.Column("ended_at", sa.Double),
)

data_lengths = sa.Table(
    "data_lengths",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("spec", Json, nullable=False),  # of a job that trains on the data: what the host counts
    sa.Column("lengths", Json),  # jobs.memory.project.sequence_lengths.Lengths
    sa.Column("error", Words),
    sa.Column("host_id", Key, sa.ForeignKey("hosts.id")),  # who counts, or counted
    sa.Column("requested_at", sa.Double, nullable=False),
    sa.Column("ended_at", sa.Double),
    sa.Column(
        "bad_input", Flag, nullable=False, server_default=sa.false()
    ),  # the job's fault, not the host's
    sa.Column("missing", Flag, nullable=False, server_default=sa.false()),  # on that host; others may have it
)

observations = sa.Table(
    "observations",
    metadata,
    sa.Column("attempt_id", Key, sa.ForeignKey("attempts.id"), primary_key=True, autoincrement=False),
    sa.Column("ts", sa.Double, nullable=False),
    sa.Column("trace_key", sa.Text),
    sa.Column("architecture", Words, nullable=False),  # hub id or folder, or the model_type of a config
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("card", Words, nullable=False),
    sa.Column("stack", Json, nullable=False),
    sa.Column("rung", Json, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("projected_allocated_bytes", sa.BigInteger),
    sa.Column("projected_reserved_bytes", sa.BigInteger),
    sa.Column("projected_device_bytes", sa.BigInteger),
    sa.Column("projected_upper_bytes", sa.BigInteger),
    sa.Column("projected_step_s", sa.Double),
    sa.Column("measured_allocated_bytes", sa.BigInteger),
    sa.Column("measured_reserved_bytes", sa.BigInteger),
    sa.Column("measured_device_bytes", sa.BigInteger),
    sa.Column("measured_step_s", sa.Double),
    sa.Column("family", Words),  # model_type; where nobody could tell, the architecture
    sa.Column("quantisation", sa.Text),
    sa.Column("card_bytes", sa.BigInteger),
    sa.Column("phase", sa.Text),  # in which the projection has its peak
    sa.Column("sequence_length", sa.Integer),
    sa.Column("confidence", sa.Double),
    sa.Column("margin_group", Words),  # whose residuals set the upper bound
    sa.Column("expandable", Flag),  # whether torch's segments could expand; NULL: no CUDA, or not known
    sa.Column("projected_live_upper_bytes", sa.BigInteger),  # the bound of allocated bytes alone; CUDA's only
    sa.Index("ix_observations_card_method", "card", "method"),
    sa.Index("ix_observations_ts", "ts"),
)
