"""Whether `oel` would understand a command, without running it."""

from __future__ import annotations

from collections.abc import Sequence

import click
import typer

from oel_shared.cli import app


def understood(words: Sequence[str]) -> None:
    """Raises click.ClickException for a command, option or value that `oel WORDS...` does not know."""
    command: click.Command | None = typer.main.get_command(app)
    context, rest = click.Context(command, info_name="oel"), list(words)  # type: ignore[arg-type]
    while isinstance(command, click.Group):
        name, command, rest = command.resolve_command(context, rest)
        assert command is not None
        if isinstance(command, click.Group):
            context = click.Context(command, info_name=name, parent=context)
    assert command is not None
    command.make_context(command.name, rest, parent=context)
