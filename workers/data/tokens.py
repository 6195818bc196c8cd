"""Tokens of rows, and which of them are learned from: the scan counts them, the trainer trains on them.

The same text, tokens, labels and cut as SFTTrainer._prepare_dataset of TRL 1.16, in batches and in one pass over the
data; tests/workers/data/test_tokens.py holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from transformers import BatchEncoding, PreTrainedTokenizerBase

from jobs.errors import SpecError
from workers.data.checks import loss_faults
from workers.data.rendering import Rendered, Renderer, Unmarkable
from workers.data.rows import Row, Rows
from workers.data.shape import Shape
from workers.input_errors import Bad

Made = TypeVar("Made")

IGNORED = -100  # what transformers takes a label for that counts for no loss
BATCH_ROWS = 256


@dataclass(frozen=True)
class Tokenized:
    """One row as it is trained on. whole: its length before it was cut; learned: whether anything is left to learn."""

    number: int
    ids: list[int]
    labels: list[int]
    whole: int

    @property
    def columns(self) -> tuple[list[int], list[int]]:
        """As the data set has it."""
        return self.ids, self.labels

    @property
    def learned(self) -> bool:
        """The first token is predicted by none before it."""
        return any(label != IGNORED for label in self.labels[1:])


@dataclass
class Noted:
    """What is worth a warning: how often, and the first place."""

    count: int = 0
    first: str = ""

    def note(self, where: str) -> None:
        self.count += 1
        self.first = self.first or where


@dataclass
class Notes:
    """What was seen while rows were turned into tokens."""

    seen: int = 0
    doubled_bos: Noted = field(default_factory=Noted)
    doubled_eos: Noted = field(default_factory=Noted)
    unsaid: Noted = field(default_factory=Noted)
    prompt_changes: Noted = field(default_factory=Noted)
    unknown: Noted = field(default_factory=Noted)
    tools_ignored: Noted = field(default_factory=Noted)


class Tokens:
    """Turns batches of a source's rows into sequences of at most `limit` tokens.

    loss_on: of the job file; check_ids: raises Bad for a sequence that the model has no room for; every_turn: see
    every_turn_if_need_be(). Raises SpecError for rows, a tokenizer and a model that don't go together.
    """

    def __init__(
        self,
        rows: Rows,
        tokenizer: PreTrainedTokenizerBase,
        limit: int,
        loss_on: str | None = None,
        check_ids: Callable[[Sequence[int]], None] = lambda ids: None,
        every_turn: str = "",
        trainer: str = "sft",
    ) -> None:
        self._trainer = trainer
        self._check_ids, self._every_turn = check_ids, every_turn
        self._rows, self._tokenizer, self._limit, self._loss_on = rows, tokenizer, limit, loss_on
        self._shape: Shape | None = None
        self.renderer: Renderer | None = None
        self.notes = Notes()
        others = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        self._unknown = None if tokenizer.unk_token_id in others else tokenizer.unk_token_id
        self._ends = self._ids(["a"])[0][-1:] == [
            tokenizer.eos_token_id
        ]  # whether the tokenizer puts one itself

    def of(self, batch: Sequence[tuple[int, Row]]) -> Iterator[Tokenized]:
        """Raises SpecError with the line of a row that the chat template won't take."""
        shape = self._begun()
        self.notes.seen += len(batch)
        if self.renderer is None:
            yield from self._texts(batch, shape.kind == ("text",))
            return
        for number, row in batch:
            if self.renderer.ignores_tools(row):
                self.notes.tools_ignored.note(self._rows.where(number))
        yield from self._conversations(batch, self.renderer)

    def check(self, batch: Sequence[tuple[int, Row]]) -> None:
        """Render the rows and throw the text away. Raises as of() does."""
        self._begun()
        if self.renderer is not None:
            for number, row in batch:
                self._rendered(self.renderer, number, row)

    def _begun(self) -> Shape:
        """The shape of the rows, which is known from the first one on."""
        if self._shape is None:
            shape = self._rows.shape
            assert shape is not None, "a row has been read"
            if faults := loss_faults(self._loss_on, shape.kind):
                raise SpecError(faults, "data")
            try:
                if shape.chat:
                    self.renderer = Renderer(self._tokenizer, shape.kind, self._loss_on, self._every_turn)
            except Bad as bad:
                raise bad.error(self._rows.path) from None
            self._shape = shape
        return self._shape

    def warnings(self) -> list[str]:
        """What a user should know of the rows that were seen, a sentence or two each."""
        made = []
        bos, seen = self._tokenizer.bos_token, self.notes.seen
        if doubled := self.notes.doubled_bos.count:
            made.append(
                f"{doubled:,} of {seen:,} rows begin with {bos} (first: {self.notes.doubled_bos.first}), and "
                f"another {bos} is put before them: remove it from the data, or from the tokenizer's post-processor."
            )
        eos = self._tokenizer.eos_token
        if doubled := self.notes.doubled_eos.count:
            made.append(
                f"{doubled:,} of {seen:,} rows end in {eos} twice (first: {self.notes.doubled_eos.first}): the trainer "
                "puts one there, the tokenizer another. Remove it from the tokenizer's post-processor."
            )
        if unsaid := self.notes.unsaid.count:
            made.append(
                f"{unsaid:,} of {seen:,} rows have a turn that the chat template leaves out or changes (first: "
                f"{self.notes.unsaid.first})."
            )
        if changes := self.notes.prompt_changes.count:
            made.append(
                f"{changes:,} of {seen:,} rows have a prompt that the chat template renders differently when the "
                f"completion follows (first: {self.notes.prompt_changes.first}): the loss covers a part of the prompt."
            )
        if unknown := self.notes.unknown.count:
            made.append(
                f"{unknown:,} of {seen:,} rows have characters that the tokenizer knows only as "
                f"{self._tokenizer.unk_token} (first: {self.notes.unknown.first})."
            )
        if ignored := self.notes.tools_ignored.count:
            made.append(
                f"{ignored:,} of {seen:,} rows have tools (first: {self.notes.tools_ignored.first}), which the chat "
                "template leaves out."
            )
        return made + self.loss_warnings()

    def loss_warnings(self) -> list[str]:
        """That every turn is learned from, where nobody asked for that; that the end of a turn is not."""
        if self.renderer is None:
            return []
        if self.renderer.leaves_the_end_out():
            return [
                "{% generation %} in the chat template ends before the token that ends the assistant's turn: the "
                "model will not learn to stop. Put that token inside."
            ]
        if not self.renderer.marking.why:
            return []
        return [
            f"The loss covers every turn, the user's too: {self.renderer.marking.why}. "
            "Write data.loss_on: all if that is meant, or put {% generation %} around the assistant's turn in the "
            "chat template."
        ]

    def _texts(self, batch: Sequence[tuple[int, Row]], text: bool) -> Iterator[Tokenized]:
        eos = self._tokenizer.eos_token
        learned = [row["text" if text else "completion"] for _, row in batch]
        learned = [one if one.endswith(eos) else one + eos for one in learned]
        if text:
            for (number, _), ids in zip(batch, self._ids(learned), strict=True):
                self._note_eos(number, ids)
                yield self._cut(number, ids, 0)
            return
        prompts = [row["prompt"] for _, row in batch]
        wholes = self._ids([prompt + one for prompt, one in zip(prompts, learned, strict=True)])
        for (number, _), ids, start in zip(batch, wholes, self._ids(prompts), strict=True):
            self._note_eos(number, ids)
            yield self._cut(number, ids, 0 if self._loss_on == "all" else common(start, ids))

    def _conversations(self, batch: Sequence[tuple[int, Row]], renderer: Renderer) -> Iterator[Tokenized]:
        made = [self._rendered(renderer, number, row) for number, row in batch]
        encoded = self._tokenizer([one.text for one, _ in made], add_special_tokens=False)
        for index, ((number, _), (one, prompt)) in enumerate(zip(batch, made, strict=True)):
            ids = encoded["input_ids"][index]
            if one.learned is not None:
                yield self._cut(number, ids, 0, _labels(encoded, index, ids, one.learned))
            elif prompt is not None and self._loss_on != "all":
                alone = self._tokenizer(prompt, add_special_tokens=False)["input_ids"]
                yield self._cut(number, ids, common(alone, ids))
            else:
                yield self._cut(number, ids, 0)

    def _rendered(self, renderer: Renderer, number: int, row: Row) -> tuple[Rendered, str | None]:
        where = self._rows.where(number)
        try:
            rendered, prompt = renderer.render(row), renderer.prompt(row) if "prompt" in row else None
            changes = prompt is not None and renderer.changes_prompt(row, rendered.text, prompt)
        except Unmarkable as found:
            raise Unmarkable(found.problem, where) from None
        except Bad as bad:
            raise bad.at(where).error(self._rows.path) from None
        if changes and self._loss_on != "all":
            self.notes.prompt_changes.note(where)
        if unsaid := renderer.unsaid(row, rendered.text):
            self.notes.unsaid.note(f"{where}, {unsaid}")
        return rendered, prompt

    def _note_eos(self, number: int, ids: list[int]) -> None:
        """The trainer ends a row with one: a second is the tokenizer's, or the data's own."""
        eos = self._tokenizer.eos_token_id
        if self._ends and ids[-2:] == [eos, eos]:
            self.notes.doubled_eos.note(self._rows.where(number))

    def _ids(self, texts: list[str]) -> list[list[int]]:
        made: list[list[int]] = self._tokenizer(texts)["input_ids"]
        return made

    def _cut(self, number: int, ids: list[int], prompt: int, labels: list[int] | None = None) -> Tokenized:
        bos = self._tokenizer.bos_token_id
        if bos is not None and ids[:2] == [bos, bos]:
            self.notes.doubled_bos.note(self._rows.where(number))
        if self._unknown is not None and self._unknown in ids:
            self.notes.unknown.note(self._rows.where(number))
        cut = ids[: self._limit]
        try:
            self._check_ids(cut)
        except Bad as bad:
            raise bad.at(self._rows.where(number)).error(self._rows.path) from None
        if labels is None:
            labels = [IGNORED] * min(prompt, len(cut)) + cut[prompt:]
        return Tokenized(number, cut, labels[: self._limit], len(ids))


def every_turn_if_need_be(make: Callable[[str], Made]) -> Made:
    """make(""), and again, with why every turn is learned from, where a row shows that the template can't mark it."""
    try:
        return make("")
    except Unmarkable as found:
        return make(str(found))


def batches(rows: Iterator[tuple[int, Row]], size: int = BATCH_ROWS) -> Iterator[list[tuple[int, Row]]]:
    """Rows in lists of at most `size`."""
    while batch := list(islice(rows, size)):
        yield batch


def _labels(
    encoded: BatchEncoding, index: int, ids: list[int], spans: Sequence[tuple[int, int]]
) -> list[int]:
    """Tokens that have a character in one of the spans, which are in order."""
    labels, at = [IGNORED] * len(ids), 0
    for place, (start, end) in enumerate(encoded.encodings[index].offsets):
        if start == end:  # white space, whose offsets the tokenizer trims from the left
            start -= 1
        while at < len(spans) and spans[at][1] <= start:
            at += 1
        if at == len(spans):
            break
        if end > spans[at][0]:
            labels[place] = ids[place]
    return labels


def common(some: list[int], others: list[int]) -> int:
    """Leading tokens in common."""
    length = 0
    for one, other in zip(some, others, strict=False):
        if one != other:
            break
        length += 1
    return length
