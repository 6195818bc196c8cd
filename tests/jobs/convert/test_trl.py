"""Files for `trl sft --config`, and scripts with TRL."""

from __future__ import annotations

import pytest

from jobs.convert.convert import convert
from jobs.errors import SpecError
from tests.jobs.convert.files import SCRIPT, TRL, job, listed, refusals, with_


def test_a_file_comes_to_a_job() -> None:
    made = job(TRL)
    assert made["model"] == {"path": "our-lab/tiny-qwen", "dtype": "bfloat16"}
    assert made["data"] == {"path": "our-lab/chats"}
    assert made["method"] == {
        "kind": "lora",
        "rank": 20,
        "alpha": 32,
        "dropout": 0.05,
        "targets": ["q_proj", "k_proj"],
    }
    training = made["training"]
    assert training["global_batch"] == 8 and training["sequence_length"] == 2048 and training["packing"]
    assert not listed(convert(TRL, "a.yaml"))


def test_trls_defaults_are_written_out() -> None:
    made = job("model_name_or_path: a/b\ndataset_name: c/d\nuse_peft: true\n")
    training = made["training"]
    assert (training["learning_rate"], training["epochs"], training["global_batch"]) == (2e-5, 3, 8)
    assert (training["sequence_length"], training["scheduler"], training["warmup_ratio"]) == (
        1024,
        "linear",
        0.0,
    )
    assert made["model"]["dtype"] == "float32" and training["autocast"] == "bfloat16"
    assert made["method"] == {
        "kind": "lora",
        "rank": 16,
        "alpha": 32,
        "dropout": 0.05,
        "targets": ["q_proj", "v_proj"],
    }


def test_fields_of_other_trainers_are_refused() -> None:
    told = refusals(with_(TRL, "beta: 0.1", "num_generations: 8"))
    assert "is of `trl dpo or kto`, and this is read as of `trl sft`; say --trainer NAME" in told["beta"]
    assert "is of another trainer" in told["num_generations"]


def test_preferences_are_carried_over() -> None:
    text = with_(TRL, "beta: 0.3", "loss_type: [sigmoid, sft]", without=("packing", "learning_rate"))
    made = job(text, trainer="dpo")
    assert made["trainer"] == "dpo" and made["dpo"] == {"beta": 0.3, "loss_type": ["sigmoid", "sft"]}
    assert made["training"]["learning_rate"] == 1e-6 and "loss" not in made["training"]
    script = SCRIPT.replace("SFTConfig", "DPOConfig").replace("SFTTrainer", "DPOTrainer")
    found = job(script.replace('output_dir="out"', 'output_dir="out", beta=0.2'), "train.py")
    assert found["trainer"] == "dpo" and found["dpo"] == {"beta": 0.2}
    rewards = with_(TRL, "center_rewards_coefficient: 0.01", "lora_task_type: SEQ_CLS", without=("packing",))
    assert job(rewards, trainer="reward")["reward"] == {"center_rewards_coefficient": 0.01}


def test_templates_and_what_is_learned_from() -> None:
    made = job(
        with_(TRL, "chat_template_path: ours.jinja", "eos_token: <|end|>", "completion_only_loss: false")
    )
    assert made["model"]["eos_token"] == "<|end|>" and made["data"]["loss_on"] == "all"
    assert (
        "is no .jinja file"
        in listed(convert(with_(TRL, "chat_template_path: a/b"), "a.yaml"))["chat_template_path"]
    )


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        (("warmup_ratio: 0.1", "warmup_steps: 5"), "warmup_steps"),
        (("use_peft: false", "load_in_4bit: true"), "load_in_4bit"),
        (("max_length: null",), "max_length"),
    ],
)
def test_what_could_mean_two_things_is_refused(lines: tuple[str, ...], key: str) -> None:
    assert key in refusals(with_(TRL, *lines))


def test_a_script_comes_to_a_job() -> None:
    made = job(SCRIPT, "train.py")
    assert made["model"] == {"path": "our-lab/tiny-mistral", "dtype": "bfloat16"}
    assert made["data"] == {"path": "our-lab/chats", "split": "train"}
    assert made["method"] == {
        "kind": "qlora",
        "rank": 16,
        "alpha": 32.0,
        "dropout": 0.0,
        "targets": ["q_proj", "o_proj"],
    }
    training = made["training"]
    assert training["steps"] == 500 and training["global_batch"] == 16
    assert training["optimizer"] == "paged_adamw_8bit"
    assert not listed(convert(SCRIPT, "train.py"))


def test_what_a_script_computes_is_listed() -> None:
    text = SCRIPT.replace("learning_rate=2e-4", "learning_rate=base * 2").replace(
        'load_dataset("our-lab/chats", split="train")', "load_dataset(name).map(render)"
    )
    made = convert(text, "train.py")
    told = listed(made)
    assert "is computed" in told["learning_rate"] and "is computed" in told["dataset_name"]
    assert "is code of the script's own" in told[".map()"]
    assert [fault.path for fault in made.missing] == ["data"]


def test_a_name_that_is_assigned_twice_is_not_read() -> None:
    text = 'MODEL = "a/other"\n' + SCRIPT
    assert "is computed, or not assigned once" in listed(convert(text, "train.py"))["model_name_or_path"]


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("x = 1", "SFTConfig, DPOConfig, KTOConfig, RewardConfig", "are nowhere made"),
        ("a = SFTConfig()\nb = SFTConfig()", "SFTConfig", "is made several times"),
        ("a = GRPOConfig(beta=0.2)", "GRPOConfig", "is not carried over; SFTConfig, DPOConfig"),
        ("def f(:", "line 1", "not readable as Python"),
    ],
)
def test_scripts_that_are_refused(text: str, key: str, words: str) -> None:
    assert words in refusals(text, "train.py")[key]


def test_a_script_is_never_run() -> None:
    with pytest.raises(SpecError):
        convert("raise SystemExit(3)", "train.py")


def test_unsloths_loader_is_read() -> None:
    text = """
from unsloth import FastLanguageModel
model, tokenizer = FastLanguageModel.from_pretrained(model_name="our-lab/tiny", max_seq_length=2048, load_in_4bit=True)
model = FastLanguageModel.get_peft_model(model, r=16, lora_alpha=16, target_modules=["q_proj"], random_state=7)
data = load_dataset("our-lab/rows", split="train")
trainer = SFTTrainer(model=model, train_dataset=data, args=SFTConfig(max_steps=60, bf16=True))
"""
    made = convert(text, "train.py")
    assert made.job["model"]["engine"] == "unsloth" and made.job["training"]["sequence_length"] == 2048
    assert made.job["method"]["rank"] == 16 and made.job["method"]["kind"] == "qlora"
    assert "get_peft_model.random_state" in listed(made)
