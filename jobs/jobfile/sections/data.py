"""`data`: what it is trained on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from jobs.jobfile.fields import Number, Text
from jobs.jobfile.sections.base import Section


class DataSpec(Section):
    """The training data: JSONL, Parquet or CSV, a folder saved by datasets, or a hub id.

    Rows have `prompt` and `completion`, or `messages`, or `text`.
    """

    path: Text = Field(
        min_length=1, description="File (.jsonl .json .parquet .csv), folder saved by datasets, or hub id."
    )
    format: Literal["alpaca", "sharegpt"] | None = Field(
        None,
        description="alpaca: rows with instruction, input and output; sharegpt: with conversations of from and value.",
    )
    columns: dict[Text, Text] = Field(
        default_factory=dict,
        description="What the file calls a column that is named otherwise, such as {prompt: question}.",
    )
    split: Text = Field(
        "train", min_length=1, description="Split of a hub data set or of a saved folder with splits."
    )
    holdout: Number = Field(
        0.0, ge=0, le=0.5, description="Share of the rows that is kept out of training, to evaluate on."
    )
    loss_on: Literal["assistant", "all"] | None = Field(
        None,
        description="With messages: turns that are learned from. When left out, the assistant's where the chat "
        "template can mark them, else all. With a prompt and its completion: all learns from the prompt too.",
    )
