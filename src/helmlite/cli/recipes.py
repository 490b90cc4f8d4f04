"""`helmlite techniques` and `helmlite recipe`: what there is, and what a recipe will do to a detector."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds this file's commands to the application."""
    group = typer.Typer(help="Recipes: lists of techniques.", no_args_is_help=True)
    group.command("list")(list_recipes)
    group.command("show")(show)
    app.add_typer(group, name="recipe")
    app.command("techniques")(techniques)


def techniques() -> None:
    """Lists every technique with its papers and its settings."""
    from helmlite.compress.describe import described
    from helmlite.compress.techniques import TECHNIQUES

    for name in TECHNIQUES:
        about = described(name)
        print(f"{name}: {about.purpose}")
        for paper in about.papers:
            print(f"    {paper}")
        print("    settings: " + ", ".join(f"{key} = {value}" for key, value in about.settings.items()) + "\n")


def list_recipes() -> None:
    """Lists the recipes that come with helmlite, what each is for and its steps."""
    from rich.console import Console
    from rich.table import Table

    from helmlite.compress.recipe import load_recipe, recipe_names

    table = Table("name", "for", "input", "steps")
    for name in recipe_names():
        recipe = load_recipe(name, minutes=1.0)
        size = "the detector's" if recipe.input_size is None else str(recipe.input_size)
        table.add_row(name, recipe.purpose, size, " > ".join(step.name for step in recipe.steps))
    Console(width=140).print(table)


def show(
    name: Annotated[str, typer.Argument(help="A shipped recipe, or the path of a .toml.")],
    model: Annotated[str, typer.Argument(help="A .pt, a checkpoint folder, or a name of `helmlite models list`.")],
    target: Annotated[str, typer.Option(help="What it is to run on.")] = "x86-openvino",
    input_size: Annotated[int | None, typer.Option(help="Side of the square input, pixels.")] = None,
) -> None:
    """Prints what each step will do to this detector: layers, multiply-accumulates, bytes.  Trains nothing."""
    from rich.console import Console
    from rich.table import Table

    from helmlite.compress.load import load_detector
    from helmlite.compress.recipe import load_recipe
    from helmlite.job.show import show_recipe
    from helmlite.job.target import load_target
    from helmlite.runtime.preprocess import check_input_size

    recipe, place, detector = load_recipe(name, minutes=1.0), load_target(target), load_detector(model)
    sizes = (input_size, recipe.input_size, detector.architecture.input_size)
    size = check_input_size(next(item for item in sizes if item is not None))
    rows = show_recipe(recipe, detector, place, size, lambda line: print(line, flush=True))
    table = Table("step", "convolutions", "modules changed", "MACs, G", "parameters", "bytes", title=recipe.purpose)
    for row in rows:
        cells = [f"{row.layers}", f"{row.changed}", f"{row.macs / 1e9:.2f}", f"{row.params:,}", f"{row.size_bytes:,}"]
        table.add_row(row.name, *cells)
    Console(width=120).print(table)
    print(f"{model} at {size} px, for {place.name}. Bytes are of the files that the target loads.")
