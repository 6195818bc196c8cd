"""Signing in and out in a real browser."""

from __future__ import annotations

from tests.web.served import TOKEN


def test_with_the_token_and_out_again(served, fleet, pages):
    page = pages.open(served.url)
    page.get_by_label("Your name").fill("ada")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Fleet").wait_for()
    page.locator("canvas[data-drawn='16']").wait_for()
    (cookie,) = pages.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    assert page.evaluate("document.cookie") == ""
    page.reload()
    page.get_by_role("heading", name="Fleet").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in to tuneyard").wait_for()
    assert pages.context.cookies() == []
    page.reload()
    page.get_by_role("heading", name="Sign in to tuneyard").wait_for()


def test_a_wrong_token_is_told_with_what_to_do(served, browsers):
    pages = browsers()  # Chromium itself complains of the status 401
    page = pages.open(served.url)
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    assert "not the server's token" in page.get_by_role("alert").inner_text()


def test_a_link_signs_in_once_and_leaves_no_trace_in_the_address(served, fleet, pages, browsers):
    link = served.ticket()
    page = pages.open(link)
    page.get_by_role("heading", name="Fleet").wait_for()
    assert page.url == served.url + "/"
    other = browsers().open(link)
    assert "was used already" in other.get_by_role("alert").inner_text()


def test_a_session_that_ends_elsewhere_leads_back_to_signing_in(served, fleet, browsers):
    pages = browsers()
    page = pages.signed_in(served, "/?view=accuracy")
    pages.context.clear_cookies()
    page.goto(served.url + "/?view=jobs")
    page.get_by_role("heading", name="Sign in to tuneyard").wait_for()
