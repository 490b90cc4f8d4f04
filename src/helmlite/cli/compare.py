"""`helmlite compare`: any mix of detectors, bundles and ONNX files on the same labelled pictures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from helmlite.cli.evaluate import OpenedModel
    from helmlite.data.dataset import Dataset
    from helmlite.detections import Detections, Image, Predictor
    from helmlite.evaluate.accuracy import Predictions
    from helmlite.evaluate.comparison import Contender
    from helmlite.evaluate.measured import Measured
    from helmlite.evaluate.robustness import WorsePredictions

_TIMED_PICTURES, _WARMUP = 8, 5
_SAYS_NOTHING = ("bundle", "model.onnx", "weights", "best.pt", "last.pt", "best.onnx", "/", "..")


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
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of timing.")] = 40,
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
    from helmlite.cli.leaks import said_of_pictures
    from helmlite.data.load import load_dataset
    from helmlite.data.roles import check_given_roles, parse_role_options, with_given_roles
    from helmlite.evaluate.causes.label_mistakes import MISTAKES_NAME, write_label_mistakes
    from helmlite.evaluate.comparison import compare
    from helmlite.evaluate.comparison_files import write_comparison
    from helmlite.evaluate.pages.gallery import cut_gallery
    from helmlite.evaluate.pages.terminal import show_comparison
    from helmlite.evaluate.pictures import pictures_csv
    from helmlite.evaluate.thresholds import parse_rule

    if len(models) < 2:
        raise ValueError("compare wants two models or more; `helmlite eval` measures one.")
    wanted = named([parse_model(text, runtime) for text in models])
    rule = parse_rule(thresholds)
    if out is not None:
        _claim_folder(out, [item.model for item in wanted])
    roles = parse_role_options(role or [])
    loaded = [load_dataset(data, name) for name in (split, tune_split or tuning_split(data, split))]
    loaded = [replace(item, classes=with_given_roles(item.classes, roles)) for item in loaded]
    whole = loaded[0]
    if limit is not None:
        loaded = [item.subset(list(range(min(limit, len(item))))) for item in loaded]
    opened = {item.name: item.open(threads) for item in wanted}
    for model in opened.values():
        check_given_roles(roles, loaded[0].classes, model.classes)
    opened = {name: replace(model, classes=with_given_roles(model.classes, roles)) for name, model in opened.items()}
    pictures, contenders, remarks = look(opened, loaded, robustness, seed)
    if time:
        contenders, conditions = _timed(contenders, opened, pictures[0], rounds)
    found = compare(contenders, pictures[0], pictures[-1], rule, seed)
    seen = {item.measured.name: item.reported for item in contenders}
    made_with = {name: model.made_with for name, model in opened.items()}
    said = said_of_pictures(data, whole, pictures[0], seen, made_with, seed)
    found = replace(
        found,
        leaks=said.leaks,
        own_pictures=said.own_pictures,
        remarks=(*found.remarks, *said.remarks, *remarks),
        commands=(typed_command(),),
        versions=versions_of(opened),
        measured_on=conditions if time else {},
        created=now(),
    )
    show_comparison(found)
    if out is not None:
        named_results = zip(contenders, found.models, strict=True)
        shown = {item.measured.name: (item.reported, model.thresholds) for item, model in named_results}
        table = pictures_csv(shown, pictures[0])
        write_label_mistakes(found.label_mistakes, _made(out) / MISTAKES_NAME)
        gallery = cut_gallery(found, [item.reported for item in contenders], pictures[0])
        print(f"written to {write_comparison(found, out, table, gallery)}")


@dataclass(frozen=True)
class WantedModel:
    """A model as the user named it, with the settings that are its own."""

    model: str
    name: str = ""
    runtime: str | None = None
    precision: str | None = None
    input_size: int | None = None
    layout: str | None = None
    classes: tuple[str, ...] = ()

    def open(self, threads: int | None) -> OpenedModel:
        """The model, ready to detect.  Raises ValueError, OSError or ImportError, as `open_model` does."""
        from helmlite.cli.evaluate import open_model

        return open_model(self.model, self.runtime, threads, self.precision, self.input_size, self.classes, self.layout)


SETTINGS = frozenset(item.name for item in fields(WantedModel)) - {"model"}


def parse_model(text: str, runtime: str | None = None) -> WantedModel:
    """`MODEL[,setting=value...]`; a comma that no known setting follows belongs to the path.

    runtime: where the model does not name its own
    Raises ValueError for a value that does not suit its setting.

    >>> parse_model("best.onnx,layout=ultralytics,classes=helmet+no_helmet").classes
    ('helmet', 'no_helmet')
    """
    model, given = split_settings(text, SETTINGS)
    return wanted_model(text, model, given, runtime)


def split_settings(text: str, known: Collection[str]) -> tuple[str, dict[str, str]]:
    """What stands before the settings, and these by name; a comma that no known setting follows belongs to the path.

    Raises ValueError for a setting that is given twice or has no value.

    >>> split_settings("odd,name.onnx,name=small", {"name"})
    ('odd,name.onnx', {'name': 'small'})
    """
    rest, given = text, dict[str, str]()
    while "," in rest:
        before, _, last = rest.rpartition(",")
        key, separator, value = last.partition("=")
        if not separator or key not in known:
            break
        if key in given or not value:
            raise ValueError(f"{text}: '{key}' {'is given twice' if key in given else 'has no value'}.")
        rest, given[key] = before, value
    return rest, given


def wanted_model(text: str, model: str, given: Mapping[str, str], runtime: str | None = None) -> WantedModel:
    """The model with its settings as they were typed.  text: all of it, for messages

    Raises ValueError for a value that does not suit its setting.
    """
    size = given.get("input_size")
    if size is not None and not size.isdigit():
        raise ValueError(f"{text}: input_size is a number of pixels; got '{size}'.")
    return WantedModel(
        model=model,
        name=given.get("name", ""),
        runtime=given.get("runtime", runtime),
        precision=given.get("precision"),
        input_size=None if size is None else int(size),
        layout=given.get("layout"),
        classes=tuple(name.strip() for name in given.get("classes", "").split("+") if name.strip()),
    )


def named(models: Sequence[WantedModel]) -> list[WantedModel]:
    """Each with a name of its own: the one it was given, else as little of its path and settings as tells it apart.

    Raises ValueError where two are the same model with the same settings, or were given one name.
    """
    short = [item.name or _own_name(Path(item.model)) for item in models]
    longer = [item.name or "/".join(Path(item.model).parts[-2:]) for item in models]
    settings = [
        " ".join(str(value) for value in (item.input_size, item.runtime, item.precision) if value) for item in models
    ]
    options = (
        short,
        longer,
        *([f"{name} {more}".strip() for name, more in zip(names, settings)] for names in (short, longer)),
    )
    for names in options:
        if len(set(names)) == len(names):
            return [replace(item, name=name) for item, name in zip(models, names)]
    raise ValueError(
        f"Give each model a name of its own, MODEL,name=...; these cannot be told apart: {', '.join(short)}."
    )


def _own_name(path: Path) -> str:
    """The last part of a path that says more than what kind of thing it is: `runs/small/bundle` -> `small`."""
    parts = [part for part in path.parts if part not in _SAYS_NOTHING]
    return parts[-1] if parts else str(path)


def look(
    opened: Mapping[str, OpenedModel], loaded: Sequence[Dataset], robustness: bool = False, seed: int = 0
) -> tuple[list[Dataset], list[Contender], tuple[str, ...]]:
    """What every model finds in the reported and in the tuning pictures, all in the data set's classes.

    robustness: whether it also looks at the reported pictures made worse;  seed: of how they are

    Gives the two data sets with the classes that all know, the contenders, and what must be said.
    """
    from helmlite.cli.evaluate import ShownProgress
    from helmlite.data.load import class_mapping
    from helmlite.evaluate.accuracy import predict_all
    from helmlite.evaluate.comparison import Contender, common_classes, in_classes_of

    kept, remarks = common_classes(loaded[0].classes, {name: model.classes for name, model in opened.items()})
    classes = tuple(loaded[0].classes[index] for index in kept)
    pictures = [item.with_classes(classes, {old: new for new, old in enumerate(kept)}) for item in loaded]
    contenders = []
    for name, model in opened.items():
        mapping = class_mapping(model.classes, classes)
        found = []
        for dataset in pictures if pictures[0].split != pictures[1].split else pictures[:1]:
            with ShownProgress(f"{name}, {dataset.split}") as progress:
                found.append(in_classes_of(predict_all(model.predict, dataset, progress), mapping))
        own = _own_thresholds(model, mapping, len(classes))
        worse = _worse(name, model, mapping, pictures[0], found[0], seed) if robustness else None
        asked = _in_classes(model.predict, mapping)
        contenders.append(Contender(_measured(name, model), found[0], found[-1], own, worse, asked))
        remarks += [f"{name}: {line}" for line in model.remarks]
    for skipped in contenders[0].reported.skipped:
        remarks.append(f"left out: {skipped.reason}")
    return pictures, contenders, tuple(remarks)


def _in_classes(predict: Predictor, mapping: Mapping[int, int]) -> Predictor:
    """A model that answers in the data set's classes."""
    from helmlite.evaluate.accuracy import Predictions
    from helmlite.evaluate.comparison import in_classes_of

    def asked(image: Image) -> Detections:
        return in_classes_of(Predictions((predict(image),), (0,)), mapping).detections[0]

    return asked


def _worse(
    name: str, model: OpenedModel, mapping: Mapping[int, int], pictures: Dataset, untouched: Predictions, seed: int
) -> WorsePredictions:
    from helmlite.cli.evaluate import ShownProgress
    from helmlite.evaluate.comparison import in_classes_of
    from helmlite.evaluate.robustness import predict_worsened

    with ShownProgress(f"{name}, made worse") as progress:
        found = predict_worsened(model.predict, pictures, untouched, seed=seed, progress=progress)
    worse = {case: in_classes_of(predictions, mapping) for case, predictions in found.worse.items()}
    return replace(found, worse=worse)


def _own_thresholds(model: OpenedModel, mapping: Mapping[int, int], count: int) -> tuple[float, ...] | None:
    """The thresholds that a model carries, in the data set's classes; the lowest where several are one class there."""
    if model.thresholds is None:
        return None
    found = [[model.thresholds[old] for old, new in mapping.items() if new == label] for label in range(count)]
    return tuple(min(scores) for scores in found)


def _measured(name: str, model: OpenedModel) -> Measured:
    from helmlite.evaluate.measured import Measured
    from helmlite.runtime.bundle import BundlePredictor

    size = model.predict.size_bytes if isinstance(model.predict, BundlePredictor) and model.is_artifact else None
    return Measured(
        name, size_bytes=size, input_size=model.input_size, runtime=model.runtime, precision=model.precision
    )


def _timed(
    contenders: Sequence[Contender], opened: Mapping[str, OpenedModel], pictures: Dataset, rounds: int
) -> tuple[list[Contender], dict[str, str]]:
    """The contenders with their latencies, those of PyTorch aside, and the conditions."""
    from helmlite.runtime.bench import ratio, time_predictors
    from helmlite.runtime.bundle import BundlePredictor
    from helmlite.runtime.machine import read_machine

    predictors = {name: model.predict for name, model in opened.items() if isinstance(model.predict, BundlePredictor)}
    if not predictors:
        raise ValueError("--time is for bundles and .onnx files, or with --runtime onnxruntime or openvino.")
    images = [pictures[index].read_image() for index in contenders[0].reported.indices[:_TIMED_PICTURES]]
    timings = {name: item.network for name, item in time_predictors(predictors, images, rounds, _WARMUP).items()}
    first = timings.get(contenders[0].measured.name)
    timed = []
    for item in contenders:
        timing = timings.get(item.measured.name)
        row = item.measured
        if timing is None:
            row = replace(row, note="PyTorch: not timed, since it is not what ships")
        else:
            speedup = None if first is None else ratio(first, timing).value
            row = replace(row, latency_ms_median=timing.median_ms, latency_ms_p95=timing.p95_ms, speedup=speedup)
        timed.append(replace(item, measured=row))
    threads = {opened[name].threads for name in predictors}
    return timed, {
        "CPU": read_machine().describe(),
        "threads": " and ".join(str(count) for count in sorted(threads)),
        "rounds": f"{rounds} interleaved, batch 1, network alone",
    }


def tuning_split(data: Path, split: str) -> str:
    """val where the data set has one, else the split that is reported."""
    from helmlite.data.load import splits_of

    return "val" if "val" in splits_of(data) else split


def _claim_folder(folder: Path, models: Sequence[str]) -> None:
    """Raises ValueError where the folder holds anything but an older comparison, or lies in a model."""
    from helmlite.evaluate.causes.label_mistakes import MISTAKES_NAME
    from helmlite.evaluate.comparison_files import CHINESE_PAGE_NAME, JSON_NAME, MARKDOWN_NAME, PAGE_NAME
    from helmlite.evaluate.pages.gallery import GALLERY_NAME
    from helmlite.evaluate.pictures import CSV_NAME

    known = {CHINESE_PAGE_NAME, CSV_NAME, GALLERY_NAME, JSON_NAME, MARKDOWN_NAME, MISTAKES_NAME, PAGE_NAME}
    claim_result_folder(folder, models, known)


def claim_result_folder(folder: Path, models: Sequence[str], known: Collection[str]) -> None:
    """Raises ValueError where `--out` holds anything but files of these names, or lies in one of the models."""
    from helmlite.files import keep_out_of

    keep_out_of(models, folder, "--out")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out wants a folder; {folder} is a file.")
    if folder.is_dir() and (others := sorted(item.name for item in folder.iterdir() if item.name not in known)):
        raise ValueError(f"{folder} holds other things ({others[0]}); give --out a new or empty folder.")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def versions_of(opened: Mapping[str, OpenedModel]) -> dict[str, str]:
    """Of helmlite and of everything that the models run on."""
    import helmlite

    found = {"helmlite": helmlite.__version__}
    for model in opened.values():
        found.update(model.versions)
    return found


def typed_command() -> str:
    """The command again.  Of paths only the last parts, since a page may be shown to others."""
    import shlex
    import sys

    words = ["/".join(Path(word).parts[1:][-2:]) if word.startswith("/") else word for word in sys.argv[1:]]
    return shlex.join(["helmlite", *words])


def now() -> str:
    """The time, UTC, to the second."""
    from datetime import datetime, timezone

    return datetime.now(timezone.utc).isoformat(timespec="seconds")
