"""Chat templates of a job file: by name, or their text, which clients put in the place of a file's name."""

from __future__ import annotations

from typing import Any

SUFFIXES = (".jinja", ".jinja2", ".j2")
MOST_CHARACTERS = 65_536
# Marks what the assistant says, with the token that ends it, for data.loss_on.
NAMED = {
    "chatml": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
        "{% if message['role'] == 'assistant' %}"
        "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
        "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
}
TOKENS = {"chatml": ("<|im_start|>", "<|im_end|>")}  # that a tokenizer needs for it


def read_template(value: Any) -> Any:
    """A value of model.chat_template. Raises ValueError with what is wrong."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"is no chat template: write {_KNOWN}")
    if value in NAMED:
        return value
    if len(value) > MOST_CHARACTERS:
        raise ValueError(f"is too long: {MOST_CHARACTERS:,} characters is the most")
    if "{{" in value or "{%" in value:
        return value
    if value.endswith(SUFFIXES):
        raise ValueError(
            "is the name of a file, whose text belongs here: submit it with `tuneyard submit` or the Python client, "
            "which put it there"
        )
    raise ValueError(f"is no chat template: write {_KNOWN}")


def source_of(value: str) -> str:
    """The Jinja text that a value stands for."""
    return NAMED.get(value, value)


_KNOWN = f"{', '.join(NAMED)}, the name of a .jinja file, or the template itself"
