"""Files of LLaMA-Factory."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.convert.convert import convert
from tests.jobs.convert.files import LLAMAFACTORY, job, listed, refusals, with_

INFO: dict[str, Any] = {"our_answers": {"hf_hub_url": "our-lab/answers"}, "file": {"file_name": "one.json"}}


def test_a_file_comes_to_a_job() -> None:
    made = job(LLAMAFACTORY, dataset_info=INFO)
    assert made["model"] == {"path": "our-lab/tiny-qwen", "dtype": "bfloat16", "trust_remote_code": False}
    assert made["data"] == {"path": "our-lab/answers", "holdout": 0.1}
    assert made["method"] == {
        "kind": "lora",
        "rank": 12,
        "alpha": 24,
        "dropout": 0.0,
        "targets": "all-linear",
    }
    training = made["training"]
    assert training["global_batch"] == 10 and training["sequence_length"] == 1536
    assert training["eval_steps"] == 100 and training["checkpoint_steps"] == 200 and training["seed"] == 42


def test_what_is_not_honoured_has_its_reason() -> None:
    made = convert(LLAMAFACTORY, "a.yaml", dataset_info=INFO)
    assert listed(made).keys() == {"template", "max_samples", "dataset_info.our_answers"}
    assert "lora_alpha twice the rank" in made.defaults


def test_its_data_sets_are_names_in_another_file() -> None:
    made = convert(LLAMAFACTORY, "a.yaml")
    assert "names an entry of dataset_info.json, which is not beside this file" in listed(made)["dataset"]
    assert [fault.path for fault in made.missing] == ["data.path"]
    local = convert(with_(LLAMAFACTORY, "dataset: file", "dataset_dir: rows"), "a.yaml", dataset_info=INFO)
    assert local.job["data"]["path"] == "rows/one.json"
    several = convert(with_(LLAMAFACTORY, "dataset: our_answers,file"), "a.yaml", dataset_info=INFO)
    assert "this has 2" in listed(several)["dataset"]


def test_full_fine_tuning_under_bf16_has_float32_masters() -> None:
    """LLaMA-Factory casts what is trained to float32, unless pure_bf16 is set."""
    made = job(with_(LLAMAFACTORY, "finetuning_type: full"), dataset_info=INFO)
    assert made["method"] == {"kind": "full"}
    assert made["model"]["dtype"] == "float32" and made["training"]["autocast"] == "bfloat16"
    pure = job(
        with_(LLAMAFACTORY, "finetuning_type: full", "pure_bf16: true", without=("bf16",)), dataset_info=INFO
    )
    assert pure["model"]["dtype"] == "bfloat16" and "autocast" not in pure["training"]


def test_four_bits_are_qlora_and_eight_are_not_there() -> None:
    assert job(with_(LLAMAFACTORY, "quantization_bit: 4"), dataset_info=INFO)["method"]["kind"] == "qlora"
    made = convert(with_(LLAMAFACTORY, "quantization_bit: 8"), "a.yaml", dataset_info=INFO)
    assert made.job["method"]["kind"] == "lora" and "quantization_bit" in listed(made)


def test_its_defaults_are_written_out() -> None:
    gone = (
        "learning_rate",
        "num_train_epochs",
        "lr_scheduler_type",
        "warmup_ratio",
        "cutoff_len",
        "lora_rank",
    )
    made = job(with_(LLAMAFACTORY, without=gone), dataset_info=INFO)
    training = made["training"]
    assert (training["learning_rate"], training["epochs"], training["scheduler"]) == (5e-5, 3, "linear")
    assert (training["warmup_ratio"], training["sequence_length"], made["method"]["rank"]) == (0.0, 2048, 8)


@pytest.mark.parametrize(
    ("lines", "key", "words"),
    [
        (("stage: ppo",), "stage", "is not carried over"),
        (("do_train: false",), "do_train", "is no training"),
        (("export_dir: merged", "do_train: false"), "export_dir", "is no training"),
        (("finetuning_type: freeze",), "finetuning_type", "use full or lora"),
        (("finetuning_type: full", "quantization_bit: 4"), "quantization_bit", "trains a packed base whole"),
        (("fp16: true",), "fp16", "stands beside bf16"),
    ],
)
def test_what_could_mean_two_things_is_refused(lines: tuple[str, ...], key: str, words: str) -> None:
    assert words in refusals(with_(LLAMAFACTORY, *lines), dataset_info=INFO)[key]


def test_preferences_are_carried_over() -> None:
    made = convert(
        with_(LLAMAFACTORY, "stage: dpo", "pref_beta: 0.2", "ref_model: a/b"), "a.yaml", dataset_info=INFO
    )
    assert made.job["trainer"] == "dpo" and made.job["dpo"] == {"beta": 0.2, "loss_type": ["sigmoid"]}
    assert "ref_model" in listed(made) and not made.missing
    kto = job(with_(LLAMAFACTORY, "stage: kto", "kto_chosen_weight: 0.5"), dataset_info=INFO)
    assert kto["trainer"] == "kto" and kto["kto"] == {"desirable_weight": 0.5}
    assert job(with_(LLAMAFACTORY, "stage: rm"), dataset_info=INFO)["trainer"] == "reward"
    told = refusals(with_(LLAMAFACTORY, "stage: dpo", "pref_loss: simpo"), dataset_info=INFO)
    assert "is not carried over" in told["pref_loss"]


def test_pretraining_packs_unless_it_says_not_to() -> None:
    made = convert(with_(LLAMAFACTORY, "stage: pt", "export_dir: merged"), "a.yaml", dataset_info=INFO)
    assert (
        made.job["training"]["packing"] is True and listed(made)["export_dir"] == "training does not export"
    )


def test_float16_goes_with_lora() -> None:
    made = job(with_(LLAMAFACTORY, "fp16: true", without=("bf16",)), dataset_info=INFO)
    assert made["model"]["dtype"] == "float16"
    packed = convert(
        with_(LLAMAFACTORY, "fp16: true", "quantization_bit: 4", without=("bf16",)),
        "a.yaml",
        dataset_info=INFO,
    )
    assert packed.job["model"]["dtype"] == "bfloat16" and "fp16" in listed(packed) and not packed.missing
