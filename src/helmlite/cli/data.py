"""`helmlite data`: look at a data set, check it, convert it, split it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helmlite.cli.data_print import progress_bar, show_report, show_written
from helmlite.files import claim_file, holds_json, holds_picture, write_whole

if TYPE_CHECKING:
    from helmlite.data.dataset import Dataset

Source = Annotated[
    Path, typer.Argument(help="data.yaml, a COCO JSON, or a folder with YOLO, Pascal VOC or COCO labels.")
]
Roles = Annotated[
    list[str] | None, typer.Option("--role", help="ROLE=CLASS, where the name does not tell: no_helmet=未戴头盔.")
]
Out = Annotated[Path, typer.Option(help="New folder; it must not hold anything yet.")]

_MISLEADING = 1  # exit code of `data check` where a run would be misled


def register(app: typer.Typer) -> None:
    """Adds this file's commands to the application."""
    group = typer.Typer(no_args_is_help=True, help="Look at a labelled data set, check it, convert it, split it.")
    group.command("check")(check)
    group.command("convert")(convert)
    group.command("split")(split)
    group.command("preview")(preview)
    app.add_typer(group, name="data")


def check(
    source: Source,
    role: Roles = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all findings here.")] = None,
    shown: Annotated[int, typer.Option("--show", help="Findings of each kind that are printed.", min=0)] = 5,
) -> None:
    """Names what is wrong with a data set, with file and line.

    Exits 1 where a run on it would be misled, else 0.
    """
    import json

    from helmlite.data.check import check_dataset
    from helmlite.data.roles import parse_role_options

    claim_file(json_file, "--json", holds_json("source", "splits", "findings"))
    with progress_bar("looking at pictures") as progress:
        report = check_dataset(source, parse_role_options(role or []), progress)
    if json_file is not None:
        write_whole(json_file, json.dumps(report.to_json(), ensure_ascii=False, indent=1) + "\n")
    show_report(report, shown)
    if report.misleads:
        raise typer.Exit(_MISLEADING)


def convert(
    source: Source,
    to: Annotated[str, typer.Option(help="yolo, voc or coco.")],
    out: Out,
) -> None:
    """Writes a data set in another format; pictures are copied as they are."""
    from helmlite.data.convert import convert_dataset

    show_written(convert_dataset(source, to, out), to)


def split(
    source: Source,
    out: Out,
    val: Annotated[float, typer.Option(help="Share of the pictures to choose on.")] = 0.15,
    test: Annotated[float, typer.Option(help="Share of the pictures to report on.")] = 0.15,
    seed: Annotated[int, typer.Option(help="The same seed gives the same splits.", min=0)] = 0,
    role: Roles = None,
    to: Annotated[str | None, typer.Option(help="yolo, voc or coco; as the source where not given.")] = None,
) -> None:
    """Splits a data set anew: nothing that looks the same, or is named as one scene, stands in two splits."""
    from helmlite.data.convert import check_output, write_dataset
    from helmlite.data.load import format_of
    from helmlite.data.roles import parse_role_options
    from helmlite.data.split import split_dataset

    kind = to or format_of(source)
    check_output(out, kind)
    datasets, skipped = _readable_splits(source, parse_role_options(role or []))
    plan = split_dataset(datasets, val, test, seed)
    show_written(write_dataset(plan.splits, kind, out, skipped), kind)
    print(f"{sum(map(len, plan.splits.values()))} pictures in {plan.units} groups that were kept together")
    for size in plan.scenes_cut:
        print(f"One fixed camera took {size} of them; it had to be cut, by name: the test is not about new cameras.")


def preview(
    source: Source,
    out: Annotated[Path, typer.Option(help="The PNG to write.")],
    split_name: Annotated[str, typer.Option("--split", help="train, val or test.")] = "train",
    count: Annotated[int, typer.Option(help="How many pictures.", min=1)] = 24,
    seed: Annotated[int, typer.Option(help="Which pictures.", min=0)] = 0,
    role: Roles = None,
) -> None:
    """Draws a contact sheet: some pictures with their boxes, coloured by role."""
    import cv2

    from helmlite.data.load import load_dataset, open_split, splits_of
    from helmlite.data.preview import contact_sheet
    from helmlite.data.roles import parse_role_options

    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"--out is a picture, for instance sheet.png; got {out}.")
    dataset = load_dataset(source, split_name, parse_role_options(role or []))
    folders = {path.parent for name in splits_of(source) for path in open_split(source, name).image_paths}
    claim_file(out, "--out", holds_picture, sorted(folders))
    sheet = contact_sheet(dataset, count, seed=seed)
    encoded = cv2.imencode(out.suffix.lower(), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1]
    write_whole(out, encoded.tobytes())  # cv2.imwrite fails on non-ASCII paths on some systems
    for number, item in enumerate(dataset.classes):
        print(f"class {number} {item.name}: {item.role or 'no role'}")
    print(f"{min(count, len(dataset))} of {len(dataset)} pictures of {split_name}: {out}")


def _readable_splits(source: Path, roles: dict[str, str]) -> tuple[list[Dataset], list[str]]:
    from helmlite.data.load import load_dataset, readable, splits_of

    loaded = [readable(load_dataset(source, name, roles)) for name in splits_of(source)]
    return [dataset for dataset, _ in loaded], [problem for _, problems in loaded for problem in problems]
