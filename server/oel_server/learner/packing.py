"""Many states in one forward pass; what several of them begin with is computed once.

A row holds the tokens of a trie: each beginning of a prompt + candidate stands in it once, whatever states and
candidates share it. A token sees the tokens on its way from the root and itself, and its position is its depth, so
every log-prob is that of the plain sequence. Practice prompts share their system message and often their goal,
candidates their prompt: a fifth of the tokens of a step of 8 states is saved, and a third of them where a round's
states are scored (docs/lab-log.md). The last token of a candidate (end-of-turn) is only predicted, never fed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oel_server.learner.attention import own_attention
from oel_server.learner.compute import bf16_products
from oel_server.learner.row_attention import Hidden, RowAttention, Seen, View

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BATCH_TOKENS = 4096
"""Of states that are only scored, in one pass."""


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
        """Tokens that are fed to the model for this state alone."""
        beginnings = {choice[:n] for choice in self.choices for n in range(1, len(choice))}
        return len(self.prompt) + len(beginnings)


@dataclass(frozen=True, slots=True)
class Packed:
    """One row of N tokens; R positions are read, S tokens scored."""

    tokens_N: Tensor
    positions_N: Tensor
    views: tuple[View, ...]
    """What the row holds of each state."""
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
    """Lay the states out in one row, new beginnings in the order given."""
    row = _Row()
    views: list[View] = []
    read: list[int] = []
    target: list[int] = []
    choice_of: list[int] = []
    choices = 0
    for state in states:
        way = row.down(_ROOT, state.prompt)
        own = dict.fromkeys(way)
        for j, choice in enumerate(state.choices, choices):
            ends = [way[-1], *row.down(way[-1], choice[:-1])]
            own |= dict.fromkeys(ends)
            read += ends
            target += choice
            choice_of += [j] * len(choice)
        views.append(_view(list(own), len(way), row.parents))
        choices += len(state.choices)
    unique, source = torch.unique(torch.tensor(read), return_inverse=True)
    return Packed(
        tokens_N=torch.tensor(row.tokens),
        positions_N=torch.tensor(row.depths),
        views=tuple(views),
        read_R=unique,
        source_S=source,
        target_S=torch.tensor(target),
        choice_S=torch.tensor(choice_of),
        sizes=tuple(len(state.choices) for state in states),
    )


_ROOT = -1
"""Where a prompt's first token is reached from."""


class _Row:
    """The trie as it is built: of each place its token, depth and the place it was reached from."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.depths: list[int] = []
        self.parents: list[int] = []
        self._places: dict[tuple[int, int], int] = {}

    def down(self, place: int, tokens: Sequence[int]) -> list[int]:
        """The places of these tokens, one after the other from below `place`; new where they are not there yet."""
        way: list[int] = []
        for token in tokens:
            parent = place
            place = self._places.setdefault((parent, token), len(self.tokens))
            if place == len(self.tokens):
                self.tokens.append(token)
                self.depths.append(0 if parent == _ROOT else self.depths[parent] + 1)
                self.parents.append(parent)
            way.append(place)
        return way


def _view(places: Sequence[int], prompt: int, parents: Sequence[int]) -> View:
    """The view of a state whose prompt is the first so many of its places."""
    at = {place: k for k, place in enumerate(places)}
    visible_LL = torch.zeros(len(places), len(places), dtype=torch.bool)
    visible_LL[:prompt, :prompt] = True
    visible_LL.tril_()
    for k, place in enumerate(places[prompt:], prompt):
        visible_LL[k] = visible_LL[at[parents[place]]]
        visible_LL[k, k] = True
    hidden_LL = torch.zeros(visible_LL.shape).masked_fill(~visible_LL, float("-inf"))
    return View(torch.tensor(places), hidden_LL)


def choice_log_probs(model: PreTrainedModel, states: Sequence[ChoiceState]) -> list[Tensor]:
    """log p(choice | prompt) in nats, not normalised over the choices: one (choices,) tensor a state.

    Differentiable; the caller sets gradient and precision modes. The LM head runs only where it is read.
    """
    packed, device = pack(states), model.device
    logits_RV = model.get_output_embeddings()(read_row(model, packed))
    log_probs_RV = torch.log_softmax(logits_RV, -1, dtype=torch.float32)
    token_S = log_probs_RV[packed.source_S.to(device), packed.target_S.to(device)]
    choice_S = packed.choice_S.to(device)
    total_C = torch.zeros(sum(packed.sizes), device=device).index_add(0, choice_S, token_S)
    return list(torch.split(total_C, list(packed.sizes)))


def answer_states_in_row(model: PreTrainedModel, states: Sequence[ChoiceState]) -> list[Tensor]:
    """What `prefix.answer_states` gives, in one pass."""
    packed, lengths = pack(states), [len(state.choices[0]) for state in states]
    # Answers may share where they begin. index_select, as the gradient of indexing adds up in no fixed order.
    read_SD = read_row(model, packed).index_select(0, packed.source_S.to(model.device))
    return list(torch.split(read_SD, lengths))


def read_row(model: PreTrainedModel, packed: Packed, seen: Seen | None = None) -> Tensor:
    """(R, hidden): the last hidden states at the positions that are read; fills `seen` if given."""
    device = model.device
    positions_N = packed.positions_N.to(device)
    views = [View(view.places_L.to(device), view.hidden_LL.to(device)) for view in packed.views]
    with own_attention(model):
        hidden_ND = model.base_model(
            input_ids=packed.tokens_N[None].to(device),
            position_ids=positions_N[None],
            attends=RowAttention(Hidden.of(views, positions_N), seen),
            use_cache=False,
        ).last_hidden_state[0]
    found: Tensor = hidden_ND[packed.read_R.to(device)]
    return found


def score_states(
    model: PreTrainedModel, states: Sequence[ChoiceState], batch_tokens: int = BATCH_TOKENS
) -> list[Tensor]:
    """`choice_log_probs` by `in_parts`."""
    return in_parts(choice_log_probs, model, states, batch_tokens)


@torch.no_grad()
def in_parts(
    read: Callable[[PreTrainedModel, Sequence[ChoiceState]], list[Tensor]],
    model: PreTrainedModel,
    states: Sequence[ChoiceState],
    batch_tokens: int,
) -> list[Tensor]:
    """What `read` gives for any number of states, on the CPU, without gradient, with bf16 products.

    At most `batch_tokens` tokens in one pass (more only where one state alone is longer); bounds memory.
    """
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
