"""Prompts and what follows them apart: all of a prompt but its last token is read as part of a packed row.

A student that answers and then learns from its answer needs what every layer saw of the prompt twice, so it is read
once, with its gradient. And of a prompt only keys and values are needed, so the last block's MLP is left out; a
prompt's last token, from which the answer's first is predicted, comes with the answer in a pass of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from oel_server.learner.attention import fused_attention, masked_softmax, own_attention
from oel_server.learner.packing import (
    BATCH_TOKENS,
    ChoiceState,
    answer_states_in_row,
    in_parts,
    pack,
    read_row,
)
from oel_server.learner.row_attention import Seen
from oel_server.learner.splitting import is_split

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PAD = 2**62
"""The depth of what is no token: after all that is."""


@dataclass(frozen=True, eq=False)
class Prefixes:
    """All tokens but the last of B prompts, at most P each, in a row."""

    lasts: tuple[int, ...]
    """The prompts' last tokens, which are fed with what follows."""
    layers: Seen
    """What each saw of the row."""
    places_BP: Tensor
    """Where a prompt's tokens stand in the row; the row's first for padding behind a shorter prompt."""
    lengths_B1: Tensor

    @property
    def depths_BP(self) -> Tensor:
        """A token's place in its prompt; `PAD` for padding."""
        depths_P = torch.arange(self.places_BP.shape[1], device=self.places_BP.device)
        return torch.where(depths_P < self.lengths_B1, depths_P, PAD)

    def seen(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Keys less a shift and values of a layer, (B, K, P, D), and the shift, (K, 1, D)."""
        k_NKD, v_NKD, shift_KD = self.layers[layer]
        return self._laid(k_NKD), self._laid(v_NKD), shift_KD[:, None]

    def _laid(self, x_NKD: Tensor) -> Tensor:
        # index_select, as the gradient of indexing adds up in no fixed order.
        taken = x_NKD.index_select(0, self.places_BP.flatten())
        return taken.view(*self.places_BP.shape, *x_NKD.shape[1:]).transpose(1, 2)


def read_prefixes(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> Prefixes:
    """Read prompts; differentiable. Raises: ValueError for a prompt without tokens."""
    if not all(prompts):
        raise ValueError("a prompt has no tokens: there is nothing to go on from")
    # Of a prompt of one token nothing is read: what stands in the row for it nobody looks at.
    before = [tuple(prompt[:-1]) or (0,) for prompt in prompts]
    # What is predicted after it does not matter here, so any token may stand for it.
    packed, seen = pack([ChoiceState(tokens, ((0,),)) for tokens in before]), Seen()
    with _left_out(model.base_model.layers[-1].mlp):
        read_row(model, packed, seen)
    places = [view.places_L.to(model.device) for view in packed.views]
    lengths_B1 = torch.tensor([[len(prompt) - 1] for prompt in prompts], device=model.device)
    lasts = tuple(prompt[-1] for prompt in prompts)
    return Prefixes(lasts, seen, torch.nn.utils.rnn.pad_sequence(places, batch_first=True), lengths_B1)


@contextmanager
def _left_out(mlp: torch.nn.Module) -> Iterator[None]:
    """Within it an MLP gives back what it is given."""
    before = vars(mlp).get("forward")
    mlp.forward = lambda x: x
    try:
        yield
    finally:
        del mlp.forward
        if before:
            mlp.forward = before


def answer_states(model: PreTrainedModel, states: Sequence[ChoiceState]) -> list[Tensor]:
    """Last hidden states from which each token of an answer is predicted: one (tokens, hidden) tensor a state.

    Args:
        states: of one choice each, the answer with its end-of-turn.
    Differentiable; the caller sets gradient and precision modes. The LM head is left to the caller, who need not
    run it on all answers at once. Raises: ValueError for a state of several choices.
    """
    if any(len(state.choices) != 1 for state in states):
        raise ValueError("an answer stands alone: give states of one choice each")
    if is_split(model):
        # To a prompt the gradient comes by keys and values, and FSDP, which watches what blocks give, would not
        # have gathered the weights by then.
        return answer_states_in_row(model, states)
    prefixes = read_prefixes(model, [state.prompt for state in states])
    return answer_states_after(model, prefixes, [state.choices[0] for state in states])


def answer_states_after(
    model: PreTrainedModel, prefixes: Prefixes, answers: Sequence[Sequence[int]]
) -> list[Tensor]:
    """`answer_states` of these answers to prompts that are read already."""
    fed = [torch.tensor([last, *one[:-1]]) for last, one in zip(prefixes.lasts, answers, strict=True)]
    fed_BA = torch.nn.utils.rnn.pad_sequence(fed, batch_first=True).to(model.device)
    after = _After.of(prefixes, fed_BA.shape[1])
    with own_attention(model):
        hidden_BAD = model.base_model(
            input_ids=fed_BA, position_ids=after.depths_BA, attends=after, use_cache=False
        ).last_hidden_state
    return [hidden_BAD[b, : len(one)] for b, one in enumerate(answers)]


def hidden_answers(model: PreTrainedModel, states: Sequence[ChoiceState]) -> list[Tensor]:
    """`answer_states` by `in_parts`, twice as many at once as where there are logits as well."""
    return in_parts(answer_states, model, states, 2 * BATCH_TOKENS)


def hidden_between(at_BT: Tensor, keys_BL: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    """(B, T, L): 0 where a token may look at a key and -inf where not, both given by their depths."""
    back_BTL = at_BT[:, :, None] - keys_BL[:, None]
    unseen_BTL = (back_BTL < 0) if window is None else (back_BTL < 0) | (back_BTL >= window)
    hidden_BTL = torch.zeros(unseen_BTL.shape, dtype=dtype, device=at_BT.device)
    return hidden_BTL.masked_fill_(unseen_BTL, float("-inf"))


@dataclass(frozen=True, eq=False)
class _After:
    """Answers of at most A tokens behind their prompts."""

    prefixes: Prefixes
    depths_BA: Tensor
    _masks: dict[Any, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, prefixes: Prefixes, tokens: int) -> _After:
        return cls(prefixes, prefixes.lengths_B1 + torch.arange(tokens, device=prefixes.lengths_B1.device))

    def attend(
        self, layer: int, q_BHAD: Tensor, k_BKAD: Tensor, v_BKAD: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """See `Attends`."""
        keys, values, shift = self.prefixes.seen(layer)
        k_BKLD = torch.cat([keys, (k_BKAD - shift).to(keys.dtype)], 2)
        v_BKLD = torch.cat([values, v_BKAD], 2)
        attended = _fused if q_BHAD.is_cuda else _by_products
        q_BHAD = (q_BHAD * scaling).to(keys.dtype)
        return attended(q_BHAD, k_BKLD, v_BKLD, self._hidden(window, keys.dtype)).transpose(1, 2)

    def _hidden(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """The same for all layers of a kind."""
        if (window, dtype) not in self._masks:
            keys_BL = torch.cat([self.prefixes.depths_BP, self.depths_BA], 1)
            self._masks[window, dtype] = hidden_between(self.depths_BA, keys_BL, window, dtype)
        return self._masks[window, dtype]


def _by_products(q_BHAD: Tensor, k_BKLD: Tensor, v_BKLD: Tensor, hidden_BAL: Tensor) -> Tensor:
    """What a CPU computes: plain products, which beat its fused kernel."""
    (rows, heads, tokens, size), groups_of = q_BHAD.shape, k_BKLD.shape[1]
    # A key's heads lie one below the other, each with all tokens: for a mask that is as good as a key of its own.
    scores = q_BHAD.reshape(rows, groups_of, -1, size) @ k_BKLD.mT
    probs = masked_softmax(scores, hidden_BAL, 1)
    return (probs @ v_BKLD).view(rows, heads, tokens, size)


def _fused(q_BHAD: Tensor, k_BKLD: Tensor, v_BKLD: Tensor, hidden_BAL: Tensor) -> Tensor:
    """The same by the GPU's own kernels, which keep no scores."""
    return fused_attention(q_BHAD, k_BKLD, v_BKLD, hidden_BAL[:, None], 1.0)
