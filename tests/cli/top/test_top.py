"""The screen of `tuneyard top`: what it shows, its keys, a server that goes away, a job that is gone."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.render.table import UNSAFE
from orchestrator.cli.top.app import Top
from orchestrator.cli.top.job import JobScreen
from orchestrator.cli.top.views import FleetView
from tests.cli.top.conftest import Fleet, Served

SHOTS = Path(__file__).parent / "shots"


def screen(app: Top) -> list[str]:
    """What stands on the screen, line by line."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip).rstrip() for strip in strips]


async def until(pilot: Any, holds: Callable[[], Any], seconds: float = 60) -> Any:
    """What `holds` gives, once that is something."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "\n".join(screen(pilot.app))
        await pilot.pause(0.02)
    await pilot.pause()
    return found


def shows(app: Top, *texts: str) -> bool:
    said = "\n".join(screen(app))
    return all(text in said for text in texts)


def run(
    top: Callable[..., Top], test: Callable[[Any, Top], Any], size: tuple[int, int] = (80, 24), **given: Any
) -> None:
    async def go() -> None:
        app = top(**given)
        async with app.run_test(size=size, notifications=True) as pilot:
            await until(pilot, lambda: app._fleet.hosts or app._trouble)
            await test(pilot, app)

    asyncio.run(go())


@pytest.fixture
def fleet(served: Served) -> Fleet:
    """Two hosts of four cards; five jobs train, two wait, a card is faulty."""
    made = Fleet(served.yard, hosts=2, cards=4)
    made.submit("lora-a", "lora-b", "lora-c", "lora-d", "lora-e")
    made.hosts[1].cards[3]["fault"] = "Xid 79: GPU has fallen off the bus"
    made.live(20)
    served.yard.submit(name="too-wide", resources={"gpus": 4})
    made.submit("needs-more", resources={"gpus": 4})
    return made


def steady(line: str) -> str:
    """A line without what the clock sets."""
    return re.sub(r"\d\d:\d\d:\d\d$", "HH:MM:SS", line)


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_screen_is_as_it_was_drawn(top, served, fleet, size) -> None:
    async def test(pilot: Any, app: Top) -> None:
        await until(pilot, lambda: app._queue.rows)
        app._past.clear()
        app._feed.stop()
        await pilot.pause(0.3)
        app._past.clear()
        app._fleet.refresh()
        await pilot.pause()
        shown = "\n".join(steady(line) for line in screen(app)) + "\n"
        kept = SHOTS / f"fleet-{size[0]}x{size[1]}.txt"
        if not kept.exists():  # drawn anew: look at it, and commit it
            await asyncio.to_thread(kept.write_text, shown)
        assert shown == await asyncio.to_thread(kept.read_text)

    run(top, test, size)


def test_without_colour_signs_tell_the_state(top, served, fleet) -> None:
    async def test(pilot: Any, app: Top) -> None:
        await until(pilot, lambda: shows(app, "●", "○", "✖", "FAULT: Xid 79"))
        strips = app.screen._compositor.render_strips()
        app_style = {segment.style.color for strip in strips for segment in strip if segment.style}
        assert len(app_style) <= 3, "the theme's own, and nothing of ours"

    run(top, test, palette=None)


def test_keys_move_sort_filter_and_open(top, served, fleet) -> None:
    async def test(pilot: Any, app: Top) -> None:
        view = app._fleet
        await pilot.press("down", "down")
        assert view.card and (view.card.host, view.card.index) == ("gpu-01", 2)
        await pilot.press("end")
        assert view.card and view.card.host == "gpu-02"
        await pilot.press("home", "s")
        await until(pilot, lambda: view.sort == "state")
        await pilot.press("slash", *"gpu-02", "enter")
        await until(pilot, lambda: view.matching == 1 and next(iter(view.hosts.values())).name == "gpu-02")
        await pilot.press("escape")
        await until(pilot, lambda: view.matching == 2)
        await pilot.press("slash", *"nothing-like-it", "enter")
        await until(pilot, lambda: shows(app, "nothing matches 'nothing-like-it'"))
        await pilot.press("escape")
        await until(pilot, lambda: view.matching == 2)
        await pilot.press("question_mark")
        await until(pilot, lambda: shows(app, "held but idle"))
        await pilot.press("escape", "home", "enter")
        await until(pilot, lambda: isinstance(app.screen, JobScreen) and shows(app, "log", "step 19"))
        assert shows(app, "memory on the card, GiB", "projected", "bound", "loss, steps")
        await pilot.press("escape")
        assert app.screen is app.screen_stack[0]

    run(top, test)


def test_the_mouse_chooses_scrolls_and_opens(top, served, fleet) -> None:
    async def test(pilot: Any, app: Top) -> None:
        view = app._fleet
        await pilot.click(FleetView, offset=(5, 3))
        assert view.cursor == (0, 2)
        await pilot.click(FleetView, offset=(5, 3), times=2)
        await until(pilot, lambda: isinstance(app.screen, JobScreen))
        await pilot.press("escape")

    run(top, test)


def test_cancel_and_drain_ask_first(top, served, fleet) -> None:
    store = served.yard.services.store

    async def test(pilot: Any, app: Top) -> None:
        await pilot.press("c")
        await until(pilot, lambda: shows(app, "Cancel job 1 (lora-a)?"))
        await pilot.press("n", "c", "y")
        await until(pilot, lambda: shows(app, "is asked to stop"))
        await pilot.press("d")
        await until(pilot, lambda: shows(app, "Drain host gpu-01"))
        await pilot.press("enter")  # without a reason: it asks on
        await pilot.press(*"fan", "enter")
        await until(pilot, lambda: shows(app, "gpu-01 gets no new jobs"))
        await until(pilot, lambda: app._fleet.host and app._fleet.host.state == "draining")
        await pilot.press("d")
        await until(pilot, lambda: shows(app, "Give host gpu-01 jobs again?"))
        await pilot.press("y")
        await until(pilot, lambda: app._fleet.host and app._fleet.host.state == "online")

    run(top, test)
    assert store.job_view(1).job.cancel_requested_at is not None
    said = [row.event.text for row in store.actions()]
    assert "drained: fan" in said and "takes work again" in said


def test_a_server_that_goes_away_is_said_and_comes_back(top, served, fleet) -> None:
    async def test(pilot: Any, app: Top) -> None:
        await asyncio.to_thread(served.stop)
        await until(pilot, lambda: shows(app, "what is shown is from"))
        assert shows(app, "gpu-01"), "what was known stays"
        await asyncio.to_thread(served.start)
        await until(pilot, lambda: not shows(app, "what is shown is from"))

    run(top, test)


def test_a_job_that_is_gone_is_said(top, served, fleet) -> None:
    async def test(pilot: Any, app: Top) -> None:
        app.push_screen(JobScreen(served.connect(), 999, 0.05))
        await until(pilot, lambda: shows(app, "there is no job '999'"))
        await pilot.press("escape")
        assert shows(app, "gpu-01")

    run(top, test)


def test_no_log_and_no_name_drives_the_terminal(top, served, fleet) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eloss\x00\r\n50%\r90%\r100%\n"
    fleet.live(1, log=hostile)
    for host in fleet.hosts:
        host.cards[2]["fault"] = "bad\x1b]0;x\x07\u202e fault"
    fleet.live(1)

    async def test(pilot: Any, app: Top) -> None:
        await until(pilot, lambda: shows(app, "FAULT: bad"))
        unsafe = re.compile(f"[{UNSAFE}]")
        assert not unsafe.search("\n".join(screen(app)))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, JobScreen) and shows(app, "100%"))
        assert shows(app, "loss") and not shows(app, "owned") and not shows(app, "50%")
        assert not unsafe.search("\n".join(screen(app)))

    run(top, test)


def test_only_what_is_on_screen_is_fetched(top, served) -> None:
    Fleet(served.yard, hosts=60, cards=2)
    asked: list[tuple[int, int]] = []

    async def test(pilot: Any, app: Top) -> None:
        view = app._fleet
        await until(pilot, lambda: view.matching == 60 and len(view.hosts) >= 10)
        asked.append(view.wanted)
        assert len(view.hosts) <= 16
        for _ in range(8):
            await pilot.press("pagedown")
        await until(pilot, lambda: view.card is not None and view.place_at(5) and view.host)
        await pilot.press("end")
        await until(pilot, lambda: view.host is not None and view.host.name == "gpu-60")
        assert len(view.hosts) <= 24
        await pilot.press("home")
        await until(pilot, lambda: view.host is not None and view.host.name == "gpu-01")

    run(top, test)
    assert asked[0][1] <= 16
