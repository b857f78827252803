"""llama.cpp's side of a loaded model: tokens in, log-probabilities out, in sequences that share a beginning.

Sequence 0 holds the common beginning of the last prompts and is kept between calls; prompts continue it in
sequences of their own, 1 and up, which are forgotten after every question.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import llama_cpp as lib
import numpy as np
import numpy.typing as npt

from oel_shared.errors import ModelFileError
from oel_shared.gguf_file import check_model_file
from oel_shared.llama_loading import load_adapter, read_template, silence
from oel_shared.token_trie import Item, TokenTrie, common_prefix, shared_length
from oel_shared.unpacking import unpacked

CONTEXT_TOKENS = 8192
BATCH_TOKENS = 2048
MAX_SEQUENCES = 256

Row = npt.NDArray[np.float32]
"""Of the whole vocabulary."""


class LlamaContext:
    """A GGUF file opened by llama.cpp, with or without a LoRA adapter.

    Raises: ModelFileError for a file that cannot be run.
    """

    def __init__(self, path: Path, adapter: Path | None, threads: int, packed: bool = False) -> None:
        check_model_file(path)
        lib.llama_backend_init()
        lib.llama_log_set(silence(), ctypes.c_void_p(0))
        with nullcontext(path) if packed else unpacked(path) as file:
            how = lib.llama_model_default_params()
            how.use_mmap = file == path  # a passing copy is read into memory
            self._model = lib.llama_model_load_from_file(str(file).encode(), how)
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
        self.capacity = int(params.n_ctx)
        self._vocab = lib.llama_model_get_vocab(self._model)
        self.vocab_size = lib.llama_vocab_n_tokens(self._vocab)
        self.end_of_turn = lib.llama_vocab_eos(self._vocab)
        self._memory = lib.llama_get_memory(self._context)
        self._batch = lib.llama_batch_init(BATCH_TOKENS, 0, MAX_SEQUENCES)
        self._prefix: list[int] = []
        self.template = read_template(self._model, path)
        self._adapter = load_adapter(self._model, self._context, adapter) if adapter else None

    def close(self) -> None:
        """Free llama.cpp's memory. The model cannot be used afterwards."""
        if self._context:
            lib.llama_batch_free(self._batch)
            lib.llama_free(self._context)
            lib.llama_model_free(self._model)
            self._context = self._model = None

    def tokenize(self, text: str, special: bool) -> list[int]:
        """Token ids; `special` reads control tokens such as `<|im_end|>` as what they are."""
        raw = text.encode()
        buffer = (lib.llama_token * (len(raw) + 8))()
        count = lib.llama_tokenize(self._vocab, raw, len(raw), buffer, len(raw) + 8, False, special)
        return list(buffer[:count])

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
        lib.llama_memory_seq_rm(self._memory, 0, kept, -1)
        for sequence in range(1, sum(branches) + 1):
            lib.llama_memory_seq_cp(self._memory, 0, sequence, -1, -1)
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
        """Decode (token, position, sequences, wants logits); returns copies of the wanted rows in order."""
        wanted: list[Row] = []
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
                lib.llama_memory_clear(self._memory, False)
                self._prefix = []
                raise RuntimeError(f"llama_decode failed with {status} for {len(part)} tokens")
            for i, item in enumerate(part):
                if item[3]:
                    pointer = lib.llama_get_logits_ith(self._context, i)
                    wanted.append(np.ctypeslib.as_array(pointer, (self.vocab_size,)).copy())
        return wanted

    def forget_after_prefix(self, sequences: int = 2) -> None:
        """Empty all sequences below this number but the common beginning."""
        for sequence in range(1, sequences):
            lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)


def log_softmax(row: Row) -> Row:
    """Log-probabilities of logits, in nats; changes `row` itself."""
    row -= row.max()
    row -= np.log(np.exp(row).sum(dtype=np.float64)).astype(np.float32)
    return row
