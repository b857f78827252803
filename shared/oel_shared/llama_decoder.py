"""A llama.cpp context over a loaded model: tokens in, rows of logits out."""

from __future__ import annotations

from typing import Any

import llama_cpp as lib
import numpy as np
import numpy.typing as npt

from oel_shared.llama_loading import use_adapter
from oel_shared.token_trie import Item

BATCH_TOKENS = 2048
_CELLS = 256
"""llama.cpp gives every stream a multiple of so many tokens."""

Row = npt.NDArray[np.float32]
"""Of the whole vocabulary."""


class Decoder:
    """Memory for sequences of tokens, and the way to add to them."""

    def __init__(
        self, model: Any, adapter: Any, threads: int, sequences: int, tokens: int, shared: bool
    ) -> None:
        """
        Args:
            sequences: numbered from 0.
            tokens: of all sequences together, if `shared`; else of each.
            shared: sequences may share tokens, and a token's attention costs what all of them hold together. Else
                every sequence stands alone and costs what it holds itself.
        """
        params = lib.llama_context_default_params()
        params.n_ctx = tokens if shared else sequences * -(-tokens // _CELLS) * _CELLS
        params.n_batch, params.n_seq_max, params.kv_unified = BATCH_TOKENS, sequences, shared
        # With flash attention the logits depend on how tokens are split into batches (0.7 nats were seen);
        # without it every split gives the same bits, so a play can be repeated exactly.
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.n_threads = params.n_threads_batch = threads
        self._context = lib.llama_init_from_model(model, params)
        if not self._context:
            raise MemoryError(f"llama.cpp has no room for {sequences} sequences of {tokens} tokens")
        if adapter:
            use_adapter(self._context, adapter)
        self._vocab_size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
        self.memory = lib.llama_get_memory(self._context)
        self._batch = lib.llama_batch_init(BATCH_TOKENS, 0, sequences)

    def close(self) -> None:
        """Free llama.cpp's memory."""
        if self._context:
            lib.llama_batch_free(self._batch)
            lib.llama_free(self._context)
            self._context = None

    def decode(self, items: list[Item]) -> list[Row]:
        """Decode (token, position, sequences, wants logits); returns copies of the wanted rows in order.

        Raises: RuntimeError where llama.cpp gives up; all sequences are then empty.
        """
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
                lib.llama_memory_clear(self.memory, False)
                raise RuntimeError(f"llama_decode failed with {status} for {len(part)} tokens")
            for i, item in enumerate(part):
                if item[3]:
                    pointer = lib.llama_get_logits_ith(self._context, i)
                    wanted.append(np.ctypeslib.as_array(pointer, (self._vocab_size,)).copy())
        return wanted
