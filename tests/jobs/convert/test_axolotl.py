"""Files of axolotl."""

from __future__ import annotations

import pytest

from jobs.convert.convert import convert
from tests.jobs.convert.files import AXOLOTL, job, listed, refusals, with_


def test_a_file_comes_to_a_job() -> None:
    made = job(AXOLOTL)
    assert made["model"] == {
        "path": "our-lab/tiny-llama",
        "dtype": "bfloat16",
        "attention": "flash_attention_2",
    }
    assert made["data"] == {
        "path": "our-lab/chats",
        "split": "train",
        "loss_on": "assistant",
        "holdout": 0.04,
    }
    assert made["method"] == {
        "kind": "qlora",
        "rank": 24,
        "alpha": 48.0,
        "dropout": 0.02,
        "targets": "all-linear",
    }
    training = made["training"]
    assert training["global_batch"] == 18 and training["epochs"] == 2 and training["learning_rate"] == 3e-4
    assert training["sequence_length"] == 3072 and training["packing"] is True
    assert training["optimizer"] == "paged_adamw_8bit" and training["scheduler"] == "cosine"
    assert training["warmup_ratio"] == 0.05 and training["seed"] == 42 and training["weight_decay"] == 0.01


def test_what_is_not_honoured_has_its_reason() -> None:
    made = convert(AXOLOTL, "one.yml")
    assert listed(made) == {
        "evals_per_epoch": "evaluations are counted in steps; a tenth of the run is used",
        "saves_per_epoch": "checkpoints are counted in steps; a tenth of the run is used",
    }
    assert {one.key for one in made.of("empty")} == {"lora_model_dir", "wandb_project"}


def test_gpus_make_the_global_batch() -> None:
    made = job(AXOLOTL, gpus=4)
    assert made["training"]["global_batch"] == 72 and made["resources"] == {"gpus": 4}


def test_full_fine_tuning_has_nothing_of_lora() -> None:
    text = with_(AXOLOTL, "adapter:", "load_in_4bit: false")
    assert job(text)["method"] == {"kind": "full"}


def test_lora_over_4_bits_is_qlora_and_8_bits_are_not_there() -> None:
    assert job(with_(AXOLOTL, "adapter: lora"))["method"]["kind"] == "qlora"
    made = convert(with_(AXOLOTL, "adapter: lora", "load_in_4bit: false", "load_in_8bit: true"), "a.yml")
    assert made.job["method"]["kind"] == "lora" and "two bytes a weight" in listed(made)["load_in_8bit"]


def test_axolotls_defaults_are_written_out() -> None:
    made = convert(with_(AXOLOTL, without=("lr_scheduler", "warmup_ratio", "seed", "num_epochs")), "a.yml")
    training = made.job["training"]
    assert (training["scheduler"], training["warmup_ratio"], training["epochs"]) == ("cosine", 0.03, 1)
    assert "lr_scheduler cosine" in made.defaults and "seed 42" in made.defaults


def test_steps_come_before_epochs() -> None:
    made = convert(with_(AXOLOTL, "max_steps: 90"), "a.yml")
    assert made.job["training"]["steps"] == 90 and "epochs" not in made.job["training"]


@pytest.mark.parametrize(
    ("lines", "key", "words"),
    [
        (("val_set_size: 1",), "val_set_size", "is all rows to axolotl, and reads as one row"),
        (("batch_size: 7",), "batch_size", "is not micro_batch_size x gradient_accumulation_steps, 18"),
        (("warmup_steps: 10",), "warmup_steps", "stands beside warmup_ratio 0.05"),
        (("bf16: true", "fp16: true"), "fp16", "stands beside bf16"),
        (("adapter: false", "load_in_4bit: true"), "load_in_4bit", "trains a base in 4 bits whole"),
        (("adapter: vera",), "adapter", "is no kind of adapter here"),
        (("rl: dpo",), "rl", "is another training than SFT"),
        (("reward_model: true",), "reward_model", "is another training than SFT"),
    ],
)
def test_what_could_mean_two_things_is_refused(lines: tuple[str, ...], key: str, words: str) -> None:
    assert words in refusals(with_(AXOLOTL, *lines))[key]


def test_data_of_other_shapes_is_told_with_what_to_do() -> None:
    text = with_(
        AXOLOTL,
        """\
        datasets:
          - path: our-lab/turns
            type: chat_template
            field_messages: conversations
            message_property_mappings: {role: from, content: value}
            name: part
        """,
        without=("  - path", "    type", "    split"),
    )
    made = convert(text, "a.yml")
    assert made.job["data"]["path"] == "our-lab/turns"
    told = listed(made)
    assert "rename the column" in told["datasets[0].field_messages"]
    assert "rename them in the data" in told["datasets[0].message_property_mappings"]
    assert told["datasets[0].name"] == "is not carried over"


def test_two_data_sets_are_no_job_yet() -> None:
    text = with_(
        AXOLOTL,
        "datasets: [{path: one, type: alpaca}, {path: two, type: alpaca}]",
        without=("  - path", "    type", "    split"),
    )
    made = convert(text, "a.yml")
    assert "this has 2: merge them" in listed(made)["datasets"]
    assert [fault.path for fault in made.missing] == ["data.path"]


def test_a_key_that_nobody_knows_is_listed() -> None:
    assert (
        listed(convert(with_(AXOLOTL, "frobnicate: 7"), "a.yml"))["frobnicate"]
        == "tuneyard has nothing like it"
    )


def test_patterns_of_modules_are_listed() -> None:
    text = with_(AXOLOTL, "lora_target_modules: 'layers.[\\d]+.q_proj'", without=("lora_target_linear",))
    made = convert(text, "a.yml")
    assert "is a pattern" in listed(made)["lora_target_modules"] and "targets" not in made.job["method"]
