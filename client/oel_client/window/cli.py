"""`oel client open` and `changes`: a page of what the model learnt, what left, and what changed in it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

from oel_client.cli_options import Home, Json, folder_of
from oel_shared.console import Advance, progress, show, show_json


def open_window(
    home: Home = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    browser: Annotated[
        bool,
        typer.Option("--browser/--no-browser", help="Open it in your browser, or only print its address."),
    ] = True,
) -> None:
    """Open a page on this device: what the model learnt from you, what waits for your word, what left.

    It answers on this machine alone, under an address that holds a new token each time. Ctrl-C ends it.

    Example: `oel client open --home ./device`
    """
    from oel_client.window.serving import show_window
    from oel_shared.llama import open_model

    show_window(folder_of(home), open_model, port, lambda url: show(f"Open {url} (Ctrl-C ends it)"), browser)


def changes(
    home: Home = None,
    again: Annotated[bool, typer.Option("--again", help="Even if it was worked out before.")] = False,
    as_json: Json = False,
) -> None:
    """Say what changed in the model: states of your own games where the new release acts differently.

    The installed release and the one before it choose in the same states, without lessons in the prompt.
    """
    from dataclasses import asdict

    from oel_client import config as settings
    from oel_client.window.changes import kept, work_out
    from oel_shared.llama import open_model

    folder = folder_of(home)
    settings.load(folder)
    found = None if again else kept(folder)
    if found is None:
        with ExitStack() as stack:
            found = work_out(folder, open_model, _Bar(stack))
    if as_json:
        show_json(asdict(found))
        return
    show(
        f"{found.current} against {found.previous} in {found.states} states of your games: "
        f"another first choice in {found.first_choice_differs}"
    )
    for shift in found.shifts:
        show(
            f"{shift.goal} {' '.join(shift.observation.split())[:200]} (game {shift.game[:8]}, turn {shift.turn})"
        )
        for choice in shift.choices:
            show(f"    {choice.before:4.0%} -> {choice.after:4.0%}  {choice.action}")
        show(f"    lesson behind it: {shift.words or 'none of yours'}")


class _Bar:
    """Progress whose length is known with the first step only."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack, self._done = stack, 0
        self._advance: Advance | None = None

    def __call__(self, done: int, total: int) -> None:
        if self._advance is None:
            self._advance = self._stack.enter_context(progress("comparing releases", total))
        for _ in range(done - self._done):
            self._advance()
        self._done = done
