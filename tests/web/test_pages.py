"""Every page: it shows what it is for, in both themes and on a phone, for a screen reader, and without a complaint."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe

# view -> what has to be there
PAGES = {
    "?view=fleet": "Xid 79",
    "?view=fleet&color=health": "faulty 1",
    "?view=queue": "gpu-01 has no card of at least",
    "?view=queue&open=10": "Host by host",
    "?view=jobs": "support-answers",
    "?view=job&job=3": "Gradient norm",
    "?view=job&job=3&tab=log": "training begins",
    "?view=job&job=1&tab=attempts": "tuneyard pull 1",
    "?view=job&job=3&tab=events": "submitted",
    "?view=job&job=3&tab=spec": "global_batch",
    "?view=job&job=9": "What would help",
    "?view=card&card=1": "SM clock, MHz",
    "?view=card&card=1&since=6h": "XID 63",
    "?view=card&card=11": "takes no work: Xid 79",
    "?view=compare&group=4": "training.learning_rate",
    "?view=plan": "Job file",
    "?view=accuracy": "Worst misses",
    "?view=usage": "GPU-hours",
    "?view=nothing": "There is no such page",
    "?view=job&job=999": "there is no job '999'",
    "?view=card&card=999": "there is no card 999",
}
# Those that ask for what is not there: Chromium itself complains of the status 404.
REFUSED = {"?view=job&job=999", "?view=card&card=999"}
LOOKS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "has_touch": True},
}


def shown(page, url, path):
    page.goto(f"{url}/{path}")
    page.get_by_text(re.compile(re.escape(PAGES[path]))).first.wait_for(state="attached")
    page.get_by_text("Loading …").first.wait_for(state="detached")
    return page


@pytest.mark.parametrize("look", LOOKS)
def test_each_page_shows_what_it_is_for_to_whoever_reads_it(served, fleet, browsers, look):
    pages = browsers(**LOOKS[look])
    page = pages.signed_in(served)
    found = []
    for path in PAGES:
        shown(page, served.url, path)
        assert page.title().endswith("tuneyard")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{path}: {wide} px wider than the window"
        if path in REFUSED:
            pages.wrong = [one for one in pages.wrong if "404" not in one]
        assert not pages.wrong, path
        found += [] if look == "phone" else serious(page, path)
    assert not found, "\n".join(found)


def serious(page, path):
    """What axe finds wrong that keeps people out."""
    return [
        f"{path}: {fault['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for fault in Axe().run(page).response["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"][:3]
    ]


PICTURES = {
    "page-fleet": ("?view=fleet", "light"),
    "page-job": ("?view=job&job=3", "light"),
    "page-card": ("?view=card&card=1", "dark"),
}
MOST_PICTURE_BYTES = 200_000


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_of_the_documentation(served, fleet, browsers, screenshots, name):
    if screenshots is None:
        pytest.skip("pictures are made with --screenshots DIR")
    path, look = PICTURES[name]
    fleet.train(3, 300, begin=138)
    fleet.read(1)
    page = browsers(**LOOKS[look]).signed_in(served)
    shown(page, served.url, path)
    page.locator(".live").get_by_text("live").wait_for()
    made = page.screenshot(path=screenshots / f"{name}.png")
    assert len(made) < MOST_PICTURE_BYTES


def test_the_theme_is_kept_and_chosen(served, fleet, browsers):
    pages = browsers(color_scheme="dark")
    page = pages.signed_in(served)
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Light").click()
    page.locator("html[data-theme=light]").wait_for()
    light = page.evaluate(ground)
    assert dark != light
    page.reload()
    page.get_by_role("button", name="Dark").wait_for()
    page.locator("html[data-theme=light]").wait_for()
    assert page.evaluate(ground) == light


def test_times_are_in_the_readers_zone(served, fleet, browsers):
    told = []
    for zone in ("Asia/Tokyo", "America/New_York"):
        page = browsers(timezone_id=zone).signed_in(served, "/?view=job&job=3")
        told.append(page.locator("dt:text-is('Submitted') + dd").inner_text())
    assert told[0] != told[1]


def test_a_card_is_reached_by_keyboard_and_told_in_words(served, fleet, pages):
    page = pages.signed_in(served)
    page.locator("canvas[data-drawn='16']").focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    live = page.locator(".heat [aria-live]")
    assert live.inner_text().startswith("gpu-01, card 1. NVIDIA H100")
    page.keyboard.press("ArrowDown")
    assert live.inner_text().startswith("gpu-02, card 1")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="gpu-02, card 1").wait_for()
    assert "view=card" in page.url
    page.go_back()
    page.get_by_role("heading", name="Fleet").wait_for()


def test_a_view_is_a_link(served, fleet, pages):
    page = pages.signed_in(served)
    page.get_by_role("button", name="Memory", exact=True).click()
    page.get_by_label("Find").fill("gpu-02")
    page.locator("canvas[data-drawn='4']").wait_for()
    other = pages.open(page.url)
    other.locator("canvas[data-drawn='4']").wait_for()
    assert other.get_by_role("button", name="Memory", exact=True).get_attribute("aria-pressed") == "true"
    page.get_by_label("Find").fill("no such host")
    page.get_by_text("Nothing here contains").wait_for()


def test_a_log_is_clean_searched_and_downloaded_whole(served, fleet, pages):
    page = pages.signed_in(served, "/?view=job&job=3&tab=log")
    log = page.get_by_role("log")
    page.get_by_text("training begins").wait_for()
    assert "[32m" not in log.inner_text()
    page.get_by_label("Find").fill("step 29")
    page.get_by_text("11 lines").wait_for()
    assert log.locator("mark").count() == 11
    with page.expect_download() as waited:
        page.get_by_role("button", name="Download").click()
    text = waited.value.path().read_text()
    assert text.startswith("loading the model\n") and text.count("step ") == 299


def test_a_name_can_t_become_markup(served, fleet, pages):
    # Of a job that is held, so that it changes nothing for other tests.
    job = {
        "text": "name: x\nmodel: org/m\ndata: /d.jsonl\ntraining: {steps: 3}\nproject: '<img src=x onerror=alert(1)>'"
    }
    served.http.post("/api/v1/jobs", json={"jobs": [job], "hold": True})
    page = pages.signed_in(served, "/?view=jobs")
    page.get_by_text("support-answers").wait_for()
    assert page.locator("main img").count() == 0
