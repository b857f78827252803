"""`oel model quantize`: the same weights in another type. Registered as an entry point of `oel.model`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oel_shared.console import show, show_json

app = typer.Typer(add_completion=False)


@app.command()
def quantize(
    base: Annotated[str, typer.Argument()],
    out: Annotated[Path, typer.Argument()],
    type_name: Annotated[str, typer.Option("--type", help="Type of the linear layers, such as Q8_0.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a GGUF model with its linear layers in another type; all else stays as it is.

    BASE is a GGUF file, or `default` for the embedded model; OUT must not exist yet.

    Example: `oel model quantize default model-q8.gguf --type Q8_0`
    """
    from oel_server.package.template import write_model
    from oel_shared.defaults import resolve_model
    from oel_shared.errors import StateError, UsageError
    from oel_shared.gguf_file import check_model_file

    source = resolve_model(base)
    check_model_file(source)
    if out.exists():
        raise StateError(f"{out} exists: choose another name or remove it")
    if not out.parent.is_dir():
        raise UsageError(f"no folder {out.parent}: make it first")
    part = out.with_name(f".{out.name}.part")
    try:
        write_model(source, {}, part, type_name)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    sizes = {"base_bytes": source.stat().st_size, "bytes": out.stat().st_size}
    if as_json:
        show_json({"file": str(out.resolve()), "type": type_name, **sizes})
    else:
        show(f"{out}: {type_name}, {sizes['bytes']:,} bytes (the base has {sizes['base_bytes']:,})")
