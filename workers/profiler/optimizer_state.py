"""What the trainer's optimizer keeps on the card and takes for its update, in bytes."""

from __future__ import annotations

from torch import nn

from jobs.jobfile.spec import JobSpec

BLOCK_BYTES = 512  # c10/cuda/CUDACachingAllocator.cpp, kMinBlockSize
# bitsandbytes 0.50, optim/optimizer.py: smaller tensors keep float32 state; one float32 statistic for each block.
MIN_8BIT, BLOCK_8BIT = 4096, 256
FLOAT32 = 4  # bytes


def embedding_weights(model: nn.Module) -> set[int]:
    """Ids of the weights whose state transformers keeps in float32 under an 8-bit optimizer (Trainer, 5.23)."""
    return {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}


def state_bytes(spec: JobSpec, parameter: nn.Parameter, embedding: bool = False) -> int:
    """State of one trained parameter, each tensor rounded up to the allocator's block.

    torch's AdamW keeps two moments in the parameter's own type and, when fused, a float32 step on the device;
    SGD without momentum, as transformers makes it, nothing. bitsandbytes keeps two float32 moments, or bytes
    with their statistics; what a paged optimizer keeps in managed memory is counted: it is on the card while
    there is room. embedding: the parameter is among embedding_weights.
    """
    return sum(map(_block, state_tensors(spec, parameter, embedding)))


def state_tensors(spec: JobSpec, parameter: nn.Parameter, embedding: bool = False) -> tuple[int, ...]:
    """Bytes of each tensor of it, in the order in which they are made."""
    count, optimizer = parameter.numel(), spec.training.optimizer
    if optimizer == "sgd":
        return ()
    if optimizer == "adamw":
        return (FLOAT32, parameter.nbytes, parameter.nbytes)
    if optimizer == "paged_adamw" or embedding or count < MIN_8BIT:
        return (FLOAT32 * count,) * 2
    return (count, count, *[FLOAT32 * -(-count // BLOCK_8BIT)] * 2)


def paged(spec: JobSpec) -> bool:
    """Whether state moves to host memory where the card is short of it (CUDA's managed memory)."""
    return spec.training.optimizer.startswith("paged_")


def transient_bytes(spec: JobSpec, trained_bytes: int) -> int:
    """What the update takes beside state and gradients.

    Fused AdamW and bitsandbytes' kernels work in place. SGD over many tensors at once makes a copy of all gradients
    to add weight decay to (torch/optim/sgd.py, _multi_tensor_sgd).
    """
    return trained_bytes if spec.training.optimizer == "sgd" and spec.training.weight_decay else 0


def _block(count: int) -> int:
    return -(-count // BLOCK_BYTES) * BLOCK_BYTES
