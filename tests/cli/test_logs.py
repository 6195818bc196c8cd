"""What a job writes reaches no terminal but as text; attempts, filters, bounds; a server that restarts."""

from __future__ import annotations

import os
import pty
import random
import re
import subprocess
import threading
import time
from typing import Any

import pytest

from orchestrator.cli.log_output import LogOutput
from orchestrator.cli.render.log_text import LONGEST_LINE, LogText, plain
from orchestrator.cli.render.table import UNSAFE, clean
from tests.cli import scenes
from tests.cli.conftest import COMMAND, Tuneyard
from tests.cli.fake_server import TOKEN, FakeServer

UNSAFE_TEXT = re.compile(f"[{UNSAFE}]")
HOSTILE = (
    "\x1b]0;owned\x07title\n"
    "\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\\n"
    "\x1b[31mred\x1b[0m and \x9b32mgreen\n"
    "\x9d0;owned\x9cafter C1\n"
    "\x1bP1$r\x1b\\dcs \x1b_apc\x1b\\\x1b^pm\x1b\\\x1bXsos\x1b\\done\n"
    "\u202eesrever\u202c \u2066isolated\u2069\n"
    "\x1b[2J\x1b[H\x1b[?1049hgone\n"
    "bell\x07 nul\x00 del\x7f\n"
    "\x1b(0lqk\x1b(B charset\n"
)
SHOWN = [
    *("title", "link", "red and green", "after C1", "dcs done", "esrever isolated"),
    *("gone", "bell nul del", "lqk charset"),
]


def test_what_drives_a_terminal_is_left_out() -> None:
    assert plain(HOSTILE).splitlines() == SHOWN
    assert clean("\x1b]0;a\x07\u202eb\x9bc") == " ]0;a  b c"


def test_pieces_may_be_cut_anywhere() -> None:
    text, whole = HOSTILE + "50%\r100%\n", plain(HOSTILE + "50%\r100%\n")
    for at in range(len(text)):
        lines = LogText()
        assert lines.feed(text[:at]) + lines.feed(text[at:]) + lines.end() == whole, at


def test_nothing_gets_through_whatever_is_written() -> None:
    draw = random.Random(1)
    parts = [
        *"\x1b[]P_^X\\;?0mKHJ\x07\x9b\x9c\x9d\x90\r\n\b a",
        "\u202e",
        "text",
        "\x1b[2K",
        "\x1b]",
        "\x1b[3",
    ]
    for _ in range(2000):
        text = "".join(draw.choices(parts, k=draw.randint(1, 40)))
        lines = LogText()
        said = "".join(lines.feed(piece) for piece in re.findall(r".{1,5}|\n", text, re.DOTALL))
        assert not UNSAFE_TEXT.search(said + lines.partial + lines.end()), repr(text)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("  0%|   | 0/2\r 50%|#  | 1/2\r100%|###| 2/2\n", "100%|###| 2/2\n"),
        ("a long line\rshort\n", "shortg line\n"),
        ("a long line\r\x1b[Kshort\n", "short\n"),
        ("working\r       \r\nnext\n", "next\n"),
        ("dos\r\nlines\r\n", "dos\nlines\n"),
        ("abc\b\bX\n", "aXc\n"),
        ("\n\n", "\n\n"),
        ("\x1b]0;never ended\nbut the next line is there\n", "\nbut the next line is there\n"),
    ],
)
def test_progress_bars_come_as_they_stood_last(written: str, shown: str) -> None:
    assert plain(written) == shown


def test_a_line_without_end_takes_no_more_memory_than_it_may() -> None:
    lines = LogText()
    said = "".join(lines.feed("x" * 10_000) for _ in range(100)) + lines.end()
    assert said.replace("\n", "") == "x" * 1_000_000
    bar = LogText()
    for step in range(20_000):
        assert bar.feed(f"\r{step}|" + "#" * 50) == ""
    assert bar.end() == "19999|" + "#" * 50 + "\n" and len(bar._waiting) <= 2 * LONGEST_LINE


def test_of_a_long_log_the_middle_is_cut_and_that_is_said(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.log_page = 20_000
    server.logs[1, 1] = "".join(f"line {n}\n" for n in range(100_000))
    scenes.running(server)
    ran = tuneyard("logs", "1", "--limit", "64KiB")
    lines = ran.out.splitlines()
    assert (lines[0], lines[-1]) == ("line 0", "line 99999")
    (gap,) = [line for line in lines if line.startswith("[...")]
    assert re.fullmatch(r"\[\.\.\. 9\d\d KiB left out here; a greater --limit shows more \.\.\.\]", gap)
    assert 32_000 < len(ran.out) < 90_000
    asked = [path for _, path, _ in server.requests if "/logs" in path]
    assert len(asked) < 12, "the middle is not even fetched"
    as_json = tuneyard("logs", "1", "--limit", "64KiB", "--json").json
    assert as_json["left_out_bytes"] > 900_000 and len(as_json["text"]) < 90_000
    found = tuneyard("logs", "1", "--limit", "1KiB", "--grep", "7$").out.splitlines()
    assert found[0] == "line 7" and found[-1] == "line 99997" and any("left out" in one for one in found)
    assert tuneyard("logs", "1", "--limit", "64MiB").out == server.logs[1, 1]


@pytest.mark.parametrize("most", [1, 7, 100, 10_000])
def test_what_is_left_out_adds_up(most: int) -> None:
    text = "".join(f"line {n}\n" for n in range(300))
    said: list[str] = []
    out = LogOutput(said.append, most_bytes=most, grep=re.compile("line"))
    for at in range(0, len(text), 64):
        out.feed(text[at : at + 64])
    out.end()
    kept = "".join(piece for piece in said if not piece.startswith("[..."))
    assert len(kept) + out.left_out_bytes == len(text)


def test_all_attempts(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.logs = {(1, 1): "first\n", (1, 2): "second\n"}
    two_hosts = scenes.attempt(2) | {"hosts": ["box-1", "box-2"]}
    details = [scenes.attempt(1) | {"outcome": "oom"}, two_hosts]
    scenes.running(server, attempts=2, attempts_detail=details)
    ran = tuneyard("logs", "1", "--all")
    assert ran.out == "first\nsecond\n"
    assert ran.err.splitlines() == [
        "--- attempt 1 on box-1, oom ---",
        "--- attempt 2 on box-1, box-2 ---",
        "the ranks on box-2 have logs of their own there: jobs/1/logs",
    ]
    told = tuneyard("logs", "1", "--all", "--json").json["attempts"]
    assert [(one["attempt"], one["text"]) for one in told] == [(1, "first\n"), (2, "second\n")]
    assert tuneyard("logs", "1", "--all", "--attempt", "1").code == 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--grep", "("), "--grep '(' is no regular expression"),
        (("--grep", ""), "--grep takes a regular expression"),
        (("--since", "yesterdayish"), "--since 'yesterdayish' is no time"),
        (("--since", "2999-01-01"), "--since '2999-01-01' is yet to come"),
        (("--limit", "lots"), "--limit 'lots' is"),
        (("--limit", "0GiB"), "--limit '0GiB' leaves nothing to show"),
        (("-i",), "--ignore-case goes with --grep"),
    ],
)
def test_what_can_t_be_read_is_named(
    tuneyard: Tuneyard, server: FakeServer, args: tuple[str, ...], said: str
) -> None:
    scenes.running(server)
    ran = tuneyard("logs", "1", *args)
    assert ran.code == 2 and said in ran.err


def test_raw_goes_into_a_pipe_as_it_was_written(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.logs[1, 1] = "50%\r\x1b[31m100%\x1b[0m\n"
    scenes.running(server)
    assert tuneyard("logs", "1").out == "100%\n"
    assert tuneyard("logs", "1", "--raw").out == "50%\n\x1b[31m100%\x1b[0m\n", (
        "universal newlines of the test"
    )
    assert tuneyard("logs", "1", "--json").json["text"] == "100%\n"
    assert tuneyard("logs", "1", "--json", "--raw").json["text"] == server.logs[1, 1]


def on_terminal(server: FakeServer, environment: dict[str, str], *args: str) -> tuple[int, str]:
    """`tuneyard ARGS` with a terminal of its own for all it says; its exit code and that."""
    ours, its = pty.openpty()
    env = {**environment, "TUNEYARD_URL": server.url, "TUNEYARD_TOKEN": TOKEN, "COLUMNS": "60"}
    child = subprocess.Popen([*COMMAND, *args], env=env, stdin=its, stdout=its, stderr=its)
    os.close(its)
    said = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        said += piece
    os.close(ours)
    return child.wait(30), said.decode()


def test_on_a_terminal_a_bar_moves_and_only_our_own_sequences_come(
    server: FakeServer, environment: dict[str, str]
) -> None:
    server.log_page = 7
    server.logs[1, 1] = HOSTILE + "10%\r20%\r30%\n\x1b]0;x\x07last\n"
    server.end(scenes.running(server, attempts_detail=[scenes.attempt(1)]), "succeeded")
    code, said = on_terminal(server, environment, "logs", "-f", "1")
    assert code == 0 and "\r\x1b[2K20%\r\x1b[2K30%" in said
    assert not UNSAFE_TEXT.search(said.replace("\r\n", "\n").replace("\r\x1b[2K", ""))
    code, said = on_terminal(server, environment, "logs", "1", "--raw")
    assert code == 2 and "--raw lets through what drives a terminal" in said


def test_json_on_a_terminal_drives_it_neither(server: FakeServer, environment: dict[str, str]) -> None:
    scenes.running(server, name="a\x9b31m\u202eb")
    code, said = on_terminal(server, environment, "show", "1", "--json")
    assert code == 0 and "a\\u009b31m\\u202eb" in said
    assert not UNSAFE_TEXT.search(said.replace("\r\n", "\n"))


def test_follow_goes_on_at_the_byte_it_had_when_the_server_is_back(
    tuneyard: Tuneyard, server: FakeServer
) -> None:
    text = "".join(f"step {n} ünïcode\n" for n in range(40))
    server.logs[1, 1] = text
    server.log_page = 64 * 17
    job = scenes.running(server, attempts_detail=[scenes.attempt(1)])
    away = (
        503,
        "application/json",
        b'{"error": {"kind": "unavailable", "message": "restarts", "faults": []}}',
    )

    def wait_for(requests: int) -> None:
        until = len(server.requests) + requests
        while len(server.requests) < until:
            time.sleep(0.01)

    def restart() -> None:
        while not any("/logs" in path for _, path, _ in server.requests):
            time.sleep(0.01)
        server.raw = away
        wait_for(4)
        server.logs[1, 1] += "after the restart\n"
        server.end(job, "succeeded")
        server.raw = None

    thread = threading.Thread(target=restart)
    thread.start()
    ran = tuneyard("logs", "-f", "1")
    thread.join()
    assert ran.out == server.logs[1, 1], "no byte twice, none left out"
    assert sum("waiting for it" in line for line in ran.err.splitlines()) == 1
    assert "the server is back" in ran.err


def test_events(tuneyard: Tuneyard, server: FakeServer) -> None:
    assert tuneyard("events").err == "nothing happened that this asks for\n"
    about: dict[str, Any] = {"attempt": None, "by": None, "address": None, "job": None, "host": None}
    drained = {"kind": "host_drained", "text": "drained: new\x1b[31m fan", "by": "ada", "address": "10.0.0.7"}
    server.events = [
        {**about, "id": 1, "ts": time.time() - 120, "kind": "submitted", "text": "", "subject": "job 1"},
        {**about, "id": 2, "ts": time.time() - 60, **drained, "subject": "host box-1", "host": "box-1"},
    ]
    ran = tuneyard("events", "--since", "1d", "--host", "box-1")
    assert [line.split()[0] for line in ran.out.splitlines()[1:]] == ["2m", "1m"], "the newest is last"
    assert "\x1b" not in ran.out and "ada" in ran.out and "10.0.0.7" in ran.out
    assert "since=" in server.requests[-1][1] and "host=box-1" in server.requests[-1][1]
    assert [one["id"] for one in tuneyard("events", "--json").json["events"]] == [1, 2]
    assert tuneyard("events", "-n", "1").err == "older ones: --before 2\n"
    for args in (("--since", "x"), ("--job", " "), ("--follow", "--before", "3")):
        ran = tuneyard("events", *args)
        assert ran.code == 2 and args[0].lstrip("-") in ran.err


def test_events_are_followed(server: FakeServer, environment: dict[str, str]) -> None:
    line = {"attempt": None, "by": "ada", "address": "", "job": None, "host": "box-1", "kind": "host_drained"}
    line |= {"ts": time.time(), "text": "", "subject": "host box-1"}
    server.events = [{**line, "id": 7}]
    env = {**environment, "TUNEYARD_URL": server.url, "TUNEYARD_TOKEN": TOKEN}
    command = [*COMMAND, "events", "--follow", "--json"]
    child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert '"id": 7' in child.stdout.readline()
    server.events.append({**line, "id": 9})
    assert '"id": 9' in child.stdout.readline()
    child.kill()
    child.wait(30)
    child.stdout.close()
    assert all("after=7" in path or "after=9" in path for _, path, _ in server.requests[2:])
