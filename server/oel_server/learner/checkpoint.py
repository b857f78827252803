"""A training checkpoint: adapter, optimizer, losses. The data order follows from seed and step alone."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oel_shared import atomic
from oel_shared.errors import StateError


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One file, replaced whole at every save."""

    path: Path
    mark: str
    """Fingerprint of the run; a checkpoint of another run is refused."""

    def save(
        self, adapter: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, losses: list[float]
    ) -> None:
        """Write the state after `len(losses)` steps."""
        state = {
            "mark": self.mark,
            "adapter": dict(adapter),
            "optimizer": optimizer.state_dict(),
            "losses": losses,
        }
        # By way of memory: torch's own writer does not say that a disk is full.
        content = io.BytesIO()
        torch.save(state, content)
        atomic.write_bytes(self.path, content.getvalue())

    def restore(self, adapter: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> list[float]:
        """Load into `adapter` and `optimizer`; the losses so far, none without a checkpoint.

        Raises: StateError if the file is damaged or of another run.
        """
        if not self.path.exists():
            return []
        state = self._read()
        if state["mark"] != self.mark:
            raise StateError(
                f"checkpoint {self.path} is of another run (model, items or settings differ): "
                "remove it to start anew"
            )
        with torch.no_grad():
            for name, weight in adapter.items():
                weight.copy_(state["adapter"][name])
        optimizer.load_state_dict(state["optimizer"])
        return list(state["losses"])

    def _read(self) -> dict[str, Any]:
        try:
            return dict(torch.load(self.path, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
            raise StateError(f"checkpoint {self.path} cannot be read: remove it to start anew") from error


def fingerprint(*parts: Any) -> str:
    """SHA-256 of what the learnt weights depend on, given as JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
