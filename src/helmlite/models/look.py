"""What opened models find in labelled pictures, all in the classes that they share, and how fast they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from helmlite.data.dataset import Dataset
from helmlite.data.load import class_mapping, splits_of
from helmlite.data.roles import Class
from helmlite.detections import Detections, Image, Predictor
from helmlite.evaluate.accuracy import Predictions, Progress, predict_all
from helmlite.evaluate.comparison import Contender, common_classes, in_classes_of
from helmlite.evaluate.measured import Measured
from helmlite.evaluate.robustness import WorsePredictions, predict_worsened
from helmlite.models.opened import OpenedModel
from helmlite.runtime.bench import ratio, time_predictors
from helmlite.runtime.bundle import BundlePredictor
from helmlite.runtime.machine import read_machine

_TIMED_PICTURES, _WARMUP = 8, 5
Shown = Callable[[str], AbstractContextManager[Progress]]  # what is being looked at -> told how far it is


@contextmanager
def silent(_: str) -> Iterator[Progress]:
    """Progress that nobody watches."""
    yield lambda done, total: None


def check_classes_shared(classes: Sequence[Class], opened: Mapping[str, OpenedModel], of: str = "") -> None:
    """Raises ValueError where no class of the data is known to every model.  of: the data set's name, if it has one"""
    try:
        common_classes(classes, {name: model.classes for name, model in opened.items()})
    except ValueError as error:
        raise ValueError(f"{of}: {error}" if of else str(error)) from error


def check_timed(opened: Mapping[str, OpenedModel]) -> None:
    """Raises ValueError where none of the models can be timed: PyTorch is not what ships."""
    if not any(isinstance(model.predict, BundlePredictor) for model in opened.values()):
        raise ValueError("--time is for bundles and .onnx files, or with --runtime onnxruntime or openvino.")


def look(
    opened: Mapping[str, OpenedModel],
    loaded: Sequence[Dataset],
    robustness: bool = False,
    seed: int = 0,
    shown: Shown = silent,
) -> tuple[list[Dataset], list[Contender], tuple[str, ...]]:
    """What every model finds in the reported and in the tuning pictures, all in the data set's classes.

    robustness: whether it also looks at the reported pictures made worse;  seed: of how they are
    shown:      told how far it is

    Gives the two data sets with the classes that all know, the contenders, and what must be said.
    """
    kept, remarks = common_classes(loaded[0].classes, {name: model.classes for name, model in opened.items()})
    classes = tuple(loaded[0].classes[index] for index in kept)
    pictures = [item.with_classes(classes, {old: new for new, old in enumerate(kept)}) for item in loaded]
    contenders = []
    for name, model in opened.items():
        mapping = class_mapping(model.classes, classes)
        found = []
        for dataset in pictures if pictures[0].split != pictures[1].split else pictures[:1]:
            with shown(f"{name}, {dataset.split}") as progress:
                found.append(in_classes_of(predict_all(model.predict, dataset, progress), mapping))
        own = _own_thresholds(model, mapping, len(classes))
        worse = _worse(name, model, mapping, pictures[0], found[0], seed, shown) if robustness else None
        asked = _in_classes(model.predict, mapping)
        contenders.append(Contender(_measured(name, model), found[0], found[-1], own, worse, asked))
        remarks += [f"{name}: {line}" for line in model.remarks]
    for skipped in contenders[0].reported.skipped:
        remarks.append(f"left out: {skipped.reason}")
    return pictures, contenders, tuple(remarks)


def _in_classes(predict: Predictor, mapping: Mapping[int, int]) -> Predictor:
    """A model that answers in the data set's classes."""

    def asked(image: Image) -> Detections:
        return in_classes_of(Predictions((predict(image),), (0,)), mapping).detections[0]

    return asked


def _worse(
    name: str,
    model: OpenedModel,
    mapping: Mapping[int, int],
    pictures: Dataset,
    untouched: Predictions,
    seed: int,
    shown: Shown,
) -> WorsePredictions:
    with shown(f"{name}, made worse") as progress:
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
    size = model.predict.size_bytes if isinstance(model.predict, BundlePredictor) else None
    return Measured(
        name, size_bytes=size, input_size=model.input_size, runtime=model.runtime, precision=model.precision
    )


def timed(
    contenders: Sequence[Contender], opened: Mapping[str, OpenedModel], pictures: Dataset, rounds: int
) -> tuple[list[Contender], dict[str, str]]:
    """The contenders with their latencies, those of PyTorch aside, and the conditions.

    Raises ValueError where all are of PyTorch; `check_timed` says so before any work.
    """
    check_timed(opened)
    predictors = {name: model.predict for name, model in opened.items() if isinstance(model.predict, BundlePredictor)}
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
    return "val" if "val" in splits_of(data) else split
