"""Rows that are cut or left out of training: what is said of them, and when a job is refused for them. Pure."""

from __future__ import annotations

from jobs.errors import Fault
from jobs.jobfile.spec import JobSpec
from jobs.memory.sequence_lengths import Lengths
from jobs.units import counted

WARN_SHARE = 0.05  # of the rows: more that are left out, or cut, are worth a warning


def left_out(
    seen: int,
    dropped: int,
    truncated: int,
    longest_row: int,
    limit: int,
    sampled: bool = False,
    trainer: str = "sft",
) -> str:
    """What becomes of rows that are longer than the sequence length; empty where there are none.

    seen: rows that were looked at; longest_row: in tokens before it is cut, 0: not known; limit:
    training.sequence_length; sampled: these are not all.
    """
    of = f"of a sample of {counted(seen, 'row')}" if sampled else f"of {counted(seen, 'row')}"
    s = "" if longest_row == 1 else "s"
    longest = f" (longest row {longest_row:,} token{s})" if longest_row else ""
    cut = "is cut" if truncated == 1 else "are cut"
    if dropped:
        why = _none_left(limit, longest_row, trainer)
        text = f"{dropped:,} {of} {'is' if dropped == 1 else 'are'} left out: {why}{longest}"
        return text + (f"; {truncated:,} more {cut}" if truncated else "")
    return f"{truncated:,} {of} {cut} at training.sequence_length {limit:,}{longest}" if truncated else ""


def _none_left(limit: int, longest_row: int, trainer: str) -> str:
    """Why a row is left out. Where every row fits, it has one token, which nothing is before, or no completion.

    A reward model reads a text's last token, so nothing is cut off.
    """
    if trainer == "reward":
        return f"a sequence is longer than training.sequence_length {limit:,}"
    within = "" if 0 < longest_row <= limit else f" within training.sequence_length {limit:,}"
    return f"no trained token is left{within}"


def told(lengths: Lengths, spec: JobSpec) -> str:
    """left_out() of counted lengths."""
    seen = lengths.count + lengths.dropped
    limit = spec.training.sequence_length
    return left_out(
        seen, lengths.dropped, lengths.truncated, lengths.longest_row, limit, lengths.sampled, spec.trainer
    )


def worth_a_warning(seen: int, dropped: int, truncated: int) -> bool:
    """Whether more rows are left out or cut than a user would expect."""
    return max(dropped, truncated) > WARN_SHARE * seen


def warnings(lengths: Lengths, spec: JobSpec) -> list[str]:
    """What a user should know of the data before it is trained on."""
    seen = lengths.count + lengths.dropped
    much = worth_a_warning(seen, lengths.dropped, lengths.truncated)
    return [*lengths.warnings, *([told(lengths, spec)] if much else [])]


def nothing_left(lengths: Lengths, spec: JobSpec, positions: int | None = None) -> Fault | None:
    """Why a job has nothing to train on, or nothing to hold out; None where it has, or nobody looked at every row.

    positions: that the model has, None: not known; a longer sequence is never advised.
    """
    if lengths.sampled or lengths.count >= (2 if spec.data.holdout else 1):
        return None
    if not lengths.dropped:
        return _one_row(spec) if lengths.count else None
    limit, longest = spec.training.sequence_length, lengths.longest_row
    most = f" to {longest}, the longest row" if longest else ""
    if positions is not None and longest > positions:
        most = f" (at most {positions}, the model's positions; the longest row has {longest} tokens)"
    raised = f"raise training.sequence_length{most}, or shorten the prompts"
    if positions is not None and limit >= positions:
        raised = f"shorten the prompts: the model has {positions} positions"
    if 0 < longest <= limit:
        raised = "give rows of more than one token, with something to learn"
    why = _none_left(limit, longest, spec.trainer)
    if not lengths.count:
        problem = f"leaves nothing to train on: all {lengths.dropped:,} rows are left out, {why}"
        return Fault("training.sequence_length", str(limit), problem, raised)
    problem = (
        f"leaves no row to train on beside those held out: {lengths.dropped:,} of {lengths.rows:,} rows are left out, "
        f"{why}"
    )
    return Fault("data.holdout", str(spec.data.holdout), problem, f"{raised}, or leave data.holdout out")


def _one_row(spec: JobSpec) -> Fault:
    problem = f"would keep the only row of {spec.data.path} out of training"
    return Fault("data.holdout", str(spec.data.holdout), problem, "give two rows or more, or leave it out")
