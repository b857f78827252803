"""One answer at a time from the device's model, piece by piece; what is installed meanwhile speaks next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from oel_shared.model import Message

ResultT = TypeVar("ResultT")


class Speaker(Protocol):
    """A model that can be listened to. Implementations: `LlamaModel`, and one for tests."""

    @property
    def context_tokens(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        ...

    def count_tokens(self, prompt: Sequence[Message]) -> int:
        """Tokens of the prompt."""
        ...

    def stream(
        self, prompt: Sequence[Message], max_tokens: int, temperature: float, seed: int
    ) -> Iterator[str]:
        """The answer, one text a token."""
        ...


@dataclass(frozen=True, slots=True)
class Voice:
    """A model and the release that it is."""

    release: str
    speaker: Speaker


class Stage:
    """Where requests wait for the model, first come first served.

    Args:
        current: gives the model to speak with now; called in the stage's one thread, before each answer.
    """

    def __init__(self, current: Callable[[], Voice]) -> None:
        self._current = current
        self._turn = asyncio.Lock()
        # All that touches the model runs here, one after the other, even when a listener is gone.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    @asynccontextmanager
    async def voice(self) -> AsyncIterator[Voice]:
        """Wait for one's turn; the model is the caller's until the block ends."""
        async with self._turn:
            yield await self.run(self._current)

    async def run(self, work: Callable[[], ResultT]) -> ResultT:
        """Do something in the stage's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def pieces(self, begin: Callable[[], Iterator[str]]) -> AsyncIterator[str]:
        """The pieces of what `begin` starts. It is ended when the listener goes away, whatever was said."""
        spoken = begin()
        try:
            while (piece := await self.run(lambda: next(spoken, None))) is not None:
                yield piece
        finally:
            # Not awaited: a listener that is gone cancels every wait. It runs before anything that comes later.
            close = getattr(spoken, "close", None)
            if close:
                self._thread.submit(close)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True)


class StopWatch:
    """Cuts a growing text before the first of some texts, and never lets out the beginning of one.

    `feed` gives what may be shown; after `found` is true, nothing more comes.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def feed(self, piece: str) -> str:
        """Take a piece; returns what is sure to stand before any stop text."""
        if self.found:
            return ""
        self._held += piece
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.found = True
            shown, self._held = self._held[: min(places)], ""
            return shown
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        end = len(self._held) - keep
        shown, self._held = self._held[:end], self._held[end:]
        return shown

    def rest(self) -> str:
        """What was held back, once it is known that nothing follows."""
        held, self._held = self._held, ""
        return held

    def _overlap(self, stop: str) -> int:
        """Length of the longest beginning of `stop` with which the held text ends."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)
