"""How far two models are apart: what they predict at the same places of rows of the job's data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from jobs.jobfile.spec import JobSpec
from workers.data.datasets import open_data, tokens_of
from workers.data.tokens import BATCH_ROWS, IGNORED, Tokenized, every_turn_if_need_be
from workers.input_errors import Refused

# Of a row so many tokens are read, and of those so many places are compared: the logits of all would be gigabytes.
MOST_TOKENS, MOST_PLACES = 1024, 64


@dataclass(frozen=True)
class Place:
    """A row's tokens, and where in it the next one is learned. targets: those next tokens."""

    ids: list[int]
    places: list[int]
    targets: list[int]


@dataclass(frozen=True)
class Difference:
    """Of what two models predict, over places of rows.

    kl: mean Kullback-Leibler divergence of the second from the first, nats a token; largest: greatest difference of a
    logit; same: share of places with the same most likely token; first_loss, second_loss: mean cross-entropy of the
    tokens that are there, nats.
    """

    kl: float
    largest: float
    same: float
    first_loss: float
    second_loss: float
    rows: int
    places: int

    def facts(self) -> dict[str, Any]:
        return {
            "kl": self.kl,
            "largest_logit_difference": self.largest,
            "same_top_token": self.same,
            "rows": self.rows,
            "tokens": self.places,
        }


def sample_rows(spec: JobSpec, tokenizer: PreTrainedTokenizerBase, count: int) -> list[Place]:
    """The first rows of a job's data that something is learned of, as they are trained on, cut to MOST_TOKENS.

    Raises Refused where there is none.
    """

    def read(every_turn: str) -> list[Tokenized]:
        rows = open_data(spec.data, spec.trainer)
        tokens = tokens_of(spec, rows, tokenizer, lambda ids: None, every_turn)
        found: list[Tokenized] = []
        reader = iter(rows)
        while len(found) < count and (batch := list(islice(reader, min(BATCH_ROWS, 4 * count)))):
            found += [one for one in tokens.of(batch) if one.learned]
        return found[:count]

    made = [place for one in every_turn_if_need_be(read) if (place := _place(one)).places]
    if not made:
        raise Refused(f"data.path: {spec.data.path} has no row to compare the models on")
    return made


def _place(row: Tokenized) -> Place:
    ids, labels = row.ids[:MOST_TOKENS], row.labels[:MOST_TOKENS]
    learned = [at for at in range(len(ids) - 1) if labels[at + 1] != IGNORED]
    stride = max(1, -(-len(learned) // MOST_PLACES))
    places = learned[::stride]
    return Place(ids, places, [ids[at + 1] for at in places])


def logits_of(model: nn.Module, rows: Sequence[Place]) -> list[torch.Tensor]:
    """What the model predicts at the places of each row: [places, vocabulary], in the type that it computes in."""
    model.eval()
    found = []
    with torch.inference_mode():
        for row in rows:
            out = model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0]
            found.append(out[row.places].clone())
    return found


def difference(
    rows: Sequence[Place], first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]
) -> Difference:
    """Of the logits of two models at the same places. A logit that is no number makes the divergence NaN."""
    kl = largest = same = before = after = 0.0
    places = 0
    for row, one, other in zip(rows, first, second, strict=True):
        p, q = one.float().log_softmax(-1), other.float().log_softmax(-1)
        kl += float((p.exp() * (p - q)).sum(-1).sum())
        largest = max(largest, float((one.float() - other.float()).abs().max()))
        same += float((one.argmax(-1) == other.argmax(-1)).sum())
        targets = torch.tensor(row.targets)[:, None]
        before -= float(p.gather(1, targets).sum())
        after -= float(q.gather(1, targets).sum())
        places += len(row.places)
    return Difference(
        kl=max(0.0, kl / places) if kl == kl else kl,
        largest=largest,
        same=same / places,
        first_loss=before / places,
        second_loss=after / places,
        rows=len(rows),
        places=places,
    )
