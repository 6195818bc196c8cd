"""Every command that a message, a hint or a page quotes is one that there is, with flags that it has."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from orchestrator.cli.main import cli
from tests.cli.conftest import ROOT

FOLDERS = ("jobs", "workers", "orchestrator", "deploy")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_QUOTED = re.compile(r"`(tuneyard(?: [^`]*)?)`", re.DOTALL)
_HINT = re.compile(r"^(?:a host needs: )?(tuneyard [a-z]+(?: [^;:]*)?)$")
# What stands in for a whole tail of arguments, or names no verb.
_LOOSE = ("..", "ARGS", "VERB", "…")


FILLED = "X"  # what an f-string fills in


def texts(path: Path) -> Iterator[str]:
    """The strings of a Python file; what is filled in reads FILLED."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else FILLED for part in node.values
            )


def quoted() -> dict[str, str]:
    """Commands, each with a place that it stands at."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for text in texts(path):
                hints = [match[1] for match in [_HINT.match(text)] if match and _begins_with_a_verb(match[1])]
                for command in (*_QUOTED.findall(text), *hints):
                    found.setdefault(" ".join(command.split()), str(path.relative_to(ROOT)))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = re.findall(r"^    (?:\$ )?(tuneyard [^#\n]*?)(?:   .*|#.*)?$", text, re.MULTILINE)
        lines = [command for line in lines for command in line.split(" && ")]
        for command in (*_QUOTED.findall(text), *filter(_begins_with_a_verb, lines)):
            found.setdefault(" ".join(command.split()), page.name)
    return {command: place for command, place in found.items() if not any(one in command for one in _LOOSE)}


def _begins_with_a_verb(line: str) -> bool:
    """Of what stands in no backticks: prose begins with the name, too."""
    return line.split()[1] in cli.list_commands(click.Context(cli))


def fault(line: str) -> str | None:
    """What is wrong with a command line, None where nothing is."""
    try:
        words = shlex.split(line.partition("|")[0].partition(" > ")[0])[1:]
    except ValueError as error:
        return str(error)
    command: click.Command = cli
    options = {name: param for param in cli.params for name in (*param.opts, *param.secondary_opts)}
    places = 0
    while words:
        word = words.pop(0)
        if word.startswith("-") and word != "-":
            name, equals, _ = word.partition("=")
            option = options.get(name)
            if option is None and name not in ("--help", "-h"):
                return f"{name} is no option"
            takes = isinstance(option, click.Option) and not option.is_flag and not option.count
            if takes and not equals and words:
                words.pop(0)
        elif word == FILLED:
            continue
        elif isinstance(command, click.Group):
            inner = command.get_command(click.Context(command), word)
            if inner is None:
                return f"there is no verb {word}"
            command = inner
            options |= {
                name: param for param in inner.params for name in (*param.opts, *param.secondary_opts)
            }
        else:
            places += 1
    most = [param.nargs for param in command.params if isinstance(param, click.Argument)]
    if -1 not in most and places > sum(most):
        return f"takes {sum(most)} arguments, not {places}"
    return None


def test_every_quoted_command_is_one_that_there_is() -> None:
    commands = quoted()
    assert len(commands) > 60, "the pattern no longer finds them"
    wrong = {f"{place}: {line}": said for line, place in commands.items() if (said := fault(line))}
    assert wrong == {}


@pytest.mark.parametrize(
    "line", ["tuneyard shwo 1", "tuneyard list --nosuch", "tuneyard db nosuch x", "tuneyard why 1 2"]
)
def test_a_command_that_is_none_is_found(line: str) -> None:
    assert fault(line) is not None


@pytest.mark.parametrize(
    "line", ["tuneyard show 1 --events", "tuneyard submit a.yaml b.yaml --set x=1 -f", "tuneyard db check"]
)
def test_a_command_that_there_is_passes(line: str) -> None:
    assert fault(line) is None
