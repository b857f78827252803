"""Many states in one forward pass; a state's candidates share its prompt and whatever they begin with.

All states stand in one row without padding:  prompt_0 | trie_0 | prompt_1 | trie_1 | ...
A trie holds the candidates' tokens, a common beginning once. A token sees its prompt and the tokens before it
in its own candidates only, and its position is that in prompt + candidate, so every log-prob is that of the
plain sequence. The last token of a candidate (end-of-turn) is only predicted, never fed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oel_server.learner.attention import Hidden, packed_attention
from oel_server.learner.compute import bf16_products

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class ChoiceState:
    """One state as token ids; each choice ends with the end-of-turn token.

    Raises: ValueError for an empty prompt, no choices or an empty choice.
    """

    prompt: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.prompt or not self.choices or not all(self.choices):
            raise ValueError("a state needs a prompt and at least one choice, none of them without tokens")

    @property
    def length(self) -> int:
        """Tokens that are fed to the model."""
        beginnings = {choice[:n] for choice in self.choices for n in range(1, len(choice))}
        return len(self.prompt) + len(beginnings)


@dataclass(frozen=True, slots=True)
class Packed:
    """One row of N tokens; R positions are read, S tokens scored."""

    tokens_N: Tensor
    positions_N: Tensor
    hidden: tuple[Tensor, ...]
    """One (L, L) a state, see `attention.Hidden`."""
    read_R: Tensor
    """Positions whose next-token distribution is needed, each once."""
    source_S: Tensor
    """Index into `read_R`: where each scored token is predicted."""
    target_S: Tensor
    """The scored tokens."""
    choice_S: Tensor
    """The choice each scored token belongs to, counted over all states."""
    sizes: tuple[int, ...]
    """Choices per state."""


def pack(states: Sequence[ChoiceState]) -> Packed:
    """Lay the states out in one row, in the order given."""
    tokens: list[int] = []
    positions: list[int] = []
    hidden: list[Tensor] = []
    read: list[int] = []
    target: list[int] = []
    choice_of: list[int] = []
    choices = 0
    for state in states:
        start, size = len(tokens), len(state.prompt)
        tokens += state.prompt
        positions += range(size)
        # Where each beginning of a choice ends in the row: there its next token is predicted.
        end: dict[tuple[int, ...], int] = {(): start + size - 1}
        parents: list[int] = []
        for j, choice in enumerate(state.choices):
            for depth, token in enumerate(choice):
                before, after = choice[:depth], choice[: depth + 1]
                read.append(end[before])
                target.append(token)
                choice_of.append(choices + j)
                if after not in end and depth < len(choice) - 1:
                    end[after] = len(tokens)
                    tokens.append(token)
                    positions.append(size + depth)
                    parents.append(end[before] - start)
        hidden.append(_hidden(size, parents))
        choices += len(state.choices)
    unique, source = torch.unique(torch.tensor(read), return_inverse=True)
    return Packed(
        tokens_N=torch.tensor(tokens),
        positions_N=torch.tensor(positions),
        hidden=tuple(hidden),
        read_R=unique,
        source_S=source,
        target_S=torch.tensor(target),
        choice_S=torch.tensor(choice_of),
        sizes=tuple(len(state.choices) for state in states),
    )


def _hidden(prompt: int, parents: Sequence[int]) -> Tensor:
    """(L, L), L = prompt + trie: each token sees the prompt before it, its parent and all that one sees."""
    length = prompt + len(parents)
    visible_LL = torch.zeros(length, length, dtype=torch.bool)
    visible_LL[:prompt, :prompt] = True
    visible_LL.tril_()
    for token, parent in enumerate(parents, prompt):
        visible_LL[token] = visible_LL[parent]
        visible_LL[token, token] = True
    return torch.zeros(length, length).masked_fill(~visible_LL, float("-inf"))


def choice_log_probs(model: PreTrainedModel, states: Sequence[ChoiceState]) -> list[Tensor]:
    """log p(choice | prompt) in nats, not normalised over the choices: one (choices,) tensor a state.

    Differentiable; the caller sets gradient and precision modes. The LM head runs only where it is read.
    """
    packed, device = pack(states), model.device
    logits_RV = model.get_output_embeddings()(_read(model, packed))
    log_probs_RV = torch.log_softmax(logits_RV, -1, dtype=torch.float32)
    token_S = log_probs_RV[packed.source_S.to(device), packed.target_S.to(device)]
    choice_S = packed.choice_S.to(device)
    total_C = torch.zeros(sum(packed.sizes), device=device).index_add(0, choice_S, token_S)
    return list(torch.split(total_C, list(packed.sizes)))


def answer_states(model: PreTrainedModel, states: Sequence[ChoiceState]) -> list[Tensor]:
    """Last hidden states from which each token of an answer is predicted: one (tokens, hidden) tensor a state.

    Args:
        states: of one choice each, the answer with its end-of-turn.
    The LM head is left to the caller, who need not run it on all answers at once. Raises: ValueError for a
    state of several choices.
    """
    if any(len(state.choices) != 1 for state in states):
        raise ValueError("an answer stands alone: give states of one choice each")
    lengths = [len(state.choices[0]) for state in states]
    return list(torch.split(_read(model, pack(states)), lengths))


def _read(model: PreTrainedModel, packed: Packed) -> Tensor:
    """(R, hidden): the last hidden states at the positions that are read."""
    device = model.device
    positions_N = packed.positions_N.to(device)
    masks = [hidden_LL.to(device) for hidden_LL in packed.hidden]
    with packed_attention(model):
        hidden_ND = model.base_model(
            input_ids=packed.tokens_N[None].to(device),
            position_ids=positions_N[None],
            hidden=Hidden.of(masks, torch.split(positions_N, [len(mask_LL) for mask_LL in masks])),
            use_cache=False,
        ).last_hidden_state[0]
    read: Tensor = hidden_ND[packed.read_R.to(device)]
    return read


def score_states(
    model: PreTrainedModel, states: Sequence[ChoiceState], batch_tokens: int = 4096
) -> list[Tensor]:
    """`choice_log_probs` of any number of states, on the CPU, without gradient, with bf16 products.

    At most `batch_tokens` tokens in one pass (more only where one state alone is longer); bounds memory.
    """
    return _in_parts(choice_log_probs, model, states, batch_tokens)


def hidden_answers(
    model: PreTrainedModel, states: Sequence[ChoiceState], batch_tokens: int = 4096
) -> list[Tensor]:
    """`answer_states` in the same way."""
    return _in_parts(answer_states, model, states, batch_tokens)


@torch.no_grad()
def _in_parts(
    read: Callable[[PreTrainedModel, Sequence[ChoiceState]], list[Tensor]],
    model: PreTrainedModel,
    states: Sequence[ChoiceState],
    batch_tokens: int,
) -> list[Tensor]:
    found: list[Tensor] = []
    first = 0
    while first < len(states):
        last, tokens = first + 1, states[first].length
        while last < len(states) and tokens + states[last].length <= batch_tokens:
            tokens += states[last].length
            last += 1
        with bf16_products(model.device):
            found += [values.cpu() for values in read(model, states[first:last])]
        first = last
    return found
