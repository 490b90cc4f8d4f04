"""`helmlite models` and `helmlite inspect`: which detectors there are, and where their redundancy is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from helmlite.files import claim_file, holds_json, holds_picture, write_whole


def register(app: typer.Typer) -> None:
    """Adds this file's commands to the application."""
    group = typer.Typer(help="Public helmet detectors by name.", no_args_is_help=True)
    group.command("list")(list_models)
    group.command("get")(get_model)
    app.add_typer(group, name="models")
    app.command("inspect")(inspect)


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


def inspect(
    model: Annotated[str, typer.Argument(help="A .pt, a checkpoint folder, or a name of `helmlite models list`.")],
    input_size: Annotated[int | None, typer.Option(help="Side of the square input, pixels.")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG to draw the layers into.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the same numbers.")] = None,
) -> None:
    """Shows what each convolution costs and what it could do without."""
    import io
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from helmlite.compress.load import load_detector
    from helmlite.compress.redundancy import draw_layers, inspect_layers
    from helmlite.detector.macs import count_macs, count_parameters
    from helmlite.runtime.preprocess import check_input_size

    if plot is not None and plot.suffix.lower() != ".png":
        raise ValueError(f"--plot is a PNG, for instance layers.png; got {plot}.")
    claim_file(plot, "--plot", holds_picture, (model,))
    claim_file(json_file, "--json", holds_json("path", "kind", "macs"), (model,))
    detector = load_detector(model)
    size = check_input_size(detector.architecture.input_size if input_size is None else input_size)
    layers = inspect_layers(detector, size)
    table = Table("layer", "kind", "kernel", "params", "bytes", "MACs, M", "ms", "rank", "silent", "INT8 dB")
    for layer in layers:
        silent = "unknown" if layer.near_zero_share is None else f"{layer.near_zero_share:.0%}"
        cells = [layer.path, layer.kind, "x".join(map(str, layer.shape)), f"{layer.params:,}", f"{layer.size_bytes:,}"]
        cells += [f"{layer.macs / 1e6:.1f}", f"{layer.time_ms:.2f}", f"{layer.rank_share:.0%}", silent]
        table.add_row(*cells, f"{layer.int8_db:.0f}")
    Console(width=160).print(table)
    macs, params = count_macs(detector.network, size), count_parameters(detector.network)
    print(f"{model} at {size} px: {macs / 1e9:.2f} G multiply-accumulates, {params:,} parameters")
    if plot is not None:
        drawn = io.BytesIO()
        draw_layers(layers, f"{model} at {size} px").savefig(drawn, dpi=110, format="png")
        write_whole(plot, drawn.getvalue())
        print(f"drawn in {plot}")
    if json_file is not None:
        write_whole(json_file, json.dumps([asdict(layer) for layer in layers], indent=1))
