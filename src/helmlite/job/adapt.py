"""A detector brought to a new place: what `helmlite adapt` does.

    norms          BatchNorm statistics of the place (norm_statistics.py)
    few-shot       training on a few labelled pictures of it (target_training.py)
    self-training  training on what the detector itself is sure of in the others

Nothing is chosen by accuracy but one thing, and that only where the place has a labelled val: statistics that make the
detector worse there (`verdict_of_gate`) are not kept.  The same pictures then say what the whole brought.  A result
that is provably worse, or lost half of its accuracy, is left in the workspace and not written as the result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import helmlite
from helmlite.compress.adaptation.norm_statistics import AdaptNorms, check_has_norms
from helmlite.compress.adaptation.target_pictures import TargetPictures, choose_few, without_labels
from helmlite.compress.adaptation.target_training import TrainOnTarget
from helmlite.compress.checkpoint import check_free, is_checkpoint, read_provenance, save_checkpoint
from helmlite.compress.load import load_detector
from helmlite.compress.rounding.insert_quantizers import InsertQuantizers
from helmlite.compress.rounding.round_weights import RoundWeights
from helmlite.compress.teaching.unlabelled import file_sha256, unlabelled_pictures
from helmlite.compress.technique import Context
from helmlite.data.dataset import Dataset
from helmlite.data.load import check_labelled, count_boxes, load_dataset, match_classes, readable, splits_of
from helmlite.data.roles import check_given_roles, with_given_roles
from helmlite.detector.detector import Detector, Log
from helmlite.detector.device import training_device
from helmlite.detector.fit_state import detector_sha256
from helmlite.evaluate.accuracy import Predictions, measure_accuracy, predictions_kept
from helmlite.evaluate.comparison import difference_in_words
from helmlite.evaluate.gate import CLASS_MARGIN_SHARE, FAILED, PASSED, GateVerdict, judge
from helmlite.evaluate.statistics.resamples import FEWEST_PICTURES
from helmlite.evaluate.statistics.resampling import map_loss_ci95, unit_count
from helmlite.files import read_json, write_whole
from helmlite.job.prepare import could_not_begin, lock_folder
from helmlite.runtime.preprocess import check_input_size

WAYS = ("norms", "few-shot", "self-training")
BETTER, WORSE, UNDECIDED, UNKNOWN = "better", "worse", "undecided", "unknown"

_ABOUT_FILE = "adapt.json"


@dataclass(frozen=True)
class AdaptSettings:
    """What the user asks for.

    data:       the new place: its train split is adapted to, its val split judges, its test split is never looked at
    unlabelled: folder of pictures of the place without labels; None takes those of the train split, labels unseen
    source:     the old place, of which training shows pictures too;  labelled: how many of the train split's labels
    ways:       of WAYS; None takes "norms", "few-shot" where labels may be used, and "self-training" where there is
                time to train and a picture without label
    minutes, epochs: of training, in all
    """

    model: str
    out: Path
    data: Path | None = None
    unlabelled: Path | None = None
    source: Path | None = None
    labelled: int = 0
    ways: tuple[str, ...] | None = None
    minutes: float | None = None
    epochs: int | None = None
    rounds: int = 2
    prior_pictures: float = 16.0
    input_size: int | None = None
    seed: int = 0
    roles: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"


@dataclass(frozen=True)
class Adaptation:
    """An adaptation that can begin.  val, source_val: None where there is no labelled one"""

    settings: AdaptSettings
    detector: Detector
    ways: tuple[str, ...]
    pictures: TargetPictures
    input_size: int
    val: Dataset | None
    source_val: Dataset | None
    skipped: tuple[str, ...]
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Adapted:
    """What came of it.

    verdict: better, worse or undecided, as the target's labelled val says; unknown without one
    gate:    the checks behind it, of margins of zero;  says: everything that the user must know, in sentences
    place:   where the checkpoint is: `--out`, or the workspace for one that is worse
    """

    detector: Detector
    verdict: str
    gate: GateVerdict | None
    says: tuple[str, ...]
    place: Path


def prepare_adaptation(settings: AdaptSettings) -> Adaptation:
    """Reads model and pictures.  Raises ValueError, in one line, for whatever is wrong with them."""
    training_device(settings.device)
    if settings.data is None and settings.unlabelled is None:
        raise ValueError("adapt needs pictures of the new place: --data TARGET, --unlabelled DIR, or both.")
    if settings.seed < 0:
        raise ValueError(f"--seed must be 0 or more; got {settings.seed}.")
    detector = load_detector(settings.model)
    if any(detector.has_edit(kind) for kind in (InsertQuantizers.kind, RoundWeights.kind)):
        raise ValueError(
            f"{settings.model} is quantized, and its scales hold for the values that it has; adapt the float "
            "checkpoint before that step, then quantize."
        )
    detector = detector.with_classes(with_given_roles(detector.classes, settings.roles))
    skipped: list[str] = []
    train = _split(settings.data, "train", detector, settings.roles, skipped)
    few, others = _labelled_and_not(settings, train)
    if settings.unlabelled is not None:
        others, problems = readable(unlabelled_pictures(settings.unlabelled, detector.classes))
        skipped += problems
    ways = _ways(settings, few, others)
    source = _split(settings.source, "train", detector, settings.roles, skipped)
    if source is not None:
        check_labelled(source, "to be shown again")
    if settings.source is not None and not {"few-shot", "self-training"} & set(ways):
        raise ValueError("--source is shown while training; give --minutes or --epochs, or leave it out.")
    pictures = TargetPictures(
        few if "few-shot" in ways else None, others if "norms" in ways or "self-training" in ways else None, source
    )
    _check_apart(settings, pictures)
    if "norms" in ways:
        check_has_norms(detector)
        AdaptNorms(settings.prior_pictures)  # says what is wrong with the number before any work is done
    if set(ways) != {"norms"}:
        _training(settings, "self-training" in ways)
    sizes = (settings.input_size, detector.architecture.input_size)
    size = check_input_size(next(item for item in sizes if item is not None))
    val = _labelled(_split(settings.data, "val", detector, settings.roles, skipped))
    source_val = _labelled(_split(settings.source, "val", detector, settings.roles, skipped))
    about = _about(settings, detector, ways, pictures, size)
    about |= {"val_sha256": _sha256(val), "source_val_sha256": _sha256(source_val)}
    return Adaptation(
        settings,
        detector,
        ways,
        pictures,
        size,
        val,
        source_val,
        tuple(skipped),
        about,
    )


def adapt(settings: AdaptSettings, log: Log = print) -> Adapted:
    """Adapts, judges, and writes the checkpoint.  Goes on where an earlier call with the same inputs was stopped.

    Raises ValueError for wrong input, and where `--out` or its workspace holds something else.
    """
    prepared = prepare_adaptation(settings)
    check_free(settings.out, prepared.about)
    workspace = settings.out.with_name(f"{settings.out.name}.work")
    _claim(workspace, prepared.about)
    for problem in prepared.skipped:
        log(f"skipped: {problem}")
    judged = _Judged(prepared, workspace, log)
    adapted, says = prepared.detector, [_pictures_in_words(prepared)]
    if "norms" in prepared.ways:
        adapted, said = _with_norms(prepared, judged, workspace, log)
        says.append(said)
    if {"few-shot", "self-training"} & set(prepared.ways):
        adapted = _trained(prepared, adapted, workspace, log)
        says.append(_training_in_words(prepared))
    adapted = adapted.trained_for(prepared.input_size)
    verdict, gate, told = judged.verdict(adapted)
    says += told
    about = {**prepared.about, "verdict": verdict, "says": says}
    place = workspace / WORSE if verdict == WORSE else settings.out
    save_checkpoint(adapted, place, about)
    return Adapted(adapted, verdict, gate, tuple(says), place)


@dataclass(frozen=True)
class _Judged:
    """The target's val, and the source's, looked at before and after."""

    prepared: Adaptation
    workspace: Path
    log: Log

    def gate(
        self, candidate: Detector, name: str, val: Dataset
    ) -> tuple[GateVerdict, tuple[float | None, float | None]]:
        """The checks that nothing is lost on these pictures, and mAP50-95 before and after."""
        before, after = (self._found(item, key, val) for item, key in self._both(candidate, name))
        maps = measure_accuracy(before, val).map, measure_accuracy(after, val).map
        return judge(before, after, val, 0.0, 0.0, self.prepared.settings.seed), maps

    def verdict(self, adapted: Detector) -> tuple[str, GateVerdict | None, list[str]]:
        """better, worse, undecided or unknown; the checks; and all of it in sentences."""
        val = self.prepared.val
        if val is None:
            told = ["The new place has no labelled val: whether this is better is unknown, and nothing was chosen."]
            return UNKNOWN, None, told + self._forgotten(adapted)
        gate, maps = self.gate(adapted, "after", val)
        verdict = verdict_of_gate(gate, *maps)
        figures = " -> ".join("unknown" if item is None else f"{100 * item:.1f}" for item in maps)
        told = [f"On {len(val)} pictures of its val: mAP50-95 {figures}, {verdict}.", *_said(gate)]
        return verdict, gate, told + self._forgotten(adapted)

    def _forgotten(self, adapted: Detector) -> list[str]:
        """What the old place says of it, where its val is labelled."""
        val = self.prepared.source_val
        if val is None:
            return []
        before, after = (self._found(item, f"source-{key}", val) for item, key in self._both(adapted, "after"))
        maps = [measure_accuracy(item, val).map for item in (before, after)]
        loss = None if None in maps else 100 * ((maps[0] or 0.0) - (maps[1] or 0.0))
        is_proven = unit_count([val[index].group for index in before.indices]) >= FEWEST_PICTURES
        interval = map_loss_ci95(before, after, val, seed=self.prepared.settings.seed) if is_proven else None
        return [f"Where it comes from, on {len(val)} pictures: {difference_in_words('mAP50-95', loss, interval)}"]

    def _both(self, candidate: Detector, name: str) -> tuple[tuple[Detector, str], tuple[Detector, str]]:
        return (self.prepared.detector, "before"), (candidate, name)

    def _found(self, detector: Detector, name: str, dataset: Dataset) -> Predictions:
        path = self.workspace / "found" / f"{name}.json"
        return predictions_kept(path, detector.predictor(self.prepared.input_size), dataset, self.log)


def _said(gate: GateVerdict) -> list[str]:
    """The two main checks, and every other one that failed."""
    return [
        f"{item.verdict}: {item.says}"
        for number, item in enumerate(gate.checks)
        if number < 2 or item.verdict == FAILED
    ]


def verdict_of_gate(gate: GateVerdict, before: float | None, after: float | None) -> str:
    """better where a gain is proved, worse where a loss is, or where half of the accuracy is gone; else undecided.

    before, after: mAP50-95.  The half needs no interval: a dead detector is dead on ten pictures too.
    """
    lost_half = before is not None and after is not None and after < CLASS_MARGIN_SHARE * before
    if gate.verdict == FAILED or lost_half:
        return WORSE
    check = gate.check("mAP50-95")
    is_gain = check is not None and check.verdict == PASSED and check.loss_ci95 is not None and check.loss_ci95[1] < 0
    return BETTER if is_gain else UNDECIDED


def _with_norms(prepared: Adaptation, judged: _Judged, workspace: Path, log: Log) -> tuple[Detector, str]:
    """The detector with the place's statistics, unless val proves them worse, and a sentence about it."""
    settings = prepared.settings
    target = prepared.pictures.all_of_target
    context = _context(prepared, target, workspace, log)
    technique = AdaptNorms(settings.prior_pictures)
    adapted = technique.apply(prepared.detector, context)
    said = (
        f"norms: BatchNorm statistics of {min(len(target), technique.pictures)} pictures, those of before counting as "
        f"{settings.prior_pictures:g}"
    )
    log(said)
    is_last = not {"few-shot", "self-training"} & set(prepared.ways)
    if prepared.val is None or is_last:  # the whole is judged then
        return adapted, f"{said}."
    gate, maps = judged.gate(adapted, "norms", prepared.val)
    if verdict_of_gate(gate, *maps) == WORSE:
        return prepared.detector, f"{said}: worse on val, so they were not kept."
    return adapted, f"{said}: not provably worse on val, so they were kept."


def _trained(prepared: Adaptation, detector: Detector, workspace: Path, log: Log) -> Detector:
    settings = prepared.settings
    trains_on = prepared.pictures
    if "self-training" not in prepared.ways:
        trains_on = replace(trains_on, unlabelled=None)
    training = _training(settings, trains_on.unlabelled is not None)
    return training.apply(detector, trains_on, _context(prepared, trains_on.all_of_target, workspace, log))


def _training(settings: AdaptSettings, is_self_trained: bool) -> TrainOnTarget:
    return TrainOnTarget(settings.minutes, settings.epochs, settings.rounds if is_self_trained else 1)


def _context(prepared: Adaptation, data: Dataset, workspace: Path, log: Log) -> Context:
    settings = prepared.settings
    return Context(
        data, prepared.detector, prepared.input_size, settings.seed, workspace, log=log, device=settings.device
    )


def _ways(settings: AdaptSettings, few: Dataset | None, others: Dataset | None) -> tuple[str, ...]:
    """The ways that were asked for, or the usual ones.  Raises ValueError for one that cannot be gone."""
    has_time = settings.minutes is not None or settings.epochs is not None
    usual = {"norms": True, "few-shot": few is not None, "self-training": has_time and others is not None}
    ways = tuple(way for way in WAYS if (usual[way] if settings.ways is None else way in settings.ways))
    unknown = [way for way in settings.ways or () if way not in WAYS]
    if unknown:
        raise ValueError(f"Unknown way '{unknown[0]}'. The ways are {', '.join(WAYS)}.")
    if ("few-shot" in ways) != (few is not None):
        said = "few-shot needs --labelled N" if few is None else "--labelled N is for the way few-shot"
        raise ValueError(f"{said}: how many labelled pictures of the new place may be used.")
    training = [way for way in ways if way != "norms"]
    if training and not has_time:
        raise ValueError(f"{training[0]} trains: give --minutes or --epochs.")
    if has_time and not training:
        raise ValueError("Nothing is trained with these ways; leave out --minutes and --epochs.")
    if "self-training" in ways and others is None:
        raise ValueError("self-training needs pictures without labels: --unlabelled DIR, or a smaller --labelled.")
    return ways


def _labelled_and_not(settings: AdaptSettings, train: Dataset | None) -> tuple[Dataset | None, Dataset | None]:
    """The pictures of the train split whose labels may be used, and the others as if unlabelled."""
    if settings.labelled < 0:
        raise ValueError(f"--labelled is a number of pictures, at least 0; got {settings.labelled}.")
    if train is None:
        if settings.labelled:
            raise ValueError(f"--labelled {settings.labelled} needs --data with a train split.")
        if settings.unlabelled is None:
            raise ValueError(f"{settings.data} has no train split to adapt to; give --unlabelled DIR.")
        return None, None
    chosen = choose_few(train, settings.labelled, settings.seed)
    rest = [index for index in range(len(train)) if index not in set(chosen)]
    few = train.subset(chosen) if chosen else None
    if few is not None:
        check_labelled(few, f"among the {len(few)} that were drawn; raise --labelled or change --seed")
    return few, without_labels(train.subset(rest)) if rest else None


def _split(
    data: Path | None, split: str, detector: Detector, roles: Mapping[str, str], skipped: list[str]
) -> Dataset | None:
    """A split's readable pictures in the detector's classes, or None where there is none."""
    if data is None or split not in splits_of(data):
        return None
    pictures, problems = readable(load_dataset(data, split))
    skipped += problems
    check_given_roles(roles, pictures.classes, detector.classes)
    return match_classes(replace(pictures, classes=with_given_roles(pictures.classes, roles)), detector.classes)


def _labelled(dataset: Dataset | None) -> Dataset | None:
    """The data set, or None where not one box of it is labelled: it can judge nothing."""
    return dataset if dataset is not None and count_boxes(dataset) else None


def _sha256(dataset: Dataset | None) -> str | None:
    return None if dataset is None else dataset.sha256()


def _check_apart(settings: AdaptSettings, pictures: TargetPictures) -> None:
    """Raises ValueError where pictures that are to judge the result would be adapted to.  The very same files only."""
    known = {
        file_sha256(path): split
        for data in (settings.data, settings.source)
        for split in ("val", "test")
        if data is not None and split in splits_of(data)
        for path in load_dataset(data, split).image_paths
        if path.is_file()
    }
    shown = [*pictures.all_of_target.image_paths, *(pictures.source.image_paths if pictures.source else ())]
    used = [path for path in shown if file_sha256(path) in known]
    if used:
        raise ValueError(
            f"{len(used)} of the pictures to adapt with are also in {known[file_sha256(used[0])]}, the first is "
            f"{used[0].name}; no figure on them would hold. Remove them."
        )


def _about(
    settings: AdaptSettings, detector: Detector, ways: Sequence[str], pictures: TargetPictures, size: int
) -> dict[str, Any]:
    """What the result is made from, for its record."""
    about: dict[str, Any] = {"technique": "adapt", "model": settings.model, "model_sha256": detector_sha256(detector)}
    about |= {"ways": list(ways), "labelled": settings.labelled, "input_size": size, "seed": settings.seed}
    about |= {"minutes": settings.minutes, "epochs": settings.epochs, "rounds": settings.rounds}
    about |= {"prior_pictures": settings.prior_pictures, "target_sha256": pictures.all_of_target.sha256()}
    if pictures.source is not None:
        about["source_sha256"] = pictures.source.sha256()
    about["data_sha256"] = about.get("source_sha256")  # the labelled pictures behind it, as `finetune` calls them
    if is_checkpoint(Path(settings.model)):
        about["data_sha256"] = read_provenance(Path(settings.model)).get("data_sha256") or about["data_sha256"]
    return about | {"helmlite": helmlite.__version__}


def _claim(workspace: Path, about: Mapping[str, Any]) -> None:
    """Makes the workspace, or takes up that of an earlier call with the same inputs.

    Raises ValueError where it is another one's.
    """
    path = workspace / _ABOUT_FILE
    is_begun = path.is_file() or not workspace.exists()
    if not is_begun and not (workspace.is_dir() and could_not_begin(workspace, _ABOUT_FILE)):
        raise ValueError(f"{workspace}: exists and is not the workspace of this command; choose another --out.")
    if path.is_file():
        known = read_json(path, dict)
        different = [name for name, value in about.items() if known.get(name) != value]
        if different:
            raise ValueError(
                f"{workspace}: holds an adaptation made otherwise (other {different[0]}); choose another --out, or "
                "remove it."
            )
    lock_folder(workspace)
    write_whole(path, json.dumps(dict(about), ensure_ascii=False, indent=1))


def _pictures_in_words(prepared: Adaptation) -> str:
    pictures = prepared.pictures
    parts = [f"{' + '.join(prepared.ways)}:"]
    counts = [
        ("labelled", pictures.labelled),
        ("unlabelled", pictures.unlabelled),
        ("labelled of the place it comes from", pictures.source),
    ]
    parts.append(", ".join(f"{len(item)} {what}" for what, item in counts if item is not None))
    return f"{' '.join(parts)}, at {prepared.input_size} px."


def _training_in_words(prepared: Adaptation) -> str:
    if "self-training" in prepared.ways:
        return (
            f"self-training: {prepared.settings.rounds} rounds; what a teacher is sure of was decided without a label, "
            "and the last weights were taken: no epoch was chosen by accuracy."
        )
    return "few-shot: the last weights were taken: no epoch was chosen by accuracy."
