"""The gate: three verdicts on intervals worked by hand, and on detectors made to lose what is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import Class, with_roles
from helmlite.detections import Detections
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.errors import Matches, match_class, threshold_for_alarms
from helmlite.evaluate.gate import (
    change_in_words,
    changes_at,
    interval_in_words,
    judge,
    operating_point,
    pictures_to_decide,
    told_in_words,
    verdict_of,
)
from helmlite.evaluate.statistics.resamples import FEWEST_HEADS, FEWEST_PICTURES
from helmlite.evaluate.thresholds import best_f1_threshold


def _heads(pictures: int, classes: tuple[Class, ...] = with_roles(["helmet", "no_helmet"])) -> Dataset:
    """One helmet and one bare head in each picture, 40 pixels wide."""
    boxes = np.array([(10, 10, 50, 50), (100, 10, 140, 50)], np.float32)
    samples = [Sample(Path(f"{n}.jpg"), boxes, np.array([0, 1])) for n in range(pictures)]
    return dataset_of(samples, classes, "val")


def _perfect(dataset: Dataset) -> Predictions:
    scores = np.random.default_rng(0).uniform(0.6, 0.95, (len(dataset), 2)).astype(np.float32)
    found = [
        Detections(sample.boxes_xyxy, row[: len(sample.labels)], sample.labels)
        for sample, row in zip(dataset, scores, strict=True)
    ]
    return Predictions(tuple(found), tuple(range(len(dataset))))


def _without(predictions: Predictions, label: int, pictures: range) -> Predictions:
    found = [
        item[item.labels != label] if number in pictures else item for number, item in enumerate(predictions.detections)
    ]
    return replace(predictions, detections=tuple(found))


@pytest.mark.parametrize(
    ("interval", "margin", "verdict"),
    [
        ((-0.5, 0.9), 1.0, "passed"),
        ((-0.5, 1.0), 1.0, "passed"),
        ((0.5, 1.1), 1.0, "undecided"),
        ((1.0, 2.0), 1.0, "undecided"),
        ((1.1, 2.0), 1.0, "failed"),
        ((0.0, 0.0), 0.0, "passed"),
    ],
)
def test_interval_against_margin(interval: tuple[float, float], margin: float, verdict: str) -> None:
    assert verdict_of(interval, margin) == verdict


def test_what_did_not_change_on_few_pictures_is_no_proof_that_nothing_does() -> None:
    """80 heads and pictures without a change: z^2 / (80 + z^2) = 4.58 points may still be lost, and 189 heads (381
    pictures) bring that below 2 points (1 point).  A bootstrap alone would say 0.00 to 0.00."""
    data = _heads(80)
    verdict = judge(_perfect(data), _perfect(data), data)
    mean, recall = verdict.check("mAP50-95"), verdict.check("recall of no_helmet")
    assert mean is not None and recall is not None
    for check in (mean, recall):
        assert (check.verdict, check.loss_points) == ("undecided", 0.0)
        assert check.loss_ci95 == pytest.approx((-4.5818, 4.5818), abs=1e-4)
    assert (mean.pictures_to_decide, recall.pictures_to_decide) == (381, 189)
    assert verdict.heads is not None
    assert verdict.heads.in_words() == "0 of 80 bare heads newly missed, 0 newly found"


@pytest.mark.parametrize(
    ("pictures", "recall", "mean"), [(188, "undecided", "undecided"), (189, "passed", "undecided")]
)
def test_the_same_detections_pass_on_pictures_enough(pictures: int, recall: str, mean: str) -> None:
    data = _heads(pictures)
    verdict = judge(_perfect(data), _perfect(data), data, resamples=50)
    assert [item.verdict for item in verdict.checks[:2]] == [mean, recall]


def test_the_same_detections_pass_on_381_pictures() -> None:
    data = _heads(381)
    assert judge(_perfect(data), _perfect(data), data, resamples=50).verdict == "passed"


def test_a_detector_that_loses_every_fiftieth_head_hardly_ever_passes() -> None:
    """Nothing else changes, so that no resample shows a loss where none of the heads was hit: 45 sets in 100 of 40."""
    random = np.random.default_rng(0)
    for pictures in (80, 250):
        data = _heads(pictures)
        baseline = _perfect(data)
        passed = 0
        for _ in range(40):
            hit = np.flatnonzero(random.random(pictures) < 0.02)
            candidate = baseline
            for picture in hit:
                candidate = _without(candidate, 1, range(picture, picture + 1))
            recall = judge(baseline, candidate, data, resamples=200).check("recall of no_helmet")
            passed += recall is not None and recall.verdict == "passed"
        assert passed <= 4, f"{passed} of 40 pass on {pictures} pictures"


def test_a_handful_of_heads_proves_nothing() -> None:
    data = _heads(80)
    few = dataset_of(
        [replace(sample, labels=np.array([0, 0])) if number >= 9 else sample for number, sample in enumerate(data)],
        data.classes,
        "val",
    )
    verdict = judge(_perfect(few), _perfect(few), few, max_drop_points=1.0)
    recall = verdict.check("recall of no_helmet")
    assert recall is not None
    assert (recall.verdict, verdict.verdict) == ("undecided", "undecided")
    assert (
        f"no interval can be trusted on 9 heads in 9 independent pictures (at least {FEWEST_HEADS} in 20)"
        in recall.says
    )
    assert recall.loss_ci95 is None
    assert recall.pictures_to_decide is None


def test_every_class_of_the_role_counts() -> None:
    """Bare drivers and bare passengers: the passengers are lost, and the gate sees it."""
    classes = (Class("driver", "no_helmet"), Class("passenger", "no_helmet"))
    data = _heads(80, classes)
    verdict = judge(_perfect(data), _without(_perfect(data), 1, range(80)), data, max_drop_points=90)
    assert verdict.heads is not None
    assert verdict.heads.in_words() == "80 of 160 bare heads newly missed, 0 newly found"
    recall = verdict.check("recall of no_helmet")
    assert recall is not None
    assert recall.verdict == "failed"


def test_half_of_the_heads_lost_fails_with_the_heads_counted() -> None:
    data = _heads(80)
    verdict = judge(_perfect(data), _without(_perfect(data), 1, range(40)), data)
    assert verdict.verdict == "failed"
    recall = verdict.check("recall of no_helmet")
    assert recall is not None
    assert recall.verdict == "failed"
    assert recall.loss_points == pytest.approx(50.0)
    assert "40 of 80 bare heads newly missed, 0 newly found" in recall.says
    assert verdict.heads is not None
    assert [head.picture for head in verdict.heads.newly_missed] == list(range(40))


def test_one_head_of_eighty_is_undecided_and_says_what_would_decide() -> None:
    """Loss 1.25 points of recall, standard error 1.24: n' = 80 (2.80 * 1.24 / 0.75)^2, about 1720."""
    data = _heads(80)
    verdict = judge(_perfect(data), _without(_perfect(data), 1, range(1)), data, max_drop_points=9)
    recall = verdict.check("recall of no_helmet")
    assert recall is not None
    assert (verdict.verdict, recall.verdict) == ("undecided", "undecided")
    assert recall.pictures_to_decide == pytest.approx(1720, rel=0.15)
    assert f"80 pictures cannot tell, about {recall.pictures_to_decide} would" in recall.says


def test_a_dead_class_fails_though_the_mean_is_allowed_to_fall() -> None:
    """The helmet class is gone: the mean loses 50 points, which --max-drop 60 allows."""
    data = _heads(80)
    verdict = judge(_perfect(data), _without(_perfect(data), 0, range(80)), data, max_drop_points=60)
    mean, of_class = verdict.check("mAP50-95"), verdict.check("class helmet")
    assert mean is not None
    assert of_class is not None
    assert mean.verdict == "passed"
    assert of_class.verdict == "failed"
    assert of_class.margin_points == pytest.approx(50.0)  # never half of what it had
    assert verdict.verdict == "failed"
    assert any(line.startswith("failed: class helmet") for line in verdict.says)


def test_a_size_that_nobody_labelled_is_not_judged() -> None:
    data = _heads(80)
    verdict = judge(_perfect(data), _perfect(data), data)
    large, medium = verdict.check("size large"), verdict.check("size medium")
    assert large is not None
    assert medium is not None
    assert large.verdict == "not judged"
    assert "0 boxes in 0 independent pictures are too few" in large.says
    assert medium.verdict == "passed"


def test_a_size_that_is_gone_fails_though_the_mean_is_allowed_to_fall() -> None:
    """All labelled boxes are of medium size, and none is found any more."""
    data = _heads(80)
    gone = _without(_without(_perfect(data), 0, range(80)), 1, range(80))
    size = judge(_perfect(data), gone, data, max_drop_points=99).check("size medium")
    assert size is not None
    assert size.verdict == "failed"


def test_lower_thresholds_buy_nothing() -> None:
    """The candidate sees every head, but only among louder false alarms: at equal alarms it finds none."""
    data = _heads(80)
    baseline = _perfect(data)
    noise = Detections(np.array([(200, 200, 240, 240)], np.float32), np.array([0.99], np.float32), np.array([1]))
    candidate = replace(baseline, detections=tuple(_joined(noise, item) for item in baseline.detections))
    verdict = judge(baseline, candidate, data, max_drop_points=90)
    assert verdict.heads is not None
    assert verdict.heads.candidate_false_alarms == 0
    assert verdict.heads.found_by_candidate == 0
    assert verdict.verdict == "failed"


def _joined(first: Detections, second: Detections) -> Detections:
    return Detections(
        np.concatenate([first.boxes_xyxy, second.boxes_xyxy]),
        np.concatenate([first.scores, second.scores]),
        np.concatenate([first.labels, second.labels]),
    )


def test_recall_on_the_data_itself_is_what_the_heads_say(random_set) -> None:  # type: ignore[no-untyped-def]
    for seed in range(8):
        data, baseline = random_set(seed, pictures=80)
        candidate = replace(baseline, detections=tuple(item[item.scores > 0.3] for item in baseline.detections))
        verdict = judge(baseline, candidate, data, resamples=50)
        check = verdict.check("recall of no_helmet")
        assert verdict.heads is not None
        assert check is not None
        assert check.baseline == pytest.approx(verdict.heads.baseline_recall)
        assert check.candidate == pytest.approx(verdict.heads.candidate_recall)
        allowed = (verdict.heads.baseline_false_alarms, verdict.heads.candidate_false_alarms)
        assert f"at {100 * max(allowed) / 80:.1f} false alarms" in check.says  # the level is that of one of them


def test_equally_good_detectors_are_not_told_apart() -> None:
    """Two detectors drawn from the same distribution: on average over many data sets neither loses to the other.

    At the best F1 of one of them the other seems to lose two points: the first stands just above an alarm of its own.
    """
    random = np.random.default_rng(0)
    losses, losses_at_own_best = [], []
    for _ in range(400):
        first, second = _equally_good(random, pictures=150)
        point = operating_point(first, second)
        losses.append(_loss(first, second, point.baseline_threshold, point.candidate_threshold))
        best = best_f1_threshold(first)
        assert best is not None
        as_loud = threshold_for_alarms(second, first.alarms_per_100(best[0]))
        losses_at_own_best.append(_loss(first, second, best[0], as_loud))
    assert abs(float(np.mean(losses))) < 0.5  # points, with a standard error of 0.13
    assert float(np.mean(losses_at_own_best)) > 1.5


def _loss(first: Matches, second: Matches, threshold: float, other_threshold: float) -> float:
    before, after = first.recall_at(threshold), second.recall_at(other_threshold)
    assert before is not None
    assert after is not None
    return 100 * (before - after)


def _equally_good(random: np.random.Generator, pictures: int) -> tuple[Matches, Matches]:
    """The same heads and look-alikes, scored twice with independent noise."""
    heads, alarms = (np.repeat(np.arange(pictures), random.poisson(rate, pictures)) for rate in (0.8, 2.0))
    head_logits, alarm_logits = random.normal(2.5, 1.5, len(heads)), random.normal(-2.0, 1.2, len(alarms))

    def scored(logits: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-(logits + random.normal(0, 0.4, len(logits)))))

    first, second = (
        Matches(scored(head_logits), heads, np.arange(len(heads)), scored(alarm_logits), alarms, pictures)
        for _ in range(2)
    )
    return first, second


def test_too_few_pictures_are_undecided_with_the_reason() -> None:
    data = _heads(12)
    verdict = judge(_perfect(data), _perfect(data), data)
    assert verdict.verdict == "undecided"
    assert f"no interval can be trusted on 12 independent pictures (at least {FEWEST_PICTURES})" in verdict.says[0]
    assert {check.loss_ci95 for check in verdict.checks} == {None}


def test_one_picture_more_than_the_limit_has_an_interval() -> None:
    for pictures, has_interval in ((FEWEST_PICTURES - 1, False), (FEWEST_PICTURES, True)):
        data = _heads(pictures)
        check = judge(_perfect(data), _perfect(data), data, resamples=50).check("mAP50-95")
        assert check is not None
        assert (check.loss_ci95 is not None) == has_interval


def test_one_head_more_than_the_limit_has_an_interval() -> None:
    for heads, has_interval in ((FEWEST_HEADS - 1, False), (FEWEST_HEADS, True)):
        data = _heads(80)
        some = [replace(item, labels=np.array([0, int(number < heads)])) for number, item in enumerate(data)]
        few = dataset_of(some, data.classes, "val")
        check = judge(_perfect(few), _perfect(few), few, resamples=50).check("recall of no_helmet")
        assert check is not None
        assert (check.loss_ci95 is not None) == has_interval


def test_a_class_in_one_picture_fails_nothing() -> None:
    """12 boxes of it in a single group photo, all lost: one bad picture is not a dead class."""
    data = _heads(100, with_roles(["helmet", "no_helmet", "rider"]))
    boxes = np.array([(40 * n, 100, 40 * n + 40, 140) for n in range(12)], np.float32)
    group = replace(
        data[0],
        boxes_xyxy=np.concatenate([data[0].boxes_xyxy, boxes]),
        labels=np.concatenate([data[0].labels, np.full(12, 2)]),
    )
    crowd = dataset_of([group, *list(data)[1:]], data.classes, "val")
    found = Detections(group.boxes_xyxy, np.full(14, 0.9, np.float32), group.labels)
    baseline = replace(_perfect(data), detections=(found, *_perfect(data).detections[1:]))
    candidate = _without(baseline, 2, range(1))
    rider = judge(baseline, candidate, crowd, max_drop_points=60, resamples=50).check("class rider")
    assert rider is not None and rider.verdict == "not judged"
    assert rider.says == (
        "class rider: 12 boxes in 1 independent pictures are too few to judge (at least 10 pictures)."
    )


def test_many_heads_in_few_pictures_prove_nothing() -> None:
    """45 bare heads, but in 3 pictures: they are found and missed together, so that no interval can be trusted."""
    boxes = np.array([(50.0 * n, 10, 50.0 * n + 40, 50) for n in range(15)], np.float32)
    samples = [Sample(Path(f"{n}.jpg"), boxes, np.full(15, int(n < 3))) for n in range(90)]
    data = dataset_of(samples, with_roles(["helmet", "no_helmet"]), "val")
    found = Predictions(
        tuple(Detections(boxes, np.full(15, 0.9, np.float32), sample.labels) for sample in data), tuple(range(90))
    )
    verdict = judge(found, found, data, resamples=50)
    recall = verdict.check("recall of no_helmet")
    assert recall is not None and (recall.verdict, recall.loss_ci95) == ("undecided", None)
    assert "no interval can be trusted on 45 heads in 3 independent pictures" in recall.says


def test_what_is_not_proved_is_called_neither_loss_nor_gain() -> None:
    assert told_in_words(1.3, (0.2, 2.4)) == "1.30 points lost"
    assert told_in_words(-1.3, (-2.4, -0.2)) == "1.30 points gained"
    assert told_in_words(1.3, (-0.2, 2.4)) == told_in_words(1.3, None) == "measured 1.30 points lower"
    assert told_in_words(-1.3, (-2.4, 0.2)) == "measured 1.30 points higher"
    assert (told_in_words(0.0, None), told_in_words(None, None)) == ("unchanged", "unknown")


def test_where_the_baseline_never_finds_a_head_both_are_asked_at_equal_alarms() -> None:
    """The candidate finds all below five louder alarms: at the level where its own F1 is best both have five."""
    data = _heads(100)
    found = _perfect(data)
    loud = np.concatenate([found.detections[0].boxes_xyxy, np.array([(300, 10, 340, 50)], np.float32)])
    noisy = replace(
        found,
        detections=tuple(
            Detections(loud, np.append(item.scores, np.float32(0.99)), np.append(item.labels, 1)) if n < 5 else item
            for n, item in enumerate(found.detections)
        ),
    )
    silent = replace(found, detections=tuple(item[item.labels == 0] for item in found.detections))
    matches = [match_class(side, data, (1,)) for side in (silent, noisy)]
    point = operating_point(*matches)
    assert point.alarms_per_100 == 5.0
    assert matches[1].alarms_per_100(point.candidate_threshold) == 5.0
    assert matches[1].recall_at(point.candidate_threshold) == 1.0
    verdict = judge(silent, noisy, data, resamples=50)
    recall = verdict.check("recall of no_helmet")
    assert recall is not None and recall.loss_points == pytest.approx(-100) and verdict.heads is not None
    assert verdict.heads.found_by_candidate == 100


def test_one_scene_is_one_picture() -> None:
    data = _heads(80)
    scenes = dataset_of([replace(item, group="gate") for item in data], data.classes, "val")
    verdict = judge(_perfect(data), _perfect(data), scenes)
    assert (verdict.verdict, verdict.pictures, verdict.units) == ("undecided", 80, 1)


def test_without_the_role_it_says_what_cannot_be_said() -> None:
    data = _heads(80, with_roles(["helmet", "dog"]))
    verdict = judge(_perfect(data), _perfect(data), data)
    recall = verdict.check("recall of no_helmet")
    assert recall is not None
    assert verdict.heads is None
    assert recall.verdict == "not judged"
    assert "no class has the role no_helmet (the classes are helmet, dog" in recall.says
    assert verdict.verdict == verdict.checks[0].verdict


def test_a_role_of_which_nothing_is_labelled_is_undecided() -> None:
    data = _heads(80)
    nobody = dataset_of([replace(s, boxes_xyxy=s.boxes_xyxy[:1], labels=s.labels[:1]) for s in data], data.classes)
    verdict = judge(_perfect(nobody), _perfect(nobody), nobody)
    assert verdict.verdict == "undecided"
    assert verdict.says[1] == "undecided: recall of no_helmet: no bare head is labelled here."


@pytest.mark.parametrize("margins", [{"max_drop_points": -1.0}, {"max_recall_drop_points": float("nan")}])
def test_a_margin_that_is_none_is_refused(margins: dict[str, float]) -> None:
    data = _heads(2)
    with pytest.raises(ValueError, match="is a loss in points and cannot be negative"):
        judge(_perfect(data), _perfect(data), data, **margins)  # type: ignore[arg-type]


def test_the_seed_decides_the_draws(random_set) -> None:  # type: ignore[no-untyped-def]
    data, baseline = random_set(3, pictures=80)
    candidate = replace(baseline, detections=tuple(item[item.scores > 0.3] for item in baseline.detections))
    first, again, other = (judge(baseline, candidate, data, resamples=100, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.checks[0].loss_ci95 != other.checks[0].loss_ci95


def test_thresholds_of_val_are_kept_on_test() -> None:
    val, test = _heads(30), _heads(25)
    baseline, candidate = _perfect(val), _without(_perfect(val), 1, range(3))
    point = operating_point(match_class(baseline, val, (1,)), match_class(candidate, val, (1,)))
    changes = changes_at(point, _perfect(test), _without(_perfect(test), 1, range(4)), test)
    assert changes is not None
    assert changes.in_words() == "4 of 25 bare heads newly missed, 0 newly found"
    assert changes.baseline_threshold == point.baseline_threshold
    assert changes_at(point, _perfect(test), _perfect(test), test, role="rider") is None


def test_how_many_pictures_decide() -> None:
    """Standard error 2, loss 1, margin 3: 100 (2.80 * 2 / 2)^2 = 785 pictures."""
    losses = np.array([1.0, *np.tile([-1.0, 3.0], 500)])
    assert pictures_to_decide(losses, 3.0, 100) == 785
    assert pictures_to_decide(losses, 1.0, 100) is None
    assert pictures_to_decide(losses, 1.01, 100) is None  # 31 million


def test_a_gain_is_called_a_gain() -> None:
    assert change_in_words(-0.4) == "0.40 points gained"
    assert change_in_words(1.3) == "1.30 points lost"
    assert change_in_words(0.0) == "unchanged"
    assert change_in_words(None) == "unknown"
    assert interval_in_words((0.1, 2.4)) == "a loss between 0.10 and 2.40"
    assert interval_in_words((-0.3, 1.2)) == "between a gain of 0.30 and a loss of 1.20"
    assert interval_in_words((-2.0, -1.0)) == "a gain between 1.00 and 2.00"
