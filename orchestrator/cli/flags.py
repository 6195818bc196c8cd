"""The flags that describe a job, shared by submit and plan, and the request body made of them."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from jobs.errors import SpecError, Unavailable, UsageError
from workers.checks.enclosed import enclosed

MAX_FILE_BYTES = 256 * 1024  # as jobs/jobfile/spec.py has it; that one takes pydantic to import

# Flag -> where its value goes in the job file.
PATHS = {
    "model": "model.path",
    "data": "data.path",
    "method": "method.kind",
    "steps": "training.steps",
    "epochs": "training.epochs",
    "sequence_length": "training.sequence_length",
    "global_batch": "training.global_batch",
    "learning_rate": "training.learning_rate",
    "gpus": "resources.gpus",
    "across_hosts": "resources.across_hosts",
    "card": "resources.card",
    "name": "name",
    "project": "project",
    "priority": "priority",
    "after": "after",
    "output": "output",
}

_FLAGS = (
    click.option("--model", metavar="ID|DIR", help="Hub id or local folder of the model."),
    click.option("--data", metavar="PATH|ID", help="Training data: file, saved folder or hub id."),
    click.option("--method", type=click.Choice(["lora", "full", "qlora"]), help="How weights are trained."),
    click.option("--steps", type=int, metavar="N", help="Optimizer steps."),
    click.option("--epochs", type=float, metavar="X", help="Passes over the data."),
    click.option("--sequence-length", type=int, metavar="N", help="Longest sequence, in tokens."),
    click.option(
        "--global-batch", type=int, metavar="N", help="Sequences per optimizer step, over all GPUs."
    ),
    click.option("--learning-rate", type=float, metavar="X", help="Peak learning rate."),
    click.option("--gpus", type=int, metavar="N", help="GPUs, all on one host unless --across-hosts."),
    click.option(
        "--across-hosts", is_flag=True, default=None, help="Span hosts where none has that many GPUs."
    ),
    click.option("--card", metavar="TYPE", help="Card type, as `tuneyard gpus` shows it."),
    click.option("--name", metavar="NAME", help="Name for people."),
    click.option("--project", metavar="NAME", help="Whose share of the fleet it takes."),
    click.option("--priority", metavar="P", help="low, normal, high, or 0 to 100."),
    click.option(
        "--after",
        metavar="JOB",
        help="Start once that job, an id or one of these FILES' names, has succeeded.",
    ),
    click.option("--output", metavar="DIR", help="Folder of the result, inside the host's output root."),
    click.option(
        "--set",
        "settings",
        metavar="PATH=VALUE",
        multiple=True,
        help="Any other field, such as memory.checkpointing=off. May be given again.",
    ),
)


def job_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb FILES and the flags that describe a job: `files`, `settings` and the keywords of PATHS."""
    for flag in reversed(_FLAGS):
        function = flag(function)
    return click.argument("files", nargs=-1, type=click.Path(path_type=Path, allow_dash=True))(function)


def job_flags_but(*left_out: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The same without some of the flags, which then mean something else there, or nothing."""

    def give(function: Callable[..., Any]) -> Callable[..., Any]:
        own = list(getattr(function, "__click_params__", []))
        made = job_flags(function)
        given: list[click.Parameter] = made.__click_params__  # type: ignore[attr-defined]
        given[:] = [option for option in given if option in own or option.name not in left_out]
        return made

    return give


def job_bodies(
    files: tuple[Path, ...],
    settings: tuple[str, ...],
    flags: dict[str, Any],
    needs: str = "--model and --data",
) -> list[dict[str, Any]]:
    """The `jobs` of a request: each file's text with the flags over it, or one job made of the flags alone.

    The text goes to the server as it is, which parses and validates it. needs: flags that are enough without a file.
    Raises UsageError.
    """
    overrides = {PATHS[flag]: value for flag, value in flags.items() if value is not None}
    if "training.steps" in overrides and "training.epochs" in overrides:
        raise UsageError("--steps and --epochs exclude each other; give one of the two")
    for path in ("priority", "after"):
        if isinstance(overrides.get(path), str) and overrides[path].isdecimal():
            overrides[path] = int(overrides[path])
    for setting in settings:
        path, value = read_setting(setting)
        if path in overrides and overrides[path] != value:
            flag = next((name for name in PATHS if PATHS[name] == path and flags.get(name) is not None), None)
            other = (
                f"--{flag.replace('_', '-')} {overrides[path]}" if flag else f"--set {path}={overrides[path]}"
            )
            raise UsageError(f"{other} and --set {setting} contradict each other; give one of the two")
        overrides[path] = value
    if files:
        return [_from_file(path, overrides) for path in files]
    if not overrides:
        raise UsageError(f"give a job file, or at least {needs}; `tuneyard init` writes a file to begin from")
    overrides |= enclosed(None, {}, overrides, Path.cwd())
    return [
        {"text": None, "spec": {}, "overrides": overrides, "base_dir": str(Path.cwd()), "source": "flags"}
    ]


@contextlib.contextmanager
def faults_first(bodies: Sequence[dict[str, Any]], *, plan: bool = False) -> Iterator[None]:
    """Where the server can't be asked, tell of what is wrong with the jobs themselves instead: it comes first.

    Raises SpecError with the faults of the first job that has any, else Unavailable as the block did. plan: it may lack
    its data, and a config its tokenizer.
    """
    try:
        yield
    except Unavailable:
        # Here: pydantic and YAML take 0.3 s to import, and the server does this where there is one.
        from jobs.jobfile.contradictions import without_contradicted
        from jobs.jobfile.loader import parse_yaml
        from jobs.jobfile.overrides import apply_overrides
        from jobs.jobfile.sweep import read_members

        for body in bodies:
            text, source, overrides = body["text"], body["source"], body["overrides"]
            value = dict(body["spec"] or {}) if text is None else parse_yaml(text, source)
            value, _ = without_contradicted(value, overrides, source)
            try:
                read_members(apply_overrides(value, overrides, source), source)
            except SpecError as error:
                bad = [one for one in error.faults if not (plan and one.path in ("data", "model.tokenizer"))]
                if bad:
                    raise SpecError(bad, source) from None
        raise


def read_setting(text: str, flag: str = "--set ") -> tuple[str, Any]:
    """Key and value of `training.steps=20`. flag: that it was given by. Raises UsageError."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        form = "PATH=VALUE" if flag else "KEY=VALUE"
        raise UsageError(f"{flag}{text!r} has no value; write {form}, such as {flag}training.steps=20")
    try:
        return path.strip(), json.loads(value)
    except ValueError:
        return path.strip(), _flow(f"{flag}{text!r}", value) if value.lstrip()[:1] in ("[", "{") else value


def _flow(given: str, value: str) -> Any:
    """A list or mapping as a job file writes it, such as [q_proj, v_proj]. Raises UsageError."""
    from jobs.jobfile.loader import parse_yaml  # here: YAML is slow to import, and hardly any call needs it

    try:
        return parse_yaml(f"value: {value}")["value"]
    except SpecError as error:
        raise UsageError(f"{given}: {error.faults[0].problem}") from None


def _from_file(path: Path, overrides: dict[str, Any]) -> dict[str, Any]:
    if str(path) == "-":
        text, base, source = sys.stdin.read(MAX_FILE_BYTES + 1), Path.cwd(), "standard input"
    else:
        text, base, source = _read(path), path.resolve().parent, str(path)
    overrides = {**overrides, **enclosed(text, {}, overrides, base)}
    return {"text": text, "spec": None, "overrides": overrides, "base_dir": str(base), "source": source}


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(
            f"there is no file {path}; `tuneyard init {path}` writes one to begin from"
        ) from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder; name a job file in it, such as {path / 'job.yaml'}") from None
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise UsageError(f"{path} is too large for a job file; one has at most {MAX_FILE_BYTES // 1024} KiB")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start}); is it a job file?") from None
