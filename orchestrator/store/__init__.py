"""Every SQL statement. Store is the one door to the database, for one process and any number of threads."""

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
