"""Which columns fit a width, and what a terminal shows: a real pseudo-terminal, read as text."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from orchestrator.cli.commands.jobs.columns import JOB_COLUMNS, job_row
from orchestrator.cli.render.table import Cell, Column, clean, fit, plain, wrapped
from orchestrator.cli.render.words import ago, cards, duration, share
from tests.cli import scenes
from tests.cli.conftest import COMMAND, ROOT, heed_ctrl_c
from tests.cli.fake_server import TOKEN, FakeServer

COLUMNS = (
    Column("ID", right=True),
    Column("NAME", keep=8, flexible=True),
    Column("HOST", keep=2),
    Column("WHY", keep=5),
)
ROWS = [["1", "a", "box-1", "busy"], ["12", Cell("a-long-name-of-a-job", "red"), "b", "memory"]]


def test_plain_text_is_whole_and_aligned() -> None:
    assert plain(COLUMNS, ROWS).splitlines() == [
        "ID  NAME                  HOST   WHY",
        " 1  a                     box-1  busy",
        "12  a-long-name-of-a-job  b      memory",
    ]


def test_a_column_that_is_empty_is_not_shown() -> None:
    assert plain(COLUMNS, [["1", "a", "", "busy"]]) == "ID  NAME  WHY\n 1  a     busy\n"


@pytest.mark.parametrize(
    ("width", "shown"), [(99, [0, 1, 2, 3]), (37, [0, 1, 2, 3]), (34, [0, 1, 3]), (25, [0, 1]), (12, [0])]
)
def test_the_least_kept_go_first(width: int, shown: list[int]) -> None:
    assert list(fit(COLUMNS, ROWS, width)) == shown


def test_columns_that_go_on_in_the_next_line_share_what_room_there_is() -> None:
    columns = (Column("CHECK"), Column("FOUND", wrap=True), Column("WHAT TO DO", wrap=True))
    widths = fit(columns, [["x" * 14, "y" * 90, "z" * 60]], 80)
    assert sum(widths.values()) + 4 == 80
    assert abs(widths[1] - widths[2]) <= 1


PROSE = "checkpointing can't lower this peak: most of it is context"
PATH = "/a/folder/whose/name/is/wider/than/all/of/this/terminal"


@pytest.mark.parametrize(
    ("lead", "said", "lines"),
    [
        ("  - ", "short", ["  - short"]),
        ("  - ", PROSE, ["  - checkpointing can't lower this peak:", "    most of it is context"]),
        (
            "  not comparable: it had a CPU card with room",
            "",
            ["  not comparable: it had a CPU card with", "    room"],
        ),
        (
            "  a lead of more than half: ",
            "of the terminal",
            ["  a lead of more than half: of the", "    terminal"],
        ),
        ("  result  ", f"in {PATH} now", ["  result  in", f"          {PATH}", "          now"]),
    ],
)
def test_what_is_too_long_for_a_line_goes_on_below_its_beginning(
    lead: str, said: str, lines: list[str]
) -> None:
    assert wrapped(lead, said, 40).splitlines() == lines


@pytest.mark.parametrize("width", range(40, 200, 7))
def test_jobs_fit_any_terminal(server: FakeServer, width: int) -> None:
    now = time.time()
    made = [scenes.running(server), scenes.waiting(server)]
    rows = [job_row(job, now) for job in made]  # type: ignore[arg-type]
    widths = fit(JOB_COLUMNS, rows, width)
    assert {JOB_COLUMNS[i].title for i in widths} >= {"ID", "STATE"}
    assert sum(widths.values()) + 2 * (len(widths) - 1) <= width
    assert all(wide >= len(JOB_COLUMNS[i].title) for i, wide in widths.items())


@pytest.mark.parametrize(
    ("past", "said"),
    [
        (0, "now"),
        (-5, "now"),
        (42, "42s ago"),
        (60, "1m ago"),
        (3599, "59m ago"),
        (7200, "2h ago"),
        (86400 * 9, "9d ago"),
    ],
)
def test_ago(past: float, said: str) -> None:
    assert ago(1000 - past, 1000) == said


def test_small_words() -> None:
    assert cards(["A100", "A100"]) == "2 × A100"
    assert cards(["A100", "T4"]) == "A100, T4"
    assert (share(0.1), share(-0.02), share(0.02, sign=False), share(None)) == ("+10.0%", "-2.0%", "2.0%", "")
    assert (share(8.9), share(9.0), share(116.117), share(1499.0)) == ("+890.0%", "10x", "117x", "1,500x")
    assert (duration(0.0123), duration(2.5), duration(75), duration(None)) == ("12 ms", "2.50 s", "1m15s", "")
    assert clean("a\x1b[31m\nb\tc\x9b") == "a [31m b c "


class Terminal:
    """`tuneyard ARGS` on a pseudo-terminal of a size."""

    def __init__(self, environment: dict[str, str], columns: int, *args: str) -> None:
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        env = {**environment, "TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES"):
            env.pop(name, None)
        self.child = subprocess.Popen(
            [*COMMAND, *args],
            env=env,
            cwd=ROOT,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=heed_ctrl_c,
        )
        os.close(theirs)
        self.raw = b""

    def read_until(self, wanted: str, seconds: float = 30) -> str:
        """Everything shown so far, once wanted has been."""
        deadline = time.monotonic() + seconds
        while wanted not in self.text and time.monotonic() < deadline:
            if not self._read(0.1):
                break
        assert wanted in self.text, self.text
        return self.text

    def end(self, seconds: float = 30) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + seconds
        while self._read(0.1) and time.monotonic() < deadline:
            pass
        try:
            return self.child.wait(5)
        finally:
            os.close(self.ours)

    def press(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    @property
    def text(self) -> str:
        """What was shown, without escape sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.raw.decode(errors="replace")).replace("\r\n", "\n")

    def _read(self, seconds: float) -> bool:
        """Take what there is; False at the end."""
        if not select.select([self.ours], [], [], seconds)[0]:
            return True
        try:
            piece = os.read(self.ours, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # Linux says so when the other side has closed
                raise
            return False
        self.raw += piece
        return bool(piece)


@pytest.fixture
def known(environment: dict[str, str], server: FakeServer) -> dict[str, str]:
    """An environment that names the fake server, with a job in it."""
    scenes.running(server)
    scenes.waiting(server)
    server.gpus = [scenes.gpu(1, job=1), scenes.gpu(2)]
    return {**environment, "TUNEYARD_URL": server.url, "TUNEYARD_TOKEN": TOKEN}


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(known: dict[str, str], columns: int) -> None:
    for args in (("list",), ("gpus",), ("top", "--once")):
        terminal = Terminal(known, columns, *args)
        assert terminal.end() == 0
        assert b"\x1b[" in terminal.raw  # coloured: it is a terminal
        widest = max(len(line) for line in terminal.text.splitlines())
        assert widest <= columns, (args, terminal.text)


def test_a_narrow_terminal_keeps_what_matters(known: dict[str, str]) -> None:
    terminal = Terminal(known, 60, "list")
    terminal.end()
    header = terminal.text.splitlines()[0]
    assert header.split()[:3] == ["ID", "NAME", "STATE"]
    assert "REASON" in header
    assert "PROJECTED" not in header
    assert "…" in terminal.text  # the reason is cut, and says so


@pytest.mark.parametrize(("verb", "width"), [("list", 60), ("list", 90), ("gpus", 50), ("top", 60)])
def test_columns_that_a_narrow_terminal_hides_are_named(known: dict[str, str], verb: str, width: int) -> None:
    args = (verb, "--once") if verb == "top" else (verb,)
    wide = Terminal(known, 250, *args)
    assert wide.end() == 0
    assert "hidden:" not in wide.text
    narrow = Terminal(known, width, *args)
    assert narrow.end() == 0
    said = " ".join(narrow.text[narrow.text.index("hidden: ") :].split())
    titles = said.removeprefix("hidden: ").partition(";")[0].split(", ")
    shown = narrow.text.splitlines()[0 if verb != "top" else 2].split()
    assert titles
    assert "a wider terminal" in said
    for title in titles:
        assert title in wide.text
        assert title not in shown, narrow.text


def test_top_once_says_what_it_leaves_out(known: dict[str, str], server: FakeServer) -> None:
    for number in range(150):
        scenes.waiting(server, name=f"later-{number}")
    terminal = Terminal(known, 200, "top", "--once")
    assert terminal.end() == 0
    assert "1 running, 151 queued" in terminal.text
    assert "51 more jobs wait: `tuneyard list --state queued --all`" in terminal.text


def test_sections_on_a_terminal(known: dict[str, str]) -> None:
    terminal = Terminal(known, 100, "show", "1")
    assert terminal.end() == 0
    assert "attempt 1 on box-1: A100-40GB\n" in terminal.text


def test_a_verdict_is_wrapped_and_not_cut(known: dict[str, str], server: FakeServer) -> None:
    verdict = "needs 91.20 GiB at least, with every layer checkpointed and offload; its cards have 39.56 GiB"
    server.why = {"hosts": [{"host": "box-1", "verdict": verdict, "code": "memory"}], "advice": []}
    terminal = Terminal(known, 60, "why", "2")
    assert terminal.end() == 0
    assert verdict in " ".join(terminal.text.split()).replace("box-1 memory ", "")
    assert max(len(line) for line in terminal.text.splitlines()) <= 60


@pytest.mark.parametrize("width", [80, 160])
def test_top_lives_and_q_ends_it(known: dict[str, str], server: FakeServer, width: int) -> None:
    terminal = Terminal(known, width, "top", "--interval", "0.2")
    terminal.read_until("1 running, 1 queued")
    server.jobs[1]["progress"]["step"] = 77
    terminal.read_until("77/100" if width >= 140 else "77%")
    server.raw = (200, "text/html", b"")
    terminal.read_until("what is shown is from")
    server.raw = None
    terminal.press(b"q")
    assert terminal.end() == 0
    assert b"\x1b[?1049l" in terminal.raw and b"\x1b[?25h" in terminal.raw  # screen and cursor are back


def test_ctrl_c_ends_top_as_well(known: dict[str, str]) -> None:
    terminal = Terminal(known, 100, "top", "--interval", "0.2")
    terminal.read_until("1 running, 1 queued")
    terminal.child.send_signal(signal.SIGINT)
    assert terminal.end() == 0
    assert "Traceback" not in terminal.text
