"""A GGUF model through llama.cpp: exact scores for many choices of many prompts in few decodes.

The queries' common beginning is decoded once and kept between calls; every prompt continues it in a sequence
of its own, and a prompt's choices branch off as a token trie, so what several choices share is computed once.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
from collections.abc import Iterator, Sequence
from pathlib import Path

import llama_cpp as lib
import numpy as np
import numpy.typing as npt

from oel_shared.choice_trie import Node, choice_log_prob, common_prefix, inner_nodes, shared_length, trie
from oel_shared.errors import ModelFileError
from oel_shared.gguf_file import check_model_file
from oel_shared.llama_loading import load_adapter, read_template, silence
from oel_shared.model import ChoiceQuery, LogProbs, Message
from oel_shared.sampling import sample

CONTEXT_TOKENS = 8192
BATCH_TOKENS = 2048
MAX_SEQUENCES = 256
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

    Raises: ModelFileError for a file that cannot be run.
    """

    def __init__(self, path: Path | str, adapter: Path | str | None = None, threads: int = 2) -> None:
        path = Path(path)
        check_model_file(path)
        lib.llama_backend_init()
        lib.llama_log_set(silence(), ctypes.c_void_p(0))
        self._model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        if not self._model:
            raise ModelFileError(f"llama.cpp cannot load {path}: the file is damaged or newer than llama.cpp")
        params = lib.llama_context_default_params()
        params.n_ctx = min(CONTEXT_TOKENS, lib.llama_model_n_ctx_train(self._model))
        params.n_batch, params.n_seq_max, params.kv_unified = BATCH_TOKENS, MAX_SEQUENCES, True
        # With flash attention the logits depend on how tokens are split into batches (0.7 nats were seen);
        # without it every split gives the same bits, so a play can be repeated exactly.
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.n_threads = params.n_threads_batch = threads
        self._context = lib.llama_init_from_model(self._model, params)
        self._capacity = int(params.n_ctx)
        self._vocab = lib.llama_model_get_vocab(self._model)
        self._vocab_size = lib.llama_vocab_n_tokens(self._vocab)
        self._end_of_turn = lib.llama_vocab_eos(self._vocab)
        self._memory = lib.llama_get_memory(self._context)
        self._batch = lib.llama_batch_init(BATCH_TOKENS, 0, MAX_SEQUENCES)
        self._prefix: list[int] = []
        self._known: dict[ChoiceQuery, LogProbs] = {}
        self._template = read_template(self._model, path)
        self._adapter = load_adapter(self._model, self._context, Path(adapter)) if adapter else None

    def close(self) -> None:
        """Free llama.cpp's memory. The model cannot be used afterwards."""
        if self._context:
            lib.llama_batch_free(self._batch)
            lib.llama_free(self._context)
            lib.llama_model_free(self._model)
            self._context = self._model = None

    def __enter__(self) -> LlamaModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def render(self, messages: Sequence[Message]) -> str:
        """The chat template applied, up to where the assistant begins."""
        return self._template.render(messages)

    def tokenize(self, text: str, special: bool) -> list[int]:
        """Token ids; `special` reads control tokens such as `<|im_end|>` as what they are."""
        raw = text.encode()
        buffer = (lib.llama_token * (len(raw) + 8))()
        count = lib.llama_tokenize(self._vocab, raw, len(raw), buffer, len(raw) + 8, False, special)
        return list(buffer[:count])

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
        parts = [
            (self.tokenize(self.render(query.prompt), special=True), query.choices[i : i + CHOICES_AT_ONCE])
            for query in queries
            for i in range(0, len(query.choices), CHOICES_AT_ONCE)
        ]
        prompts = [prompt for prompt, _ in parts]
        choices = [[[*self.tokenize(c, special=False), self._end_of_turn] for c in cs] for _, cs in parts]
        scored = [
            s for c in self._chunks(prompts, choices) for s in self._score_chunk(prompts[c], choices[c])
        ]
        rest = iter(scored)
        counts = [-(-len(query.choices) // CHOICES_AT_ONCE) for query in queries]
        return [np.concatenate([next(rest) for _ in range(count)]) for count in counts]

    def next_token_log_probs(self, prompt: Sequence[Message], answer: str) -> LogProbs:
        """See `LanguageModel.next_token_log_probs`; in float32. Raises: ModelFileError if it does not fit."""
        fed, told = self.tokenize(self.render(prompt), special=True), self.tokenize(answer, special=False)
        self._check_fits(len(fed) + len(told))
        rows = self._decode_prompts([fed])
        answered = self._decode([(t, len(fed) + i, [1], True) for i, t in enumerate(told)])
        self._forget_after_prefix()
        return np.stack([*rows, *map(_log_softmax, answered)])

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

        Nothing else may use the model until the iterator ends or is closed.
        """
        rng = np.random.default_rng(seed)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        try:
            logits = self._decode_prompts([self.tokenize(self.render(prompt), special=True)])[0]
            start = self._length
            for written in range(1, max_tokens + 1):
                token = sample(logits, temperature, rng, top_p, top_k)
                if lib.llama_vocab_is_eog(self._vocab, token):
                    break
                yield decoder.decode(self._bytes(token), final=written == max_tokens)
                if written < max_tokens:
                    logits = self._decode([(token, start + written - 1, [1], True)])[0]
            if rest := decoder.decode(b"", final=True):
                yield rest
        finally:
            self._forget_after_prefix()

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
        try:
            rows = dict(enumerate(self._decode_prompts(prompts)))
            for step in range(max_tokens):
                chosen = {i: sample(row, temperature, dice[i]) for i, row in rows.items()}
                going = {i: t for i, t in chosen.items() if not lib.llama_vocab_is_eog(self._vocab, t)}
                for i, token in going.items():
                    written[i].append(token)
                if not going or step == max_tokens - 1:
                    break
                items = [(token, len(prompts[i]) + step, [i + 1], True) for i, token in going.items()]
                rows = dict(zip(going, self._decode(items), strict=True))
        finally:
            self._forget_after_prefix(len(prompts) + 1)
        return [b"".join(map(self._bytes, tokens)).decode(errors="replace") for tokens in written]

    def count_tokens(self, prompt: Sequence[Message]) -> int:
        """Tokens of the rendered prompt; with those to write they must not exceed `context_tokens`."""
        return len(self.tokenize(self.render(prompt), special=True))

    @property
    def context_tokens(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return self._capacity

    def _chunks(
        self, prompts: list[list[int]], choices: list[list[list[int]]], at_once: int = QUERIES_AT_ONCE
    ) -> Iterator[slice]:
        """Slices of queries that fit the context and the number of sequences together."""
        start, used, sequences = 0, 0, 1
        for i, (prompt, options) in enumerate(zip(prompts, choices, strict=True)):
            tokens = len(prompt) + sum(map(len, options))
            self._check_fits(tokens)
            full = used + tokens > self._capacity or sequences + 1 + len(options) > MAX_SEQUENCES
            if i > start and (full or i - start == at_once):
                yield slice(start, i)
                start, used, sequences = i, 0, 1
            used, sequences = used + tokens, sequences + 1 + len(options)
        if start < len(prompts):
            yield slice(start, len(prompts))

    def _check_fits(self, tokens: int) -> None:
        if tokens > self._capacity:
            raise ModelFileError(
                f"a prompt of {tokens} tokens does not fit the model's context of {self._capacity}: "
                "shorten observations or use a model with a longer context"
            )

    def _score_chunk(self, prompts: list[list[int]], choices: list[list[list[int]]]) -> list[LogProbs]:
        first = self._decode_prompts(prompts)
        free = len(prompts) + 1
        tries: list[dict[int, Node]] = []
        for i, options in enumerate(choices):
            tries.append(trie(options, free))
            for sequence in range(free, free + len(options)):
                lib.llama_memory_seq_cp(self._memory, i + 1, sequence, -1, -1)
            free += len(options)
        rows = self._decode_tries(tries, [len(p) for p in prompts])
        results = [
            np.array([choice_log_prob(o, first[i], tries[i], rows) for o in options], dtype=np.float64)
            for i, options in enumerate(choices)
        ]
        self._forget_after_prefix(free)
        return results

    def _decode_prompts(self, prompts: list[list[int]]) -> list[npt.NDArray[np.float32]]:
        """Prompt i into sequence i + 1; returns the log-probs of each prompt's next token, (vocabulary,)."""
        common = common_prefix(prompts)
        kept = shared_length(common, self._prefix)
        lib.llama_memory_seq_rm(self._memory, 0, kept, -1)
        self._decode([(t, kept + i, [0], False) for i, t in enumerate(common[kept:])])
        self._prefix = common
        items: list[tuple[int, int, list[int], bool]] = []
        for i, prompt in enumerate(prompts):
            lib.llama_memory_seq_cp(self._memory, 0, i + 1, -1, -1)
            for position in range(len(common), len(prompt)):
                items.append((prompt[position], position, [i + 1], position == len(prompt) - 1))
        self._length = len(prompts[-1])
        return [_log_softmax(row) for row in self._decode(items)]

    def _decode_tries(self, tries: list[dict[int, Node]], starts: list[int]) -> list[npt.NDArray[np.float32]]:
        """Decode all inner nodes of all tries; sets each node's `row` into the returned log-probs."""
        items: list[tuple[int, int, list[int], bool]] = []
        for one, start in zip(tries, starts, strict=True):
            for node in inner_nodes(one):
                node.row = len(items)
                items.append((node.token, start + node.depth, node.sequences, True))
        return [_log_softmax(row) for row in self._decode(items)]

    def _decode(self, items: list[tuple[int, int, list[int], bool]]) -> list[npt.NDArray[np.float32]]:
        """Decode (token, position, sequences, wants logits); returns copies of the wanted rows in order."""
        wanted: list[npt.NDArray[np.float32]] = []
        for begin in range(0, len(items), BATCH_TOKENS):
            part = items[begin : begin + BATCH_TOKENS]
            batch = self._batch
            batch.n_tokens = len(part)
            for i, (token, position, sequences, logits) in enumerate(part):
                batch.token[i], batch.pos[i], batch.logits[i] = token, position, logits
                batch.n_seq_id[i] = len(sequences)
                for k, sequence in enumerate(sequences):
                    batch.seq_id[i][k] = sequence
            status = lib.llama_decode(self._context, batch)
            if status != 0:
                raise RuntimeError(f"llama_decode failed with {status} for {len(part)} tokens")
            for i, item in enumerate(part):
                if item[3]:
                    pointer = lib.llama_get_logits_ith(self._context, i)
                    wanted.append(np.ctypeslib.as_array(pointer, (self._vocab_size,)).copy())
        return wanted

    def _forget_after_prefix(self, sequences: int = 2) -> None:
        for sequence in range(1, sequences):
            lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def _bytes(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        length = lib.llama_token_to_piece(self._vocab, token, buffer, 256, 0, False)
        return buffer.raw[:length]


def _log_softmax(row: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    row -= row.max()
    row -= np.log(np.exp(row).sum(dtype=np.float64)).astype(np.float32)
    return row


@contextlib.contextmanager
def open_model(path: Path | str, adapter: Path | str | None = None, threads: int = 2) -> Iterator[LlamaModel]:
    """A `LlamaModel` that is closed at the end of the block."""
    with LlamaModel(path, adapter, threads) as model:
        yield model
