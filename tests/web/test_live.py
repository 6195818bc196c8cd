"""What changes is seen at once, after a cut too; a page of another version says so; one stream a browser."""

from __future__ import annotations

import gzip

from jobs.messages.reports import GpuInfo, HostInfo
from jobs.units import GiB
from orchestrator.web import site as files
from tests.web.scene import Fleet
from tests.web.served import serving


def used(page):
    return page.locator("dt:text-is('Memory used') + dd")


def test_pages_of_one_browser_share_a_stream_and_see_what_changes(browser, tmp_path, pages):
    with serving(tmp_path) as own:
        fleet = Fleet(own)
        fleet.read(1, used=0)
        first = pages.signed_in(own)
        second = pages.open(own.url)
        for page in (first, second):
            used(page).get_by_text("0%", exact=False).first.wait_for()
        assert own.services.feed.followers == 1
        fleet.read(1, used=40 * GiB)
        for page in (first, second):
            page.locator("dt:text-is('Memory used') + dd:has-text('50%')").wait_for()
        first.close()
        fleet.read(1, used=20 * GiB)
        second.locator("dt:text-is('Memory used') + dd:has-text('25%')").wait_for()
        second.get_by_role("button", name="Sign out").click()
        while own.services.feed.followers:
            second.wait_for_timeout(20)


def test_a_server_that_was_away_is_caught_up_with(browser, tmp_path, browsers):
    pages = browsers()  # Chromium complains of the cut
    with serving(tmp_path) as own:
        fleet = Fleet(own)
        fleet.read(1, used=0)
        page = pages.signed_in(own)
        used(page).get_by_text("0%").first.wait_for()
        port = int(own.url.rpartition(":")[2])
    page.get_by_text("cut, trying again").wait_for()
    with serving(tmp_path, port) as again:
        Fleet(again).read(1, used=60 * GiB)
        page.locator("dt:text-is('Memory used') + dd:has-text('75%')").wait_for()
        page.get_by_text("cut, trying again").wait_for(state="detached")


def test_an_old_page_after_an_upgrade_says_reload(browser, tmp_path, browsers, monkeypatch):
    pages = browsers()
    folder = tmp_path / "home"
    folder.mkdir()
    with serving(folder) as own:
        page = pages.signed_in(own)
        page.get_by_role("heading", name="Fleet").wait_for()
        port = int(own.url.rpartition(":")[2])
    real = files.site()
    newer = files.Site(
        {path.replace(real.build, "b" * 12): file for path, file in real.files.items()}, "b" * 12
    )
    first = newer.files["/"]
    body = first.body.replace(real.build.encode(), b"b" * 12)
    newer = files.Site(
        {**newer.files, "/": files.File(body, gzip.compress(body), first.media_type, first.caching)}, "b" * 12
    )
    for module in ("orchestrator.api.app", "orchestrator.api.responses.fleet_state"):
        monkeypatch.setattr(f"{module}.site", lambda: newer)
    with serving(folder, port):
        page.get_by_text("tuneyard was upgraded").wait_for()
        with page.expect_navigation():
            page.get_by_role("button", name="Reload").click()
        page.get_by_role("heading", name="Fleet").wait_for()
        assert page.locator("meta[name=build]").get_attribute("content") == "b" * 12


def test_four_thousand_cards(browser, tmp_path, pages):
    with serving(tmp_path) as own:
        for number in range(500):
            own.services.store.join_host(a_host(number), own.now)
        page = pages.signed_in(own)
        page.locator("canvas[data-drawn='4000']").wait_for()
        page.get_by_label("Find").fill("host-123")
        page.locator("canvas[data-drawn='8']").wait_for()
        page.mouse.move(*middle(page))
        page.get_by_text("host-123, card").first.wait_for()


def middle(page):
    """Over a card: they begin beside the host's name."""
    box = page.locator("canvas[data-drawn]").bounding_box()
    return box["x"] + 130, box["y"] + 10


def a_host(number):
    cards = [
        GpuInfo(uuid=f"GPU-{number}-{card}", index=card, kind="cuda", name="H100", memory_bytes=80 * GiB)
        for card in range(8)
    ]
    said = {
        "machine_id": f"m{number}",
        "stack": {},
        "model_types": ["llama"],
        "output_root": "/",
        "version": "1",
    }
    return HostInfo(name=f"host-{number}", gpus=cards, warm=0, **said)
