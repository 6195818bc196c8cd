"""Token ids against the rows of a model's embedding: a tokenizer may have more than the data uses."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from jobs.jobfile.sections.model import ModelSpec
from workers.input_errors import Bad, Refused


class Room:
    """How many tokens a model has room for, held against ids. rows: of its embedding."""

    def __init__(
        self, model: ModelSpec, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig
    ) -> None:
        self.rows: int = config.get_text_config().vocab_size
        self._model, self._tokenizer = model, tokenizer
        self._all = max(tokenizer.get_vocab().values(), default=-1) < self.rows

    def check_padding(self) -> None:
        """Raises Refused where the token that short rows are filled up with is out of range: it is looked up too."""
        token = self._tokenizer.pad_token or self._tokenizer.eos_token  # as SFTTrainer takes them (TRL 1.16)
        number = self._tokenizer.convert_tokens_to_ids(token)
        if number is None or number < self.rows:
            return
        eos = self._tokenizer.eos_token
        other = f"such as {eos}" if self._tokenizer.eos_token_id < self.rows else "that it has"
        raise Refused(
            f"model.tokenizer: its padding token {token} has id {number:,}, and {self._has}; "
            f"save a copy of the tokenizer with a pad_token {other}, and give that as model.tokenizer"
        )

    def check(self, ids: Sequence[int]) -> None:
        """Raises Bad for a sequence that uses an id out of range; names the token."""
        if self._all or not ids or (highest := max(ids)) < self.rows:
            return
        token = self._tokenizer.convert_ids_to_tokens(highest)
        raise Bad(f"the token {token} has id {highest:,}, and {self._has}", self._fix())

    @property
    def _has(self) -> str:
        return f"the model has room for {self.rows:,} (ids 0 to {self.rows - 1:,})"

    def _fix(self) -> str:
        """What would be right: something that the job file, or the user, can do."""
        model = self._model
        wanted = max(len(self._tokenizer), max(self._tokenizer.get_vocab().values()) + 1)
        if model.path is None:
            return f"set model.config.vocab_size to {wanted}"
        enlarged = (
            f"enlarge the model (resize_token_embeddings({wanted}), save_pretrained) and give that folder"
        )
        if model.tokenizer is not None and model.tokenizer != model.path:
            return f"leave model.tokenizer out to use the model's own, or {enlarged}"
        return f"take that token out of the data, or {enlarged}"
