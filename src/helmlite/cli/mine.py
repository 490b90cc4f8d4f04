"""`helmlite mine` and `helmlite mine-back`: what is most worth labelling, and what a person's corrections teach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from helmlite.data.duplicates import Fingerprint
    from helmlite.mine.mined_set import MinedSet
    from helmlite.mine.seen import Watcher
    from helmlite.models.opened import OpenedModel

_NEXT = {
    "yolo": "correct {out}/labels where they are, or in any tool that reads YOLO",
    "cvat": "make a CVAT task of {out}/images/train with {out}/labels.json as its labels (Raw), and upload "
    '{out}/annotations.xml as "CVAT 1.1"; export as "CVAT for images 1.1"',
    "label-studio": "paste {out}/config.xml as the labelling interface and import {out}/tasks.json into a Label Studio "
    "that serves local files from the folder above {out}; export as JSON",
}


def register(app: typer.Typer) -> None:
    """Adds this file's commands to the application."""
    app.command("mine")(mine_source)
    app.command("mine-back")(mine_back)


def mine_source(
    source: Annotated[str, typer.Argument(help="A folder of pictures, or a video.")],
    model: Annotated[
        list[str],
        typer.Option(
            help="The detector that is to become better: a bundle, an .onnx, a .pt, a checkpoint or a public name, "
            "with settings of its own after commas, as for compare. Twice: where the two disagree is worth a look."
        ),
    ],
    out: Annotated[Path, typer.Option(help="New folder for the pre-labelled set.")],
    count: Annotated[int, typer.Option(min=1, help="Pictures to keep.")] = 100,
    tool: Annotated[str, typer.Option("--for", help="yolo, cvat or label-studio.")] = "yolo",
    known: Annotated[
        Path | None, typer.Option(help="Data set that is labelled already: what shows the same is left out.")
    ] = None,
    classes_of: Annotated[
        Path | None,
        typer.Option(
            help="Data set whose classes the person can choose from, instead of the first model's: the one that "
            "mine-back will be given as --data. A class that nobody is asked for would be taught as background."
        ),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Threshold of every class, instead of the bundle's own or 0.25.")
    ] = None,
    gap: Annotated[float, typer.Option(help="Of so many seconds of a video at most one frame is kept.")] = 1.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Look at so many pictures or frames only.")] = None,
    runtime: Annotated[
        str | None, typer.Option(help="pytorch, onnxruntime or openvino, for every model that does not name its own.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the runtime; by default every core.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="ROLE=CLASS, for instance no_helmet=bareheaded.")] = None,
) -> None:
    """Keeps the pictures that are most worth labelling, with what the detectors suggest, for CVAT or Label Studio.

    Ctrl-C ends the looking: the best of what was seen until then is written.
    """
    from helmlite.cli.errors import EXIT_INTERRUPTED
    from helmlite.cli.evaluate import ShownProgress
    from helmlite.data.roles import parse_role_options, with_given_roles, with_roles
    from helmlite.files import check_new_folder, keep_out_of
    from helmlite.mine.mine import MineSettings, mine
    from helmlite.mine.mined_set import check_tool, write_mined
    from helmlite.models.wanted import named, parse_model
    from helmlite.runtime.sources import open_source

    settings = MineSettings(count, gap, limit)
    check_tool(tool)
    check_new_folder(out)
    if len(model) > 2:
        raise ValueError(f"mine asks one or two detectors; got {len(model)}.")
    wanted = named([parse_model(text, runtime) for text in model])
    sets = [folder for data in (known, classes_of) if data for folder in _folders_of(data)]
    keep_out_of([source, *(item.model for item in wanted), *sets], out, "--out")
    opened_source = open_source(source)
    roles = parse_role_options(role or [])
    names = _class_names(classes_of) if classes_of else ()
    watchers = _watchers({item.name: item.open(threads) for item in wanted}, min_score, roles, names)
    offered = with_given_roles(with_roles(names), roles) if names else None
    looks = _looks(known) if known else []
    total = min((number for number in (opened_source.count, limit) if number), default=0)
    with ShownProgress("looking") as progress:
        mined = mine(opened_source, watchers, settings, looks, lambda done: progress(done, max(total, done)), offered)
    written = write_mined(mined, opened_source, out, tool)
    _show_mined(written, out)
    if mined.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)


def mine_back(
    corrected: Annotated[
        Path, typer.Argument(help="What came back: a YOLO folder, CVAT's .xml, Label Studio's .json, or a .zip of one.")
    ],
    mined: Annotated[Path, typer.Option(help="The --out folder of `helmlite mine`.")],
    out: Annotated[Path, typer.Option(help="New folder for the set to train on.")],
    data: Annotated[
        Path | None, typer.Option(help="Your own data.yaml: the new set trains its pictures too, in its classes.")
    ] = None,
    weight: Annotated[float, typer.Option(help="How often a picture that taught something is drawn, against 1.")] = 3.0,
) -> None:
    """Takes corrected labels back as hard negatives and hard positives, in a set that training draws by weight."""
    from helmlite.files import check_new_folder, keep_out_of
    from helmlite.mine.corrected import read_corrected
    from helmlite.mine.mined_set import read_mined
    from helmlite.mine.take_back import take_back

    check_new_folder(out)
    folders = [item for item in (corrected, mined) if item.is_dir()]
    keep_out_of([*folders, *([data, *_folders_of(data)] if data else [])], out, "--out")
    described = read_mined(mined)
    taken = take_back(read_corrected(corrected, described), described, mined, out, data, weight)
    for remark in taken.remarks():
        print(remark)
    counts = taken.count_kinds()
    told = ", ".join(f"{kind}: {counts[kind]}" for kind in counts)
    print(f"{told}; {taken.hard} of {taken.pictures} pictures weigh {weight:g}")
    if data is None:
        print(f"{out / 'data.yaml'} has no val: give --data DATA.yaml to train it together with your own")
    else:
        print(f"train with: helmlite compress MODEL --data {out / 'data.yaml'} (or finetune)")


def _folders_of(data: Path) -> list[Path]:
    """Folders that a data set reads whatever lies in: of YOLO, those of pictures and labels that are no lists."""
    from helmlite.data.load import format_of, open_split, splits_of
    from helmlite.data.yolo import label_path_of, read_yolo_config

    splits = [open_split(data, name) for name in splits_of(data)]
    if format_of(data) != "yolo":
        return sorted({path.parent for split in splits for path in split.image_paths})
    entries = {entry for split in splits for entry in read_yolo_config(split.source).splits[split.split]}
    folders = {entry for entry in entries if entry.is_dir()}
    return sorted(folders | {label_path_of(folder / "any.jpg").parent for folder in folders})


def _class_names(data: Path) -> tuple[str, ...]:
    from helmlite.data.load import open_split, splits_of

    splits = splits_of(data)
    if not splits:
        raise ValueError(f"{data}: has no split, and so no class to offer.")
    return open_split(data, splits[0]).names


def _watchers(
    opened: dict[str, OpenedModel], min_score: float | None, roles: dict[str, str], names: Sequence[str]
) -> list[Watcher]:
    """names: of further classes that a role may be given to"""
    from helmlite.data.roles import Class, check_given_roles, with_given_roles
    from helmlite.evaluate.thresholds import DEFAULT_THRESHOLD
    from helmlite.mine.seen import Watcher

    models = list(opened.values())
    check_given_roles(roles, [*models[0].classes, *(Class(name) for name in names)], models[-1].classes)
    watchers = []
    for name, model in opened.items():
        for remark in model.remarks:
            print(remark)
        thresholds = model.thresholds or (DEFAULT_THRESHOLD,) * len(model.classes)
        if min_score is not None:
            thresholds = (min_score,) * len(model.classes)
        watchers.append(Watcher(name, model.predict, with_given_roles(model.classes, roles), thresholds))
    return watchers


def _looks(known: Path) -> list[Fingerprint]:
    """Looks of all pictures of a labelled set that can be read."""
    from helmlite.data.dataset import UnreadableImageError, read_image
    from helmlite.data.duplicates import fingerprint
    from helmlite.data.load import open_split, splits_of

    paths = [path for split in splits_of(known) for path in open_split(known, split).image_paths]
    looks = []
    for path in dict.fromkeys(paths):
        try:
            looks.append(fingerprint(read_image(path)))
        except UnreadableImageError as error:
            print(f"skipped: {error}")
    return looks


def _show_mined(written: MinedSet, out: Path) -> None:
    for line in (*written.problems, *written.remarks):
        print(line)
    reasons = Counter(item.chosen_for for item in written.pictures)
    told = ", ".join(f"{number} for {reason}" for reason, number in reasons.most_common())
    suggested = sum(len(item.labels) for item in written.pictures)
    print(f"{written.frames} looked at, {written.of_interest} of interest; {_left_out(written)}")
    print(f"{len(written.pictures)} pictures ({told}) with {suggested} suggested boxes: {out}")
    print(f"next: {_NEXT[written.tool].format(out=out)}; then helmlite mine-back CORRECTED --mined {out} --out SET")


def _left_out(written: MinedSet) -> str:
    parts: Sequence[str] = [f"{written.twins} left out because they show what another does"]
    if written.known_twins:
        parts = [*parts, f"{written.known_twins} because it is labelled already"]
    return ", ".join(parts)
