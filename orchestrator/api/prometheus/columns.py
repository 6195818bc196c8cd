"""Metrics of many cards as text, a column at a time: prometheus_client takes a tenth of a second for each of them.

The text format is https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def labels_of(*columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The labels of each row, as they stand behind a name. columns: of values, in the order of names."""
    form = "{" + ",".join(f'{name}="%s"' for name in names) + "}"
    return [form % tuple(value.translate(_ESCAPED) for value in row) for row in zip(*columns, strict=True)]


def gauge_text(name: str, text: str, labels: Sequence[str], values: Iterable[float | None]) -> str:
    """A gauge; None stands for what nobody told, and is left out. labels: see labels_of."""
    return _text(f"tuneyard_{name}", "gauge", text, labels, values)


def counter_text(name: str, text: str, labels: Sequence[str], values: Iterable[float | None]) -> str:
    """A counter; its name gets _total."""
    return _text(f"tuneyard_{name}_total", "counter", text, labels, values)


def _text(name: str, kind: str, text: str, labels: Sequence[str], values: Iterable[float | None]) -> str:
    head = f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
    return head + "".join(
        [
            f"{name}{of} {value!r}\n"
            for of, value in zip(labels, values, strict=True)
            if isinstance(value, int | float)
        ]
    )
