"""scan(): the lengths of a job's sequences as the trainer will make them, with every row checked on the way."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from transformers import PreTrainedTokenizerBase

from jobs.jobfile.spec import JobSpec
from jobs.memory.sequence_lengths import Lengths
from workers.data.compared import Compared
from workers.data.datasets import open_data, tokens_of
from workers.data.rows import Rows
from workers.data.tokens import Tokenized, Tokens, batches, every_turn_if_need_be
from workers.model.build import build_config, build_tokenizer, trusts
from workers.model.token_ids import Room

MOST_ROWS = 200_000
MOST_SECONDS = 60.0
# Shares of the time: for tokens, and until conversations are only looked at, no longer rendered.
_TOKENS = 0.5
_RENDERING = 0.75
_MORE = 0.05  # of the time, each time that half as many batches are turned into tokens as before


def scan(
    spec: JobSpec,
    trusted_models: list[str],
    most_rows: int = MOST_ROWS,
    most_seconds: float = MOST_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Lengths:
    """Lengths of the job's sequences: of all, or of a sample where the rows are more or take longer.

    Every row is read and checked, and every conversation rendered, while the time lasts; what was not is said in the
    warnings. Raises SpecError for the first row that won't do, TuneyardError for a tokenizer that won't, and whatever
    the libraries raise for what can't be reached.
    """
    tokenizer = build_tokenizer(spec.model, trusted_models)
    check_ids = _room(spec, tokenizer, trusted_models)
    return scan_rows(
        lambda: open_data(spec.data, spec.trainer), spec, tokenizer, check_ids, most_rows, most_seconds, clock
    )


def scan_rows(
    open_them: Callable[[], Rows],
    spec: JobSpec,
    tokenizer: PreTrainedTokenizerBase,
    check_ids: Callable[[Sequence[int]], None] = lambda ids: None,
    most_rows: int = MOST_ROWS,
    most_seconds: float = MOST_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Lengths:
    """scan() of rows that are opened by the caller, with a tokenizer of its own. Raises as scan() does."""
    return every_turn_if_need_be(
        lambda why: _scanned(open_them(), spec, tokenizer, check_ids, why, most_rows, most_seconds, clock)
    )


def _scanned(
    rows: Rows,
    spec: JobSpec,
    tokenizer: PreTrainedTokenizerBase,
    check_ids: Callable[[Sequence[int]], None],
    every_turn: str,
    most_rows: int,
    most_seconds: float,
    clock: Callable[[], float],
) -> Lengths:
    began = clock()
    tokens = tokens_of(spec, rows, tokenizer, check_ids, every_turn)
    sample = _Sample(spec.training.sequence_length, mixes=spec.trainer == "kto")
    seen = rendered = 0
    spent, allowed, total = 0.0, most_seconds * _TOKENS, None
    for index, batch in enumerate(batches(iter(rows))):
        now = clock()
        if now - began >= most_seconds:
            # By the share of the file that was read, where nothing else tells.
            total = rows.total or max(seen, round(seen / max(rows.share(), 1e-9)))
            break
        seen += len(batch)
        if index % sample.stride == 0:
            sample.add(index, list(tokens.of(batch)))
            spent += clock() - now
            if sample.rows > most_rows or spent > allowed:
                sample.thin()
                allowed += most_seconds * _MORE
        elif now - began < most_seconds * _RENDERING:
            tokens.check(batch)
        else:
            continue
        rendered += len(batch)
    total = seen if total is None else total
    return sample.lengths(total, [*tokens.warnings(), *_unchecked(tokens, seen, rendered, total)])


def _room(
    spec: JobSpec, tokenizer: PreTrainedTokenizerBase, trusted_models: list[str]
) -> Callable[[Sequence[int]], None]:
    """The check of token ids; none where the model's config is out of reach. Raises Refused for a padding token."""
    try:
        config = build_config(spec.model, trusts(spec.model, trusted_models))
    except OSError:
        return lambda ids: None
    room = Room(spec.model, tokenizer, config)
    room.check_padding()
    return room.check


@dataclass
class _Counted:
    """What a batch of rows came to."""

    found: Counter[int]
    rows: int
    truncated: int
    dropped: int
    longest: int


@dataclass
class _Sample:
    """Every `stride`-th batch of rows: data is often sorted, and what is not looked at must look like the rest.

    mixes: whether the trainer puts the completion of one row behind the prompt of another (the KL term of KTO).
    """

    limit: int
    mixes: bool = False
    prompt: int = 0  # tokens of the longest
    completion: int = 0
    stride: int = 1
    batches: dict[int, _Counted] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(one.rows for one in self.batches.values())

    def add(self, index: int, made: Sequence[Tokenized | Compared]) -> None:
        kept = [one for one in made if one.learned]
        for one in kept if self.mixes else ():
            if isinstance(one, Compared):
                self.prompt = max(self.prompt, one.parts[0])
                self.completion = max(self.completion, one.parts[1])
        truncated = sum(one.whole > self.limit for one in kept)
        found = Counter(len(one.ids) for one in kept)
        self.batches[index] = _Counted(
            found, len(made), truncated, len(made) - len(kept), max(one.whole for one in made)
        )

    def thin(self) -> None:
        """Half as many batches from here on, and of those so far."""
        self.stride *= 2
        self.batches = {index: one for index, one in self.batches.items() if index % self.stride == 0}

    def lengths(self, total: int, warnings: list[str]) -> Lengths:
        found: Counter[int] = Counter()
        for one in self.batches.values():
            found.update(one.found)
        counted = Lengths.counted(
            found,
            rows=total,
            truncated=sum(one.truncated for one in self.batches.values()),
            dropped=sum(one.dropped for one in self.batches.values()),
            sampled=self.rows < total,
            warnings=warnings,
            longest_row=max((one.longest for one in self.batches.values()), default=0),
        )
        longest = max(counted.longest, min(self.limit, self.prompt + self.completion))
        return replace(counted, longest=longest) if counted.count else counted


def _unchecked(tokens: Tokens, seen: int, rendered: int, total: int) -> list[str]:
    if seen < total:
        return [f"The first {seen:,} of about {total:,} rows were checked. The trainer checks the rest."]
    if tokens.renderer is not None and rendered < seen:
        return [
            f"{rendered:,} of {seen:,} conversations were rendered with the chat template. The trainer checks "
            "the rest."
        ]
    return []
