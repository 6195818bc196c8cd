"""Text that SQLite keeps and that is none: read so that it is seen, and that any answer can hold it."""

from __future__ import annotations

import codecs

# Before the hex digits of bytes that are no UTF-8. A noncharacter (Unicode, 23.7): nobody sends text that has it.
NO_TEXT = "\ufdd0"
MARKED = "tuneyard.marked"  # the error handler that reads them so


def _marked(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return NO_TEXT + error.object[error.start : error.end].hex(), error.end


codecs.register_error(MARKED, _marked)


def is_text(value: str) -> bool:
    """Whether all of what stands in a column of text is UTF-8."""
    return value.isascii() or NO_TEXT not in value
