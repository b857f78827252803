"""The command `oel`: finds its groups through entry points and turns expected failures into one line.

- `oel.commands`: groups, such as `client = "oel_client.cli:app"`; each value is a `typer.Typer`.
- `oel.model`: single commands under `oel model` that need more than a device has.

A module named there must be light to import: it is loaded for `oel --help`. Commands import what is heavy.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated

import click
import typer
from typer.core import TyperGroup

from oel_shared.errors import NotInstalled, OelError
from oel_shared.eval_cli import evaluate_command
from oel_shared.model_cli import model_app

COMMANDS, MODEL_COMMANDS = "oel.commands", "oel.model"
EXTRAS = {
    "client": "client",
    "demo": "fleet",
    "eval": "client",
    "experiment": "fleet",
    "inspect": "client",
    "quantize": "server",
    "server": "server",
}
"""The extra that a command comes with."""
INTERRUPTED = 130


class _WithEntryPoints(TyperGroup):
    """A group whose further commands come from an entry-point group, loaded when asked for."""

    entry_point_group = ""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *(found.name for found in self._found())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        matching = [found for found in self._found() if found.name == cmd_name]
        return own if own or not matching else _loaded(matching[0], ctx.command_path)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            raise _missing(ctx.command_path, ctx.invoked_subcommand or "", error) from error

    def _found(self) -> list[EntryPoint]:
        return sorted(entry_points(group=self.entry_point_group), key=lambda found: found.name)


class _Root(_WithEntryPoints):
    entry_point_group = COMMANDS


class _Model(_WithEntryPoints):
    entry_point_group = MODEL_COMMANDS


def _loaded(found: EntryPoint, program: str) -> click.Command:
    """The command behind an entry point, or one that says which extra it needs."""
    try:
        command = typer.main.get_command(found.load())
    except ModuleNotFoundError as error:
        return _absent(found.name, _missing(program, found.name, error))
    command.name = found.name
    return command


def _absent(name: str, why: Exception) -> click.Command:
    def refuse(**_: object) -> None:
        raise why

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(
        name, callback=refuse, help=str(why), context_settings=anything, add_help_option=False
    )


def _missing(program: str, name: str, error: ModuleNotFoundError) -> Exception:
    """What to raise for a module that is not there; if it is one of ours, that is a bug and stays one."""
    if name not in EXTRAS or (error.name or "").startswith("oel_"):
        return error
    return NotInstalled(
        f"'{program} {name}' needs the extra: pip install 'edge-oel[{EXTRAS[name]}]' (no module {error.name})"
    )


app = typer.Typer(
    cls=_Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    suggest_commands=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("eval")(evaluate_command)
app.add_typer(model_app, name="model", cls=_Model)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"edge-oel {version('edge-oel')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Experience stays on the device, lessons go up, a better model comes down.

    `oel demo` shows a whole federation on this machine.
    """


def run(arguments: Sequence[str]) -> int:
    """Run `oel` with these arguments; returns the exit code. Expected failures print one line on stderr."""
    try:
        result = typer.main.get_command(app).main(list(arguments), prog_name="oel", standalone_mode=False)
    except OelError as error:
        return _fail(str(error), error.exit_code)
    except click.ClickException as error:
        return _fail_usage(error)
    except (click.Abort, KeyboardInterrupt):
        return _fail("stopped", INTERRUPTED)
    except BrokenPipeError:
        # The reader, such as `head`, has enough; Python must not complain about that when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(f"{error.strerror or error}: {error.filename or 'no file named'}", 1)
    code = result if isinstance(result, int) else 0
    return _fail("stopped", code) if code == INTERRUPTED else code


def _fail(text: str, code: int) -> int:
    print(f"oel: {' '.join(text.split())}", file=sys.stderr)
    return code


def _fail_usage(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f" (try: {context.command_path} --help)" if context else ""
    return _fail(f"{error.format_message().rstrip('.')}{hint}", error.exit_code)


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
