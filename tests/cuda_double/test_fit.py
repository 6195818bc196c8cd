"""tuneyard.fit on a card that is not there: torch's own allocator says that memory ran out, and the run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.units import MiB
from tests.cuda_double.processes import Cuda
from tests.workers.builders import make_tokenizer

_SCRIPT = """
from pathlib import Path
import torch
from transformers.trainer_callback import PrinterCallback
from trl import SFTTrainer
import tuneyard
from jobs.memory.rung import Rung
from tests.workers.fit.scripts import config, on, rows, small, tokenizer_in

folder = Path({folder!r})
wide = dict(hidden_size=512, intermediate_size=1376, num_hidden_layers=8, max_position_embeddings=1024)
tokenizer = tokenizer_in(folder / "tokenizer")
def long(count=64):
    from datasets import Dataset
    return Dataset.from_list([{{"text": "What comes after 7? " * (20 + i % 5 * 10)}} for i in range(count)])
model = small(torch.bfloat16, **wide)
given = config(
    folder, use_cpu=False, bf16=True, per_device_train_batch_size=32, max_length=512, max_steps={steps}, optim="sgd"
)
def trainer_of(made):
    trainer = SFTTrainer(model, made.config, train_dataset=long(), processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)  # lines that begin as an answer does
    return trainer
fitted = tuneyard.fit(given, model, long(), processing_class=tokenizer, quiet=True)
"""
_FITS = """
trainer = trainer_of(fitted)
fitted.guard(trainer).train()
free, total = torch.cuda.mem_get_info()
answer(
    rung=fitted.rung.label, upper=fitted.projection.upper_bytes, device=fitted.projection.device_bytes,
    held=total - free, events=len(fitted.events), text=str(fitted), steps=trainer.state.global_step,
    live=torch.cuda.max_memory_allocated(), projected=fitted.projection.allocated_bytes,
)
"""
_GREEDY = """
greedy = on(fitted, Rung(0, 32, 1))
trainer = trainer_of(greedy)
try:
    trainer.train()
    raised = ""
except torch.OutOfMemoryError as error:
    raised = str(error)
del trainer
import gc
model.zero_grad(); gc.collect(); torch.cuda.empty_cache()
model = small(torch.bfloat16, **wide)
trainer = trainer_of(greedy)
greedy.guard(trainer).train()
answer(
    raised=raised, events=[[one.step, one.before.label, one.after.label, one.why] for one in greedy.events],
    steps=trainer.state.global_step, rows=trainer.args.per_device_train_batch_size,
)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_tokenizer(tmp_path / "tokenizer")
    return tmp_path


def test_what_fits_is_projected_for_the_card_of_the_process(cuda: Cuda, folder: Path) -> None:
    cuda.cards = "rtx4090:1800MiB"
    made = cuda.run(_SCRIPT.format(folder=str(folder), steps=3) + _FITS, TUNEYARD_HOME=str(folder / "home"))
    assert made["steps"] == 3 and made["events"] == 0
    assert made["upper"] <= 1800 * MiB and made["held"] <= made["upper"]
    assert "NVIDIA GeForce RTX 4090: 1.76 GiB" in made["text"]
    assert abs(made["live"] / made["projected"] - 1) < 0.05


def test_a_real_out_of_memory_error_costs_a_step(cuda: Cuda, folder: Path) -> None:
    cuda.cards = "rtx4090:1800MiB"
    made = cuda.run(_SCRIPT.format(folder=str(folder), steps=2) + _GREEDY, TUNEYARD_HOME=str(folder / "home"))
    assert "CUDA out of memory" in made["raised"], "without the guard it is the end"
    step, before, _, why = made["events"][0]
    assert (step, before) == (1, "off, 32×1") and "tried to allocate" in why
    assert made["steps"] == 2 and made["rows"] == 32
