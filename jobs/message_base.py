"""What every message between server, host and trainer is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """Unknown keys are ignored, so that an older side can read a newer one."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())
