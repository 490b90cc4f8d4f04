"""`helmlite models`: public helmet detectors by name."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds this file's commands to the application."""
    group = typer.Typer(help="Public helmet detectors by name.", no_args_is_help=True)
    group.command("list")(list_models)
    group.command("get")(get_model)
    app.add_typer(group, name="models")


def list_models() -> None:
    """Shows the known detectors with source, licence and training data."""
    from rich.console import Console
    from rich.table import Table

    from helmlite.detector.zoo import MODELS

    table = Table("name", "from", "licence", "training data")
    for model in MODELS.values():
        table.add_row(model.name, f"PyPI {model.package} {model.version}", model.licence, model.training_data)
    Console().print(table)


def get_model(name: Annotated[str, typer.Argument(help="A name from `helmlite models list`.")]) -> None:
    """Fetches a detector into the cache with pip, as data, and prints where it is."""
    from helmlite.detector.zoo import fetch_model, model_named

    model = model_named(name)
    path = fetch_model(name)
    print(path)
    print(f"licence: {model.licence}")
    print(f"trained on: {model.training_data}")
