"""The language model seam in torch, for practice and screening on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from oel_server.learner.compute import DeviceName, bf16_products, pick_device
from oel_server.learner.master import Master
from oel_server.learner.packing import answer_states, score_states
from oel_server.learner.rollout import write_answers
from oel_shared.model import ChoiceQuery, LogProbs, Message


class TorchModel:
    """A `LanguageModel` over a master's float32 weights, with bf16 products where they are fast.

    Args:
        master: its model is moved to the device and stays there.
        render: the chat template, generation prompt included.
        batch_tokens: tokens in one forward pass, or in the cache of answers written together; bounds memory.
    """

    def __init__(
        self,
        master: Master,
        render: Callable[[Sequence[Message]], str],
        device: DeviceName = "auto",
        batch_tokens: int = 4096,
    ) -> None:
        self._master, self._render, self._batch_tokens = master, render, batch_tokens
        self._device = pick_device(device)
        master.model.to(self._device)

    def score(self, queries: Sequence[ChoiceQuery]) -> list[LogProbs]:
        """Unnormalised log p(choice + end-of-turn | prompt) in nats, one array (len(choices),) a query.

        Raises: ValueError for a query without choices.
        """
        states = [self._master.encode(self._render(query.prompt), query.choices) for query in queries]
        found = score_states(self._master.model, states, self._batch_tokens)
        return [values.double().numpy() for values in found]

    @torch.no_grad()
    def next_token_log_probs(self, prompt: Sequence[Message], answer: str) -> LogProbs:
        """See `LanguageModel.next_token_log_probs`."""
        state = self._master.encode(self._render(prompt), (answer,))
        with bf16_products(self._device):
            (hidden_TD,) = answer_states(self._master.model, [state])
            logits_TV = self._master.model.get_output_embeddings()(hidden_TD)
        return torch.log_softmax(logits_TV.float(), -1).double().cpu().numpy()

    def generate(self, prompt: Sequence[Message], max_tokens: int, temperature: float, seed: int) -> str:
        """The assistant's answer as text, at most `max_tokens` tokens; greedy at temperature 0."""
        (answer,) = self.generate_many([prompt], max_tokens, temperature, [seed])
        return answer

    def generate_many(
        self,
        prompts: Sequence[Sequence[Message]],
        max_tokens: int,
        temperature: float,
        seeds: Sequence[int],
    ) -> list[str]:
        """See `LanguageModel.generate_many` and `rollout.write_answers`."""
        rendered = [self._render(prompt) for prompt in prompts]
        return write_answers(self._master, rendered, max_tokens, temperature, seeds, self._batch_tokens)
