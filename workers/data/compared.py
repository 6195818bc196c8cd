"""Rows of preferences as tokens: pairs of a chosen and a rejected completion, or completions with a label.

The same text and tokens as `_prepare_dataset` of DPOTrainer, KTOTrainer and RewardTrainer (TRL 1.16), in batches and in
one pass; their collators cut them. tests/workers/data/test_compared.py holds them against each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from workers.data.rows import Row
from workers.data.tokens import Tokens, common
from workers.input_errors import Bad


@dataclass(frozen=True)
class Compared:
    """One row. columns: as the trainer's data set has them (SCHEMAS of datasets.py); ids: the longest sequence of it,
    cut; whole: its length before; parts: tokens of the prompt and of the longest completion; learned: whether the row
    is trained on."""

    number: int
    columns: tuple[Any, ...]
    ids: Sequence[int]
    whole: int
    parts: tuple[int, int]
    learned: bool


class ComparedTokens(Tokens):
    """Turns batches of rows into sequences of a prompt with one completion or two."""

    def of(self, batch: Sequence[tuple[int, Row]]) -> Iterator[Compared]:  # type: ignore[override]
        """Raises SpecError with the line of a row that the chat template won't take."""
        shape = self._begun()
        self.notes.seen += len(batch)
        sides = [column for column in ("chosen", "rejected", "completion") if column in shape.kind]
        made = [self._texts_of(number, row, sides) for number, row in batch]
        flat = [text for prompt, texts in made for text in (*([] if prompt is None else [prompt]), *texts)]
        encoded = iter(self._encoded(flat))
        for (number, row), (prompt, _) in zip(batch, made, strict=True):
            alone = None if prompt is None else next(encoded)
            yield self._compared(number, row, alone, [next(encoded) for _ in sides])

    def check(self, batch: Sequence[tuple[int, Row]]) -> None:
        """Render the rows and throw the text away. Raises as of() does."""
        shape = self._begun()
        sides = [column for column in ("chosen", "rejected", "completion") if column in shape.kind]
        for number, row in batch:
            self._texts_of(number, row, sides)

    def _encoded(self, texts: list[str]) -> list[list[int]]:
        if self.renderer is None:
            return self._ids(texts)
        found: list[list[int]] = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        return found

    def _texts_of(self, number: int, row: Row, sides: Sequence[str]) -> tuple[str | None, list[str]]:
        """The prompt alone, None where the trainer has no use for it, and each completion behind it."""
        needed = self._trainer != "reward"
        if self.renderer is None:
            eos = self._tokenizer.eos_token
            prompt = row.get("prompt", "")
            ended = [text if (text := row[side]).endswith(eos) else text + eos for side in sides]
            return (prompt if needed else None), [prompt + text for text in ended]
        if self.renderer.ignores_tools(row):
            self.notes.tools_ignored.note(self._rows.where(number))
        row = row if "prompt" in row else self._with_prompt(number, row) if needed else row
        extras: Row = {name: row[name] for name in ("tools", "chat_template_kwargs") if name in row}
        texts, prompt = [], None
        for side in sides:
            turns = (
                {"prompt": row["prompt"], "completion": row[side]}
                if "prompt" in row
                else {"messages": row[side]}
            )
            rendered, prompt = self._rendered(self.renderer, number, {**turns, **extras})
            texts.append(rendered.text)
        return (prompt if needed else None), texts

    def _with_prompt(self, number: int, row: Row) -> Row:
        """A row whose two conversations begin alike: what they share is the prompt. Raises SpecError where that is all,
        or nothing."""
        chosen, rejected = row["chosen"], row["rejected"]
        pairs = enumerate(zip(chosen, rejected, strict=False))
        shared = next((at for at, (a, b) in pairs if a != b), min(len(chosen), len(rejected)))
        if 0 < shared < min(len(chosen), len(rejected)):
            return {
                **row,
                "prompt": chosen[:shared],
                "chosen": chosen[shared:],
                "rejected": rejected[shared:],
            }
        said = "begin with no message in common" if not shared else "do not differ in what is answered"
        fix = "let both begin with the same messages, and end in two answers"
        raise Bad(f"chosen and rejected {said}", fix).at(self._rows.where(number)).error(self._rows.path)

    def _compared(self, number: int, row: Row, prompt: list[int] | None, wholes: list[list[int]]) -> Compared:
        cut = [self._cut(number, ids, 0) for ids in wholes]  # which looks at the tokens, too
        longest = max(cut, key=lambda one: one.whole)
        if prompt is None:
            fits = all(one.whole <= self._limit for one in cut)
            return Compared(number, tuple(wholes), longest.ids, longest.whole, (0, longest.whole), fits)
        start = min(common(prompt, ids) for ids in wholes)
        if start < len(prompt):
            self.notes.prompt_changes.note(self._rows.where(number))
        answers = [ids[start:] for ids in wholes]
        label = (row["label"],) if "label" in row else ()
        return Compared(
            number,
            (prompt[:start], *answers, *label),
            longest.ids,
            longest.whole,
            (start, max(map(len, answers))),
            start < self._limit and all(answers),
        )
