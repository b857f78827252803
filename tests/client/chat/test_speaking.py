from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from oel_client.chat.speaking import Stage, StopWatch, Voice

TEXT = st.text("ab", max_size=12)


@given(st.lists(TEXT), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_a_text_is_cut_before_the_first_stop_however_it_comes_in_pieces(pieces, stops):
    whole = "".join(pieces)
    watch, shown = StopWatch(stops), ""
    for piece in pieces:
        shown += watch.feed(piece)
        assert whole.startswith(shown)
        assert not any(stop in shown for stop in stops)
    shown += watch.rest()
    assert not any(stop in shown for stop in stops)
    assert watch.found is any(stop in whole for stop in stops)
    if not watch.found:
        assert shown == whole


class Counting:
    """A speaker that never ends by itself, and says when it was ended."""

    context_tokens = 100

    def __init__(self) -> None:
        self.log: list[str] = []

    def count_tokens(self, prompt) -> int:
        return 1

    def stream(self, prompt, max_tokens, temperature, seed) -> Iterator[str]:
        self.log.append(f"begin {prompt}")
        try:
            for number in range(max_tokens):
                time.sleep(0.001)
                yield str(number)
        finally:
            self.log.append(f"end {prompt}")


async def listen(stage: Stage, name: str, pieces: int) -> None:
    async with stage.voice() as voice:
        spoken = stage.pieces(lambda: voice.speaker.stream(name, 1000, 0.0, 0))
        async for _ in spoken:
            pieces -= 1
            if not pieces:
                break
        await spoken.aclose()


def on_stage(act):
    speaker = Counting()

    async def run() -> None:
        stage = Stage(lambda: Voice("base", speaker))
        await act(stage)
        await stage.run(lambda: None)  # whatever was to be ended is
        stage.close()

    asyncio.run(run())
    return speaker.log


def test_requests_wait_for_each_other_and_come_in_their_order():
    async def act(stage: Stage) -> None:
        await asyncio.gather(*(listen(stage, name, 3) for name in "abc"))

    assert on_stage(act) == ["begin a", "end a", "begin b", "end b", "begin c", "end c"]


def test_a_listener_that_goes_away_ends_the_answer_and_frees_the_model():
    async def act(stage: Stage) -> None:
        gone = asyncio.create_task(listen(stage, "a", 900))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        await asyncio.wait_for(listen(stage, "b", 1), 5)

    assert on_stage(act) == ["begin a", "end a", "begin b", "end b"]


def test_one_that_goes_away_while_it_waits_never_speaks():
    async def act(stage: Stage) -> None:
        first = asyncio.create_task(listen(stage, "a", 50))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(listen(stage, "b", 1))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)

    assert on_stage(act) == ["begin a", "end a"]
