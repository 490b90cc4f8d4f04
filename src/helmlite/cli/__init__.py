"""The command line: one function for each command, grouped in files; what a command needs is imported inside it."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from helmlite import __version__
from helmlite.cli import (
    adapt,
    compare,
    cross_domain,
    data,
    edge,
    evaluate,
    mine,
    models,
    packing,
    recipes,
    report,
    workshop,
)
from helmlite.files import NOT_UTF8

app = typer.Typer(
    name="helmlite",
    help="Make a trained helmet detector small and fast, prove what it cost, and run it at the roadside.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"helmlite {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """What may stand before a command."""


data.register(app)
models.register(app)
recipes.register(app)
workshop.register(app)
adapt.register(app)
evaluate.register(app)
compare.register(app)
cross_domain.register(app)
report.register(app)
mine.register(app)
edge.register(app)
packing.register(app)


def main() -> None:
    """Entry point of the `helmlite` command."""
    from helmlite.cli.errors import one_line_errors

    if isinstance(sys.stdout, io.TextIOWrapper):  # else a name that the terminal cannot show would end the command
        sys.stdout.reconfigure(errors=NOT_UTF8)
    with one_line_errors():
        app()
