"""The screen of one job of `tuneyard top`: its state, curves and log, live."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.message import Message
from textual.screen import Screen

from orchestrator.cli.render.log_text import LogText
from orchestrator.cli.top import job_lines
from orchestrator.cli.top.feed import Feed
from orchestrator.cli.top.lines import keys
from orchestrator.cli.top.marks import Line
from orchestrator.cli.top.views import Lines, OneLine
from orchestrator.client.http import Api, job_path

MOST_LINES = 5000
TAIL_BYTES = 128 * 1024
POINTS_S = 5.0  # a job's points are many, and new ones few
KEYS = (("Esc", "back"), ("PgUp", "older log"), ("End", "newest"), ("c", "cancel"), ("?", "help"))


class JobNews(Message):
    """What the server told of the job, or why it did not."""

    def __init__(self, answer: dict[str, Any] | None, trouble: str) -> None:
        super().__init__()
        self.answer, self.trouble = answer, trouble


class Asker:
    """Asks for one job; remembers how much of its log is known. For one thread."""

    def __init__(self) -> None:
        self._attempt, self._offset, self._points_at = 0, 0, float("-inf")

    def __call__(self, api: Api, number: int) -> dict[str, Any]:
        """{job, points, log, attempt, restart}: points and log only what is new. Raises what jobs.errors has."""
        name = str(number)
        job = api.get(job_path(name))
        restart = job["attempts"] != self._attempt
        if restart:
            self._attempt, self._offset = job["attempts"], 0
        text = ""
        if self._attempt:
            page = api.get(job_path(name, "/logs"), attempt=self._attempt, offset=self._offset)
            if page["bytes"] - page["next_offset"] > TAIL_BYTES:
                at = page["bytes"] - TAIL_BYTES
                page = api.get(job_path(name, "/logs"), attempt=self._attempt, offset=at)
                restart = True
            text, self._offset = page["text"], page["next_offset"]
        points = None
        if time.monotonic() - self._points_at > POINTS_S:
            points = api.get(job_path(name, "/metrics"))["points"]
            self._points_at = time.monotonic()
        return {"job": job, "points": points, "log": text, "restart": restart}


class JobView(Lines, can_focus=True):
    """All of the screen but its last line."""

    DEFAULT_CSS = "JobView { height: 1fr; }"

    def __init__(self) -> None:
        super().__init__()
        self.job: Any = None
        self.points: list[Any] = []
        self.text: deque[str] = deque(maxlen=MOST_LINES)
        self.back, self.trouble = 0, ""
        self._log = LogText()
        self._drawn: list[Line] = []

    def show(self, answer: dict[str, Any] | None, trouble: str) -> None:
        self.trouble = trouble
        if answer is not None:
            self.job = answer["job"]
            self.points = self.points if answer["points"] is None else answer["points"]
            if answer["restart"]:
                self.text.clear()
                self._log = LogText()
            more = self._log.feed(answer["log"]).splitlines()
            self.text.extend(more)
            if self.back:
                self.back = min(self.back + len(more), len(self.text))
        self.draw()

    def scroll(self, by: int) -> None:
        """So many lines of the log up."""
        self.back = max(0, min(self.back + by, max(0, len(self.text) - 1)))
        self.draw()

    def draw(self) -> None:
        """Lay the lines out again."""
        text = [*self.text, *([self._log.partial] if self._log.partial else [])]
        size = (self.size.width or 80, self.size.height or 24)
        self._drawn = job_lines.whole(self.job, self.points, text, size, self.back, self.trouble, time.time())
        self.refresh()

    def on_resize(self) -> None:
        self.draw()

    def line_at(self, y: int) -> Line:
        return self._drawn[y] if y < len(self._drawn) else []

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.scroll(3)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.scroll(-3)


class JobScreen(Screen[None]):
    """One job, until Esc."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q", "dismiss", "back"),
        ("up", "scroll(1)", "older"),
        ("down", "scroll(-1)", "newer"),
        ("pageup", "scroll(10)", "older"),
        ("pagedown", "scroll(-10)", "newer"),
        ("home", "scroll(1000000)", "oldest"),
        ("end", "scroll(-1000000)", "newest"),
        ("c", "cancel", "cancel"),
    ]

    def __init__(self, api: Api, number: int, interval_s: float) -> None:
        super().__init__()
        self.number = number
        self._feed: Feed[int] = Feed(
            api, Asker(), lambda _, answer, trouble: self.post_message(JobNews(answer, trouble)),
            number, interval_s,
        )  # fmt: skip

    def compose(self) -> ComposeResult:
        yield JobView()
        yield OneLine(lambda width: keys(KEYS, width))

    def on_mount(self) -> None:
        self._feed.start()

    def on_unmount(self) -> None:
        self._feed.stop()

    def on_job_news(self, news: JobNews) -> None:
        self.query_one(JobView).show(news.answer, news.trouble)

    def action_scroll(self, by: int) -> None:
        self.query_one(JobView).scroll(by)

    def action_cancel(self) -> None:
        job = self.query_one(JobView).job
        self.app.call_later(self.app.cancel_job, self.number, job["name"] if job else "")  # type: ignore[attr-defined]
