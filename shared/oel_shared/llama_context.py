"""llama.cpp's side of a loaded model: tokens in, log-probabilities out, in sequences that share a beginning.

Sequence 0 holds the common beginning of the last prompts and is kept between calls; prompts continue it in
sequences of their own, 1 and up, which are forgotten after every question.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import llama_cpp as lib
import numpy as np

from oel_shared.errors import ModelFileError
from oel_shared.gguf_file import check_model_file
from oel_shared.llama_decoder import Decoder, Row
from oel_shared.llama_loading import load_adapter, load_params, read_template, silence, tokenized, turn_end
from oel_shared.token_trie import Item, TokenTrie, common_prefix, shared_length
from oel_shared.unpacking import unpacked

CONTEXT_TOKENS = 8192
MAX_SEQUENCES = 256


class LlamaContext:
    """A GGUF file opened by llama.cpp, with or without a LoRA adapter.

    Raises: ModelFileError for a file that cannot be run.
    """

    def __init__(self, path: Path, adapter: Path | None, threads: int, packed: bool = False) -> None:
        check_model_file(path)
        lib.llama_backend_init()
        lib.llama_log_set(silence(), ctypes.c_void_p(0))
        with nullcontext(path) if packed else unpacked(path) as file:
            how = load_params()
            how.use_mmap = file == path  # a passing copy is read into memory
            self._model = lib.llama_model_load_from_file(str(file).encode(), how)
        if not self._model:
            raise ModelFileError(f"llama.cpp cannot load {path}: the file is damaged or newer than llama.cpp")
        self.capacity = int(min(CONTEXT_TOKENS, lib.llama_model_n_ctx_train(self._model)))
        self._vocab = lib.llama_model_get_vocab(self._model)
        self.vocab_size = int(lib.llama_vocab_n_tokens(self._vocab))
        self.template = read_template(self._model, path)
        self.end_of_turn = turn_end(self._vocab, self.template)
        self._adapter = load_adapter(self._model, adapter) if adapter else None
        self._threads = threads
        self._decoder = self._new_decoder(MAX_SEQUENCES, self.capacity, shared=True)
        self._prefix: list[int] = []

    def close(self) -> None:
        """Free llama.cpp's memory. The model cannot be used afterwards."""
        if self._model:
            self._decoder.close()
            lib.llama_model_free(self._model)
            self._model = None

    def tokenize(self, text: str, special: bool) -> list[int]:
        """Token ids; `special` reads control tokens such as `<|im_end|>` as what they are."""
        return tokenized(self._vocab, text, special)

    def piece(self, token: int) -> bytes:
        """What a token writes: UTF-8, perhaps a part of a character; nothing for a control token."""
        buffer = ctypes.create_string_buffer(256)
        length = lib.llama_token_to_piece(self._vocab, token, buffer, 256, 0, False)
        return buffer.raw[:length]

    def ends(self, token: int) -> bool:
        """Whether this token ends an answer."""
        return bool(lib.llama_vocab_is_eog(self._vocab, token))

    def check_fits(self, tokens: int) -> None:
        """Raises: ModelFileError if a prompt with its answer has more tokens than the context."""
        if tokens > self.capacity:
            raise ModelFileError(
                f"a prompt of {tokens} tokens does not fit the model's context of {self.capacity}: "
                "shorten observations or use a model with a longer context"
            )

    def lay_out(self, prompts: list[list[int]], branches: Sequence[int]) -> tuple[TokenTrie, list[int]]:
        """The prompts as a trie that may still grow, to be decoded next.

        Args:
            branches: in how many sequences each prompt goes on. Prompt 0 gets the sequences from 1 on, prompt 1
                those after them, and so forth.
        Returns: the trie and the last node of every prompt.
        """
        common = common_prefix(prompts)
        kept = shared_length(common, self._prefix)
        lib.llama_memory_seq_rm(self._decoder.memory, 0, kept, -1)
        for sequence in range(1, sum(branches) + 1):
            lib.llama_memory_seq_cp(self._decoder.memory, 0, sequence, -1, -1)
        trie, ends, free = TokenTrie(kept), [], 1
        trie.add(common[kept:], [0])
        for prompt, count in zip(prompts, branches, strict=True):
            ends.append(trie.add(prompt[kept:], range(free, free + count))[-1])
            free += count
        self._prefix = common
        return trie, ends

    def decode_trie(self, trie: TokenTrie) -> dict[int, Row]:
        """Log-probs of what follows each of its wanted nodes."""
        return dict(zip(trie.wanted, map(log_softmax, self.decode(trie.items)), strict=True))

    def decode_prompts(self, prompts: list[list[int]]) -> list[Row]:
        """Prompt i into sequence i + 1; returns the log-probs of each prompt's next token, (vocabulary,)."""
        trie, ends = self.lay_out(prompts, [1] * len(prompts))
        for end in ends:
            trie.nodes[end].wanted = True
        rows = self.decode_trie(trie)
        return [rows[end].copy() for end in ends]

    def decode(self, items: list[Item]) -> list[Row]:
        """See `Decoder.decode`."""
        try:
            return self._decoder.decode(items)
        except RuntimeError:
            self._prefix = []
            raise

    @contextmanager
    def apart(self, sequences: int, tokens: int) -> Iterator[Decoder]:
        """While the block runs: sequences of up to `tokens` each, which cost no attention to one another."""
        decoder = self._new_decoder(sequences, tokens, shared=False)
        try:
            yield decoder
        finally:
            decoder.close()

    def _new_decoder(self, sequences: int, tokens: int, shared: bool) -> Decoder:
        return Decoder(self._model, self._adapter, self._threads, sequences, tokens, shared)

    def forget_after_prefix(self, sequences: int = 2) -> None:
        """Empty all sequences below this number but the common beginning."""
        for sequence in range(1, sequences):
            lib.llama_memory_seq_rm(self._decoder.memory, sequence, -1, -1)


def log_softmax(row: Row) -> Row:
    """Log-probabilities of logits, in nats; changes `row` itself."""
    row -= row.max()
    row -= np.log(np.exp(row).sum(dtype=np.float64)).astype(np.float32)
    return row
