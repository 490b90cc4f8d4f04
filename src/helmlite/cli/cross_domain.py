"""`helmlite cross-domain`: the matrix *trained on* x *tested on* over several data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds this file's commands to the application."""
    app.command("cross-domain")(cross_domain_models)


def cross_domain_models(
    models: Annotated[
        list[str],
        typer.Argument(
            help="One or more, as `helmlite compare` takes them, each with the sets that it was trained on: "
            "best.pt,trained_on=bikes_helmets+hardhat. A checkpoint of `helmlite finetune`, and a bundle, know it."
        ),
    ],
    data: Annotated[
        list[str],
        typer.Option(help="A data set, once for each: data.yaml, a COCO JSON, or a folder; PATH,name=NAME renames it."),
    ],
    split: Annotated[str, typer.Option(help="Pictures that are reported, of every set.")] = "test",
    runtime: Annotated[
        str | None, typer.Option(help="pytorch, onnxruntime or openvino, for every model that does not name its own.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the runtime; by default every core.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="ROLE=CLASS, for instance no_helmet=bareheaded.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pictures of each set.")] = None,
    seed: Annotated[int, typer.Option(help="Of the resampling.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the page, its JSON and its Markdown.")] = None,
) -> None:
    """What models lose on streets that they were not trained on, against the best that was trained there."""
    from helmlite.cli.compare import claim_result_folder, typed_command
    from helmlite.cli.evaluate import ShownProgress
    from helmlite.data.roles import parse_role_options
    from helmlite.evaluate.cross_domain_files import (
        CHINESE_PAGE_NAME,
        JSON_NAME,
        MARKDOWN_NAME,
        PAGE_NAME,
        write_cross_domain,
    )
    from helmlite.evaluate.pages.terminal import show_cross_domain
    from helmlite.models.matrix import cross_domain_models as measured
    from helmlite.models.matrix import parse_trained_on

    if out is not None:
        paths = [parse_trained_on(text).model.model for text in models]
        claim_result_folder(out, paths, {CHINESE_PAGE_NAME, JSON_NAME, MARKDOWN_NAME, PAGE_NAME})
    roles = parse_role_options(role or [])
    command = typed_command()
    found = measured(models, data, split, runtime, threads, roles, limit, seed, command, ShownProgress)
    show_cross_domain(found)
    if out is not None:
        print(f"written to {write_cross_domain(found, out)}")
