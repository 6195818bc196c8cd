"""tuneyard plan: the cards, the peak by part, what would help, the picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.cards import CATALOGUE
from jobs.units import GiB
from orchestrator.cli.render import plan_text
from orchestrator.cli.render.plan_plot import rungs_of
from tests.cli import scenes
from tests.cli.conftest import Tuneyard
from tests.cli.fake_server import TOKEN, FakeServer
from tests.cli.test_layout import Terminal

ASKED = ("plan", "--model", "m", "--data", "d")


def test_the_cards_then_the_peak_of_the_pick_by_part(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.plans = [(202, {"pending": "k", "text": "tracing on box-1"}), (200, scenes.plan())]
    ran = tuneyard(*ASKED)
    assert (ran.code, ran.err) == (0, "tracing on box-1 ..\n")
    assert ran.out.splitlines() == [
        "   CARD          MEMORY    FREE  FITS       PEAK      UPPER  CHECKPOINTING        SLOWDOWN    STEP"
        "  TOKENS/S  TAKES  PRICE",
        "   NVIDIA T4  15.00 GiB  0 of 4  no    16.00 GiB  17.00 GiB",
        "*  A100-40GB  40.00 GiB  1 of 2  yes    7.00 GiB   7.50 GiB  every 2 layers, 4×2      +31%  650 ms"
        "    12,603  1h30m   1.80",
        "NVIDIA T4: even every layer, 1×8 takes 17.00 GiB",
        "",
        "A100-40GB, 40.00 GiB: every 2 layers, 4×2",
        "  weights        2.00 GiB  ##",
        "  optimizer       256 MiB  #",
        "  activations    3.00 GiB  ##",
        "  peak           7.00 GiB  18% of the card, in the backward pass",
        "  batch        4×2: micro-batches of 4 sequences, 2 accumulated per step",
        "  interval     6.50 GiB to 7.50 GiB at 95% confidence (measured)",
        "               checkpointing takes +31%; every layer saves 38.00 GiB",
        "--details (-v) has the parts of every card, and every rung that was tried",
    ]


@pytest.mark.parametrize("flag", ["--details", "-v", "--explain"])
def test_details_have_every_card(tuneyard: Tuneyard, server: FakeServer, flag: str) -> None:
    server.plans = [(200, scenes.plan())]
    out = tuneyard(*ASKED, flag).out
    assert "NVIDIA T4, 15.00 GiB: does not fit, nearest is off, 4×2" in out
    assert "A100-40GB, 40.00 GiB: every 2 layers, 4×2" in out
    assert "(measured: llama, lora, A100-40GB: 23 attempts)" in out
    assert "  then         every layer, 4×2 (7.00 GiB, +50%)" in out and "--details" not in out


def a_usual_plan() -> Any:
    """Three cards, all parts that a LoRA job on a GPU has, data and advice."""
    parts = {"weights": 257, "adapters": 38, "gradients": 19, "optimizer": 77, "activations": 9000}
    parts |= {"boundaries": 0, "logits_and_loss": 1346, "transients": 120, "allocator": 686, "context": 600}
    small, picked = scenes.plan()["cards"]
    whole = {name: count * 2**20 for name, count in parts.items()}
    picked = {**picked, "projection": {**picked["projection"], "parts": whole}}
    data = {"rows": 15806, "mean": 711.4, "p50": 600, "p90": 1024, "p99": 1024, "longest": 1024}
    data |= {
        "truncated": 1212,
        "dropped": 3,
        "sampled": True,
        "padding": 0.42,
        "histogram": [[10, 5], [1024, 9]],
    }
    data |= {"left_out": "1,212 cut", "longest_row": 2048, "warnings": []}
    packing = "training.packing: true puts several rows into one sequence, and would take 0.6 of the time"
    return scenes.plan(cards=[small, {**picked, "pick": False}, picked], data=data, notes=[packing])


def test_a_usual_plan_fits_on_one_screen(
    environment: dict[str, str], server: FakeServer, tmp_path: Path
) -> None:
    server.plans = [(200, a_usual_plan())]
    given = {**environment, "TUNEYARD_URL": server.url, "TUNEYARD_TOKEN": TOKEN}
    terminal = Terminal(given, 80, *ASKED)
    assert terminal.end() == 0
    lines = terminal.text.splitlines()
    assert max(map(len, lines)) <= 80
    assert 16 <= len(lines) < 24, lines
    header = next(line for line in lines if "CARD" in line).split()
    assert {"CARD", "FITS", "PEAK", "CHECKPOINTING", "TAKES", "PRICE"} <= set(header)


def test_what_the_data_warns_of_is_told_without_details(tuneyard: Tuneyard, server: FakeServer) -> None:
    made = a_usual_plan()
    made["data"]["warnings"] = ["7 of 40 rows are left out"]
    server.plans = [(200, made)]
    assert "warning: 7 of 40 rows are left out\n" in tuneyard(*ASKED).out


def test_small_parts_are_one_line(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.plans = [(200, a_usual_plan())]
    out = tuneyard(*ASKED).out
    assert "  others" in out and "  gradients" not in out
    small = (600 + 38 + 19 + 77 + 120) * 2**20
    assert f"{small / 2**20:.0f} MiB" in next(line for line in out.splitlines() if "  others" in line)
    details = tuneyard(*ASKED, "-v").out
    assert "  gradients" in details and "  others" not in details


def test_no_data_is_needed(tuneyard: Tuneyard, server: FakeServer, tmp_path: Path) -> None:
    server.plans = [(200, scenes.plan())]
    assert tuneyard("plan", "--model", "org/m", "--sequence-length", "2048", "--cards", "rtx4090").code == 0
    overrides = server.requests[-1][2]["job"]["overrides"]
    assert overrides == {"model.path": "org/m", "training.sequence_length": 2048}
    config = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert tuneyard("plan", "--model", "config.json").code == 0
    assert server.requests[-1][2]["job"]["overrides"] == {"model.config": config}
    (tmp_path / "config.json").write_text("{}")
    for name, said in (("config.json", "it has no model_type"), ("none.json", "can't be read")):
        ran = tuneyard("plan", "--model", name)
        assert (ran.code, said in ran.err) == (2, True)


def test_all_cards_are_those_of_the_catalogue(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.plans = [(200, scenes.plan())]
    assert tuneyard(*ASKED, "--cards", "cpu:2GiB,all").code == 0
    assert server.requests[-1][2]["cards"] == ["cpu:2GiB", *(card.short for card in CATALOGUE)]


def test_explain_has_every_rung_and_marks_the_chosen(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.plans = [(200, scenes.plan())]
    out = tuneyard(*ASKED, "--explain").out.splitlines()
    assert out[-7:] == [
        "  torch        allocated 6.00 GiB (5.00 GiB to 7.00 GiB), reserved 6.60 GiB (6.00 GiB to 8.00 GiB)",
        "  phases       load 2.00 GiB, backward 6.00 GiB",
        "",
        "   CHECKPOINTING             PEAK      UPPER  HIGHEST IN    STEP   TIME  FITS",
        "   off, 4×2             45.00 GiB  48.15 GiB  backward    500 ms  1.00×  no",
        "*  every 2 layers, 4×2  25.00 GiB  26.75 GiB  backward    655 ms  1.31×  yes",
        "   every layer, 4×2      7.00 GiB   7.49 GiB  backward    750 ms  1.50×  yes",
    ]


def test_what_ran_out_of_memory_before_says_so(tuneyard: Tuneyard, server: FakeServer) -> None:
    made = scenes.plan()
    made["cards"][1]["tried"][2] |= {"fits": False, "excluded": True}
    server.plans = [(200, made)]
    assert "1.50×  ran out before" in tuneyard(*ASKED, "--explain").out


def test_a_peak_that_checkpointing_can_not_lower_is_told(tuneyard: Tuneyard, server: FakeServer) -> None:
    made = scenes.plan()
    made["cards"][1]["saves_bytes"] = 1000
    made["cards"][1]["projection"] |= {"phase": "load", "parts": {"weights": 3 * GiB, "context": 2 * GiB}}
    server.plans = [(200, made)]
    told = " ".join(tuneyard(*ASKED).out.split())
    assert (
        "checkpointing can't lower this peak, which is reached while the model is loaded: most of it" in told
    )
    assert "most of it is weights and context" in told


def test_of_many_cards_only_the_pick_is_told_by_part(tuneyard: Tuneyard, server: FakeServer) -> None:
    small, picked = scenes.plan()["cards"]
    server.plans = [(200, scenes.plan(cards=[small, {**small, "card": "NVIDIA L4"}, small, small, picked]))]
    out = tuneyard(*ASKED).out
    assert "NVIDIA T4, 15.00 GiB" not in out
    assert "A100-40GB, 40.00 GiB: every 2 layers" in out
    assert "--details (-v) has the parts of every card" in out
    assert "NVIDIA T4, NVIDIA L4, NVIDIA T4, NVIDIA T4: even every layer" in out


def test_the_data_and_what_to_do_about_its_padding(tuneyard: Tuneyard, server: FakeServer) -> None:
    data = {
        "rows": 12000,
        "mean": 111.4,
        "p50": 100,
        "p90": 200,
        "p99": 400,
        "longest": 512,
        "truncated": 12,
        "dropped": 0,
        "longest_row": 0,
        "left_out": "",
        "warnings": [],
        "sampled": True,
        "padding": 0.42,
        "histogram": [[10, 5], [256, 10], [512, 1]],
    }
    server.plans = [(200, scenes.plan(data=data, length=512, notes=["training.packing: true avoids it"]))]
    told = tuneyard(*ASKED).out
    assert (
        "data: 12,000 rows (a sample); tokens: mean 111, p90 200, longest 512; 12 cut; 42% padding\n" in told
    )
    out = tuneyard(*ASKED, "-v").out.splitlines()
    assert out[-8:] == [
        "data: 12,000 rows, a sample of them counted",
        "  tokens   mean 111, p50 100, p90 200, p99 400, longest 512, 12 cut",
        "  lengths  1 |=              @               .| 512",
        "  planned  for 512 of sequence_length 1,024",
        "  padding  42% of each batch",
        "",
        "worth knowing",
        "  - training.packing: true avoids it",
    ]


def test_a_plan_that_fits_nowhere_fails_and_says_what_would_help(
    tuneyard: Tuneyard, server: FakeServer
) -> None:
    cards = scenes.plan()["cards"][:1]
    server.plans = [
        (
            200,
            scenes.plan(
                cards=cards,
                reason="it fits nowhere",
                advice=["a larger card would do"],
                notes=["no data was named"],
            ),
        )
    ]
    ran = tuneyard(*ASKED)
    assert ran.code == 1
    assert ran.out.endswith(
        "\nit fits nowhere\n\nwhat would help\n  - a larger card would do\n\nworth knowing\n  - no data was named\n"
    )
    ran = tuneyard(*ASKED, "--json")
    assert (ran.code, ran.json["reason"]) == (1, "it fits nowhere")
    server.plans = [(200, scenes.plan(cards=[], reason="no host is online", advice=["bring a host up"]))]
    assert tuneyard(*ASKED).err == "no host is online\n  - bring a host up\n"


def test_cards_and_prices_go_to_the_server(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.plans = [(200, scenes.plan())]
    assert tuneyard(*ASKED, "--cards", "l40s, h100", "--cards", "4090", "--price", "l40s=0.9").code == 0
    sent = server.requests[-1][2]
    assert (sent["cards"], sent["prices"]) == (["l40s", " h100", "4090"], {"l40s": 0.9})
    ran = tuneyard(*ASKED, "--price", "l40s")
    assert (ran.code, ran.err) == (
        2,
        "error: --price 'l40s' is no price; write CARD=PRICE, such as L40S=0.9\n",
    )


def test_the_picture(tuneyard: Tuneyard, server: FakeServer, tmp_path: Path) -> None:
    server.plans = [(200, scenes.plan())]
    ran = tuneyard(*ASKED, "--plot", "plan.png")
    assert (ran.code, ran.err) == (0, "wrote plan.png\n")
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    ran = tuneyard(*ASKED, "--plot", "plan.doc")
    assert (ran.code, "ends in .png" in ran.err) == (2, True)


def test_the_picture_has_the_rungs_of_the_chosen_micro_batch_in_the_order_of_the_ladder() -> None:
    card: Any = scenes.plan()["cards"][1]
    other = {**card["tried"][0], "rung": scenes.rung(0, 2, 4, "off, 2×4")}
    offload = {**card["tried"][2], "rung": {**card["tried"][2]["rung"], "offload": True}}
    card["tried"] = [offload, card["tried"][2], other, *card["tried"][:2]]
    drawn = [(bar["rung"]["every_n"], bar["rung"]["offload"]) for bar in rungs_of(card)]
    assert drawn == [(0, False), (2, False), (1, False), (1, True)]


@pytest.mark.parametrize(("share", "drawn"), [(1.0, "█" * 32), (0.0, "▏"), (0.5, "█" * 16), (0.05, "█▋")])
def test_a_bar_on_a_terminal_goes_by_eighths(
    monkeypatch: pytest.MonkeyPatch, share: float, drawn: str
) -> None:
    monkeypatch.setattr(plan_text, "is_terminal", lambda: True)
    assert plan_text._bar(share) == drawn


def test_a_plan_without_a_profile_gives_up(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.plans = [(202, {"pending": "k", "text": "tracing on box-1"})]
    ran = tuneyard("plan", "--model", "m", "--data", "d", "--timeout", "0.5")
    assert ran.code == 1
    assert ran.err.endswith(
        "error: there is no memory profile after 0.5 s: tracing on box-1; --timeout waits longer\n"
    )


def test_a_plan_of_a_bad_job_has_its_faults(tuneyard: Tuneyard) -> None:
    assert tuneyard("plan", "--model", "m", "--steps", "0").code == 2
    assert tuneyard("plan", "a", "b").err == "error: plan takes one job file\n"


@pytest.mark.parametrize(
    ("given", "said"), [(("--timeout", "nan"), "no number of seconds"), (("--cards", " ,"), "names no card")]
)
def test_what_a_plan_can_not_be_asked_is_named(
    tuneyard: Tuneyard, server: FakeServer, given: tuple[str, str], said: str
) -> None:
    ran = tuneyard("plan", "job.yaml", *given)
    assert ran.code == 2
    assert said in ran.err


def test_a_plan_asks_for_no_data(tuneyard: Tuneyard) -> None:
    assert "give a job file, or at least --model;" in tuneyard("plan").err


def test_without_a_server_a_plan_without_data_asks_for_a_server(bare: Tuneyard) -> None:
    ran = bare("plan", "--model", "org/m")
    assert (ran.code, "no tuneyard server" in ran.err) == (1, True)
    ran = bare("plan", "--model", "org/m", "--steps", "0", TUNEYARD_URL="http://127.0.0.1:1")
    assert (ran.code, "training.steps" in ran.err) == (2, True)
