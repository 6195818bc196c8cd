"""What a host must have installed for a job, and how it is said."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.jobfile.requirements import lacking
from jobs.jobfile.spec import JobSpec, parse_spec
from jobs.state import Code


def spec(**sections: Any) -> JobSpec:
    return parse_spec({"model": "org/model", "data": "rows.jsonl", **sections})


FLASH = {"model": {"path": "org/model", "attention": "flash_attention_2"}}
UNSLOTH = {"model": {"path": "org/model", "engine": "unsloth"}}


@pytest.mark.parametrize(
    ("sections", "stack", "kind", "says"),
    [
        ({}, {}, "cuda", None),
        ({"method": "qlora"}, {"bitsandbytes": "0.45.1"}, "cuda", None),
        ({"method": "qlora"}, {"bitsandbytes": "0.50.2"}, "cpu", None),
        ({"method": "qlora"}, {}, "cuda", "has no bitsandbytes, which method qlora needs: pip install"),
        ({"method": "qlora"}, {"bitsandbytes": "0.49.2"}, "cpu", "install 0.50 or newer"),
        ({"training": {"optimizer": "paged_adamw"}}, {}, "cpu", "which optimizer paged_adamw needs"),
        ({"training": {"optimizer": "sgd"}}, {}, "cpu", None),
        (
            {"method": "qlora", "data": {"path": "rows.jsonl", "holdout": 0.1}},
            {"bitsandbytes": "0.50.2"},
            "cpu",
            "leave data.holdout out",
        ),
        (UNSLOTH, {"torch": "2.13.0"}, "cuda", "has no unsloth, which engine unsloth needs"),
        (UNSLOTH, {"unsloth": "2026.10.9"}, "cuda", None),
        (UNSLOTH, {"unsloth": "2026.10.9"}, "cpu", "Unsloth needs a CUDA card"),
        (FLASH, {}, "cuda", "has no flash-attn, which model.attention: flash_attention_2 needs: pip install"),
        (FLASH, {"flash-attn": "2.8.3"}, "cuda", None),
        (FLASH, {"flash-attn": "2.3.3.post1"}, "cuda", None),
        (FLASH, {"flash-attn": "2.3.2"}, "cuda", "has flash-attn 2.3.2, older than 2.3.3"),
        (FLASH, {"kernels": "0.9.0"}, "cuda", None),
        (FLASH, {"flash-attn": "2.8.3"}, "cpu", "needs a CUDA card; use one, or set model.attention: sdpa"),
        ({"report_to": "wandb"}, {}, "cuda", "has no wandb, which report_to needs: pip install wandb"),
        ({"report_to": ["tensorboard", "mlflow"]}, {"tensorboard": "2.21"}, "cpu", "has no mlflow"),
        ({"report_to": ["tensorboard", "mlflow"]}, {"tensorboardX": "2", "mlflow-skinny": "3"}, "cpu", None),
        ({**UNSLOTH, "method": "qlora"}, {"unsloth": "2026.10.9"}, "cuda", "has no bitsandbytes"),
    ],
)
def test_what_a_host_lacks(
    sections: dict[str, Any], stack: dict[str, str], kind: Any, says: str | None
) -> None:
    reason = lacking(spec(**sections), stack, kind)
    if says is None:
        assert reason is None
    else:
        assert reason is not None and reason.code is Code.LIBRARY and says in reason.text


def test_what_the_files_of_a_model_need() -> None:
    needs = [("optimum", "the model in /m, whose weights are quantised (gptq),"), ("gptqmodel", "it")]
    reason = lacking(spec(), {"gptqmodel": "5.0"}, "cuda", needs)
    assert reason is not None and reason.code is Code.LIBRARY and reason.figures == {"library": "optimum"}
    assert "has no optimum, which the model in /m" in reason.text and "pip install optimum" in reason.text
    assert lacking(spec(), {"gptqmodel": "5.0", "optimum": "1.27"}, "cuda", needs) is None
