"""The files of the page, read once, with what a browser may do with them."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "page"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
# Nothing from anywhere else, nothing inline: what a job or a host is called can't become a script.
POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "connect", "worker", "manifest")),
        "img-src 'self' data:",
        *("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"),
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
FOREVER = "public, max-age=31536000, immutable"
ANEW = "no-cache"


@dataclass(frozen=True)
class File:
    """A file as it is sent. packed: gzip."""

    body: bytes
    packed: bytes
    media_type: str
    caching: str


@dataclass(frozen=True)
class Site:
    """files: by path; build: a name of just these files. Every file but the first page has it in its path, so that a
    browser may keep them for good and never has some of one version and some of another.
    """

    files: Mapping[str, File]
    build: str

    @property
    def size(self) -> int:
        """Bytes of all files, as they are without compression."""
        return sum(len(file.body) for file in self.files.values())


@cache
def site(folder: Path = FOLDER) -> Site:
    """The site in a folder."""
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    digest = hashlib.sha256()
    for name, body in found.items():
        digest.update(f"{name} {len(body)} ".encode() + body)
    build = digest.hexdigest()[:12]
    files = {
        f"/v/{build}/{name}": _file(name, body, FOREVER)
        for name, body in found.items()
        if name != "index.html"
    }
    first = found.get("index.html", b"").replace(b"{{build}}", build.encode())
    return Site({**files, "/": _file("index.html", first, ANEW)}, build)


def _file(name: str, body: bytes, caching: str) -> File:
    return File(body, gzip.compress(body, 9, mtime=0), _TYPES[Path(name).suffix], caching)
