"""Every SQL statement. Store is the one door to the database, for one process and any number of threads.

actions.py       what people asked for, newest first
attempts.py      attempts: stopped, ended with what was measured
audit.py         what must always hold, checked
bulk.py          inserts of many rows
changes.py       changes of a job's file
cleared.py       cards given back for a job that still waits
database.py      SQLite and PostgreSQL alike
ends.py          what hosts say of ends, until the controller acts on it
epoch.py         which database this is, and since when: a restore begins a new epoch
fleet.py         hosts and cards
groups.py        groups by name, the losses of a sweep's jobs
history.py       ended jobs as a simulation wants them
holds.py         jobs held and released
host_faults.py   hosts on which no trainer can start
job_views.py     jobs with the latest of their attempts
jobs.py          jobs
leading.py       the lease of who leads, checked in every decision
lengths.py       lengths of data
links.py         what jobs wait for
listing.py       lists of jobs: filtered, sorted, cut
move.py          the one statement that changes a job's state
observations.py  what calibration reads
open_parts.py    what is open on hosts, for many of them at a time
patience.py      how long a PostgreSQL is waited for
profiles.py      memory profiles
projects.py      terms of projects, what each holds
queueing.py      a lock that is given in the order in which it was asked for
readings.py      readings of cards, pages of logs
reads.py         rows as they are read
reports.py       what hosts report
requests.py      what the store takes
restore.py       a backup put back into place
retention.py     what the database gives up once it is old enough
rows.py          what the store gives
schema.py        revision, upgrade, check, backup
series.py        curves of a training, thinned so that a long job stays small
sharing.py       who lay on a card beside whom, how fast, and who was parted
starts.py        attempts opened with their leases, several under one commit
submissions.py   submissions made once under a key; requeue
telemetry.py     samples, logs, progress
unclean.py       a SQLite database that nobody closed, looked at before it is worked with
usage.py         GPU-seconds of projects and users, decayed
"""

from __future__ import annotations

from jobs.errors import TuneyardError
from orchestrator.store.actions import ActionStore
from orchestrator.store.attempts import AttemptStore
from orchestrator.store.changes import ChangeStore
from orchestrator.store.epoch import EpochStore
from orchestrator.store.groups import GroupStore
from orchestrator.store.history import HistoryStore
from orchestrator.store.holds import HoldStore
from orchestrator.store.host_faults import HostFaultStore
from orchestrator.store.jobs import JobStore
from orchestrator.store.leading import LeadStore
from orchestrator.store.lengths import LengthStore
from orchestrator.store.links import LinkStore
from orchestrator.store.listing import ListingStore
from orchestrator.store.observations import ObservationStore
from orchestrator.store.open_parts import OpenPartStore
from orchestrator.store.profiles import ProfileStore
from orchestrator.store.projects import ProjectStore
from orchestrator.store.reports import ReportStore
from orchestrator.store.restore import restore
from orchestrator.store.retention import RetentionStore
from orchestrator.store.schema import SchemaReport, backup, check, require_current, upgrade
from orchestrator.store.sharing import SharingStore
from orchestrator.store.starts import StartStore
from orchestrator.store.submissions import SubmissionStore
from orchestrator.store.unclean import look_after_unclean_end

__all__ = ["SchemaReport", "Store", "backup", "check", "look_after_unclean_end", "restore", "upgrade"]


class Store(
    JobStore,
    SubmissionStore,
    ListingStore,
    AttemptStore,
    OpenPartStore,
    ObservationStore,
    RetentionStore,
    ReportStore,
    ProfileStore,
    LengthStore,
    HistoryStore,
    LinkStore,
    GroupStore,
    StartStore,
    ProjectStore,
    SharingStore,
    HoldStore,
    ChangeStore,
    ActionStore,
    HostFaultStore,
    EpochStore,
    LeadStore,
):
    """The database of jobs. Call upgrade(url) first: without, this raises SchemaMismatch.

    Every method is one short transaction, and raises Unavailable where the database is not there. Times are
    arguments.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        try:
            with self.read() as connection:
                require_current(connection, self.url)
        except TuneyardError:
            self.close()
            raise
