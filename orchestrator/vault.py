"""Secrets at rest: AES-256-GCM under a key in a file of the server's own. The database holds no plaintext.

Project and name are authenticated with the value: a row that is moved to another project can't be read there.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from jobs.errors import Conflict
from workers.durable import publish_once

KEY_BYTES, NONCE_BYTES = 32, 12


@dataclass(frozen=True)
class Sealed:
    """A secret as it is stored. key_id: of the key that it was sealed with."""

    key_id: str
    box: str


class Vault:
    """Seals and opens secrets. path: of the key, 32 bytes in base64; given: the operator named it."""

    def __init__(self, path: Path, given: bool = False) -> None:
        self.path, self._given = path, given

    def seal(self, project: str, name: str, value: str, known: frozenset[str] = frozenset()) -> Sealed:
        """known: key ids of what is stored. Raises Conflict where those are of another key: nothing is stored then."""
        key = self._key(make=not known and not self._given)
        key_id = _id(key)
        if known - {key_id}:
            raise Conflict(self._other())
        nonce = os.urandom(NONCE_BYTES)
        box = nonce + AESGCM(key).encrypt(nonce, value.encode(), _bound(project, name))
        return Sealed(key_id, base64.b64encode(box).decode())

    def open(self, project: str, name: str, sealed: Sealed) -> str:
        """Raises Conflict where the key is gone or another, or what is stored was changed."""
        key = self._key(make=False)
        if _id(key) != sealed.key_id:
            raise Conflict(self._other())
        box = base64.b64decode(sealed.box)
        try:
            return AESGCM(key).decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], _bound(project, name)).decode()
        except InvalidTag:
            raise Conflict(
                f"secret {name} of project {project} was changed in the database: set it again"
            ) from None

    def _key(self, make: bool) -> bytes:
        if make and not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            publish_once(self.path, base64.b64encode(os.urandom(KEY_BYTES)).decode() + "\n", private=True)
        try:
            key = base64.b64decode(self.path.read_bytes(), validate=False)
        except OSError as error:
            raise Conflict(
                f"the key of the secrets, {self.path}, can't be read ({error.strerror}): put it back from where it is "
                "kept, or start the server with --secrets-key FILE; what is stored stays as it is"
            ) from None
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise Conflict(
                f"{self.path} holds no key of secrets ({KEY_BYTES} bytes in base64): put the right one back; "
                "what is stored stays as it is"
            )
        return key

    def _other(self) -> str:
        return (
            f"the secrets in the database were stored with another key than {self.path}: start the server with the "
            "right one (--secrets-key FILE), or remove them with `tuneyard secret rm` and set them again; what is "
            "stored stays as it is"
        )


def _id(key: bytes) -> str:
    return hashlib.sha256(b"tuneyard secrets key" + key).hexdigest()[:16]


def _bound(project: str, name: str) -> bytes:
    return f"{project}\0{name}".encode()
