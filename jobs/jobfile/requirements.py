"""What a job needs of the libraries on a host, beside what every worker has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from jobs.jobfile.spec import JobSpec
from jobs.jobfile.trackers import TRACKERS
from jobs.state import Code, Reason

# bitsandbytes' CPU kernels pack 4-bit weights and run 8-bit optimizers from here on (0.49 lacks the optimizers).
BITSANDBYTES_ON_CPU = (0, 50)
FLASH_ATTENTION = (2, 3, 3)
LACKS = "this host has no "  # how the error of a trace begins that a library is missing for
_WHY = {
    "bitsandbytes": "pip install 'tuneyard[qlora]'",
    "unsloth": "pip install unsloth on a host with a CUDA card, or set model.engine: transformers",
}


def lacking(
    spec: JobSpec,
    stack: Mapping[str, str],
    kind: Literal["cuda", "cpu"],
    needs: Sequence[tuple[str, str]] = (),
) -> Reason | None:
    """Why a host with these library versions can't run the job on a card of this kind; None where it can.

    needs: packages that the files of its model ask for, each with what needs it.
    """
    for name, what in needs:
        if name not in stack:
            text = f"has no {name}, which {what} needs: pip install {name}"
            return Reason(Code.LIBRARY, text, {"library": name})
    if spec.model.attention == "flash_attention_2" and (reason := _no_flash(stack, kind)) is not None:
        return reason
    for tracker in spec.report_to:
        if not any(name in stack for name in TRACKERS[tracker]):
            text = f"has no {tracker}, which report_to needs: pip install {tracker}, or leave it out of report_to"
            return Reason(Code.LIBRARY, text, {"library": tracker})
    for name in spec.libraries:
        found = stack.get(name)
        if found is None:
            return Reason(
                Code.LIBRARY,
                f"has no {name}, which {_asked(spec, name)} needs: {_WHY[name]}",
                {"library": name},
            )
        if kind == "cuda":
            continue
        if name == "unsloth":
            return Reason(Code.LIBRARY, "Unsloth needs a CUDA card", {"library": name})
        if spec.method.kind == "qlora" and spec.data.holdout:
            # nn.Linear4bit.forward, 0.50: without gradients it repacks the weights, and its product has no backward.
            text = "bitsandbytes can't train on a CPU card after an evaluation: leave data.holdout out"
            return Reason(Code.LIBRARY, text, {"library": name})
        if _release(found) < BITSANDBYTES_ON_CPU:
            least = ".".join(map(str, BITSANDBYTES_ON_CPU))
            text = (
                f"bitsandbytes {found} has no CPU kernels for {_asked(spec, name)}: install {least} or newer"
            )
            return Reason(Code.LIBRARY, text, {"library": name})
    return None


def _no_flash(stack: Mapping[str, str], kind: Literal["cuda", "cpu"]) -> Reason | None:
    """transformers 5.23, is_flash_attn_2_available: the package, or the same kernels from the hub (`kernels`)."""
    wish, instead = "model.attention: flash_attention_2", "or set model.attention: sdpa"
    figures = {"library": "flash-attn"}
    if kind == "cpu":
        return Reason(Code.LIBRARY, f"{wish} needs a CUDA card; use one, {instead}", figures)
    found = stack.get("flash-attn")
    if found is not None and _release(found) >= FLASH_ATTENTION:
        return None
    if found is None and "kernels" in stack:
        return None
    least = ".".join(map(str, FLASH_ATTENTION))
    has = "has no flash-attn" if found is None else f"has flash-attn {found}, older than {least}"
    return Reason(Code.LIBRARY, f"{has}, which {wish} needs: pip install flash-attn, {instead}", figures)


def _asked(spec: JobSpec, name: str) -> str:
    if name == "unsloth":
        return "engine unsloth"
    return "method qlora" if spec.method.kind == "qlora" else f"optimizer {spec.training.optimizer}"


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
