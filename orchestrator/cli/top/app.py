"""The application of `tuneyard top`: keys, what is asked for, what is shown where."""

from __future__ import annotations

import asyncio
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

from textual import events
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.message import Message
from textual.widgets import Input

from jobs.errors import TuneyardError
from orchestrator.cli.render.table import clean
from orchestrator.cli.top import fleet, lines
from orchestrator.cli.top.ask import AskText, Confirm, Help
from orchestrator.cli.top.feed import Feed
from orchestrator.cli.top.job import JobScreen
from orchestrator.cli.top.marks import Line, fit
from orchestrator.cli.top.views import FleetView, Lines, OneLine, QueueView
from orchestrator.client.http import Api, job_path

SEEN = 64  # values of a card that are remembered for its sparklines
MOST_SEEN = 8192  # cards
KEYS = (
    *(("?", "help"), ("/", "filter"), ("s", "sort"), ("Enter", "job"), ("c", "cancel"), ("d", "drain")),
    *(("Tab", "queue"), ("q", "quit")),
)


def hung_up(terminal: int) -> bool:
    """Whether nobody is at the other end of a terminal any more. Only a controlling terminal is a signal's business."""
    poll = select.poll()
    poll.register(terminal, 0)
    return any(found & (select.POLLHUP | select.POLLNVAL) for _, found in poll.poll(0))


@dataclass(frozen=True)
class Window:
    """What is on screen. offset, limit: of hosts; find: what they must contain; queue: of the jobs that wait."""

    offset: int = 0
    limit: int = 16
    sort: str = "name"
    find: str = ""
    queue: int = 5


def ask_fleet(api: Api, wanted: Window) -> Any:
    """GET /fleet of what is on screen."""
    return api.get(
        "/fleet",
        offset=wanted.offset,
        limit=wanted.limit,
        sort=wanted.sort,
        find=wanted.find or None,
        queue=wanted.queue,
    )


class FleetNews(Message):
    """What the server told of a window, or why it did not."""

    def __init__(self, wanted: Window, answer: Any, trouble: str) -> None:
        super().__init__()
        self.wanted, self.answer, self.trouble = wanted, answer, trouble


class Top(App[None]):
    """connect: a connection of its own for each thread that asks; palette: of marks.PALETTES, None: no colour."""

    TITLE = "tuneyard top"
    ENABLE_COMMAND_PALETTE = False
    CSS = "#find { dock: bottom; height: 1; border: none; } #trouble { display: none; } #trouble.on { display: block; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        ("q,ctrl+c", "quit", "quit"),
        ("question_mark,f1", "help", "help"),
        ("slash", "find", "filter"),
        ("s", "sort", "sort"),
        ("S", "turn", "the other way"),
        ("c", "cancel", "cancel"),
        ("d", "drain", "drain"),
        ("enter", "open", "open"),
        ("up,k", "move(-1)", "up"),
        ("down,j", "move(1)", "down"),
        ("pageup", "page(-1)", "page up"),
        ("pagedown", "page(1)", "page down"),
        ("home", "edge(0)", "first"),
        ("end", "edge(1)", "last"),
    ]

    def __init__(self, connect: Callable[[], Api], interval_s: float, palette: str | None) -> None:
        super().__init__()
        Lines.palette = palette
        self._connect, self._interval_s = connect, interval_s
        self._state: Any = None
        self._trouble = ""
        self._window = Window()
        self._past: dict[int, deque[tuple[float | None, float | None]]] = {}
        self._feed: Feed[Window] = Feed(
            *(connect(), ask_fleet, lambda *news: self.post_message(FleetNews(*news))),
            *(self._window, interval_s),
        )

    def compose(self) -> ComposeResult:
        yield OneLine(lambda width: lines.title(self._state, width, time.time()), id="title")
        yield OneLine(self._trouble_line, id="trouble")
        yield FleetView()
        yield QueueView()
        yield OneLine(self._last_line, id="keys")

    def _trouble_line(self, width: int) -> Line:
        return [(fit(self._trouble, width), "bad")]

    def _last_line(self, width: int) -> Line:
        find = ((f"/{self._window.find}", "Esc for all"),) if self._window.find else ()
        return lines.keys((*find, *KEYS), width)

    def on_mount(self) -> None:
        self.query_one(FleetView).focus()
        self._fleet.past = self._past
        self._fleet.none = "waiting for the server"
        # Ctrl-C of a terminal comes as a key; this is the signal that somebody sends.
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self.exit)
        self.set_interval(1.0, self._leave_if_hung_up)
        self._feed.start()

    def _leave_if_hung_up(self) -> None:
        if (there := sys.__stdin__) is not None and hung_up(there.fileno()):
            self.exit()

    def on_unmount(self) -> None:
        self._feed.stop()

    @property
    def _fleet(self) -> FleetView:
        return self.screen_stack[0].query_one(FleetView)

    @property
    def _queue(self) -> QueueView:
        return self.screen_stack[0].query_one(QueueView)

    def on_fleet_news(self, news: FleetNews) -> None:
        """Show it, unless what was asked for is not on screen any more."""
        if not self.screen_stack or not self.screen_stack[0].query("#trouble"):
            return  # the last news of all, on the way out
        base = self.screen_stack[0]
        trouble = news.trouble
        if trouble and self._state is not None:
            since = time.strftime("%H:%M:%S", time.localtime(self._state["at"]))
            trouble = f"what is shown is from {since}: {trouble}"
        self._trouble = trouble
        base.query_one("#trouble").set_class(bool(trouble), "on")
        if news.answer is not None:
            same = (news.wanted.sort, news.wanted.find) == (self._window.sort, self._window.find)
            self._state = news.answer
            hosts = fleet.hosts_of(news.answer)
            self._remember(hosts)
            if same:
                self._fleet.none = self._none(news.answer)
                self._fleet.show(news.wanted.offset, hosts, news.answer["matching"])
            waiting = news.answer["totals"]["waiting"]
            self._queue.styles.height = 1 + min(waiting, max(3, base.size.height // 4)) if waiting else 0
            self._queue.show(fleet.queue_of(news.answer), waiting)
        for line in base.query(OneLine):
            line.look()
        self._look()

    def _none(self, state: Any) -> str:
        if self._window.find:
            return f"nothing matches {clean(self._window.find)!r}; Esc shows all"
        if not state["totals"]["hosts"]:
            return fleet.NO_HOST
        return ""

    def _remember(self, hosts: list[fleet.HostRows]) -> None:
        for host in hosts:
            for card in host.cards:
                seen = self._past.pop(card.id, None) or deque(maxlen=SEEN)
                seen.append((card.utilization, card.power_w))
                self._past[card.id] = seen
        while len(self._past) > MOST_SEEN:
            del self._past[next(iter(self._past))]

    def _look(self) -> None:
        """Ask for what is on screen now."""
        offset, limit = self._fleet.wanted
        self._window = Window(offset, limit, self._window.sort, self._window.find, self._queue.wanted)
        self._feed.want(self._window)

    def _turn_to(self, **changed: str) -> None:
        """Other hosts, or the same ones in another order: from the first."""
        self._window = Window(**{**vars(self._window), "offset": 0, **changed})
        self._fleet.sort = self._window.sort
        self._fleet.jump((0, 0))
        self._feed.want(self._window)
        self.query_one("#keys").refresh()

    def on_moved(self) -> None:
        self._look()

    def on_opened(self) -> None:
        self.action_open()

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape" and self._window.find and not isinstance(self.focused, Input):
            self._turn_to(find="")

    def action_move(self, by: int) -> None:
        view = self.focused if isinstance(self.focused, FleetView | QueueView) else self._fleet
        view.move(by)
        self._look()

    def action_page(self, by: int) -> None:
        view = self.focused if isinstance(self.focused, FleetView | QueueView) else self._fleet
        view.move(by * view.room)
        self._look()

    def action_edge(self, last: int) -> None:
        if isinstance(self.focused, QueueView):
            self._queue.move(10**6 if last else -(10**6))
        else:
            self._fleet.jump((max(0, self._fleet.matching - 1) if last else 0, 0))
        self._look()

    def action_sort(self) -> None:
        name = self._window.sort.removeprefix("-")
        after = fleet.SORTS[(fleet.SORTS.index(name) + 1) % len(fleet.SORTS)]
        self._turn_to(sort=after if after in ("name", "state") else f"-{after}")

    def action_turn(self) -> None:
        sort = self._window.sort
        self._turn_to(sort=sort[1:] if sort.startswith("-") else f"-{sort}")

    def action_help(self) -> None:
        self.push_screen(Help())

    def action_find(self) -> None:
        if self.query(Input):
            return
        box = Input(
            value=self._window.find, placeholder="host, card, state, job or user", max_length=100, id="find"
        )
        self.mount(box)
        box.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.input.id != "find":
            return
        event.input.remove()
        self._fleet.focus()
        self._turn_to(find=event.value.strip())

    def on_input_blurred(self, event: Input.Blurred) -> None:
        if event.input.id == "find":
            event.input.remove()

    def _chosen_job(self) -> tuple[int, str] | None:
        if self.focused is self._queue:
            waits = self._queue.job
            return None if waits is None else (waits.id, waits.name)
        card = self._fleet.card
        return None if card is None or card.job is None else (card.job, card.job_name)

    def action_open(self) -> None:
        if (job := self._chosen_job()) is None:
            self.notify("no job is on this card", timeout=3)
        else:
            self.push_screen(JobScreen(self._connect(), job[0], self._interval_s))

    def action_cancel(self) -> None:
        if (job := self._chosen_job()) is None:
            self.notify("no job is on this card", timeout=3)
        else:
            self.cancel_job(*job)

    def cancel_job(self, number: int, name: str) -> None:
        """Ask whether, and do it."""
        called = f"job {number} ({name})" if name else f"job {number}"

        def answered(yes: bool | None) -> None:
            if yes:
                self._do(lambda api: api.post(job_path(str(number), "/cancel")), f"{called} is asked to stop")

        self.push_screen(Confirm(f"Cancel {called}? One that runs saves a checkpoint first."), answered)

    def action_drain(self) -> None:
        host = self._fleet.host
        if host is None:
            return
        name, path = host.name, f"/hosts/{quote(host.name, safe='')}/drain"
        if host.state in ("draining", "drained"):

            def again(yes: bool | None) -> None:
                if yes:
                    self._do(lambda api: api.post(path, {"drained": False}), f"{name} gets jobs again")

            self.push_screen(Confirm(f"Give host {name} jobs again?"), again)
            return

        def answered(reason: str | None) -> None:
            if reason:
                body = {"drained": True, "reason": reason}
                self._do(lambda api: api.post(path, body), f"{name} gets no new jobs")

        question = f"Drain host {name}: it gets no new jobs, those on it go on. Why?"
        self.push_screen(AskText(question, needed=True, hint="such as: fan of card 3 replaced"), answered)

    def _do(self, ask: Callable[[Api], object], done: str) -> None:
        """On a thread; what came of it is told."""

        def work() -> None:
            api = self._connect()
            try:
                ask(api)
            except TuneyardError as error:
                told, severity = clean(str(error)), "error"
            else:
                told, severity = clean(done), "information"
            finally:
                api.close()
            self.call_from_thread(self._told, told, severity)

        self.run_worker(work, thread=True)

    def _told(self, text: str, severity: Any) -> None:
        self.notify(text, severity=severity, markup=False)
        self._feed.hurry()
