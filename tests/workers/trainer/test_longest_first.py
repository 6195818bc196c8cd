"""The longest rows in the first step, for an allocator that keeps what it once took."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import RandomSampler, SequentialSampler

from jobs.memory.project import Rung
from tests.workers.builders import answer, make_assignment, question, write_rows
from workers.trainer.longest_first import LongestAtFirst, row_lengths, with_longest
from workers.trainer.saving.resume import longest_first
from workers.trainer.train import build_trainer

LENGTHS = [5, 3, 9, 4, 9, 2, 7, 8, 6, 1, 5, 9, 3, 2, 8, 4]
BATCHES = [(1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (2, 2), (4, 2), (1, 4), (2, 4)]  # a micro-batch, and ranks


@pytest.mark.parametrize(("micro_batch", "ranks"), BATCHES)
def test_each_rank_begins_with_one_of_the_longest_rows(micro_batch: int, ranks: int) -> None:
    order = list(reversed(range(16)))
    made = with_longest(order, LENGTHS, micro_batch, ranks)
    assert sorted(made) == sorted(order), "each row once"
    firsts = [LENGTHS[made[rank * micro_batch]] for rank in range(ranks)]
    assert sorted(firsts, reverse=True) == sorted(LENGTHS, reverse=True)[:ranks]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_steps_have_the_same_rows_whatever_the_micro_batch(ranks: int) -> None:
    made = [with_longest(range(16), LENGTHS, each, ranks) for each in (1, 2, 4) if each * ranks <= 8]
    assert len({frozenset(one[:8]) for one in made}) == 1
    assert len({tuple(one[8:]) for one in made}) == 1


def test_fewer_rows_than_a_step_takes_are_all_there() -> None:
    assert sorted(with_longest([0, 1, 2], [1, 2, 3], 4, 2)) == [0, 1, 2]
    assert with_longest([], [], 4, 2) == []


def test_later_epochs_are_as_they_would_be() -> None:
    usual = SeedableRandomSampler(LENGTHS, data_seed=3)
    made = LongestAtFirst(RandomSampler(LENGTHS), LENGTHS, 2, 1, seed=3)
    first, second, third = (list(usual) for _ in range(3))
    assert list(made) == with_longest(first, LENGTHS, 2, 1) != first
    assert list(made) == second
    made.set_epoch(2)
    assert list(made) == third and len(made) == 16


def test_rows_in_the_order_of_the_data_begin_with_the_longest() -> None:
    assert list(LongestAtFirst(SequentialSampler(LENGTHS), LENGTHS, 2, 1, seed=3))[:3] == [2, 1, 0]


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize(("facts", "before"), [({"longest_first": True}, True), ({}, False)])
def test_a_job_goes_on_in_the_order_that_it_began_with(
    tmp_path: Path, facts: dict[str, bool], before: bool, fixed: bool
) -> None:
    """On whatever card: or the row that changed places would be trained twice, and the longest not at all."""
    (tmp_path / "manifest.json").write_text(json.dumps({"files": {}, **facts}))
    assert longest_first((tmp_path, 5), fixed) is before
    assert longest_first(None, fixed) is fixed


@pytest.mark.parametrize("told", [False, True])
def test_a_trainer_takes_them_where_it_is_told_to(tmp_path: Path, tokenizer: Path, told: bool) -> None:
    data = write_rows(
        tmp_path / "rows.jsonl",
        [{"prompt": question(i), "completion": answer(i) * (1 + (i == 9))} for i in range(32)],
    )
    assignment = make_assignment(data, tokenizer, rung=Rung(0, 2, 2))
    trainer = build_trainer(assignment, tmp_path / "out")
    trainer.longest_first = told
    sizes = row_lengths(trainer.train_dataset)
    seen = [max(map(len, batch["input_ids"])) for batch in islice(trainer.get_train_dataloader(), 16)]
    assert sorted(seen)[-1] == max(sizes) > sorted(sizes)[-2]
    assert (seen[0] == max(sizes)) is told
