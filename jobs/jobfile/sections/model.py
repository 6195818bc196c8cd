"""`model`: what is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from jobs.jobfile.fields import Text
from jobs.jobfile.options.templates import read_template
from jobs.jobfile.sections.base import Section


class ModelSpec(Section):
    """The model: a hub id, a local folder, or an architecture config with random weights."""

    path: Text | None = Field(
        None, min_length=1, description="Hub id (org/name) or a local folder with a config.json."
    )
    config: dict[str, Any] | None = Field(
        None, description="Architecture values (with model_type) of a model that starts from random weights."
    )
    tokenizer: Text | None = Field(
        None, min_length=1, description="Hub id or folder of the tokenizer; the model's own when left out."
    )
    chat_template: Annotated[str, BeforeValidator(read_template)] | None = Field(
        None,
        description="In place of the tokenizer's own: chatml, a .jinja file beside the job file, which travels with "
        "the job, or the template itself.",
    )
    eos_token: Text | None = Field(
        None, min_length=1, description="Token that ends a text or turn, in place of the tokenizer's own."
    )
    revision: Text | None = Field(None, description="Branch, tag or commit on the hub.")
    dtype: Literal["bfloat16", "float16", "float32"] = Field(
        "bfloat16", description="Type that the weights are loaded in."
    )
    attention: Literal["sdpa", "eager", "flash_attention_2"] = Field(
        "sdpa", description="Attention implementation."
    )
    engine: Literal["transformers", "unsloth"] = Field(
        "transformers", description="What builds the model: transformers, or Unsloth on hosts that have it."
    )
    trust_remote_code: bool = Field(
        False,
        description="Run code that the model's repository brings. Works only for models an operator allowed.",
    )
