"""Room for answers that are written side by side, token by token, and attention over what stands there already.

torch's fused CPU kernel is made for many queries: for one it takes seven times as long as two plain products, if
keys lie as columns, and those take several times as long as a loop that goes over them once (docs/lab-log.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from oel_server.learner.fused import attend_newest, has_loops
from oel_server.learner.prefix import PAD, Prefixes, hidden_between


class Cache:
    """Keys and values of B texts, which are prompts with room for more tokens; no gradient goes through them."""

    def __init__(self, prefixes: Prefixes, room: int) -> None:
        self._next = prefixes.places_BP.shape[1]
        self._depth_B1 = prefixes.lengths_B1
        self._depths_BL = torch.nn.functional.pad(prefixes.depths_BP, (0, room), value=PAD)
        self._layers: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        for layer in prefixes.layers:
            keys, values, shift = (x.detach() for x in prefixes.seen(layer))
            wide = (0, 0, 0, room)
            columns = torch.nn.functional.pad(keys, wide).mT.contiguous()
            self._layers[layer] = columns, torch.nn.functional.pad(values, wide), shift
        self._hidden: dict[int | None, Tensor] = {}

    def next(self) -> Tensor:
        """(B, 1): the depth of each text's next token, which the coming pass writes."""
        self._hidden.clear()
        depth_B1, self._depth_B1 = self._depth_B1, self._depth_B1 + 1
        self._depths_BL[:, self._next] = depth_B1[:, 0]
        self._next += 1
        return depth_B1

    def keep(self, rows: Sequence[int]) -> None:
        """These texts only, in this order."""
        kept = torch.tensor(rows, device=self._depth_B1.device)
        self._depth_B1, self._depths_BL = self._depth_B1[kept], self._depths_BL[kept]
        for layer, (keys, values, shift) in self._layers.items():
            self._layers[layer] = keys[kept], values[kept], shift

    def attend(
        self, layer: int, q_BH1D: Tensor, k_BK1D: Tensor, v_BK1D: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """See `Attends`; of the newest token of each text, which is put there."""
        (keys_BKDL, values_BKLD, shift_K1D), at = self._layers[layer], self._next
        keys_BKDL[..., at - 1] = (k_BK1D - shift_K1D)[:, :, 0]
        values_BKLD[:, :, at - 1] = v_BK1D[:, :, 0]
        (rows, heads), (_, keys, size, _) = q_BH1D.shape[:2], keys_BKDL.shape
        q_BKGD = (q_BH1D * scaling).to(keys_BKDL.dtype).view(rows, keys, heads // keys, size)
        masked_B1L = self._masked(window, keys_BKDL.dtype)
        if keys_BKDL.dtype == torch.bfloat16 and has_loops(keys_BKDL):
            out_BKGD = attend_newest(q_BKGD, keys_BKDL, values_BKLD, masked_B1L[:, 0])
        else:
            scores_BKGL = (q_BKGD @ keys_BKDL[..., :at]).add_(masked_B1L[:, None])
            out_BKGD = torch.softmax(scores_BKGL, -1) @ values_BKLD[:, :, :at]
        return out_BKGD.view(rows, 1, heads, size)

    def _masked(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """(B, 1, L) for the newest token; the same for all layers of a kind."""
        if window not in self._hidden:
            depths_BL = self._depths_BL[:, : self._next]
            self._hidden[window] = hidden_between(self._depth_B1 - 1, depths_BL, window, dtype)
        return self._hidden[window]
