"""The float32 change of a model's weights: of one round, or of all rounds so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from oel_shared import atomic
from oel_shared.errors import StateError


@dataclass(frozen=True, eq=False)
class Update:
    """Weight name (`model.layers.0.self_attn.q_proj.weight`) -> (out, in) float32 change, on the CPU.

    A weight that is not named is unchanged. Never bf16: a cast alone flips nearly half as many codes of
    the shipped file as a round of learning does.
    """

    deltas: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        for name, delta in self.deltas.items():
            if delta.dtype != torch.float32:
                raise StateError(f"update of {name} is {delta.dtype}: updates are kept in float32")

    @classmethod
    def zero(cls) -> Update:
        """No change: the base itself."""
        return cls({})

    @classmethod
    def load(cls, path: Path) -> Update:
        """Read what `save` wrote. Raises: StateError if the file is missing or damaged."""
        try:
            return cls(load_file(path))
        except (OSError, SafetensorError) as error:
            raise StateError(f"update {path} cannot be read ({error}): put it back from a copy") from error

    def save(self, path: Path) -> None:
        """Write one safetensors file, whole or not at all."""
        with atomic.replacing(path) as part:
            save_file({name: delta.contiguous() for name, delta in self.deltas.items()}, part)

    def plus(self, other: Update) -> Update:
        """The sum of both. Raises: StateError if a weight has two shapes."""
        total = dict(self.deltas)
        for name, delta in other.deltas.items():
            if name in total and total[name].shape != delta.shape:
                shapes = f"{tuple(total[name].shape)} and {tuple(delta.shape)}"
                raise StateError(f"updates of {name} are {shapes}: they belong to different base models")
            total[name] = total[name] + delta if name in total else delta
        return Update(total)

    def towards(self, other: Update, part: float) -> Update:
        """Which lies a part of the way from this to `other`, which changes all that this does.

        Raises: StateError if it does not, or a weight has two shapes.
        """
        wrong = [
            n for n, d in self.deltas.items() if n not in other.deltas or other.deltas[n].shape != d.shape
        ]
        if wrong:
            raise StateError(f"two updates do not agree in {wrong[0]}: they belong to different base models")
        return Update(
            {
                name: torch.lerp(self.deltas[name], end, part) if name in self.deltas else part * end
                for name, end in other.deltas.items()
            }
        )

    def add_to(self, model: torch.nn.Module) -> None:
        """Add to the float32 weights of `model` in place.

        Raises: StateError for a weight that the model lacks, has in another shape or not in float32.
        """
        weights = dict(model.named_parameters())
        for name, delta in self.deltas.items():
            found = weights.get(name)
            if found is None or found.shape != delta.shape or found.dtype != torch.float32:
                seen = "absent" if found is None else f"{tuple(found.shape)} {found.dtype}"
                raise StateError(
                    f"update of {name}, {tuple(delta.shape)} float32, does not fit the base model ({seen}): "
                    "use the base that the update was trained on"
                )
        with torch.no_grad():
            for name, delta in self.deltas.items():
                weights[name].add_(delta.to(weights[name].device))
