"""Every SQL statement. Store is the one door to the database, for one process and any number of threads.

actions.py           what happened, and who asked for it
leader_lease.py      the lease of who leads, checked in every decision
notices.py           who is told of what, and the outbox of notices
observations.py      what calibration reads
profiles.py          memory profiles
project_secrets.py   secrets of projects, sealed
projects.py          terms of projects, what each holds
reads.py             rows as they are read
requests.py          what the store takes
retention.py         what the database gives up once it is old enough
rows.py              what the store gives
sealed_rows.py       rows of secrets and of notifications
sequence_lengths.py  lengths of data
unreadable.py        rows that this version can't read, left out of answers by name
usage.py             GPU-seconds of projects and users, decayed
accounting/          where GPU-seconds and energy went
attempts/            attempts and their leases: opened, stopped, ended
engine/              connections, transactions, locks and time-outs, on SQLite and PostgreSQL alike
history/             readings of cards in steps of a minute and more, and curves of jobs
hosts/               hosts and cards, and what hosts report
jobs/                jobs in the database: submitted, listed, changed, held, moved from state to state
maintenance/         the database as a whole: upgrades, backups, restores, epochs, the audit of what must hold
schema/              tables, constraints, indexes and column types
"""

from __future__ import annotations

from jobs.errors import TuneyardError
from orchestrator.store.accounting.report import AccountingStore
from orchestrator.store.actions import ActionStore
from orchestrator.store.attempts.attempts import AttemptStore
from orchestrator.store.attempts.colocation import SharingStore
from orchestrator.store.attempts.host_faults import HostFaultStore
from orchestrator.store.attempts.starts import StartStore
from orchestrator.store.history.curves import CurveStore
from orchestrator.store.history.idle import ActivityStore
from orchestrator.store.history.lines import LineStore
from orchestrator.store.history.prune import PruneStore
from orchestrator.store.hosts.cards import CardStore
from orchestrator.store.hosts.exported import ExportedStore
from orchestrator.store.hosts.live import LiveStore
from orchestrator.store.hosts.open_parts import OpenPartStore
from orchestrator.store.hosts.reports import ReportStore
from orchestrator.store.jobs.changes import ChangeStore
from orchestrator.store.jobs.dependencies import LinkStore
from orchestrator.store.jobs.groups import GroupStore
from orchestrator.store.jobs.history import HistoryStore
from orchestrator.store.jobs.holds import HoldStore
from orchestrator.store.jobs.jobs import JobStore
from orchestrator.store.jobs.listing import ListingStore
from orchestrator.store.jobs.steps import StepStore
from orchestrator.store.jobs.submissions import SubmissionStore
from orchestrator.store.leader_lease import LeadStore
from orchestrator.store.maintenance.epoch import EpochStore
from orchestrator.store.maintenance.migrate import SchemaReport, backup, check, require_current, upgrade
from orchestrator.store.maintenance.restore import restore
from orchestrator.store.maintenance.unclean_shutdown import look_after_unclean_end
from orchestrator.store.notices import NoticeStore
from orchestrator.store.observations import ObservationStore
from orchestrator.store.profiles import ProfileStore
from orchestrator.store.project_secrets import SecretStore
from orchestrator.store.projects import ProjectStore
from orchestrator.store.retention import RetentionStore
from orchestrator.store.sequence_lengths import LengthStore

__all__ = ["SchemaReport", "Store", "backup", "check", "look_after_unclean_end", "restore", "upgrade"]


class Store(
    JobStore,
    SubmissionStore,
    StepStore,
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
    SecretStore,
    NoticeStore,
    SharingStore,
    HoldStore,
    ChangeStore,
    ActionStore,
    HostFaultStore,
    CardStore,
    LiveStore,
    EpochStore,
    LeadStore,
    PruneStore,
    LineStore,
    ActivityStore,
    CurveStore,
    AccountingStore,
    ExportedStore,
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
