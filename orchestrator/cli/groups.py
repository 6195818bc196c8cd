"""What all groups of verbs share: a misspelt verb is told of in one way, and never leads to one that ends something."""

from __future__ import annotations

from collections.abc import Iterable

import click

from jobs.errors import UsageError

# Verbs that may be meant by a misspelt one: running them by mistake ends, changes and removes nothing.
SUGGESTED = frozenset(
    {
        *("up", "init", "doctor", "submit", "plan", "list", "show", "why", "logs", "metrics", "pull", "top"),
        *("hosts", "gpus", "accuracy", "simulate", "serve", "audit", "schema", "completion"),
        *("host", "db", "project"),  # groups: alone they print their help
        *("run", "check", "backup"),
    }
)


class Verbs(click.Group):
    """A group of verbs. Without one it prints its help, and the exit code is 2."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known and not ctx.resilient_parsing:
            path = ctx.command_path
            meant = suggestion(args[0], known)
            hint = f"did you mean `{path} {meant}`?" if meant else f"`{path} --help` lists them"
            raise UsageError(f"there is no verb {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


def suggestion(given: str, known: Iterable[str]) -> str | None:
    """The verb that is most like what was given, where none is closer that could do harm."""
    from difflib import get_close_matches  # here: only a misspelt verb pays for it

    close = get_close_matches(given, known, n=1)
    return close[0] if close and close[0] in SUGGESTED else None
