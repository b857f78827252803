"""Attention over one long row that holds many states, each state apart from the others.

A single block mask over the row would cost (tokens)^2; going state by state costs the sum of length^2, but in many
small products. So states of about one length are stacked, the shorter ones padded, and what states share stands in
every one of them. At the few hundred tokens of a state plain products beat torch's fused CPU kernel, whose backward
pass takes three times as long in bf16 (docs/lab-log.md). On a GPU the fused kernel is taken: it keeps no scores,
which would be gigabytes in a large model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from oel_server.learner.attention import fused_attention, masked_softmax

_BLOCK = 192
"""Queries at once: smaller ones skip more of what is hidden, and come with more calls."""
_ALIKE = 0.75
"""States at least so long as the longest of a stack may stand in it."""


@dataclass(frozen=True, eq=False)
class View:
    """A state of L tokens in a row."""

    places_L: Tensor
    """Where its tokens stand in the row; other states may have some of them too."""
    hidden_LL: Tensor
    """Float32: 0 where its token i may look at its token j and -inf where not; none that stands after it."""


@dataclass(frozen=True, eq=False)
class Stack:
    """B states of the row, one below the other, padded to L tokens."""

    places_BL: Tensor
    """Where a token stands in the row; a pad stands for the row's first."""
    answers_BL: Tensor
    """Of states that share a token one answers for it, the others have it as a key only; a pad never answers."""
    positions_BL: Tensor
    """The tokens' places in prompt + candidate."""
    hidden_BLL: Tensor
    """As of a view. A pad looks at all, so that nothing is NaN: it has the first place, within any window."""

    def within(self, window: int | None) -> Tensor:
        """`hidden_BLL` of a layer that sees only `window` tokens, itself included; None for one that sees all."""
        if window is None:
            return self.hidden_BLL
        far_BLL = self.positions_BL[:, :, None] - self.positions_BL[:, None] >= window
        return self.hidden_BLL.masked_fill(far_BLL, float("-inf"))


Seen = dict[int, tuple[Tensor, Tensor, Tensor]]
"""Of each layer of a model what it saw of a row's N tokens: keys less a shift and values, (N, K, D), and the shift,
(K, D)."""


@dataclass(frozen=True, eq=False)
class Hidden:
    """What each token of a row of packed states may not look at."""

    stacks: Sequence[Stack]
    _kept: dict[Any, Any] = field(default_factory=dict)
    """What every layer asks for again."""

    @classmethod
    def of(cls, views: Sequence[View], positions_N: Tensor) -> Self:
        """
        Args:
            views: the states, which together have every token of the row.
            positions_N: of the row's tokens.
        """
        stacks, left = [], sorted(views, key=lambda view: -len(view.places_L))
        taken_N = torch.zeros_like(positions_N, dtype=torch.bool)
        while left:
            longest = len(left[0].places_L)
            mine = [view for view in left if len(view.places_L) >= _ALIKE * longest]
            left = left[len(mine) :]
            stacks.append(_stack(mine, positions_N, taken_N))
        return cls(stacks)

    def masks(self, window: int | None, dtype: torch.dtype) -> list[Tensor]:
        """One (B, L, L) tensor a stack, see `Stack.within`."""
        if (window, dtype) not in self._kept:
            self._kept[window, dtype] = [stack.within(window).to(dtype) for stack in self.stacks]
        found: list[Tensor] = self._kept[window, dtype]
        return found

    def rows(self, keys: int) -> tuple[list[Tensor], Tensor]:
        """Which of a row's (N * keys) each of a stack's (B * keys * L) is; which of all those answers for each."""
        if ("rows", keys) not in self._kept:
            key_K1 = torch.arange(keys, device=self.stacks[0].places_BL.device)[:, None]
            there = [(stack.places_BL[:, None] * keys + key_K1).flatten() for stack in self.stacks]
            answering = torch.cat(
                [stack.answers_BL[:, None].expand(-1, keys, -1).flatten() for stack in self.stacks]
            ).nonzero()[:, 0]
            back = torch.empty_like(answering)
            back[torch.cat(there)[answering]] = answering
            self._kept["rows", keys] = there, back
        found: tuple[list[Tensor], Tensor] = self._kept["rows", keys]
        return found


def _stack(views: Sequence[View], positions_N: Tensor, taken_N: Tensor) -> Stack:
    """The longest view first. Tokens that are not in `taken_N` yet are answered for here, and put down there."""
    longest, device = len(views[0].places_L), positions_N.device
    shape = (len(views), longest)
    places_BL = torch.zeros(shape, dtype=torch.long, device=device)
    answers_BL = torch.zeros(shape, dtype=torch.bool, device=device)
    hidden_BLL = torch.zeros(*shape, longest, device=device)
    for b, view in enumerate(views):
        length = len(view.places_L)
        places_BL[b, :length] = view.places_L
        answers_BL[b, :length] = ~taken_N[view.places_L]
        taken_N[view.places_L] = True
        hidden_BLL[b, :length, length:] = float("-inf")
        hidden_BLL[b, :length, :length] = view.hidden_LL
    return Stack(places_BL, answers_BL, positions_N[places_BL], hidden_BLL)


@dataclass(frozen=True, eq=False)
class RowAttention:
    """See `Attends`; of one row."""

    hidden: Hidden
    seen: Seen | None = None
    """Filled by a pass, for who wants to go on from there. Only here: what a layer's gradient holds, such as
    `hidden`, must not hold the tensors of later layers, or none of them is ever freed."""

    def attend(
        self, layer: int, q_1HND: Tensor, k_1KND: Tensor, v_1KND: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """See `Attends`."""
        q_NHD, k_NKD, v_NKD = (x[0].transpose(0, 1) for x in (q_1HND, k_1KND, v_1KND))
        # With one vector taken from all keys a query's scores shift alike: its probabilities and gradients stay.
        # But the scores get smaller, and so does what bf16 rounds off them. Less the mean key, the loss is as near
        # to float32's as with float32 scores (docs/lab-log.md); how it rounds depends on what else is in the row.
        # Source: "smooth K" of SageAttention, arXiv 2410.02367.
        mean_KD = k_NKD.detach().mean(0)
        k_NKD = k_NKD - mean_KD
        # Rotation leaves float32; the products would be cast anyway, so cast before anything is laid out anew.
        q_NHD, k_NKD = (x.to(v_NKD.dtype) for x in (q_NHD, k_NKD))
        if self.seen is not None:
            # What is computed again for the gradient is the same once more.
            self.seen.setdefault(layer, (k_NKD, v_NKD, mean_KD))
        attended = _fused if q_1HND.is_cuda else _by_blocks
        return attended(q_NHD, k_NKD, v_NKD, scaling, self.hidden, window)[None]


def _by_blocks(
    q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor, scaling: float, hidden: Hidden, window: int | None
) -> Tensor:
    """What a CPU computes: see `_StackedAttention`."""
    attended: Tensor = _StackedAttention.apply(q_NHD, k_NKD, v_NKD, scaling, hidden, window)  # type: ignore[no-untyped-call]
    return attended


def _fused(
    q_NHD: Tensor, k_NKD: Tensor, v_NKD: Tensor, scaling: float, hidden: Hidden, window: int | None
) -> Tensor:
    """The same by the GPU's own kernels."""
    parts = []
    for stack, hidden_BLL in zip(hidden.stacks, hidden.masks(window, q_NHD.dtype), strict=True):
        # By `index_select`, whose gradient is one sum; that of x[places] sorts all places first.
        places, shape = stack.places_BL.flatten(), stack.places_BL.shape
        q_BHLD, k_BKLD, v_BKLD = (
            x.index_select(0, places).view(*shape, *x.shape[1:]).transpose(1, 2)
            for x in (q_NHD, k_NKD, v_NKD)
        )
        out_BHLD = fused_attention(q_BHLD, k_BKLD, v_BKLD, hidden_BLL[:, None], scaling)
        parts.append(out_BHLD.transpose(1, 2).flatten(0, 1))
    _, answering = hidden.rows(1)
    return torch.cat(parts).index_select(0, answering)


class _StackedAttention(torch.autograd.Function):
    """softmax(scaling q k' + hidden) v of every state: q (N, H, D); k, v (N, K, D), each for G = H / K heads of q.

    A stack lies as (B K, L G, D), the G heads that share a key beside each other, so a block of queries is a slice.
    A token sees none that stands after it, so such a block needs the keys up to its own end only. What is kept for
    the gradient are the probabilities, in the precision of the products; sums are float32.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q_NHD: Tensor,
        k_NKD: Tensor,
        v_NKD: Tensor,
        scaling: float,
        hidden: Hidden,
        window: int | None,
    ) -> Tensor:
        (_, keys, size), groups = k_NKD.shape, q_NHD.shape[1] // k_NKD.shape[1]
        there, back = hidden.rows(keys)
        outs, kept = [], []
        with torch.autocast(q_NHD.device.type, enabled=False):
            for stack, rows, mask_BLL in zip(
                hidden.stacks, there, hidden.masks(window, q_NHD.dtype), strict=True
            ):
                states, length = stack.answers_BL.shape
                q, k, v = (_taken(x, rows, keys, states) for x in (q_NHD, k_NKD, v_NKD))
                q.mul_(scaling)
                out = torch.empty_like(q)
                kept += [q, k, v]
                for at, of in _blocks(length, groups):
                    scores = q[:, of] @ k[:, : at.stop].mT
                    kept.append(masked_softmax(scores, mask_BLL[:, at, : at.stop], groups))
                    out[:, of] = kept[-1] @ v[:, : at.stop]
                outs.append(out.view(-1, groups * size))
        ctx.save_for_backward(*kept)
        ctx.given = scaling, hidden, (keys, groups, size)
        return torch.cat(outs)[back].view_as(q_NHD)

    @staticmethod
    def backward(ctx: Any, grad_NHD: Tensor) -> tuple[Tensor | None, ...]:
        scaling, hidden, (keys, groups, size) = ctx.given
        there, back = hidden.rows(keys)
        kept = iter(ctx.saved_tensors)
        q_grads: list[Tensor] = []
        k_total, v_total = (grad_NHD.new_zeros(len(grad_NHD) * keys, size, dtype=torch.float32) for _ in "kv")
        for stack, rows in zip(hidden.stacks, there, strict=True):
            states, length = stack.answers_BL.shape
            q, k, v = (next(kept) for _ in range(3))
            grad = _taken(grad_NHD.to(q.dtype), rows, keys, states)
            grad.view(states, keys, length, -1).masked_fill_(~stack.answers_BL[:, None, :, None], 0)
            q_grad, k_grad, v_grad = (
                torch.empty_like(q),
                torch.zeros_like(k).float(),
                torch.zeros_like(v).float(),
            )
            for at, of in _blocks(length, groups):
                probs, seen = next(kept), slice(at.stop)
                v_grad[:, seen] += probs.mT @ grad[:, of]
                probs_grad = grad[:, of] @ v[:, seen].mT
                scores_grad = torch._softmax_backward_data(probs_grad, probs, -1, probs.dtype)
                q_grad[:, of] = scores_grad @ k[:, seen]
                k_grad[:, seen] += scores_grad.mT @ q[:, of]
            q_grads.append(q_grad.mul_(scaling).view(len(rows), -1))
            for total, one in ((k_total, k_grad), (v_total, v_grad)):
                total.index_add_(0, rows, one.view(len(rows), -1))
        q_total = torch.cat(q_grads)[back]
        count = len(grad_NHD)
        return (
            q_total.view(count, -1, size),
            k_total.to(q_total.dtype).view(count, keys, size),
            v_total.to(q_total.dtype).view(count, keys, size),
            None,
            None,
            None,
        )


def _taken(x_NHD: Tensor, rows: Tensor, keys: int, states: int) -> Tensor:
    """(B K, L G, D): the rows of a stack out of x's (N K, G D)."""
    wide = x_NHD.reshape(len(x_NHD) * keys, -1)
    return wide.index_select(0, rows).view(states * keys, -1, x_NHD.shape[-1])


def _blocks(length: int, groups: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of queries: as places in a state, and as rows of a stack."""
    for start in range(0, length, _BLOCK):
        stop = min(start + _BLOCK, length)
        yield slice(start, stop), slice(start * groups, stop * groups)
