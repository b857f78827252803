"""Options that every command of `oel client` has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[
    Path | None,
    typer.Option(help="The device's folder.", envvar="OEL_HOME", show_default="~/.local/share/edge-oel"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def folder_of(home: Path | None) -> Path:
    """The device folder that the user means."""
    from oel_client.config import default_home

    return home.expanduser() if home else default_home()
