"""Start-up: what is imported, help, verbs, and what `tuneyard` alone says."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import click
import pytest

from orchestrator.cli.groups import SUGGESTED, suggestion
from orchestrator.cli.main import SECTIONS, cli
from tests.cli import scenes
from tests.cli.conftest import ROOT, Tuneyard
from tests.cli.fake_server import TOKEN, FakeServer

HEAVY = (
    "torch", "ray", "sqlalchemy", "pydantic", "fastapi", "httpx", "yaml", "rich", "transformers", "alembic",
    "asyncio", "psutil", "importlib.metadata", "textual",
)  # fmt: skip
VERBS = [verb for verbs in SECTIONS.values() for verb in verbs]


def imported(environment: dict[str, str], *args: str) -> set[str]:
    """Top-level modules that `tuneyard ARGS` has imported at its end."""
    code = (
        "import json, sys; from orchestrator.cli.main import run; code = run(sys.argv[1:]); "
        "sys.stdout.write('\\n' + json.dumps([code, sorted(sys.modules)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    return set(modules)


@pytest.mark.parametrize(
    "args",
    [
        ("--help",),
        ("list",),
        ("list", "--json"),
        ("show", "1"),
        ("gpus",),
        ("top", "--once"),
        ("logs", "1"),
        ("events",),
        (),
    ],
    ids=str,
)
def test_client_verbs_import_nothing_heavy(
    environment: dict[str, str], server: FakeServer, args: tuple[str, ...]
) -> None:
    scenes.running(server)
    server.gpus = [scenes.gpu(1, job=1)]
    env = {**environment, "TUNEYARD_URL": server.url, "TUNEYARD_TOKEN": TOKEN}
    assert not imported(env, *args) & set(HEAVY)


def test_a_verb_is_imported_only_when_it_runs(environment: dict[str, str]) -> None:
    modules = {name for name in imported(environment, "--help") if name.startswith("orchestrator.cli.")}
    assert not modules & {
        "orchestrator.cli.commands.fleet.tables",
        "orchestrator.cli.commands.fleet.top",
        "orchestrator.cli.commands.jobs.submit",
    }


@pytest.mark.parametrize("verb", VERBS)
def test_the_line_in_the_help_is_the_verbs_own(verb: str) -> None:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    listed = next(verbs[verb][1] for verbs in SECTIONS.values() if verb in verbs)
    assert (command.help or "").split("\n\n")[0].replace("\n", " ") == listed


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(bare: Tuneyard, verb: str) -> None:
    ran = bare(verb, "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: tuneyard {verb}")
    assert ran.err == ""


def all_commands(group: click.Group, path: str = "") -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        inner = isinstance(command, click.Group)
        found += all_commands(command, f"{path}{name} ") if inner else [(path + name, command)]  # type: ignore[arg-type]
    return found


def test_every_verb_that_ends_takes_json() -> None:
    without = {
        name for name, command in all_commands(cli) if not any(p.name == "as_json" for p in command.params)
    }
    assert without == {"serve", "host run"}  # they run until they are stopped


def test_alone_it_tells_where_to_start(bare: Tuneyard, tuneyard: Tuneyard, server: FakeServer) -> None:
    ran = bare()
    assert ran.code == 0
    for verb in ("tuneyard up", "tuneyard init", "tuneyard submit job.yaml", "tuneyard top"):
        assert verb in ran.out
    assert ran.out.endswith("\nno server is configured on this machine\n")
    scenes.waiting(server)
    assert tuneyard().out.endswith(
        f"\nserver {server.url}: ok, version 0.1.0, Ray ready, no host has joined, 1 unfinished job\n"
    )
    assert "no tuneyard server at http://127.0.0.1:9" in bare(TUNEYARD_URL="http://127.0.0.1:9").out


def test_a_misspelt_verb(bare: Tuneyard) -> None:
    ran = bare("lsit")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "error: there is no verb 'lsit'; did you mean `tuneyard list`?\n"
    assert "`tuneyard --help` lists them" in bare("zzzz").err


def groups(group: click.Group, path: str = "") -> dict[str, click.Group]:
    """Every group of verbs by its path, `tuneyard` itself at ""."""
    found = {path: group}
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            found |= groups(command, f"{path} {name}".strip())
    return found


def typos(word: str) -> set[str]:
    """A letter too many, too few, another one, or two swapped."""
    letters = "abcdefghijklmnopqrstuvwxyz-"
    cut = {word[:i] + word[i + 1 :] for i in range(len(word))}
    swapped = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)}
    other = {word[:i] + c + word[i + 1 :] for i in range(len(word)) for c in letters}
    more = {word[:i] + c + word[i:] for i in range(len(word) + 1) for c in letters}
    return (cut | swapped | other | more) - {word, ""}


def test_no_typo_leads_to_a_verb_that_ends_or_changes_something() -> None:
    harmful = {"down", "cancel", "requeue", "drain", "undrain", "remove", "set", "upgrade", "hold", "release"}
    assert not harmful & SUGGESTED
    draw = random.Random(7)
    for group in groups(cli).values():
        known = group.list_commands(click.Context(group))
        for verb in known:
            once = sorted(typos(verb) - set(known))
            twice = {far for near in draw.sample(once, 6) for far in draw.sample(sorted(typos(near)), 60)}
            for typed in [*once, *sorted(twice - set(known))]:
                assert (suggestion(typed, known) or "list") not in harmful, typed


@pytest.mark.parametrize("typed", ["dwon", "dow", "cancl", "cancle", "reqeue", "re-queue"])
def test_a_misspelt_verb_that_would_end_something_is_only_refused(bare: Tuneyard, typed: str) -> None:
    ran = bare(typed, "1")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"error: there is no verb {typed!r}; `tuneyard --help` lists them\n"


@pytest.mark.parametrize(
    "path", sorted(set(groups(cli)) - {"", "accuracy"})
)  # that one shows something by itself
def test_a_group_alone_prints_its_help(bare: Tuneyard, path: str) -> None:
    ran = bare(*path.split())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == bare(*path.split(), "--help").out
    assert ran.err.startswith(f"Usage: tuneyard {path} ")
    wrong = bare(*path.split(), "zzzz")
    assert (wrong.code, wrong.err) == (
        2,
        f"error: there is no verb 'zzzz'; `tuneyard {path} --help` lists them\n",
    )


def test_a_misspelt_verb_of_a_group(bare: Tuneyard) -> None:
    assert bare("db", "chek").err == "error: there is no verb 'chek'; did you mean `tuneyard db check`?\n"
    assert "did you mean" not in bare("host", "drian", "b").err


def test_an_unknown_flag_as_text_and_as_json(bare: Tuneyard) -> None:
    ran = bare("list", "--stat", "queued")
    assert ran.code == 2
    assert ran.err.startswith("error: No such option '--stat'")
    assert "`tuneyard list --help` shows what there is" in ran.err
    ran = bare("list", "--stat", "queued", "--json")
    assert (ran.code, ran.err) == (2, "")
    assert ran.json["error"]["kind"] == "usage"


def test_the_version(bare: Tuneyard) -> None:
    ran = bare("--version")
    assert ran.code == 0
    assert ran.out.startswith("tuneyard 0.")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(bare: Tuneyard, shell: str) -> None:
    ran = bare("completion", shell)
    assert ran.code == 0
    assert f"_TUNEYARD_COMPLETE={shell}_complete" in ran.out
    assert bare("completion", shell, "--json").json["script"] == ran.out.removesuffix("\n")


def test_completion_completes(bare: Tuneyard) -> None:
    def words(text: str) -> set[str]:
        count = str(len(text.split(" ")) - 1)
        ran = bare(_TUNEYARD_COMPLETE="bash_complete", COMP_WORDS=text, COMP_CWORD=count)
        return {line.partition(",")[2] for line in ran.out.splitlines()}

    assert words("tuneyard re") == {"rehearse", "release", "report", "requeue"}
    assert words("tuneyard db ") == {"upgrade", "check", "backup", "restore"}
    assert {"--steps", "--set", "--sequence-length"} <= words("tuneyard submit --s")


def test_a_reader_that_goes_away_is_no_trouble(environment: dict[str, str]) -> None:
    command = f"{sys.executable} -m orchestrator.cli.main --help | true"
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
