"""Which tokens a server starts with: none that can be guessed."""

from __future__ import annotations

import re
from pathlib import Path

from jobs.errors import UsageError

MIN_LENGTH = 20
# 32 random bytes have about 16 digits in hexadecimal; repeats of a few letters are typed by hand.
MIN_LETTERS = 6
_PLACEHOLDERS = re.compile(
    r"changeme|changethis|changeit|replaceme|replacethis|placeholder|yourtoken|mytoken|tokenhere|insert.*token"
    r"|secrettoken|tokengoes|examplet|x{6}|password|letmein|qwerty|deadbeef|0123456789|abcdefgh"
)


def check_token(token: str, home: Path) -> None:
    """Raises UsageError for a token that somebody could guess, without saying it."""
    problem = _problem(token)
    if problem:
        raise UsageError(
            f"the server's token {problem}: anyone who has it runs code on every GPU host. Set TUNEYARD_TOKEN to what "
            f"`openssl rand -hex 32` prints; without --token, TUNEYARD_TOKEN and a token in {home / 'config.json'} "
            "the server makes one"
        )


def _problem(token: str) -> str:
    plain = re.sub(r"[^a-z0-9]", "", token.lower())
    if _PLACEHOLDERS.search(plain):
        return "is a well-known placeholder"
    if len(token) < MIN_LENGTH:
        return f"has {len(token)} characters, and {MIN_LENGTH} are the least"
    if len(set(token)) < MIN_LETTERS:
        return f"is made of {len(set(token))} different characters, which is easily guessed"
    if not (token.isascii() and token.isprintable()) or " " in token:
        return "has characters that don't go into an HTTP header"
    return ""
