"""Lengths: how long the sequences of a job's data are, and what follows for memory, time and padding.

Counted on a host by workers/profiler/length_scan.py, as the trainer will make them: tokenized, cut at the sequence
length.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from jobs.errors import ProfileError
from jobs.jobfile.spec import JobSpec

# Raised when the meaning changes, or something is looked for that was not: older ones are then counted again.
# 2: warnings of doubled BOS and EOS, turns that a template leaves out, unknown characters, prompts that change.
FORMAT = 2
PER_OCTAVE = 32  # bins in each doubling of the length: a bin is at most 1/32 of its lengths wide
WASTE_WORTH_PACKING = 0.3
SAMPLE = 64  # rows that stand for all of a data set


@dataclass(frozen=True)
class Bin:
    """Sequences of nearly one length: the longest of them, how many they are, and the tokens in all."""

    longest: int
    count: int
    tokens: int


@dataclass(frozen=True)
class Lengths:
    """Lengths in tokens of the sequences that are trained on.

    rows: of the whole data set; count, tokens: sequences that were counted, and what is in them; longest, p50, p90,
    p99: exact, by nearest rank; truncated: of the counted, those that were longer than the sequence length; dropped:
    rows that the trainer leaves out, as nothing to learn is left of them; bins: shortest first; sampled: not
    every row was looked at, so a longer one may occur; warnings: what a user should know of the data, a sentence each;
    longest_row: before it is cut, 0: not known.
    """

    rows: int
    count: int
    tokens: int
    longest: int
    truncated: int
    dropped: int
    p50: int
    p90: int
    p99: int
    bins: tuple[Bin, ...]
    sampled: bool = False
    warnings: tuple[str, ...] = ()
    longest_row: int = 0
    format: int = FORMAT

    @classmethod
    def counted(
        cls,
        found: Mapping[int, int],
        *,
        rows: int,
        truncated: int = 0,
        dropped: int = 0,
        sampled: bool = False,
        warnings: Sequence[str] = (),
        longest_row: int = 0,
    ) -> Lengths:
        """From how often each length was found."""
        ordered = sorted((length, times) for length, times in found.items() if times)
        count = sum(times for _, times in ordered)
        quantiles = {f"p{q}": _quantile(ordered, count, q / 100) for q in (50, 90, 99)}
        return cls(
            rows=rows,
            count=count,
            tokens=sum(length * times for length, times in ordered),
            longest=ordered[-1][0] if ordered else 0,
            truncated=truncated,
            dropped=dropped,
            bins=_binned(ordered),
            sampled=sampled,
            warnings=tuple(warnings),
            longest_row=longest_row,
            **quantiles,
        )

    @property
    def mean_tokens(self) -> float:
        """Tokens of a sequence on average; 0 where nothing is trained on."""
        return self.tokens / self.count if self.count else 0.0

    @property
    def equal_rows(self) -> bool:
        """Whether all sequences are known to be of one length: no batch is padded."""
        return not self.sampled and self.count > 0 and self.tokens == self.count * self.longest

    @property
    def trained_rows(self) -> float:
        """Rows of the whole data set of which something is learned; an estimate where only some were looked at."""
        seen = self.count + self.dropped
        return self.rows * self.count / seen if seen else 0.0

    def longest_batch_tokens(self, sequence_length: int, packing: bool) -> int:
        """The longest sequence that a batch can hold, so the length of its rows.

        A sample's longest is no bound: then that is the sequence length. Packed sequences are as long as the sequence
        length, or as all there is.
        """
        if self.sampled or not self.count:
            return sequence_length
        return min(sequence_length, self.tokens if packing else self.longest)

    def batch_length(self, micro_batch: int) -> float:
        """Mean length in tokens that `micro_batch` random sequences are padded to: that of the longest among them.

        Drawn without replacement, as from a shuffled epoch: with F(x) of n sequences no longer than x, the longest of k
        is no longer with probability C(F(x), k) / C(n, k). Within a bin the mean stands for all: off by at most
        1/PER_OCTAVE.
        """
        if not self.count:
            return 0.0
        drawn = min(micro_batch, self.count)
        mean = below = 0.0
        upto = 0
        for one in self.bins:
            upto += one.count
            within = _share_of_draws(upto, self.count, drawn)
            mean += (within - below) * one.tokens / one.count
            below = within
        return mean

    def batch_lengths(self, spec: JobSpec) -> tuple[tuple[int, int], ...]:
        """Pairs of a micro-batch that divides the batch of one GPU, and the mean length that its rows are padded to.

        None where rows are packed: then all are as long as the longest.
        """
        if spec.training.packing or not self.count:
            return ()
        return tuple((size, max(1, round(self.batch_length(size)))) for size in _micro_batches(spec))

    def fullest_batches(self, spec: JobSpec) -> tuple[tuple[int, int], ...]:
        """Pairs of a micro-batch that divides the batch of one GPU, and the most tokens in one that are no padding.

        Of the longest rows, which a shuffled epoch may bring together: no batch is longer, and none has more to learn.
        None where rows are packed, or not all were counted: then every token may be one to learn from.
        """
        if spec.training.packing or self.sampled or not self.count:
            return ()
        return tuple((size, self.most_valid(size)) for size in _micro_batches(spec))

    def most_valid(self, micro_batch: int) -> int:
        """Tokens of the `micro_batch` longest sequences together: exact, or at most 1/PER_OCTAVE too many.

        Of fewer sequences than that each may come more than once (accelerate fills up the last batch of each rank).
        """
        if micro_batch > self.count:
            return micro_batch * self.longest
        wanted, found = micro_batch, 0
        for one in reversed(self.bins):
            if wanted < one.count:
                return found + min(wanted * one.longest, one.tokens)
            wanted -= one.count
            found += one.tokens
        return found

    def sample(self) -> tuple[int, ...]:
        """How long rows are, in so many of them that stand for all: the middles of SAMPLE equal parts, shortest first.

        Of fewer sequences each stands for itself. None where all are of one length, or nobody counted.
        """
        if not self.count or self.equal_rows:
            return ()
        parts = min(self.count, SAMPLE)
        made: list[int] = []
        upto = 0
        for one in self.bins:
            upto += one.count
            while len(made) < parts and (len(made) + 0.5) * self.count / parts < upto:
                made.append(round(one.tokens / one.count))
        return tuple(made)

    def padding_waste(self, micro_batch: int) -> float:
        """Share of what is computed that is padding, 0 to 1, in random batches of that many sequences.

        1 - E[mean of k] / E[longest of k]: over an epoch, all padding over all positions.
        """
        length = self.batch_length(micro_batch)
        return max(0.0, 1 - self.mean_tokens / length) if length else 0.0

    def suggestion(self, spec: JobSpec, micro_batch: int | None = None) -> str | None:
        """To pack, where padding wastes much; None where it does not, or the job packs already.

        micro_batch: of the rung; where none is known, what the job file sets, or all that a card has to do in a step.
        """
        fixed = spec.memory.micro_batch
        size = micro_batch or (fixed if isinstance(fixed, int) else spec.batch_per_gpu)
        waste = self.padding_waste(size)
        if spec.training.packing or waste <= WASTE_WORTH_PACKING:
            return None
        many = spec.training.sequence_length / self.mean_tokens
        return (
            f"{waste:.0%} of each batch is padding at micro-batch {size} (sequences of {self.mean_tokens:.0f} "
            f"tokens on average, padded to {self.batch_length(size):.0f}); training.packing: true avoids it: "
            f"about {many:.0f} sequences then fill one of {spec.training.sequence_length}, so lower "
            "training.global_batch to match"
        )

    def step_tokens(self, spec: JobSpec) -> float:
        """Tokens of the data, without padding, that one optimizer step trains on."""
        if spec.training.packing:
            return float(spec.training.global_batch * self.longest_batch_tokens(_length(spec), packing=True))
        return spec.training.global_batch * self.mean_tokens

    def steps(self, spec: JobSpec) -> int:
        """Optimizer steps of the whole job: what it asks for, or what its epochs come to."""
        if spec.training.steps is not None:
            return spec.training.steps
        sequences = self.trained_rows
        if spec.data.holdout:
            sequences -= held_out(round(sequences), spec.data.holdout)
        if spec.training.packing:
            sequences *= self.mean_tokens / max(1, self.longest_batch_tokens(_length(spec), packing=True))
        whole = math.ceil(sequences / spec.training.global_batch)
        return max(1, math.ceil((spec.training.epochs or 1) * whole))

    def as_dict(self) -> dict[str, Any]:
        made = {field.name: getattr(self, field.name) for field in fields(self)}
        bins = [[one.longest, one.count, one.tokens] for one in self.bins]
        return made | {"bins": bins, "warnings": list(self.warnings)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Lengths:
        """The lengths in a mapping made by as_dict. Raises ProfileError when it is not one of this version."""
        if value.get("format") != FORMAT:
            raise ProfileError(f"lengths of format {value.get('format')}, this version reads {FORMAT}")
        try:
            bins = tuple(Bin(*map(int, one)) for one in value["bins"])
            return cls(**{**value, "bins": bins, "warnings": tuple(map(str, value.get("warnings", ())))})
        except (KeyError, TypeError, ValueError) as error:
            raise ProfileError(f"damaged lengths: {error!r}") from None


def held_out(rows: int, share: float) -> int:
    """Rows that are kept out of training, of those that are not left out, for a data.holdout above 0."""
    return max(1, round(rows * share))


def data_key(spec: JobSpec, data: Any = None, tokenizer: Any = None, weights: Any = None) -> str:
    """SHA-256 of everything that lengths, and the checks beside them, depend on, in hex.

    data, tokenizer, weights: fingerprints of what the paths lead to where the caller sees it, as it may change under
    the same path; else what tells uses of it apart.
    """
    model = spec.model
    parts = {
        "format": FORMAT,
        "data": [spec.data.model_dump(mode="json"), data],
        "tokenizer": [
            model.tokenizer or model.path,
            None if model.tokenizer else model.revision,
            tokenizer,
            model.trust_remote_code,
            *filter(None, (model.chat_template, model.eos_token)),
        ],
        "model": [model.path, model.revision, weights, _vocabulary(model.config or {})],
        "trainer": spec.trainer,
        "sequence_length": spec.training.sequence_length,
        "packing": spec.training.packing,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _vocabulary(config: Mapping[str, Any]) -> list[Any]:
    """What says how many tokens a model with random weights has room for."""
    text = config.get("text_config")
    within = text.get("vocab_size") if isinstance(text, Mapping) else None
    return [config.get("model_type"), config.get("vocab_size"), within]


def _micro_batches(spec: JobSpec) -> list[int]:
    """What the job file fixes, or all that divide the batch of one GPU."""
    batch, fixed = spec.batch_per_gpu, spec.memory.micro_batch
    return [fixed] if isinstance(fixed, int) else [k for k in range(1, batch + 1) if batch % k == 0]


def _length(spec: JobSpec) -> int:
    return spec.training.sequence_length


def _quantile(ordered: Sequence[tuple[int, int]], count: int, share: float) -> int:
    """The shortest length that at least this share of the sequences does not exceed; 0 of none."""
    upto = 0
    for length, times in ordered:
        upto += times
        if upto >= share * count:
            return length
    return 0


def _bin_of(length: int) -> tuple[int, int]:
    """Exact below 2 x PER_OCTAVE, then PER_OCTAVE bins a doubling."""
    shift = max(0, length.bit_length() - PER_OCTAVE.bit_length())
    return shift, length >> shift


def _binned(ordered: Sequence[tuple[int, int]]) -> tuple[Bin, ...]:
    made: dict[tuple[int, int], Bin] = {}
    for length, times in ordered:
        known = made.get(_bin_of(length), Bin(0, 0, 0))
        made[_bin_of(length)] = Bin(length, known.count + times, known.tokens + length * times)
    return tuple(made.values())


def _share_of_draws(few: int, all_of_them: int, drawn: int) -> float:
    """C(few, drawn) / C(all, drawn): how likely it is to draw from these few alone."""
    if few < drawn:
        return 0.0
    return math.prod((few - i) / (all_of_them - i) for i in range(drawn))
