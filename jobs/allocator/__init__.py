"""What torch's CUDA allocator holds beside live tensors: terms with a reason each, and how far off they were."""

from __future__ import annotations

from typing import Literal

Allocator = Literal["", "expandable", "default"]  # "": nothing is known of one
