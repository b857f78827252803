"""A GGUF model through llama.cpp: exact scores for many choices of many prompts in few decodes.

Several prompts and their choices go through in one decode, as one trie of tokens: what prompts share is computed
once, what the choices of a prompt share too. The common beginning of all is kept between calls.
"""

from __future__ import annotations

import codecs
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from oel_shared.llama_context import MAX_SEQUENCES, LlamaContext, log_softmax
from oel_shared.model import ChoiceQuery, LogProbs, Message
from oel_shared.sampling import sample

QUERIES_AT_ONCE = 4
"""Prompts per decode: more share the weights' reading, fewer keep attention short (docs/lab-log.md)."""

ANSWERS_AT_ONCE = 32
"""Answers that are written side by side, a token of each per decode: three times as fast as one by one."""

CHOICES_AT_ONCE = 100
"""Choices of one prompt per decode; more are scored in several."""

KNOWN_QUERIES = 10_000
"""Answered queries that are remembered; a few MB."""


class LlamaModel:
    """A loaded GGUF file, with or without a LoRA adapter, behind the `LanguageModel` seam.

    Args:
        packed: multiply with the weights as they lie in the file, also where unpacking them is faster
            (`unpacking`). For who measures what that does.
    Raises: ModelFileError for a file that cannot be run.
    """

    def __init__(
        self,
        path: Path | str,
        adapter: Path | str | None = None,
        threads: int = 2,
        packed: bool = False,
    ) -> None:
        self._llama = LlamaContext(Path(path), Path(adapter) if adapter else None, threads, packed)
        self._known: dict[ChoiceQuery, LogProbs] = {}

    def close(self) -> None:
        """Free llama.cpp's memory. The model cannot be used afterwards."""
        self._llama.close()

    def __enter__(self) -> LlamaModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def render(self, messages: Sequence[Message]) -> str:
        """The chat template applied, up to where the assistant begins."""
        return self._llama.template.render(messages)

    def tokenize(self, text: str, special: bool) -> list[int]:
        """Token ids; `special` reads control tokens such as `<|im_end|>` as what they are."""
        return self._llama.tokenize(text, special)

    def score(self, queries: Sequence[ChoiceQuery]) -> list[LogProbs]:
        """See `LanguageModel.score`."""
        if any(not q.choices for q in queries):
            raise ValueError("a query without choices")
        # A model that goes in circles, and every first turn of a game, ask the same again and again.
        if len(self._known) > KNOWN_QUERIES:
            self._known.clear()
        fresh = list(dict.fromkeys(q for q in queries if q not in self._known))
        if fresh:
            self._known.update(zip(fresh, self._score_fresh(fresh), strict=True))
        return [self._known[q].copy() for q in queries]

    def _score_fresh(self, queries: Sequence[ChoiceQuery]) -> list[LogProbs]:
        cut = [self._cut(query) for query in queries]
        parts = [part for mine in cut for part in mine]
        # Neighbours share most: of one game often all but the last commands.
        order = sorted(range(len(parts)), key=lambda i: parts[i][0])
        prompts = [parts[i][0] for i in order]
        choices = [parts[i][1] for i in order]
        scored = [
            s for c in self._chunks(prompts, choices) for s in self._score_chunk(prompts[c], choices[c])
        ]
        found = dict(zip(order, scored, strict=True))
        rest = (found[i] for i in range(len(parts)))
        return [np.concatenate([next(rest) for _ in mine]) for mine in cut]

    def _cut(self, query: ChoiceQuery) -> list[tuple[list[int], list[list[int]]]]:
        """The prompt with some of its choices each time, as token ids, so that both fit the context together."""
        prompt, found, used = (
            self.tokenize(self.render(query.prompt), special=True),
            list[list[list[int]]](),
            0,
        )
        for choice in query.choices:
            option = [*self.tokenize(choice, special=False), self._llama.end_of_turn]
            full = used + len(option) > self._llama.capacity
            if not found or full or len(found[-1]) == CHOICES_AT_ONCE:
                found.append([])
                used = len(prompt)
            found[-1].append(option)
            used += len(option)
        return [(prompt, options) for options in found]

    def next_token_log_probs(self, prompt: Sequence[Message], answer: str) -> LogProbs:
        """See `LanguageModel.next_token_log_probs`; in float32. Raises: ModelFileError if it does not fit."""
        fed, told = self.tokenize(self.render(prompt), special=True), self.tokenize(answer, special=False)
        self._llama.check_fits(len(fed) + len(told))
        rows = self._llama.decode_prompts([fed])
        answered = self._llama.decode([(t, len(fed) + i, [1], True) for i, t in enumerate(told)])
        self._llama.forget_after_prefix()
        return np.stack([*rows, *map(log_softmax, answered)])

    def generate(
        self,
        prompt: Sequence[Message],
        max_tokens: int,
        temperature: float,
        seed: int,
        top_p: float = 1.0,
        top_k: int = 0,
    ) -> str:
        """See `LanguageModel.generate` and `text_play.Writer`. Temperature 0 is greedy."""
        return "".join(self.stream(prompt, max_tokens, temperature, seed, top_p, top_k))

    def stream(
        self,
        prompt: Sequence[Message],
        max_tokens: int,
        temperature: float,
        seed: int,
        top_p: float = 1.0,
        top_k: int = 0,
    ) -> Iterator[str]:
        """`generate` piece by piece: a text a token, empty while a character is not whole yet.

        Nothing else may use the model until the iterator ends or is closed. An answer ends with the context.
        Raises: ModelFileError if the prompt leaves no room for one.
        """
        rng = np.random.default_rng(seed)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        try:
            fed = self.tokenize(self.render(prompt), special=True)
            self._llama.check_fits(len(fed) + 1)
            logits = self._llama.decode_prompts([fed])[0]
            most = min(max_tokens, self._llama.capacity - len(fed))
            for written in range(1, most + 1):
                token = sample(logits, temperature, rng, top_p, top_k)
                if self._llama.ends(token):
                    break
                yield decoder.decode(self._llama.piece(token), final=written == most)
                if written < most:
                    logits = self._llama.decode([(token, len(fed) + written - 1, [1], True)])[0]
            if rest := decoder.decode(b"", final=True):
                yield rest
        finally:
            self._llama.forget_after_prefix()

    def generate_many(
        self,
        prompts: Sequence[Sequence[Message]],
        max_tokens: int,
        temperature: float,
        seeds: Sequence[int],
    ) -> list[str]:
        """See `LanguageModel.generate_many`. Raises: ModelFileError if an answer may not fit."""
        fed = [self.tokenize(self.render(prompt), special=True) for prompt in prompts]
        room = [[[0] * max_tokens]] * len(fed)
        texts: list[str] = []
        for part in self._chunks(fed, room, ANSWERS_AT_ONCE):
            dice = [np.random.default_rng(seed) for seed in seeds[part]]
            texts += self._write(fed[part], max_tokens, temperature, dice)
        return texts

    def _write(
        self,
        prompts: list[list[int]],
        max_tokens: int,
        temperature: float,
        dice: Sequence[np.random.Generator],
    ) -> list[str]:
        written: list[list[int]] = [[] for _ in prompts]
        longest = max(map(len, prompts)) + max_tokens
        with self._llama.apart(len(prompts), longest) as streams:
            fed = [
                (token, at, [i], at == len(prompt) - 1)
                for i, prompt in enumerate(prompts)
                for at, token in enumerate(prompt)
            ]
            rows = dict(enumerate(map(log_softmax, streams.decode(fed))))
            for step in range(max_tokens):
                chosen = {i: sample(row, temperature, dice[i]) for i, row in rows.items()}
                going = {i: t for i, t in chosen.items() if not self._llama.ends(t)}
                for i, token in going.items():
                    written[i].append(token)
                if not going or step == max_tokens - 1:
                    break
                items = [(token, len(prompts[i]) + step, [i], True) for i, token in going.items()]
                rows = dict(zip(going, streams.decode(items), strict=True))
        return [b"".join(map(self._llama.piece, tokens)).decode(errors="replace") for tokens in written]

    def count_tokens(self, prompt: Sequence[Message]) -> int:
        """Tokens of the rendered prompt; with those to write they must not exceed `context_tokens`."""
        return len(self.tokenize(self.render(prompt), special=True))

    @property
    def context_tokens(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return self._llama.capacity

    def _chunks(
        self, prompts: list[list[int]], choices: list[list[list[int]]], at_once: int = QUERIES_AT_ONCE
    ) -> Iterator[slice]:
        """Slices of queries that fit the context and the number of sequences together."""
        start, used, sequences = 0, 0, 1
        for i, (prompt, options) in enumerate(zip(prompts, choices, strict=True)):
            tokens = len(prompt) + sum(map(len, options))
            self._llama.check_fits(tokens)
            full = used + tokens > self._llama.capacity or sequences + len(options) > MAX_SEQUENCES
            if i > start and (full or i - start == at_once):
                yield slice(start, i)
                start, used, sequences = i, 0, 1
            used, sequences = used + tokens, sequences + len(options)
        if start < len(prompts):
            yield slice(start, len(prompts))

    def _score_chunk(self, prompts: list[list[int]], choices: list[list[list[int]]]) -> list[LogProbs]:
        trie, ends = self._llama.lay_out(prompts, [len(options) for options in choices])
        paths: list[list[list[int]]] = []
        free = 1
        for end, options in zip(ends, choices, strict=True):
            # Of a choice the last token is only predicted, never fed.
            paths.append(
                [[end, *trie.add(o[:-1], [k], after=end)] for k, o in enumerate(options, start=free)]
            )
            free += len(options)
        for place in {place for mine in paths for path in mine for place in path}:
            trie.nodes[place].wanted = True
        rows = self._llama.decode_trie(trie)
        self._llama.forget_after_prefix(free)
        return [
            np.array(
                [
                    sum(float(rows[place][token]) for place, token in zip(path, option, strict=True))
                    for path, option in zip(mine, options, strict=True)
                ],
                dtype=np.float64,
            )
            for mine, options in zip(paths, choices, strict=True)
        ]


@contextlib.contextmanager
def open_model(path: Path | str, adapter: Path | str | None = None, threads: int = 2) -> Iterator[LlamaModel]:
    """A `LlamaModel` that is closed at the end of the block."""
    with LlamaModel(path, adapter, threads) as model:
        yield model
