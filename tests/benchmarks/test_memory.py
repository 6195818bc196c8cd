"""benchmarks/memory: its draws, its sums, and small comparisons of each kind."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.memory import closed, founding, litgpt, pays, published, real, results
from benchmarks.memory.shapes import job
from jobs.cards import find_card
from workers.profiler.trace import trace

CHECKOUT = Path(__file__).parents[2]
SMALL = {
    "small": {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "max_position_embeddings": 2048,
    }
}


def test_draws_depend_on_the_seed_alone():
    assert closed.draws(SMALL, 25, 3) == closed.draws(SMALL, 25, 3)
    assert closed.draws(SMALL, 25, 3) != closed.draws(SMALL, 25, 4)
    assert real.draws(8, 3) == real.draws(8, 3)
    assert real.scanning_draws(6, 3) == real.scanning_draws(6, 3)


def test_draws_have_every_method_and_every_way_of_checkpointing():
    made = closed.draws(SMALL, 300, 0)
    assert sum(len(draw.steps) for draw in made) == 300
    assert {draw.method.split(", float32")[0].split(", packed")[0] for draw in made} == {
        *("full", "lora", "lora, dropout", "dora", "qlora")
    }
    every = {step.rung.every_n for draw in made for step in draw.steps}
    assert {0, 1, 2, 3, 6} <= every
    assert {"cuda", "cpu"} == {step.card for draw in made for step in draw.steps}
    assert all(step.length <= 2048 for draw in made for step in draw.steps)


def test_a_draw_is_compared_with_the_whole_model():
    done = closed.compare(closed.draws(SMALL, 2, 0)[0])
    assert done.refused == "" and len(done.rows) == 2
    assert all(row.traced_bytes > 0 and abs(row.error) < 0.03 for row in done.rows)


def test_a_real_step_is_counted_and_compared():
    taken, projected, _ = real.in_child(next(run for run in real.draws(40, 0) if run.model == "llama"))
    assert taken > 0
    assert projected == pytest.approx(taken, rel=0.08)


@pytest.mark.parametrize("name", ["bamba", "mamba2"])
def test_a_real_step_of_layers_that_scan_takes_what_is_projected(name: str):
    """To 1 %: what their loops over chunks keep, filled up, is counted in the run itself."""
    one = next(run for run in real.scanning_draws(12, 1) if run.model == name)
    taken, projected, _ = real.in_child(one)
    assert taken > 0
    assert projected == pytest.approx(taken, rel=0.01)


def test_figures_and_goals():
    found = results.figures([0.01, -0.03, 0.02])
    assert (found["count"], found["median"], found["worst"], found["bias"]) == (3, 0.02, 0.03, 0.0)
    assert results.within(found, {"median": 0.02, "worst": 0.03})
    assert not results.within(found, {"worst": 0.029})
    assert not results.within(results.figures([]), {"worst": 1.0})


PUBLISHED = """source,model,method,lora_r,quant,micro_batch,seq_len,grad_ckpt,other_flags,measured_peak_gb
LitGPT tables,Llama 2 7 B,lora,8,,1,128,off,"trainable 4,194,304",21.3
LitGPT tables,Llama 2 7 B,lora,8,,4,128,off,,OOM
LitGPT tables,Llama 2 7 B,lora,8,,1,128,on (FSDP),,22.18
LitGPT tables,Llama 2 7 B,qlora,8,bnb.nf4,1,128,off,,14.14
LitGPT tables,Llama 2 7 B,adapter,,,1,128,off,,19.98
ms-swift,qwen-7b-chat,lora,8,,1,2048,on,,27.74
"""


def test_published_rows_are_compared_or_say_why_not(tmp_path):
    file = tmp_path / "peaks.csv"
    file.write_text(PUBLISHED)
    found = published.read(file)
    assert [bool(row.reason) for row in found] == [False, False, True, False, True, True]
    words = ("FSDP", "no method", "reserved")
    for row, word in zip([row for row in found if row.reason], words, strict=True):
        assert word in row.reason
    assert found[0].trainable == 4_194_304 and found[1].trainable is None


TINY_LIT = litgpt.Shape(layers=3, width=64, inner=128, heads=4, vocabulary=512, gated=True)


def lit(rows=2, shape=TINY_LIT, quant=""):
    spec = job(
        SMALL["small"], {"kind": "qlora" if quant else "lora", "rank": 8}, training={"autocast": "off"}
    )
    return litgpt.peak_bytes(shape, spec, quant=quant, rank=8, dropout=0.05, rows=rows, length=256)


def test_litgpt_trains_its_query_and_value_adapters_alone():
    assert lit()[1] == 3 * (2 * 8 * 64 + 2 * 64 * 8)


def test_litgpt_keeps_the_logits_of_every_row_in_float32_with_their_log_softmax():
    wide = replace(TINY_LIT, vocabulary=4096)
    # Of two chunks, the one whose loss goes back first has gradients as large beside it.
    more, fewer = (lit(rows, wide)[0] - lit(rows)[0] for rows in (4, 2))
    assert more - fewer == pytest.approx(2 * 256 * (8 + 8 / 2) * (4096 - 512), rel=0.02)


def test_a_packed_base_takes_less_and_its_library_keeps_inputs():
    """Per row: what goes into each of a layer's five products is kept, beside what the plain base keeps."""
    plain, packed = ([lit(rows, quant=quant)[0] for rows in (2, 6)] for quant in ("", "bnb.nf4-dq"))
    assert packed[1] - packed[0] > plain[1] - plain[0]
    assert lit(quant="bnb.nf4")[0] > lit(quant="bnb.nf4-dq")[0]


def test_the_founding_table_is_matched_by_what_gives_it():
    """A claim made of a projection is found; one of no configuration is not."""
    card = find_card(founding.CARD)
    profile = trace(job(SMALL["small"], "full"), [])
    anything = founding.Claim("x", "small", ("full",), (), 1.0, 1.0, 0.2)
    every = list(founding.matches(anything, "full", "full", profile, card))
    one = next(m for m in every if (m.batch, m.length, m.number, m.unit) == (4, 1024, "device", "GiB"))
    claim = founding.Claim("x", "small", ("full",), (), one.without, one.with_, 0.2)
    exact = [m for m in founding.matches(claim, "full", "full", profile, card) if m.off == 0]
    assert any((m.batch, m.length) == (4, 1024) for m in exact)
    wrong = founding.Claim("x", "small", ("full",), (), one.with_, 2 * one.without, 0.2)
    assert min(m.off for m in founding.matches(wrong, "full", "full", profile, card)) > founding.TOLERANCE


def test_the_ladder_never_loses_to_a_rung_of_its_own():
    spec = job(SMALL["small"], "full", training={"global_batch": 8, "sequence_length": 256})
    profile = trace(spec, [])
    pair = pays.pair("x", profile, spec, find_card("rtx4090"))
    assert pair.speeds["choice"] and pair.ratio("always") >= 1 and pair.ratio("never") >= 1
    found = pays.sums([pair, pays.Pair("y", "l4", {"choice": None, "always": None, "never": None}, "")])
    assert found["runs"] == {"choice": 1, "always": 1, "never": 1}
    assert found["against_always"]["both_run"] == 1


def test_without_a_card_the_gpu_benchmark_says_so():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a card")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.memory"], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "no NVIDIA card" in done.stderr


def test_a_models_file_that_is_not_there_is_one_clear_error():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", "--configs", "nowhere.json"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "nowhere.json is not there" in done.stderr


def test_the_last_line_is_json():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", "--count", "1", "--seed", "5", "--seconds", "0"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert (found["seed"], found["count"], found["met"], done.returncode) == (5, 0, False, 1)


@pytest.mark.parametrize("index", range(6))
def test_a_real_step_of_preferences_takes_what_is_projected(index: int):
    """Each trainer of preferences, full and with adapters; here in a process of its own."""
    one = real.preference_draws(6, seed=3)[index]
    found = real.in_child(one)
    assert not isinstance(found, str), found
    taken, projected, _ = found
    assert projected == pytest.approx(taken, rel=0.03)
