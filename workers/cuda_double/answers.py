"""Right values where values decide something: shapes, which expert a token takes, whether a loss is finite.

Nothing computes on a card that is not there. But its memory is memory of this process, so a CPU tensor can be laid over
a CUDA one: results of whole numbers and truth values, and a few floats, are computed on the CPU as well and written
where the card would have written them. The CUDA operation still runs, for its allocations are the real ones. What can't
be computed, because what it comes from never was, gets a value that means "all is well".
"""

from __future__ import annotations

import ctypes
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from workers.cuda_double.imports import words
from workers.cuda_double.numbers import Numbers

WHOLE_BYTES = 1 << 20  # most bytes of a tensor of whole numbers that is computed
FLOATS = 1 << 12  # most floats of a result that is computed
# Operations of this process that the mode could not compute, by how often; threads have a mode each.
UNABLE: Counter[str] = Counter()
TAKEN = "they are taken to be 0, or true, or 1.0, so shapes that go by them, and their memory, may be wrong"
_RUNNABLE = (RuntimeError, IndexError, TypeError, ValueError)  # of an operation that the CPU does not have
# Results that are new memory, or memory seen another way.
_NOT_COMPUTED = frozenset(
    {
        "empty",
        "empty_strided",
        "empty_like",
        "new_empty",
        "new_empty_strided",
        "set_",
        "resize_",
        "record_stream",
    }
)
# Those that move numbers: infinity in a mask is meant.
_MOVING = words(
    "full full_like new_full fill_ fill scalar_tensor masked_fill masked_fill_ where copy_ _to_copy clone cat stack "
    "index index_select gather expand select slice"
)
_TRUE = frozenset({"all", "isfinite"})
_FALSE = frozenset({"isnan", "isinf"})
_JUDGING = frozenset(
    {"sum", "mean", "linalg_vector_norm", "_foreach_norm", "norm", "aminmax", "nll_loss_forward"}
)


def over(tensor: torch.Tensor) -> torch.Tensor:
    """A CPU tensor over the same memory."""
    if not tensor.numel():
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    memory = (ctypes.c_char * (span * tensor.element_size())).from_address(tensor.data_ptr())
    return torch.frombuffer(memory, dtype=tensor.dtype).as_strided(tensor.shape, tensor.stride())


def _is_float(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _small(tensor: torch.Tensor) -> bool:
    return tensor.numel() * tensor.element_size() <= WHOLE_BYTES


def _answered(tensor: torch.Tensor) -> bool:
    """Whether a result of an operation gets its value."""
    return tensor.numel() <= FLOATS if _is_float(tensor) else _small(tensor)


class Answers(TorchDispatchMode):
    """The mode. Operations that it could not compute are in UNABLE, and told to standard error once each."""

    supports_higher_order_operators = True

    def __init__(self, numbers: Numbers) -> None:
        super().__init__()
        self._numbers = numbers
        self._views: dict[Any, bool] = {}

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True  # torch.compile compiles as it would without this mode

    @classmethod
    def is_infra_mode(cls) -> bool:
        return True

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if types or not isinstance(func, torch._ops.OpOverload) or func.namespace != "aten":
            return out  # a subclass's, which has no memory here itself, or what another library computes
        if isinstance(out, float):
            return self._numbers.well(out) if args[0].is_cuda else out
        results = [
            one
            for one in (out if isinstance(out, (tuple, list)) else (out,))
            if isinstance(one, torch.Tensor)
        ]
        if results and results[0].is_cuda:
            if all(map(_answered, results)) and not self._is_view(func):
                self._answer(func, args, kwargs, results)
        elif results and _is_float(results[0]):
            self._leave(func, args, results[0])
        return out

    def _is_view(self, func: Any) -> bool:
        known = self._views.get(func)
        if known is None:
            returns = func._schema.returns
            same = bool(returns) and returns[0].alias_info is not None and not func._schema.is_mutable
            known = self._views[func] = same or _name(func) in _NOT_COMPUTED
        return known

    def _leave(self, func: Any, args: tuple[Any, ...], result: torch.Tensor) -> None:
        """Numbers that leave the card for the host, such as weights to be saved, are finite."""
        name = _name(func)
        if name not in ("_to_copy", "copy_") or not result.numel():
            return
        source = args[1] if name == "copy_" else args[0]
        away = not _small(result) and result.is_pinned()  # activations, of which nothing was copied
        if source.is_cuda and result.device.type == "cpu" and not away:
            self._numbers.make_well(result, leaving=True)

    def _answer(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], results: list[torch.Tensor]
    ) -> None:
        name = _name(func)
        flat, spec = tree_flatten((args, kwargs))
        tensors = [one for one in flat if isinstance(one, torch.Tensor)]
        if name in _TRUE | _FALSE and any(_is_float(one) for one in tensors) and not self._numbers.ill:
            over(results[0]).fill_(name in _TRUE)
            return
        if name == "topk" and _is_float(tensors[0]) and len(results) == 2:
            _spread(over(results[1]), tensors[0].shape[-1])
            return
        if not all(_small(one) and one.device.type in ("cuda", "cpu") for one in tensors):
            self._set_well(name, results)
            return
        host = [_on_host(one) for one in flat]
        computed = self._computed(func, *tree_unflatten(host, spec))
        if computed is None:
            self._set_well(name, results)
            return
        for result, value in zip(results, computed, strict=False):
            target = over(result)
            if value.shape == result.shape and value.numel():
                if value.data_ptr() != result.data_ptr():
                    target.copy_(value)
                if _is_float(result) and name not in _MOVING:
                    self._numbers.make_well(target, judged=name in _JUDGING)

    def _computed(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[torch.Tensor] | None:
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        random = torch.Tag.nondeterministic_seeded in func.tags
        before = (
            torch.random.get_rng_state() if random else None
        )  # the CPU's numbers are not the card's to take
        try:
            made = func(*args, **kwargs)
        except _RUNNABLE as error:
            _tell(str(func), error)
            return None
        finally:
            if before is not None:
                torch.random.set_rng_state(before)
        return [
            one
            for one in (made if isinstance(made, (tuple, list)) else (made,))
            if isinstance(one, torch.Tensor)
        ]

    def _set_well(self, name: str, results: list[torch.Tensor]) -> None:
        for result in results:
            target = over(result)
            if _is_float(result):
                target.fill_(1.0)
                self._numbers.make_well(target, judged=name in _JUDGING)
            elif name in _TRUE:
                target.fill_(True)
            else:
                target.zero_()


def _tell(name: str, error: Exception) -> None:
    """At once: a process of torch's may end without a last word."""
    UNABLE[name] += 1
    if UNABLE[name] == 1:
        why = " ".join(str(error).split())[:160]
        print(f"cuda double: the values of {name} can't be computed ({why}); {TAKEN}", file=sys.stderr)


def doubts() -> list[str]:
    """What the figures of this process may be wrong for: a line for each operation without its values."""
    return [
        f"the values of {name} could not be computed ({count} times); {TAKEN}"
        for name, count in sorted(UNABLE.items())
    ]


def _name(func: Any) -> str:
    return str(func._schema.name).rpartition("::")[2]


def _on_host(one: object) -> object:
    if isinstance(one, torch.Tensor):
        return over(one) if one.is_cuda else one
    if isinstance(one, torch.device):
        return torch.device("cpu")
    if isinstance(one, torch.Generator):
        return None
    return one


def _spread(indices: torch.Tensor, choices: int) -> None:
    """Each row's best are the next ones, so that experts get as many tokens as each other."""
    rows, best = indices.numel() // max(1, indices.shape[-1]), indices.shape[-1]
    indices.copy_((torch.arange(rows * best) % choices).view(indices.shape))


def _counted(self: torch.Tensor) -> torch.Tensor:
    return (
        over(self) if _small(self) or self.dtype is torch.bool else torch.ones(self.shape, dtype=torch.bool)
    )


def _nonzero(self: torch.Tensor) -> torch.Tensor:
    found = _counted(self).nonzero()
    # As CUDA lays it out: a dimension after the other.
    made = torch.empty_strided(
        (self.dim(), found.shape[0]), (found.shape[0], 1), dtype=torch.int64, device=self.device
    ).t()
    if found.numel():
        over(made).copy_(found)
    return made


def _there(made: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    result = torch.empty(made.shape, dtype=made.dtype, device=like.device)
    if made.numel():
        over(result).copy_(made)
    return result


def _unique2(
    self: torch.Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
) -> Any:
    made = torch.ops.aten._unique2(_counted(self), sorted, return_inverse, return_counts)
    return tuple(_there(one, self) for one in made)


def _unique_consecutive(
    self: torch.Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    made = torch.ops.aten.unique_consecutive(_counted(self), return_inverse, return_counts, dim)
    return tuple(_there(one, self) for one in made)


def _bincount(self: torch.Tensor, weights: torch.Tensor | None = None, minlength: int = 0) -> torch.Tensor:
    return _there(
        torch.bincount(_counted(self), over(weights) if weights is not None else None, minlength), self
    )


def _repeat_interleave(repeats: torch.Tensor, *, output_size: int | None = None) -> torch.Tensor:
    return _there(torch.repeat_interleave(_counted(repeats), output_size=output_size), repeats)


# Operations whose result has a shape that values decide: the CUDA kernels of these are replaced.
_SHAPING: dict[str, Callable[..., Any]] = {
    "nonzero": _nonzero,
    "_unique2": _unique2,
    "unique_consecutive": _unique_consecutive,
    "bincount": _bincount,
    "repeat_interleave.Tensor": _repeat_interleave,
}
_library: list[torch.library.Library] = []  # a library that is dropped takes its kernels with it


def begin() -> Answers:
    """Enter the mode in this thread, for good."""
    numbers = Numbers.from_environment()
    if not _library:
        _library.append(torch.library.Library("aten", "IMPL"))
        for name, function in _SHAPING.items():
            _library[0].impl(name, function, "CUDA", allow_override=True)
        register_optimizer_step_post_hook(lambda *_: numbers.count_step())
    mode = Answers(numbers)
    mode.__enter__()
    return mode
