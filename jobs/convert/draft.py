"""The job file on its way, with an account of each key of the configuration that it is made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from jobs.errors import Fault

# mapped: stands in the job file; left: tuneyard decides it, or the value asks for nothing; listed: not honoured;
# empty: the key has no value.
What = Literal["mapped", "left", "listed", "empty"]


@dataclass(frozen=True)
class Entry:
    """What became of one key. path: of the job file, where it is mapped; reason: why not, or who decides."""

    key: str
    given: str
    what: What
    path: str = ""
    reason: str = ""


class NotHonoured(Exception):
    """A value that has no counterpart; the message is the reason."""


@dataclass
class Draft:
    """values: of the configuration, by key; gpus: how many it runs on. job: a job file's mapping so far."""

    values: Mapping[str, Any]
    gpus: int = 1
    job: dict[str, Any] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    defaults: list[str] = field(default_factory=list)

    def has(self, *keys: str) -> list[str]:
        """Those of the keys that have a value."""
        return [key for key in keys if self.values.get(key) is not None]

    def get(self, key: str, default: Any = None) -> Any:
        value = self.values.get(key)
        return default if value is None else value

    def put(self, path: str, value: Any) -> None:
        """Set a key of the job file by its dotted path."""
        *sections, name = path.split(".")
        at = self.job
        for section in sections:
            at = at.setdefault(section, {})
        at[name] = value

    def map(self, keys: str | Iterable[str], path: str, value: Any) -> None:
        """These keys come to this value of the job file."""
        self.put(path, value)
        for key in [keys] if isinstance(keys, str) else keys:
            self._account(key, "mapped", path=path)

    def leave(self, keys: str | Iterable[str], reason: str) -> None:
        """These are tuneyard's to decide, or ask for nothing."""
        for key in [keys] if isinstance(keys, str) else keys:
            self._account(key, "left", reason=reason)

    def unmet(self, keys: str | Iterable[str], reason: str) -> None:
        """These are not honoured."""
        for key in [keys] if isinstance(keys, str) else keys:
            self._account(key, "listed", reason=reason)

    def also(self, key: str, given: Any, reason: str) -> None:
        """A part of a key's value that is not honoured, beside the rest of it."""
        self.entries.append(Entry(key, short(given), "listed", reason=reason))

    def refuse(self, key: str, problem: str, fix: str) -> None:
        """A key that could mean two things, or contradicts another."""
        self.faults.append(Fault(key, short(self.values.get(key, "")), problem, fix))
        self._account(key, "listed", reason=problem)

    def default(self, path: str, value: Any, said: str) -> None:
        """What the other tool does where nothing is said, and tuneyard would do otherwise. said: its key and value."""
        self.put(path, value)
        self.defaults.append(said)

    @property
    def open(self) -> list[str]:
        """Keys that nothing was said of yet."""
        done = {entry.key for entry in self.entries}
        return [key for key in self.values if key not in done]

    def _account(self, key: str, what: What, path: str = "", reason: str = "") -> None:
        if key in self.values and key in self.open:
            self.entries.append(Entry(key, short(self.values[key]), what, path, reason))


def short(value: Any, most: int = 60) -> str:
    """A value on one line."""
    text = "true" if value is True else "false" if value is False else str(value)
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
