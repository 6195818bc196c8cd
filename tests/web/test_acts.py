"""What is done from the page: a job is planned, submitted, held, cancelled, and requeued."""

from __future__ import annotations

import pytest

from tests.web.scene import Fleet
from tests.web.served import serving


@pytest.fixture
def own(browser, tmp_path):
    """A server of this test's own."""
    with serving(tmp_path) as made:
        Fleet(made).hosts[0].report()
        yield made


def job_file(served):
    return f"""name: from-the-page
model:
  tokenizer: org/tokenizer
  config:
    {{model_type: llama, hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2, num_attention_heads: 4,
    vocab_size: 256}}
data: {served.data}
training: {{steps: 20, sequence_length: 128}}
"""


def test_a_job_is_written_with_what_the_schema_offers(own, pages):
    page = pages.signed_in(own, "/?view=plan")
    editor = page.get_by_role("textbox", name="Job file")
    editor.fill("name: x\n")
    editor.press("End")
    page.keyboard.type("mem")
    option = page.get_by_role("option", name="memory")
    option.wait_for()
    page.keyboard.press("Alt+Enter")
    page.keyboard.type("conf")
    page.get_by_role("option", name="confidence").click()
    assert editor.input_value().startswith("name: x\nmemory:\n  confidence: ")
    page.reload()
    assert page.get_by_role("textbox", name="Job file").input_value().startswith("name: x\nmemory:"), (
        "it is kept"
    )


def test_every_fault_of_a_job_file_is_told(own, browsers):
    page = browsers().signed_in(own, "/?view=plan")
    page.get_by_role("textbox", name="Job file").fill("name: x\nmodle: y\ntraining: {steps: -1}\n")
    page.get_by_role("button", name="Submit").click()
    said = page.get_by_role("alert").inner_text()
    for word in ("modle", "training.steps", "data"):
        assert word in said


def test_a_job_is_submitted_held_released_cancelled_and_requeued(own, pages):
    page = pages.signed_in(own, "/?view=plan")
    page.get_by_role("textbox", name="Job file").fill(job_file(own))
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("heading", name="1 from-the-page").wait_for()
    job = own.http.get("/api/v1/jobs/1").json()
    assert (job["state"], job["user"]) == ("queued", "ada")
    page.get_by_role("button", name="Hold").click()
    page.get_by_role("button", name="Release").click()
    page.get_by_role("button", name="Hold").wait_for()
    page.get_by_role("button", name="Cancel").click()
    assert own.http.get("/api/v1/jobs/1").json()["state"] == "queued", "it asks first"
    page.get_by_role("button", name="Cancel it: sure?").click()
    page.get_by_role("button", name="Requeue").click()
    page.get_by_role("button", name="Submit it again: sure?").click()
    page.get_by_role("heading", name="2 from-the-page").wait_for()
    states = [own.http.get(f"/api/v1/jobs/{number}").json()["state"] for number in (1, 2)]
    assert states == ["cancelled", "queued"]


def test_a_plan_shows_cards_parts_and_rungs(own, pages):
    fleet = Fleet(own)
    page = pages.signed_in(own, "/?view=plan")
    page.get_by_role("textbox", name="Job file").fill(job_file(own))
    page.get_by_role("button", name="Plan", exact=True).click()
    page.get_by_text("is being traced").wait_for()
    fleet.start()
    page.get_by_role("cell", name="NVIDIA H100").first.wait_for()
    page.get_by_text("base weights").or_(page.get_by_text("weights")).first.wait_for()
    assert page.get_by_role("region", name="Rungs").get_by_role("row").count() > 1
