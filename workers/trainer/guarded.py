"""What each of TRL's trainers gets from us: every step is judged before its update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, Trainer

from workers.trainer.finite import Fault, Guard, first_not_finite, weights_fault
from workers.trainer.longest_first import LongestAtFirst, row_lengths
from workers.trainer.options import check_steps
from workers.trainer.saving.restore_weights import check_adapter, put_back
from workers.trainer.state_apart import state_apart


class Guarded(Trainer):
    """Stands before one of TRL's trainers: counts losses, looks at the norm of the gradients, and leaves out the
    updates that its guard says.

    longest_first: whether the first step has the longest rows (workers/trainer/longest_first.py); fixed_segments:
    whether those of torch's CUDA allocator don't expand, so that optimizer state gets segments of its own
    (state_apart.py). Follows transformers 5.23, Trainer._run_epoch: `_get_grad_norm` is called between clipping and the
    update.
    """

    longest_first = False
    fixed_segments = False

    def __init__(self, *args: Any, guard: Guard, **kwargs: Any) -> None:
        self.guard = guard
        super().__init__(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows = self.train_dataset if train_dataset is None else train_dataset
        sampler = super()._get_train_sampler(rows)
        if not self.longest_first:
            return sampler
        args = self.args
        batch, ranks = args.per_device_train_batch_size, args.world_size
        seed = args.seed if args.data_seed is None else args.data_seed
        return LongestAtFirst(sampler, row_lengths(rows), batch, ranks, seed)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.guard.begins:
            self._before = self._tr_loss.detach().clone()
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        self.guard.count(loss)
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        known, step = self.guard.fault, self.state.global_step + 1
        if self.guard.judge(step, norm, self.accelerator.scaler is not None):
            model.zero_grad(set_to_none=True)  # optimizers pass over what has no gradient
            look = known is None and (self.guard.fault is not None or self.guard.first_skip)
            if look and (name := first_not_finite(model.named_parameters())) is not None:
                self.guard.fault = Fault(step, f"the weights are not finite before it, such as {name}")
            if self.guard.fault is None:
                self._tr_loss.copy_(self._before)  # the mean is of the steps that were trained
        return norm

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        made = super().create_optimizer(*args, **kwargs)
        if self.fixed_segments:
            state_apart(made)
        return made

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        check_steps(self.args, num_training_steps)
        return super().create_scheduler(num_training_steps, optimizer)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        model, folder = model or self.model, Path(resume_from_checkpoint)
        if isinstance(model, PreTrainedModel):
            put_back(model, folder)
            return
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if isinstance(model, PeftModel):
            check_adapter(model, folder)

    def fault_of_all(self) -> Fault | None:
        """Why what all the steps made is not to be saved or published."""
        step = self.state.global_step
        return self.guard.untrained(step) or weights_fault(self.model, step)
