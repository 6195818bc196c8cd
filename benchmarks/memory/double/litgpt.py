"""A LitGPT LoRA fine-tuning step by LitGPT's own code, in front of the CUDA double: prints what torch allocated.

    python -m benchmarks.memory.double.litgpt FOLDER MODEL MICRO_BATCH LENGTH

FOLDER: where lit_gpt and lightning_fabric are unpacked (docs/accuracy.md says which versions). The loop is that of
finetune/lora.py, which the wheel does not have: the longest batch comes first, the head's products for 128 tokens at a
time, an update after each second micro-batch.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

UPDATES = 2


def libraries(folder: str) -> tuple[Any, Any, Any]:
    """lightning_fabric, lit_gpt.lora and lit_gpt.utils, as they are, under the names that they have for each other."""
    sys.path.insert(0, folder)
    if (
        "pkg_resources" not in sys.modules
    ):  # setuptools no longer has it; fabric 2.1 declares a namespace with it
        stands_in: Any = ModuleType("pkg_resources")
        stands_in.declare_namespace = lambda name: None
        sys.modules["pkg_resources"] = stands_in
    for name in ("", ".strategies", ".utilities", ".utilities.load"):
        sys.modules[f"lightning.fabric{name}"] = import_module(f"lightning_fabric{name}")
    fabric: Any = sys.modules["lightning.fabric"]
    sys.modules["lightning"], fabric.fabric = fabric, fabric
    requirements: Any = import_module("lightning_utilities.core.imports")
    requirements.RequirementCache = lambda *_, **__: True  # it asks for a nightly build of its day
    return fabric, import_module("lit_gpt.lora"), import_module("lit_gpt.utils")


def main() -> None:
    folder, name, micro_batch, length = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    lightning, lora, utils = libraries(folder)
    fabric = lightning.Fabric(devices=1, accelerator="cuda", strategy="auto", precision="bf16-true")
    fabric.launch()
    config = lora.Config.from_name(name, r=8, alpha=16, dropout=0.05, to_query=True, to_value=True)
    with fabric.init_module(empty_init=True):
        model = lora.GPT(config)
    lora.mark_only_lora_as_trainable(model)
    model = fabric.setup_module(model)
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = fabric.setup_optimizers(torch.optim.AdamW(trained, lr=3e-4, weight_decay=0.01))
    model.max_seq_length = length
    model.train()
    for micro in range(2 * UPDATES):
        tokens = length // 4 if micro else length
        ids = torch.randint(0, 100, (micro_batch, tokens)).pin_memory()
        ids, targets = fabric.to_device((ids, ids.clone().pin_memory()))
        with fabric.no_backward_sync(model, enabled=micro % 2 == 0):
            logits = model(ids, lm_head_chunk_size=128)
            logits[-1] = logits[-1][..., :-1, :]
            fabric.backward(utils.chunked_cross_entropy(logits, targets[..., 1:]) / 2)
        if micro % 2:
            optimizer.step()
            optimizer.zero_grad()
    allocated, count = torch.cuda.max_memory_allocated(), sum(one.numel() for one in trained)
    print(json.dumps({"allocated_bytes": allocated, "trained": count}), flush=True)
    os._exit(0)  # torch's threads may abort at a quick end


if __name__ == "__main__":
    main()
