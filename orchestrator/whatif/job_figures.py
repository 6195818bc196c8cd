"""Profile, card and choice -> the figures of a plan: time, price, interval, and what would help. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jobs.cards import Card, find_card, price_of
from jobs.jobfile.spec import JobSpec
from jobs.memory import dropped_rows
from jobs.memory.bottleneck import cannot_help, why_not
from jobs.memory.ladder import Choice, NoFit, choose, preference
from jobs.memory.profile import MemoryProfile
from jobs.memory.project import Margin, Projection, Rung
from jobs.memory.remedies import warnings
from jobs.memory.sequence_lengths import Lengths
from jobs.memory.suggestions import Chooser as Ladder
from jobs.memory.suggestions import checkpointing_saves, suggestions
from jobs.units import exact_size
from orchestrator import schemas


@dataclass(frozen=True)
class Asked:
    """What a plan is made for.

    lengths: of the data's sequences, None where nobody counted; prices: of an hour of one GPU by card name; config:
    the model's, where it is known.
    """

    spec: JobSpec
    lengths: Lengths | None = None
    prices: Mapping[str, float] | None = None
    config: Mapping[str, Any] | None = None

    @property
    def length(self) -> int:
        """The longest batch that can occur, in tokens."""
        wanted = self.spec.training.sequence_length
        if self.lengths is None:
            return wanted
        return self.lengths.longest_batch_tokens(wanted, self.spec.training.packing)

    @property
    def equal_rows(self) -> bool:
        """Whether all sequences are known to be of one length."""
        return self.lengths is not None and self.lengths.equal_rows

    @property
    def steps(self) -> int | None:
        """Optimizer steps of the whole job; None where only the data could tell and nobody counted."""
        return self.lengths.steps(self.spec) if self.lengths else self.spec.training.steps

    def ladder(self, profile: MemoryProfile, spec: JobSpec, card: Card, length: int | None) -> Choice | NoFit:
        """choose() for this data, with nothing measured in it. spec, length: the job's own, or changed a little."""
        means = self.lengths.batch_lengths(spec) if self.lengths else ()
        fullest = self.lengths.fullest_batches(spec) if self.lengths else ()
        return choose(
            profile,
            spec,
            card,
            length=length,
            means=means,
            fullest=fullest,
            sample=self.lengths.sample() if self.lengths else (),
            equal_rows=self.equal_rows,
        )

    def priced(self, card: Card) -> Card:
        """The card with its price, if it has one."""
        price = price_of(self.prices or {}, card.name)
        return card if price is None else replace(card, price=price)


@dataclass(frozen=True)
class Seen:
    """What the fleet says of a card type. count 0: it is not in the fleet; reason: why it would not run there."""

    count: int = 0
    free: int = 0
    reason: str | None = None
    pick: bool = False


def card_shape(
    asked: Asked,
    profile: MemoryProfile,
    card: Card,
    found: Choice | NoFit,
    seen: Seen,
) -> schemas.PlanCard:
    """One card type of a plan."""
    best = found if isinstance(found, Choice) else None
    projection = found.projection if isinstance(found, Choice) else found.smallest
    gpus = asked.spec.resources.gpus
    step_s, speed = (best.step_s, best.speed) if best else (None, 1.0)
    steps = asked.steps
    hours = step_s * steps / 3600 if step_s is not None and steps else None
    price = asked.priced(card).price
    return {
        "card": card.name,
        "short": card.short,
        "kind": card.kind,
        "memory_bytes": card.memory_bytes,
        "count": seen.count,
        "free": seen.free,
        "fits": best is not None and seen.reason is None,
        "rung": rung_shape(best.rung) if best else None,
        "projection": projection_shape(projection, speed),
        "lower_bytes": projection.intervals["device"][0],
        "basis": _basis(projection.margin),
        "saves_bytes": _saves(asked, profile, projection, card),
        "slowdown": best.slowdown if best else None,
        "step_s": step_s,
        "speed": speed,
        "tokens_per_s": _step_tokens(asked) / step_s if step_s else None,
        "hours": hours,
        "price": price,
        "cost": None if price is None or hours is None else price * gpus * hours,
        "notes": list(projection.notes),
        "reason": seen.reason or (None if best else found.reason.text),  # type: ignore[union-attr]
        "pick": seen.pick,
        "tried": [
            {
                "rung": rung_shape(entry.rung),
                "parts": dict(entry.projection.parts),
                "phase": entry.projection.phase,
                "device_bytes": entry.projection.device_bytes,
                "upper_bytes": entry.projection.upper_bytes,
                "step_s": entry.projection.step_s * speed,
                "fits": entry.fits,
                "excluded": entry.excluded,
                "relative_time": entry.relative_time,
            }
            for entry in found.tried
        ],
    }


def plan_shape(
    source: str,
    asked: Asked,
    cards: Sequence[schemas.PlanCard],
    reason: str | None,
    advice: Sequence[str] = (),
    *,
    notes: Sequence[str] = (),
) -> schemas.PlanShape:
    """The whole answer.

    source: where the job was read from, its file or "flags"; advice: what would make it fit; notes: what else to know
    of the figures.
    """
    spec = asked.spec
    return {
        "job": spec.name or source,
        "gpus": spec.resources.gpus,
        "policy": spec.resources.policy,
        "confidence": spec.memory.confidence,
        "sequence_length": spec.training.sequence_length,
        "length": asked.length,
        "global_batch": spec.training.global_batch,
        "steps": asked.steps,
        "cards": list(cards),
        "data": data_shape(asked.lengths, spec, _micro_batch(asked, cards)) if asked.lengths else None,
        "advice": [*advice, *_rehearsal_advice(source, asked, cards)],
        "notes": [
            *warnings(spec),
            *notes,
            *_mask_note(asked, cards),
            *_data_advice(asked, cards),
            *_price_advice(asked, cards),
        ],
        "reason": reason,
        "replaced": [],
    }


def _rehearsal_advice(source: str, asked: Asked, cards: Sequence[schemas.PlanCard]) -> list[str]:
    """How to try the job on the card that it misses by less than the projection may be wrong, where none fits."""
    if asked.lengths is None or asked.spec.resources.gpus > 1 or any(card["fits"] for card in cards):
        return []  # a rehearsal needs the data, and is of one GPU
    near = [card for card in cards if _within_margin(card)]
    if not near:
        return []
    card = max(near, key=lambda one: one["memory_bytes"])
    has = card["memory_bytes"]
    name = (
        card["short"]
        if has == find_card(card["short"]).memory_bytes
        else f"{card['short']}:{exact_size(has)}"
    )
    of_file = f"`tuneyard rehearse {source} --card {name}`"
    verb = f"`tuneyard rehearse` with the same flags and --card {name}" if source == "flags" else of_file
    return [
        f"{card['card']} is within the projection's margin; {verb} tries it on torch's own allocator, without a GPU"
    ]


def _within_margin(card: schemas.PlanCard) -> bool:
    """Whether the nearest rung may fit: its interval begins below what the card has, and ends above."""
    projection, lower = card["projection"], card["lower_bytes"]
    if card["kind"] != "cuda" or not card["short"] or projection is None or lower is None:
        return False
    return lower <= card["memory_bytes"] < projection["upper_bytes"]


def catalogue_cards(
    asked: Asked, profile: MemoryProfile, wanted: Sequence[Card], ladder: Ladder, pick: bool
) -> list[schemas.PlanCard]:
    """A plan's entries for cards that are asked about by name, smallest first.

    pick: whether the one that the job's policy would take is marked.
    """
    found = [(card, ladder(profile, asked.spec, card, asked.length)) for card in map(asked.priced, wanted)]
    fitting = [(card, choice) for card, choice in found if isinstance(choice, Choice)]
    best = min(fitting, key=lambda pair: preference(asked.spec.resources.policy, *pair), default=None)
    return [
        card_shape(asked, profile, card, choice, Seen(pick=pick and best is not None and card is best[0]))
        for card, choice in sorted(found, key=lambda pair: (pair[0].memory_bytes, pair[0].name))
    ]


def misfit_advice(asked: Asked, profile: MemoryProfile, card: Card, ladder: Ladder) -> list[str]:
    """What would help a job that does not fit this card."""
    found = ladder(profile, asked.spec, card, asked.length)
    if isinstance(found, Choice):
        return []
    saves = _saves(asked, profile, found.smallest, card)
    told = []
    if cannot_help(saves, found.smallest.device_bytes):
        told.append(why_not(found.smallest.phase, found.smallest.parts))
    more = suggestions(profile, asked.spec, card, length=asked.length, config=asked.config, chooser=ladder)
    return told + [one.text for one in more]


def _saves(asked: Asked, profile: MemoryProfile, projection: Projection, card: Card) -> int:
    return checkpointing_saves(
        profile,
        projection,
        card,
        length=asked.length,
        world_size=asked.spec.resources.gpus,
        equal_rows=asked.equal_rows,
        fullest=asked.lengths.fullest_batches(asked.spec) if asked.lengths else (),
        sample=asked.lengths.sample() if asked.lengths else (),
    )


def _basis(margin: Margin | None) -> str:
    """The attempts that the interval comes from, in words."""
    if margin is None or not margin.count:
        return "prior"
    return f"{margin.group}: {margin.count} attempt{'s' if margin.count > 1 else ''}"


def rung_shape(rung: Rung) -> schemas.RungShape:
    return {
        "every_n": rung.every_n,
        "micro_batch": rung.micro_batch,
        "accumulation": rung.accumulation,
        "offload": rung.offload,
        "precompute": rung.precompute,
        "label": rung.label,
    }


def projection_shape(projection: Projection, speed: float) -> schemas.ProjectionShape:
    """speed: measured over projected step time of jobs like it."""
    return {
        "parts": dict(projection.parts),
        "phase": projection.phase,
        "phases": dict(projection.phases),
        "intervals": {name: list(ends) for name, ends in projection.intervals.items()},
        "allocated_bytes": projection.allocated_bytes,
        "reserved_bytes": projection.reserved_bytes,
        "device_bytes": projection.device_bytes,
        "upper_bytes": projection.upper_bytes,
        "step_s": projection.step_s * speed,
    }


def _step_tokens(asked: Asked) -> float:
    if asked.lengths is not None:
        return asked.lengths.step_tokens(asked.spec)
    return float(asked.spec.training.global_batch * asked.spec.training.sequence_length)


def _micro_batch(asked: Asked, cards: Sequence[schemas.PlanCard]) -> int:
    """Of the pick, else of the first that fits, else the whole batch of a GPU."""
    fitting = sorted((card for card in cards if card["rung"]), key=lambda card: not card["pick"])
    rung = fitting[0]["rung"] if fitting else None
    return rung["micro_batch"] if rung else asked.spec.batch_per_gpu


def data_shape(lengths: Lengths, spec: JobSpec, micro_batch: int) -> schemas.PlanData:
    """The lengths as the API shows them. micro_batch: of the rung, on which padding depends."""
    return {
        "rows": lengths.rows,
        "mean": lengths.mean_tokens,
        "p50": lengths.p50,
        "p90": lengths.p90,
        "p99": lengths.p99,
        "longest": lengths.longest,
        "longest_row": lengths.longest_row,
        "truncated": lengths.truncated,
        "dropped": lengths.dropped,
        "left_out": dropped_rows.told(lengths, spec),
        "warnings": dropped_rows.warnings(lengths, spec),
        "sampled": lengths.sampled,
        "padding": 0.0 if spec.training.packing else lengths.padding_waste(micro_batch),
        "histogram": [[one.longest, one.count] for one in lengths.bins],
    }


def _data_advice(asked: Asked, cards: Sequence[schemas.PlanCard]) -> list[str]:
    told = asked.lengths.suggestion(asked.spec, _micro_batch(asked, cards)) if asked.lengths else None
    return [told] if told else []


def _mask_note(asked: Asked, cards: Sequence[schemas.PlanCard]) -> list[str]:
    """Rows of unknown length may be padded, and then attention has a mask."""
    training = asked.spec.training
    if asked.lengths is not None or training.packing or asked.spec.model.attention != "sdpa":
        return []
    if _micro_batch(asked, cards) == 1:
        return []
    return [
        "rows of unequal length are planned for, whose attention mask takes memory that equal ones do not"
    ]


def _price_advice(asked: Asked, cards: Sequence[schemas.PlanCard]) -> list[str]:
    """cheapest without prices is no policy: say what it does then."""
    if asked.spec.resources.policy != "cheapest":
        return []
    without = sorted({card["short"] or card["card"] for card in cards if card["price"] is None})
    if not without:
        return []
    how = f"`tuneyard serve --price {without[0]}=0.90`, or prices in config.json"
    if len(without) == len(cards):
        return [
            f"resources.policy: cheapest has no prices to go by, so the smallest card is taken; set them: {how}"
        ]
    return [f"no price for {', '.join(without)}: they come after all that have one; set it: {how}"]
