"""`helmlite eval`: COCO accuracy of any detector or artifact on labelled pictures, by the one evaluator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helmlite.files import write_whole

if TYPE_CHECKING:
    from helmlite.data.dataset import Dataset
    from helmlite.evaluate.accuracy import Accuracy, Predictions
    from helmlite.models.opened import OpenedModel

_NO_HEAD = "bare heads: none is labelled here"


def register(app: typer.Typer) -> None:
    """Adds this file's commands to the application."""
    app.command("eval")(evaluate_model)


def evaluate_model(
    model: Annotated[
        str, typer.Argument(help="A bundle, an .onnx, a .pt, a checkpoint folder, or a name of `helmlite models list`.")
    ],
    data: Annotated[Path, typer.Option(help="The data set: data.yaml, a COCO JSON, or a Pascal VOC folder.")],
    split: Annotated[str, typer.Option(help="Which pictures: train, val or test.")] = "test",
    input_size: Annotated[int | None, typer.Option(help="Side of the square input, pixels.")] = None,
    runtime: Annotated[
        str | None, typer.Option(help="pytorch, onnxruntime or openvino; a .pt is exported for it.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="f32, bf16, int8 or int8_bf16, for a bundle or an .onnx.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the runtime; by default every core.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="ROLE=CLASS, for instance no_helmet=bareheaded.")] = None,
    classes: Annotated[str | None, typer.Option(help="Class names of a foreign .onnx, in order: a,b,c.")] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="Outputs of a foreign .onnx: helmlite, ultralytics, end2end, yolox, yolox-decoded.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many pictures.")] = None,
    robustness: Annotated[
        bool,
        typer.Option(
            help="Also in rain, fog, night, glare, blur, JPEG, noise, few pixels, occlusion: takes 28 times as long."
        ),
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    predictions_file: Annotated[
        Path | None, typer.Option("--predictions", help="Write every detection here, to be read back bit by bit.")
    ] = None,
) -> None:
    """Measures mAP50-95, mAP50 and every class on labelled pictures, as COCO does."""
    from helmlite.data.load import load_dataset, match_classes
    from helmlite.data.roles import check_given_roles, parse_role_options, with_given_roles
    from helmlite.evaluate.accuracy import measure_accuracy, predict_all, save_predictions
    from helmlite.evaluate.findings.words import Finding, in_words
    from helmlite.evaluate.pages.terminal import show_accuracy, show_robustness
    from helmlite.evaluate.plain import to_plain
    from helmlite.evaluate.robustness import draw_cases, measure_robustness, predict_worsened
    from helmlite.files import claim_file, holds_json
    from helmlite.models.leaks import said_of_pictures
    from helmlite.models.opened import open_model

    if limit is not None and limit < 1:
        raise ValueError(f"--limit is a number of pictures, at least 1; got {limit}.")
    claim_file(json_file, "--json", holds_json("model", "map", "data_sha256"), (model,))
    claim_file(predictions_file, "--predictions", holds_json("format", "pictures", "skipped"), (model,))
    if json_file is not None and predictions_file is not None and json_file.resolve() == predictions_file.resolve():
        raise ValueError(f"--json and --predictions are two files; both are {json_file}.")
    roles = parse_role_options(role or [])
    loaded = load_dataset(data, split)
    opened = open_model(model, runtime, threads, precision, input_size, _class_names(classes), layout)
    check_given_roles(roles, loaded.classes, opened.classes)
    loaded = whole = replace(loaded, classes=with_given_roles(loaded.classes, roles))
    if limit is not None:
        loaded = loaded.subset(list(range(min(limit, len(loaded)))))
    opened = replace(opened, classes=with_given_roles(opened.classes, roles))
    dataset = match_classes(loaded, opened.classes)
    with ShownProgress(f"{len(dataset)} pictures") as progress:
        predictions = predict_all(opened.predict, dataset, progress)
    accuracy = measure_accuracy(predictions, dataset)
    values = evaluation_json(model, data, opened, loaded, dataset, predictions, accuracy)
    said = said_of_pictures(
        data, whole, dataset, {opened.name: predictions}, {opened.name: opened}, shown=ShownProgress
    )
    values |= {"leaks": to_plain(said.leaks), "own_pictures": to_plain(said.own_pictures)}
    values["remarks"] += said.remarks
    if robustness:
        with ShownProgress("made worse") as progress:
            found = predict_worsened(opened.predict, dataset, predictions, progress=progress)
        worse = measure_robustness(draw_cases(found, dataset), opened.thresholds)
        values["robustness"] = to_plain(worse)
    findings: list[Finding] = [*said.own_pictures, *said.leaks]
    for finding in findings:
        print(f"finding: {in_words(finding)}")
    for remark in values["remarks"]:
        print(remark)
    show_accuracy(accuracy, f"{opened.name}, {split}")
    print(_head_line(values["no_helmet"]))
    if robustness:
        show_robustness(worse)
    if json_file is not None:
        _write_json(json_file, values)
    if predictions_file is not None:
        save_predictions(predictions, dataset, predictions_file)


def evaluation_json(
    model: str,
    data: Path,
    opened: OpenedModel,
    loaded: Dataset,
    dataset: Dataset,
    predictions: Predictions,
    accuracy: Accuracy,
) -> dict[str, Any]:
    """What `--json` writes: the accuracy, and everything that it depends on.

    loaded: the data set in its own classes; dataset: the same in the detector's
    """
    import sys

    import helmlite
    from helmlite.evaluate.plain import to_plain

    used = loaded.subset(list(predictions.indices))
    left_out = sum(len(sample.labels) for sample in used) - accuracy.boxes
    remarks = list(opened.remarks)
    if left_out:
        remarks.append(f"{left_out} labelled boxes are of classes that the model does not have; they were left out.")
    figures: dict[str, Any] = to_plain(accuracy)
    return {
        "model": model,
        **figures,
        "no_helmet": _heads(opened, dataset, predictions),
        "data": str(data),
        "split": loaded.split,
        "data_sha256": used.sha256(),
        "classes": [item.name for item in loaded.classes],
        "runtime": opened.runtime,
        "precision": opened.precision,
        "threads": opened.threads,
        "input_size": opened.input_size,
        "versions": {"helmlite": helmlite.__version__, "python": sys.version.split()[0], **opened.versions},
        "remarks": remarks,
    }


def _heads(opened: OpenedModel, dataset: Dataset, predictions: Predictions) -> dict[str, Any] | None:
    """Recall and false alarms of the no_helmet role at the model's own threshold, or at the best F1 right here."""
    from helmlite.data.roles import labels_of_role
    from helmlite.evaluate.errors import match_class
    from helmlite.evaluate.thresholds import best_f1_threshold

    labels = labels_of_role(dataset.classes, "no_helmet")
    if not labels:
        return None
    together = match_class(predictions, dataset, labels)
    best = best_f1_threshold(together)
    if opened.thresholds is not None:  # a device decides class by class
        parts = [(match_class(predictions, dataset, (label,)), opened.thresholds[label]) for label in labels]
        chosen = "stored in the bundle"
    elif best is not None:
        parts, chosen = [(together, best[0])], "best F1 on these very pictures"
    else:
        return {"heads": together.head_count, "recall": together.recall_at(0.0), "threshold": None, "chosen": None}
    found = sum(int(matches.found_at(threshold).sum()) for matches, threshold in parts)
    alarms = sum(matches.alarms_per_100(threshold) for matches, threshold in parts)
    return {
        "heads": together.head_count,
        "found": found,
        "recall": found / together.head_count if together.head_count else None,
        "false_alarms_per_100": alarms,
        "threshold": min(threshold for _, threshold in parts),
        "chosen": chosen,
    }


def _head_line(heads: dict[str, Any] | None) -> str:
    if heads is None:
        return "bare heads: unknown, no class of the model has the role no_helmet"
    if heads["threshold"] is None:
        return f"bare heads: none of {heads['heads']} found at any score" if heads["heads"] else _NO_HEAD
    if not heads["heads"]:
        return (
            f"{_NO_HEAD}; {heads['false_alarms_per_100']:.1f} false alarms per 100 pictures at "
            f"{heads['threshold']:.3f} ({heads['chosen']})"
        )
    return (
        f"bare heads: {heads['found']} of {heads['heads']} found with {heads['false_alarms_per_100']:.1f} false alarms "
        f"per 100 pictures at {heads['threshold']:.3f} ({heads['chosen']})"
    )


def _class_names(classes: str | None) -> list[str]:
    return [name.strip() for name in classes.split(",") if name.strip()] if classes else []


def _write_json(path: Path, values: dict[str, Any]) -> None:
    import json

    write_whole(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


class ShownProgress:
    """A bar on stderr while pictures are evaluated; silent where stderr is no terminal."""

    def __init__(self, what: str) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(what)

    def __enter__(self) -> ShownProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)
