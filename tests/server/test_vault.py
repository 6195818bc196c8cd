"""Secrets at rest: sealed under a key that a file holds, bound to their project and name."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from jobs.errors import Conflict
from orchestrator.vault import Vault


def test_what_is_sealed_opens_again_and_is_not_to_be_seen(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "home" / "secrets.key")
    sealed = vault.seal("team", "TOKEN", "hunter2hunter2")
    assert vault.open("team", "TOKEN", sealed) == "hunter2hunter2"
    assert b"hunter2" not in base64.b64decode(sealed.box) and "hunter2" not in repr(vault)
    assert stat.S_IMODE(vault.path.stat().st_mode) == 0o600
    again = vault.seal("team", "TOKEN", "hunter2hunter2", frozenset({sealed.key_id}))
    assert again.box != sealed.box and again.key_id == sealed.key_id


@pytest.mark.parametrize("place", [("other", "TOKEN"), ("team", "OTHER")])
def test_what_was_moved_to_another_place_does_not_open(tmp_path: Path, place: tuple[str, str]) -> None:
    vault = Vault(tmp_path / "key")
    sealed = vault.seal("team", "TOKEN", "hunter2hunter2")
    with pytest.raises(Conflict, match="was changed in the database: set it again"):
        vault.open(*place, sealed)


def test_a_lost_key_is_not_made_anew_while_secrets_are_stored(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "key")
    sealed = vault.seal("team", "TOKEN", "hunter2hunter2")
    vault.path.unlink()
    for use in (
        lambda: vault.open("team", "TOKEN", sealed),
        lambda: vault.seal("team", "MORE", "hunter2hunter2", frozenset({sealed.key_id})),
    ):
        with pytest.raises(Conflict, match=r"can't be read .* put it back .* --secrets-key FILE"):
            use()
    assert not vault.path.exists()


@pytest.mark.parametrize("text", [base64.b64encode(b"x" * 32).decode(), "short", "", "\xff\xfe"])
def test_a_wrong_key_is_told_and_nothing_is_destroyed(tmp_path: Path, text: str) -> None:
    sealed = Vault(tmp_path / "key").seal("team", "TOKEN", "hunter2hunter2")
    (tmp_path / "other").write_text(text, encoding="latin-1")
    wrong = Vault(tmp_path / "other", given=True)
    with pytest.raises(Conflict, match=r"what is stored stays as it is|put the right one back"):
        wrong.open("team", "TOKEN", sealed)
    with pytest.raises(Conflict):
        wrong.seal("team", "MORE", "hunter2hunter2", frozenset({sealed.key_id}))
    assert (tmp_path / "other").read_text(encoding="latin-1") == text


def test_a_key_that_the_operator_names_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="can't be read"):
        Vault(tmp_path / "nope", given=True).seal("team", "TOKEN", "hunter2hunter2")
