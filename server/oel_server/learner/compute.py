"""Where and how precisely to compute."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from oel_shared.errors import ConfigError

DeviceName = Literal["auto", "cpu", "cuda"]


def pick_device(name: DeviceName) -> torch.device:
    """The device for `auto`, `cpu` or `cuda`. Raises: ConfigError for cuda without a usable GPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda' was asked for, but torch sees no GPU: use 'auto' or 'cpu'")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def bf16_products(device: torch.device) -> AbstractContextManager[object]:
    """Matrix products in bf16 where the hardware is fast at it; weights and sums stay float32."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        # Emulated bf16 products, as on older CPUs, would be slower than float32.
        has_mkldnn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        fast = bool(has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.autocast(device.type, dtype=torch.bfloat16) if fast else nullcontext()
