"""The lists of `tuneyard top`: lines drawn as they are needed (Textual's line API), with a cursor.

A table widget that updates cells takes 21.5% of a core for 4,000 cards; these draw the lines in sight.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from orchestrator.cli.top import lines
from orchestrator.cli.top.marks import CHOSEN, Line, fit, style

if TYPE_CHECKING:
    from orchestrator.cli.top.fleet import CardRow, HostRows, QueueRow

CARDS_GUESSED = 8  # of a host that was not fetched yet
Place = tuple[int, int]  # of a host among those that match, and of a card on it


@lru_cache(maxsize=256)
def _style(role: str, palette: str | None) -> Style:
    return Style.parse(style(role, palette) or "none")


class Lines(Widget, can_focus=False):
    """A widget made of lines. palette: of marks.PALETTES, None: no colour."""

    palette: str | None = None
    chosen_line = -1

    def line_at(self, y: int) -> Line:
        """The line at a row of the widget."""
        raise NotImplementedError

    def render_line(self, y: int) -> Strip:
        base = self.rich_style
        chosen = y == self.chosen_line and self.has_focus
        if chosen:
            base += Style(reverse=True) if self.palette is None else Style.parse(CHOSEN)
        width = self.size.width
        pieces = [Segment(text, base + _style(role, self.palette)) for text, role in self.line_at(y)]
        if chosen and self.palette is None:  # nothing that is reversed or dim within what is reversed
            pieces = [Segment(text, base) for text, _, _ in pieces]
        return Strip(pieces).adjust_cell_length(width, base)


class OneLine(Lines):
    """One line that somebody sets."""

    DEFAULT_CSS = "OneLine { height: 1; }"

    def __init__(self, make: Callable[[int], Line], **given: Any) -> None:
        super().__init__(**given)
        self._make = make
        self._shown: Line = []

    def look(self) -> None:
        """Draw it again where it says something else."""
        if self._make(self.size.width) != self._shown:
            self.refresh()

    def line_at(self, y: int) -> Line:
        if y:
            return []
        self._shown = self._make(self.size.width)
        return self._shown


class Opened(Message):
    """Somebody wants to see what the cursor is on."""


class FleetView(Lines, can_focus=True):
    """Cards by host. Only the hosts in sight are known; `wanted` says which those are."""

    DEFAULT_CSS = "FleetView { height: 1fr; }"

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.hosts: dict[int, HostRows] = {}  # by their place among those that match
        self.matching, self.sort = 0, "name"
        self.top: Place = (0, 0)
        self.cursor: Place = (0, 0)
        self.past: dict[int, Any] = {}
        self.none = ""  # what stands there without a card
        self._layout = lines.layout(80, 8)

    def show(self, offset: int, hosts: list[HostRows], matching: int) -> None:
        """Hosts have come. offset: of the first of them."""
        self.hosts = {offset + at: host for at, host in enumerate(hosts)}
        self.matching = matching
        last = max(0, matching - 1)
        if self.cursor[0] > last:
            self.cursor = (last, 0)
        here = self.hosts.get(self.cursor[0])
        if here is not None:
            self.cursor = (self.cursor[0], min(self.cursor[1], max(0, len(here.cards) - 1)))
        self._lay_out()
        self._keep_in_sight()
        self.refresh()

    def _lay_out(self) -> None:
        longest = max((len(host.name) for host in self.hosts.values()), default=8)
        self._layout = lines.layout(self.size.width or 80, longest)

    @property
    def room(self) -> int:
        """Cards that there is room for."""
        return max(1, self.size.height - 1)

    @property
    def card(self) -> CardRow | None:
        """What the cursor is on."""
        host = self.hosts.get(self.cursor[0])
        return host.cards[self.cursor[1]] if host and self.cursor[1] < len(host.cards) else None

    @property
    def host(self) -> HostRows | None:
        return self.hosts.get(self.cursor[0])

    @property
    def wanted(self) -> tuple[int, int]:
        """Offset and number of the hosts that are in sight, with one before and after them."""
        first = max(0, self.top[0] - 1)
        place, rows = self.top[0], -self.top[1]
        while rows < self.room and place < max(self.matching, self.top[0] + self.room):
            rows += self._count(place)
            place += 1
        return first, max(1, min(1000, place + 1 - first))

    def _count(self, place: int) -> int:
        """Lines of a host: one where it has no card."""
        host = self.hosts.get(place)
        return max(1, len(host.cards)) if host else CARDS_GUESSED

    def _step(self, place: Place, by: int) -> Place:
        host, card = place
        card += by
        while card < 0 and host > 0:
            host -= 1
            card += self._count(host)
        while card >= self._count(host) and host < self.matching - 1:
            card -= self._count(host)
            host += 1
        return host, max(0, min(card, self._count(host) - 1))

    def move(self, by: int) -> None:
        """The cursor, by so many cards."""
        self.cursor = self._step(self.cursor, by)
        self._keep_in_sight()
        self.refresh()

    def jump(self, place: Place) -> None:
        self.cursor = place
        self._keep_in_sight()
        self.refresh()

    def _keep_in_sight(self) -> None:
        if self.cursor < self.top:
            self.top = self.cursor
        elif self.cursor >= self._step(self.top, self.room) and self.cursor != self.top:
            at_end = self._step(self.cursor, -(self.room - 1))
            if self._distance(self.top, self.cursor) >= self.room:
                self.top = at_end

    def _distance(self, one: Place, other: Place) -> int:
        rows = other[1] - one[1]
        for host in range(one[0], min(other[0], one[0] + self.room + 1)):
            rows += self._count(host)
        return rows

    def place_at(self, y: int) -> Place | None:
        """What a row of the widget shows."""
        if y < 1:
            return None
        host, card = self.top
        card += y - 1
        while host < self.matching and card >= self._count(host):
            card -= self._count(host)
            host += 1
        return (host, card) if host < self.matching else None

    def line_at(self, y: int) -> Line:
        if y == 0:
            return lines.header(self._layout, self.sort)
        place = self.place_at(y)
        if place is None:
            return [(f"  {self.none}", "dim")] if y == 2 and not self.matching else []
        host = self.hosts.get(place[0])
        if host is None:
            return [("  …", "dim")]
        if not host.cards:
            return [(fit(host.name, self._layout.host), "head"), (f" no cards, host is {host.state}", "dim")]
        first = place[1] == 0 or y == 1
        return lines.card_line(host.cards[place[1]], self._layout, self.past, time.time(), first)

    def render_line(self, y: int) -> Strip:
        self.chosen_line = y if y and self.place_at(y) == self.cursor else -1
        return super().render_line(y)

    def on_resize(self) -> None:
        self._lay_out()
        self._keep_in_sight()
        self.post_message(Moved())

    def on_click(self, event: events.Click) -> None:
        place = self.place_at(event.y)
        if place is None:
            return
        again = place == self.cursor and event.chain > 1
        self.cursor = place
        self.refresh()
        if again:
            self.post_message(Opened())

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.move(3)
        self.post_message(Moved())

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.move(-3)
        self.post_message(Moved())


class Moved(Message):
    """Other lines are in sight now."""


class QueueView(Lines, can_focus=True):
    """Jobs that wait, in starting order."""

    DEFAULT_CSS = "QueueView { height: 5; }"

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.rows: list[QueueRow] = []
        self.waiting, self.top, self.cursor = 0, 0, 0

    def show(self, rows: list[QueueRow], waiting: int) -> None:
        self.rows, self.waiting = rows, waiting
        self.move(0)

    @property
    def room(self) -> int:
        return max(1, self.size.height - 1)

    @property
    def wanted(self) -> int:
        """How many jobs have to be known."""
        return self.top + self.room + 1

    @property
    def job(self) -> QueueRow | None:
        return self.rows[self.cursor] if self.cursor < len(self.rows) else None

    def move(self, by: int) -> None:
        self.cursor = max(0, min(self.cursor + by, max(0, len(self.rows) - 1)))
        self.top = max(min(self.top, self.cursor), self.cursor - self.room + 1, 0)
        self.refresh()

    def line_at(self, y: int) -> Line:
        width = self.size.width
        if y == 0:
            return lines.queue_header(width, self.waiting, min(self.waiting, self.room))
        at = self.top + y - 1
        return lines.queue_line(self.rows[at], width, time.time()) if at < len(self.rows) else []

    def render_line(self, y: int) -> Strip:
        self.chosen_line = self.cursor - self.top + 1
        return super().render_line(y)

    def on_click(self, event: events.Click) -> None:
        at = self.top + event.y - 1
        if event.y < 1 or at >= len(self.rows):
            return
        again = at == self.cursor and event.chain > 1
        self.cursor = at
        self.refresh()
        if again:
            self.post_message(Opened())

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.move(1)
        self.post_message(Moved())

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.move(-1)
        self.post_message(Moved())
