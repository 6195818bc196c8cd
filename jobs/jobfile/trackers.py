"""Trackers that a run can report to."""

from __future__ import annotations

# Each with the packages of which a host needs one (transformers 5.23, integrations/integration_utils.py).
TRACKERS = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "mlflow-skinny"),
    "trackio": ("trackio",),
}
