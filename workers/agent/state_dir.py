"""A host's files of one database of the server. Ids are reused by the next database; its folder is another."""

from __future__ import annotations

import re
from pathlib import Path

from workers.agent.checkpoint_gc import Tidier
from workers.agent.outbox import Shipper
from workers.agent.spool import Spool
from workers.agent.supervisor import Supervisor
from workers.attempt_folder import attempts_root, note_epoch, noted_epoch, yard_root
from workers.durable import publish
from workers.set_aside import Telling, set_aside

_NOTE = "yard"
_ROOT = re.compile("[0-9a-f]{12}")


class Yard:
    """What the agent keeps under yard_root."""

    def __init__(self, home: Path, uuid: str) -> None:
        """uuid: Joined.yard; "" before the host ever joined."""
        self.root = root = yard_root(home, uuid)
        self.uuid, self.epoch = uuid, noted_epoch(root)
        self.aside = Telling(root)
        self.spool = Spool(root / "spool")
        self.supervisor = Supervisor(root)
        self.shipper = Shipper(root)
        self.tidier = Tidier(root)

    def note_epoch(self, epoch: int) -> None:
        """What this database does not know was ended and set aside: from now on nothing of before is begun."""
        if epoch != self.epoch:
            note_epoch(self.root, epoch)
            self.epoch = epoch

    def reject_telemetry(self) -> None:
        """Set aside what waits for the server: its samples are of attempts that another epoch had."""
        self.spool.spill()
        if any((self.root / "spool").glob("*.jsonl")):
            text = "the telemetry that waited for the server when the database was restored"
            set_aside(self.root, self.root / "spool", "spool", text)

    def close(self) -> None:
        """Keep on disk what waits for the server."""
        self.spool.spill()
        self.tidier.close()


def last_yard(home: Path) -> str:
    """The one joined last, so that an agent looks after its trainers before it reaches the server; "" if none."""
    try:
        return (home / _NOTE).read_text(encoding="ascii")
    except FileNotFoundError:
        return ""


def remember_yard(home: Path, uuid: str) -> None:
    publish(home / _NOTE, uuid)


def former_yards(home: Path, uuid: str) -> list[Supervisor]:
    """What supervises the attempts of every other database than this."""
    roots = [path for path in home.iterdir() if _ROOT.fullmatch(path.name) and path != yard_root(home, uuid)]
    return [Supervisor(root) for root in sorted(roots) if attempts_root(root).is_dir()]
