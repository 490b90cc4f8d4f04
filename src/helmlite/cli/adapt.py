"""`helmlite adapt`: brings a detector to a new place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds this file's commands to the application."""
    app.command("adapt")(adapt_model)


def adapt_model(
    model: Annotated[str, typer.Argument(help="A .pt, a checkpoint folder, or a name of `helmlite models list`.")],
    out: Annotated[Path, typer.Option(help="Checkpoint folder to write.")],
    data: Annotated[
        Path | None,
        typer.Option(help="The new place: its train split is adapted to, its val split, where labelled, judges."),
    ] = None,
    unlabelled: Annotated[
        Path | None, typer.Option(help="Folder of its pictures without labels, in place of the train split's.")
    ] = None,
    labelled: Annotated[int, typer.Option(help="How many of the train split's labels may be used.")] = 0,
    source: Annotated[
        Path | None, typer.Option(help="The place it comes from: shown again, so that it does not forget.")
    ] = None,
    way: Annotated[
        list[str] | None,
        typer.Option(help="norms, few-shot, self-training; give it again to combine. By default all that can be gone."),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="How long to train, in all.")] = None,
    epochs: Annotated[int | None, typer.Option(help="How many epochs to train, in all.")] = None,
    rounds: Annotated[int, typer.Option(help="Of self-training: how often what it is sure of is asked anew.")] = 2,
    prior: Annotated[
        float, typer.Option(help="As how many pictures the old BatchNorm statistics count; 0 forgets them.")
    ] = 16.0,
    input_size: Annotated[int | None, typer.Option(help="Side of the square input, pixels.")] = None,
    seed: Annotated[int, typer.Option(help="Every random choice follows from it.")] = 0,
    role: Annotated[list[str] | None, typer.Option(help="ROLE=CLASS, for instance no_helmet=bareheaded.")] = None,
    device: Annotated[str, typer.Option(help="Where to train: auto (a GPU where there is one), cpu or cuda.")] = "auto",
) -> None:
    """Brings a detector to a new place: its BatchNorm statistics, a few labels, and what it is sure of itself.

    Goes on where an earlier run of the same command was stopped.  Exit code 0: written, and not provably worse on the
    new place's labelled val, or there is none; 3: worse there, so nothing was written to --out; 2: wrong input.
    """
    import time

    from helmlite.cli.errors import EXIT_GATE_FAILED, going_on_later
    from helmlite.data.roles import parse_role_options
    from helmlite.job.adapt import WORSE, AdaptSettings, adapt

    settings = AdaptSettings(
        model,
        out,
        data,
        unlabelled,
        source,
        labelled,
        tuple(way) if way else None,
        minutes,
        epochs,
        rounds,
        prior,
        input_size,
        seed,
        parse_role_options(role or []),
        device,
    )
    with going_on_later():
        found = adapt(settings, lambda line: print(f"{time.strftime('%H:%M:%S')} {line}", flush=True))
    print("\n".join(found.says))
    if found.verdict == WORSE:
        print(f"worse than before: not written to {out}; it is kept in {found.place}")
        raise typer.Exit(EXIT_GATE_FAILED)
    print(f"{found.verdict}: {found.place}")
