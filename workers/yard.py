"""A host's files of one database of the server. Ids are reused by the next database; its folder is another."""

from __future__ import annotations

import re
from pathlib import Path

from workers.folder import attempts_root, publish, yard_root
from workers.shipping import Shipper
from workers.spool import Spool
from workers.supervisor import Supervisor
from workers.tidy import Tidier

_NOTE = "yard"
_ROOT = re.compile("[0-9a-f]{12}")


class Yard:
    """What the agent keeps under yard_root."""

    def __init__(self, home: Path, uuid: str) -> None:
        """uuid: Joined.yard; "" before the host ever joined."""
        self.root = root = yard_root(home, uuid)
        self.uuid = uuid
        self.spool = Spool(root / "spool")
        self.supervisor = Supervisor(root)
        self.shipper = Shipper(root)
        self.tidier = Tidier(root)

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
