"""`oel model`: look into a model file. `quantize` joins it from the server's side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oel_shared.console import show_facts, show_json

model_app = typer.Typer(
    help="Look into GGUF model files and write them in other types.", no_args_is_help=True
)


@model_app.callback()
def _group() -> None:
    """Look into GGUF model files and write them in other types."""


@model_app.command()
def inspect(
    file: Annotated[str, typer.Argument()],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what a GGUF file holds: architecture, types, size, hash.

    FILE is a path, or `default` for the embedded model.

    Example: `oel model inspect default --json`
    """
    from oel_shared.defaults import resolve_model
    from oel_shared.gguf_file import SUPPORTED_ARCHITECTURES
    from oel_shared.gguf_file import inspect as look_into

    info = look_into(resolve_model(file))
    facts = {
        "file": str(Path(info.path).resolve()),
        "name": info.name,
        "architecture": info.architecture,
        "supported": info.architecture in SUPPORTED_ARCHITECTURES,
        "types": dict(info.quantisation),
        "parameters": info.parameters,
        "context_length": info.context_length,
        "chat_template": info.chat_template is not None,
        "bytes": info.size,
        "sha256": info.sha256,
    }
    if as_json:
        show_json(facts)
        return
    types = ", ".join(f"{name} x {count}" for name, count in info.quantisation.items())
    words = {
        "supported": "yes" if facts["supported"] else f"no, only {', '.join(SUPPORTED_ARCHITECTURES)}",
        "types": types,
        "parameters": f"{info.parameters:,}",
        "chat_template": "yes" if info.chat_template else "none: it cannot play",
        "bytes": f"{info.size:,}",
    }
    show_facts({key: words.get(key, str(value)) for key, value in facts.items()})
