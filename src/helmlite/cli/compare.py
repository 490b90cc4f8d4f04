"""`helmlite compare`: any mix of detectors, bundles and ONNX files on the same labelled pictures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

_ROUNDS = 40


def register(app: typer.Typer) -> None:
    """Adds this file's commands to the application."""
    app.command("compare")(compare_models)


def compare_models(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Two or more, the first held against all others: a bundle, an .onnx, a .pt, a checkpoint or a public "
            "name, each with settings of its own after commas: best.onnx,layout=ultralytics,classes=helmet+no_helmet "
            "or helmet-yolo12m,input_size=416,name=small."
        ),
    ],
    data: Annotated[Path, typer.Option(help="The data set: data.yaml, a COCO JSON, or a Pascal VOC folder.")],
    split: Annotated[str, typer.Option(help="Pictures that are reported.")] = "test",
    tune_split: Annotated[
        str | None, typer.Option(help="Pictures on which thresholds are chosen; by default val, where there is one.")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="pytorch, onnxruntime or openvino, for every model that does not name its own.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the runtime; by default every core.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="ROLE=CLASS, for instance no_helmet=bareheaded.")] = None,
    thresholds: Annotated[
        str, typer.Option(help="How thresholds are chosen: f1, recall=0.9, alarms=5 (for every 100 pictures).")
    ] = "f1",
    time: Annotated[bool, typer.Option("--time", help="Also time them, all in turn in one run.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds of timing; by default 40.")] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also on the pictures made worse in nine ways, at three severities.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pictures.")] = None,
    seed: Annotated[int, typer.Option(help="Of the resampling.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the page, its JSON and Markdown, and tables of pictures and of doubtful labels."),
    ] = None,
) -> None:
    """Holds models against the first: accuracy with intervals, bare heads lost and won, bytes, speed."""
    from helmlite.cli.evaluate import ShownProgress
    from helmlite.data.roles import parse_role_options
    from helmlite.evaluate.pages.terminal import show_comparison
    from helmlite.evaluate.thresholds import parse_rule
    from helmlite.models.compared import compare_models as compared
    from helmlite.models.wanted import named, parse_model

    if len(models) < 2:
        raise ValueError("compare wants two models or more; `helmlite eval` measures one.")
    if rounds is not None and not time:
        raise ValueError(f"--rounds {rounds} is for timing: give --time too, or leave it out.")
    wanted = named([parse_model(text, runtime) for text in models])
    rule = parse_rule(thresholds)
    if out is not None:
        _claim_folder(out, [item.model for item in wanted])
    found = compared(
        wanted,
        data,
        split,
        tune_split,
        None,
        threads,
        parse_role_options(role or []),
        rule,
        (rounds or _ROUNDS) if time else 0,
        robustness,
        limit,
        seed,
        typed_command(),
        ShownProgress,
    )
    show_comparison(found.comparison)
    if out is not None:
        print(f"written to {found.write(out)}")


def _claim_folder(folder: Path, models: Sequence[str]) -> None:
    """Raises ValueError where the folder holds anything but an older comparison, or lies in a model."""
    from helmlite.evaluate.causes.label_mistakes import MISTAKES_NAME
    from helmlite.evaluate.comparison_files import CHINESE_PAGE_NAME, JSON_NAME, MARKDOWN_NAME, PAGE_NAME
    from helmlite.evaluate.pages.gallery import GALLERY_NAME
    from helmlite.evaluate.pictures import CSV_NAME

    known = {CHINESE_PAGE_NAME, CSV_NAME, GALLERY_NAME, JSON_NAME, MARKDOWN_NAME, MISTAKES_NAME, PAGE_NAME}
    claim_result_folder(folder, models, known)


def claim_result_folder(folder: Path, models: Sequence[str], known: Collection[str]) -> None:
    """Raises ValueError where `--out` holds anything but such files, lies in one of the models, or takes no file."""
    from helmlite.files import check_can_write_to, keep_out_of

    keep_out_of(models, folder, "--out")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out wants a folder; {folder} is a file.")
    if folder.is_dir() and (others := sorted(item.name for item in folder.iterdir() if item.name not in known)):
        raise ValueError(f"{folder} holds other things ({others[0]}); give --out a new or empty folder.")
    check_can_write_to(folder)


def typed_command() -> str:
    """The command again, as a page shows it."""
    import sys

    from helmlite.models.wanted import typed_again

    return typed_again("helmlite", sys.argv[1:])
