"""tuneyard report: one page that asks for nothing, in which nothing that others wrote is more than text."""

from __future__ import annotations

import html
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.units import GiB
from orchestrator.cli.render.plot_style import DARK, LIGHT, PARTS, ink_on
from orchestrator.cli.render.table import UNSAFE
from orchestrator.cli.report.facts import MOST_POINTS, thinned, ticks
from tests.cli import scenes
from tests.cli.conftest import Tuneyard
from tests.cli.fake_server import FakeServer

HOSTILE = "<script>window.owned=1</script>\"'><img src=x onerror=window.owned=1>&amp;\x1b[31m\u202e"
PARTS_BYTES = {"weights": 5 * GiB, "activations": int(1.5 * GiB), HOSTILE: GiB // 2, "context": 0}


def point(step: int, **fields: Any) -> dict[str, Any]:
    told = {"step": step, "total_steps": 1000, "attempt": 1, "ts": 1e9 + step, "loss": 2.0 - step / 2000}
    told |= {"eval_loss": 1.9 if step % 100 == 0 else None, "not_finite": {}, "learning_rate": 2e-4}
    told |= {"tokens": step, "tokens_per_s": 5000.0, "step_s": 0.8, "device_bytes": int(6.9 * GiB)}
    return told | fields


@pytest.fixture
def trained(server: FakeServer) -> FakeServer:
    """A job of two attempts whose every text is hostile."""
    projection = {**scenes.PROJECTION, "parts": PARTS_BYTES}
    first = scenes.attempt(1) | {"outcome": "oom", "message": HOSTILE, "ended_at": time.time() - 9}
    second = scenes.attempt(2) | {"projection": projection, "hosts": [HOSTILE]}
    event = {"ts": 1e9, "kind": HOSTILE, "text": HOSTILE, "attempt": 1, "by": HOSTILE, "address": None}
    spec = {"name": "docs-lora", "model": {"path": HOSTILE}, "data": [{"path": "/data/süß.jsonl"}]}
    scenes.running(
        server, state="failed", user=HOSTILE, project=HOSTILE, model=HOSTILE, hosts=[HOSTILE], data=None,
        reason={"code": "failed", "text": HOSTILE, "figures": {}}, attempts=2, spec=spec, events=[event],
        attempts_detail=[first, second], ended_at=time.time(),
    )  # fmt: skip
    server.hosts = [scenes.host(HOSTILE, stack={"torch": "2.13.0", HOSTILE: HOSTILE})]
    nowhere = point(500, loss=None, not_finite={"loss": "nan"})
    server.points = [nowhere if step == 500 else point(step) for step in range(10, 1000, 10)]
    return server


def test_it_has_what_there_is_to_know(tuneyard: Tuneyard, trained: FakeServer, tmp_path: Path) -> None:
    ran = tuneyard("report", "1")
    assert (ran.code, ran.out) == (0, "wrote job-1-docs-lora.html\n")
    page = (tmp_path / "job-1-docs-lora.html").read_text()
    text = html.unescape(re.sub(r"<[^>]+>", " ", page))
    for said in (
        *("docs-lora", "failed", "upper bound", "what the card has", "weights", "activations", "6.90 GiB"),
        *("Loss", "tokens/s", "Learning rate", "How to reproduce it", "torch", "2.13.0", "every layer, 2×4"),
        *("The loss was no number at 1 step, first at step 500", "tuneyard submit job.yaml"),
    ):
        assert said in text, said
    (file,) = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
    assert yaml.safe_load(html.unescape(file)) == trained.jobs[1]["spec"], "it can be submitted again"


def test_nothing_of_it_is_more_than_text(tuneyard: Tuneyard, trained: FakeServer, tmp_path: Path) -> None:
    tuneyard("report", "1", "-o", "r.html")
    page = (tmp_path / "r.html").read_text()
    assert not re.search(f"[{UNSAFE}]", page)
    assert "<script" not in page and "<img" not in page
    assert not re.search(r"(src|href|action)\s*=\s*[\"']", re.sub(r"&[^;]+;", "", page))
    assert "url(" not in page and "@import" not in page
    assert "http://" not in page and "https://" not in page


def test_a_browser_asks_for_nothing_and_runs_nothing(
    tuneyard: Tuneyard, trained: FakeServer, tmp_path: Path
) -> None:
    from playwright.sync_api import sync_playwright

    tuneyard("report", "1", "-o", "r.html")
    asked, told = [], []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        grounds = []
        for scheme in ("light", "dark"):
            view = browser.new_page(color_scheme=scheme, viewport={"width": 390, "height": 800})  # type: ignore[arg-type]
            view.on("request", lambda request: asked.append(request.url))
            view.on("console", lambda message: told.append(message.text))
            view.goto(f"file://{tmp_path}/r.html")
            assert view.evaluate("window.owned") is None
            assert view.evaluate("document.documentElement.scrollWidth") <= 390, "a phone scrolls down only"
            grounds.append(view.evaluate("getComputedStyle(document.body).backgroundColor"))
        browser.close()
    assert [url.rpartition("/")[2] for url in asked] == ["r.html", "r.html"] and not told
    assert grounds == ["rgb(255, 255, 255)", "rgb(20, 25, 31)"]


def test_of_a_job_that_waits(tuneyard: Tuneyard, server: FakeServer, tmp_path: Path) -> None:
    scenes.waiting(server, data=None)
    ran = tuneyard("report", "1", "-o", "w.html", "--png", "w.png", "--json")
    assert ran.json == {"job": 1, "html": "w.html", "picture": "w.png"}
    page = (tmp_path / "w.html").read_text()
    assert "No attempt was planned yet." in page and "It told of no step." in page


@pytest.mark.parametrize(("flags", "theme"), [((), LIGHT), (("--dark",), DARK)])
def test_the_picture_is_drawn_on_its_ground(
    tuneyard: Tuneyard, trained: FakeServer, tmp_path: Path, flags: tuple[str, ...], theme: Any
) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    assert tuneyard("report", "1", "--png", "r.png", *flags).code == 0
    picture = imread(tmp_path / "r.png")
    assert picture.shape[1] >= 1000
    assert picture[2, -2, :3] == pytest.approx(to_rgb(theme.back), abs=0.01)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--png", "r.doc"), "--png r.doc: give it a name that ends in"),
        (("-o", "nowhere/r.html"), "--output nowhere/r.html: the folder"),
        (("--dark",), "--dark is of the picture; give --png FILE too"),
    ],
)
def test_what_can_t_be_written_is_said_first(
    tuneyard: Tuneyard, trained: FakeServer, args: tuple[str, ...], said: str
) -> None:
    ran = tuneyard("report", "1", *args)
    assert ran.code == 2 and said in ran.err and not trained.requests


def test_a_job_that_is_gone(tuneyard: Tuneyard, server: FakeServer) -> None:
    ran = tuneyard("report", "7")
    assert ran.code == 1 and "there is no job 7" in ran.err


def test_a_line_is_thinned_without_its_peaks() -> None:
    curve = [(float(step), 1.0) for step in range(100_000)]
    curve[54_321] = (54_321.0, 99.0)
    curve[77_777] = (77_777.0, -99.0)
    thin = thinned(curve)
    assert len(thin) <= MOST_POINTS and thin == sorted(thin)
    assert (54_321.0, 99.0) in thin and (77_777.0, -99.0) in thin
    assert thinned(curve[:MOST_POINTS]) == curve[:MOST_POINTS]


def test_ticks_are_round_and_inside() -> None:
    assert list(ticks(0, 10)) == [0, 2, 4, 6, 8, 10]
    assert list(ticks(21.03, 24.9)) == [22, 23, 24]
    for low, high in ((0.0, 1e-9), (-3.2, 7e12), (5.0, 5.0)):
        assert all(low <= at <= high + 1e-9 for at in ticks(low, high))


@pytest.mark.parametrize("colour", PARTS.values())
def test_what_stands_on_a_part_can_be_read(colour: str) -> None:
    assert contrast(colour, ink_on(colour)) >= 4.5


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_texts_can_be_read_on_their_ground(theme: Any) -> None:
    for colour in (theme.ink, theme.good, theme.bad, theme.plain, *theme.series):
        assert contrast(colour, theme.back) >= 4.5, colour
    assert contrast(theme.mark, theme.back) >= 3.9 and contrast(theme.faint, theme.back) >= 3


def contrast(one: str, other: str) -> float:
    """WCAG 2.2: of two colours."""

    def luminance(colour: str) -> float:
        parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
