"""Several models on the same pictures: what is proved, what is not, and the files that say so."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.roles import with_roles
from helmlite.detections import Detections, Image
from helmlite.evaluate.accuracy import Predictions
from helmlite.evaluate.comparison import (
    Comparison,
    Contender,
    common_classes,
    compare,
    difference_in_words,
    in_classes_of,
    recall_difference,
)
from helmlite.evaluate.comparison_files import (
    JSON_NAME,
    MARKDOWN_NAME,
    PAGE_NAME,
    read_comparison,
    write_comparison,
)
from helmlite.evaluate.errors import match_class
from helmlite.evaluate.measured import Measured
from helmlite.evaluate.pages.comparison_page import comparison_page, headline
from helmlite.evaluate.pages.markdown import comparison_markdown
from helmlite.evaluate.pages.terminal import show_comparison
from helmlite.evaluate.pictures import pictures_csv
from helmlite.evaluate.robustness import WorsePredictions, all_cases
from helmlite.evaluate.statistics.resamples import Resamples
from helmlite.evaluate.thresholds import ThresholdRule
from written_data import CLASSES, make_found, make_predictions, make_random, make_sample


def _contender(name: str, found: Predictions, own: tuple[float, ...] | None = None) -> Contender:
    return Contender(Measured(name, runtime="openvino", precision="int8", input_size=320), found, found, own)


def _blind(found: Predictions, label: int) -> Predictions:
    """The same detector without any detection of one class."""
    return replace(found, detections=tuple(item[item.labels != label] for item in found.detections))


@pytest.fixture(scope="module")
def made() -> tuple[Dataset, Predictions]:
    return make_random(0, pictures=80, noise=2.0, false=2)


@pytest.fixture(scope="module")
def comparison(made: tuple[Dataset, Predictions]) -> Comparison:
    dataset, found = made
    return compare(
        [
            _contender("first", found, (0.3, 0.3)),
            _contender("the same", found),
            _contender("blind", _blind(found, 1), (0.3, 0.3)),
        ],
        replace(dataset, split="test"),
        dataset,
    )


def test_the_same_detector_is_not_told_apart(comparison: Comparison) -> None:
    same = comparison.differences[0]
    assert same.map_loss_points == 0
    assert same.map_loss_ci95 == pytest.approx((-4.58, 4.58), abs=0.01), "what 80 unchanged pictures leave open"
    assert same.says[0] == ("mAP50-95: no difference shown (95 % interval: between a gain of 4.58 and a loss of 4.58).")
    assert same.heads is not None and not same.heads.newly_missed and not same.heads.newly_found


def test_a_dead_class_is_a_proven_loss(comparison: Comparison) -> None:
    blind = comparison.differences[1]
    assert blind.map_loss_points is not None and blind.map_loss_points > 20
    assert blind.map_loss_ci95 is not None and blind.map_loss_ci95[0] > 10
    assert blind.heads is not None and blind.heads.found_by_candidate == 0
    assert blind.recall_loss_points == pytest.approx(100 * blind.heads.found_by_baseline / blind.heads.heads)
    assert "points lost" in blind.says[0] and "points lost" in blind.says[1]
    assert headline(comparison) == (
        "2 models against first: mAP50-95 shown to be lower in 1, higher in 0, not told apart in 1"
    )


def test_the_page_names_the_kind_of_fault(comparison: Comparison) -> None:
    first, _, blind = (item.diagnosis for item in comparison.models)
    missed = [next(kind for kind in side.errors.kinds if kind.kind == "Miss") for side in (first, blind)]
    assert missed[1].count > missed[0].count + 50
    assert sum(blind.confusion.counts[1][:2]) < 0.3 * sum(blind.confusion.counts[1]), "its row is background"
    page = comparison_page(comparison)
    assert "Kinds of errors" in page and "By head height" in page and "expected calibration error" in page


def test_a_threshold_that_is_carried_is_shown_beside_the_chosen_one(
    comparison: Comparison, made: tuple[Dataset, Predictions]
) -> None:
    dataset, found = made
    first, _, blind = comparison.models
    matches = match_class(found, dataset, (1,))
    assert first.as_carried is not None
    assert first.as_carried.recall == pytest.approx(matches.recall_at(0.3))
    assert first.as_carried.alarms_per_100 == pytest.approx(matches.alarms_per_100(0.3))
    assert first.at_own_level == first.with_the_firsts
    assert blind.at_own_level is not None and blind.at_own_level.recall == 0
    assert comparison.alarms_per_100 == pytest.approx(matches.alarms_per_100(first.at_own_level.threshold), abs=2)


def test_thresholds_shift_with_the_scores(made: tuple[Dataset, Predictions]) -> None:
    """Scores halved: nothing is lost at thresholds chosen anew, a quarter of the heads with the old ones."""
    dataset, found = made
    halved = replace(found, detections=tuple(replace(item, scores=item.scores / 2) for item in found.detections))
    result = compare([_contender("full", found), _contender("halved", halved)], dataset, dataset)
    second = result.models[1]
    assert second.at_own_level is not None and second.with_the_firsts is not None
    assert second.at_own_level.recall == pytest.approx(result.models[0].measured.recall_no_helmet)
    assert second.with_the_firsts.recall is not None and second.at_own_level.recall is not None
    assert second.with_the_firsts.recall < 0.8 * second.at_own_level.recall
    assert second.thresholds.by_class == pytest.approx([score / 2 for score in result.models[0].thresholds.by_class])
    assert "which flatters recall" in result.remarks[0]


def test_the_rule_is_followed(made: tuple[Dataset, Predictions]) -> None:
    dataset, found = made
    result = compare([_contender("a", found)], dataset, dataset, ThresholdRule("recall", 0.5))
    matches = match_class(found, dataset, (0,))
    recall = matches.recall_at(result.models[0].thresholds.by_class[0])
    assert recall is not None and 0.5 <= recall < 0.55
    assert result.models[0].thresholds.rule.startswith("recall of at least 50 %")


def test_recall_lost_by_hand() -> None:
    """Two pictures with a head each; the second detector misses the second: half lost, 0 to 100 by the draw."""
    boxes = [(0.0, 0.0, 10.0, 10.0)]
    dataset = dataset_of([make_sample(boxes, [1], "a"), make_sample(boxes, [1], "b")], CLASSES)
    both = make_predictions(make_found(boxes, [0.9], [1]), make_found(boxes, [0.9], [1]))
    one = make_predictions(make_found(boxes, [0.9], [1]), make_found([], [], []))
    before, after = match_class(both, dataset, (1,)), match_class(one, dataset, (1,))
    weights = np.array([[1, 1], [2, 0], [0, 2], [1, 1]])
    draws = Resamples(weights, np.array([0, 1]))
    assert (100 * (draws.recall(before, 0.5) - draws.recall(after, 0.5))).tolist() == [50, 0, 100, 50]
    loss, interval, says = recall_difference(before, after, (0.5, 0.5), draws)
    assert (loss, interval) == (50.0, None)
    assert says == (
        "Recall of no_helmet: measured 50.00 points lower, no interval can be trusted on 2 heads in 2 independent "
        "pictures (at least 40 in 20)."
    )


def test_five_heads_in_many_pictures_have_no_interval_of_recall() -> None:
    boxes = [(0.0, 0.0, 10.0, 10.0)]
    dataset = dataset_of([make_sample(boxes, [int(n < 5)], str(n)) for n in range(100)], CLASSES)
    found = make_predictions(*[make_found(boxes, [0.9], [int(n < 5)]) for n in range(100)])
    result = compare([_contender("a", found), _contender("b", _blind(found, 1))], dataset, dataset)
    (difference,) = result.differences
    assert (difference.recall_loss_points, difference.recall_loss_ci95) == (100.0, None)
    assert "no interval can be trusted on 5 heads in 5 independent pictures" in difference.says[1]
    assert difference.map_loss_ci95 is not None


def test_few_pictures_give_no_interval() -> None:
    dataset, found = make_random(1, pictures=3)
    result = compare([_contender("a", found), _contender("b", _blind(found, 0))], dataset, dataset)
    assert result.differences[0].map_loss_ci95 is None
    assert result.models[0].measured.map_ci95 is None
    assert "too few pictures for an interval" in result.differences[0].says[0]
    assert headline(result) == "b against a: no interval, so nothing is proved"


def test_nothing_labelled_is_unknown_not_zero() -> None:
    dataset = dataset_of([make_sample([(0, 0, 9, 9)], [0], str(number)) for number in range(30)], CLASSES)
    found = make_predictions(*[make_found([(0, 0, 9, 9)], [0.9], [0])] * 30)
    result = compare([_contender("a", found), _contender("b", found)], dataset, dataset)
    assert result.alarms_per_100 is None
    assert result.models[0].measured.recall_no_helmet is None
    assert result.models[0].measured.per_class[1].ap is None
    assert len(result.differences[0].says) == 1
    assert ">unknown<" in comparison_page(result)


def test_what_cannot_be_compared_is_refused(made: tuple[Dataset, Predictions]) -> None:
    dataset, found = made
    fewer = Predictions(found.detections[:-1], found.indices[:-1])
    with pytest.raises(ValueError, match="the same pictures; they saw 80 and 79, 79 of them in common"):
        compare([_contender("a", found), _contender("b", fewer)], dataset, dataset)
    with pytest.raises(ValueError, match="Every model needs a name of its own; got a, a"):
        compare([_contender("a", found), _contender("a", found)], dataset, dataset)
    with pytest.raises(ValueError, match="There is no model to compare"):
        compare([], dataset, dataset)


def test_classes_that_all_know() -> None:
    data = with_roles(["helmet", "no_helmet", "plate"])
    models = {"a": with_roles(["戴头盔", "未戴头盔"]), "b": with_roles(["no_helmet", "helmet", "plate"])}
    assert common_classes(data, models) == ([0, 1], ["'plate' is left out: a has no such class."])
    with pytest.raises(ValueError, match=r"known to every model\. The data has plate; a: 戴头盔, 未戴头盔"):
        common_classes(with_roles(["plate"]), models)
    found = make_predictions(make_found([(0, 0, 1, 1), (2, 2, 3, 3)], [0.9, 0.8], [0, 2]))
    mapped = in_classes_of(found, {0: 1, 1: 0}).detections[0]
    assert mapped.labels.tolist() == [1] and mapped.scores.tolist() == pytest.approx([0.9])
    assert len(in_classes_of(found, {}).detections[0]) == 0


@pytest.mark.parametrize(
    ("loss", "interval", "said"),
    [
        (1.0, (0.2, 1.8), "x: 1.00 points lost (95 % interval: a loss between 0.20 and 1.80)."),
        (-1.0, (-1.8, -0.2), "x: 1.00 points gained (95 % interval: a gain between 0.20 and 1.80)."),
        (1.0, (-0.5, 2.5), "x: no difference shown (95 % interval: between a gain of 0.50 and a loss of 2.50)."),
        (-1.0, (-2.0, 0.0), "x: no difference shown (95 % interval: a gain between 0.00 and 2.00)."),
        (None, None, "x: unknown, nothing of it is labelled here."),
    ],
)
def test_noise_is_not_called_a_loss(loss: float | None, interval: tuple[float, float] | None, said: str) -> None:
    assert difference_in_words("x", loss, interval) == said


def test_bad_conditions_are_compared_too(tmp_path: Path) -> None:
    """A detector that goes blind at night, against one that does not; all else alike."""
    dataset, found = make_random(4, pictures=80, noise=1.0, false=1)
    cases = all_cases(["night", "fog"])
    nothing = replace(found, detections=(make_found([], [], []),) * len(found))
    seeing = replace(_contender("seeing", found), worse=WorsePredictions(found, {case: found for case in cases}))
    at_night = {case: nothing if case.condition == "night" else found for case in cases}
    blind = replace(_contender("blind at night", found), worse=WorsePredictions(found, at_night))
    result = compare([seeing, blind], dataset, dataset)
    difference = result.differences[0]
    assert difference.robustness is not None and difference.robustness.first is not None
    assert (difference.robustness.first.condition, difference.robustness.first.severity) == ("night", 1)
    assert difference.says[-1].startswith("The result breaks first in night at severity 1")
    assert result.models[0].robustness is not None and result.models[0].robustness.kept == pytest.approx(1.0)
    assert "In bad conditions" in comparison_page(result) and "In bad conditions" not in comparison_page(
        compare([_contender("a", found)], dataset, dataset)
    )
    write_comparison(result, tmp_path)
    assert read_comparison(tmp_path) == result


def test_it_is_written_and_read_again(comparison: Comparison, tmp_path: Path) -> None:
    page = write_comparison(comparison, tmp_path / "out", "a,b\n")
    assert page == tmp_path / "out" / PAGE_NAME
    assert read_comparison(tmp_path / "out") == comparison
    values = json.loads((tmp_path / "out" / JSON_NAME).read_text("utf-8"))
    assert values["kind"] == "comparison" and values["models"][0]["measured"]["name"] == "first"
    (tmp_path / "other.json").write_text('{"format": 1, "kind": "report"}')
    with pytest.raises(ValueError, match="expected a file of helmlite of kind 'comparison', format 1"):
        read_comparison(tmp_path / "other.json")
    assert (tmp_path / "out" / MARKDOWN_NAME).read_text("utf-8") == comparison_markdown(comparison)


def test_every_picture_has_its_rows(comparison: Comparison, made: tuple[Dataset, Predictions]) -> None:
    dataset, found = made
    thresholds = [comparison.models[0].thresholds, comparison.models[2].thresholds]
    models = {"first": (found, thresholds[0]), "=blind": (_blind(found, 1), thresholds[1])}
    rows = list(csv.DictReader(pictures_csv(models, dataset).splitlines()))
    assert len(rows) == 2 * len(dataset)
    bare = [row for row in rows if row["role"] == "no_helmet"]
    assert sum(int(row["labelled"]) for row in bare) == sum(int((sample.labels == 1).sum()) for sample in dataset)
    matches = match_class(found, dataset, (1,))
    threshold = thresholds[0].by_class[1]
    assert sum(int(row["first: found"]) for row in bare) == int(matches.found_at(threshold).sum())
    assert sum(int(row["first: false alarms"]) for row in bare) == matches.alarms_at(threshold)
    assert {row["'=blind: found"] for row in bare} == {"0"}  # no formula


def test_the_page_s_first_lines(comparison: Comparison) -> None:
    page = comparison_page(comparison)
    assert f"<h1>{headline(comparison)}</h1>" in page
    assert "of them bare heads. Latency: not measured.<" in page
    timed = replace(comparison, measured_on={"threads": "1"})
    assert "of them bare heads. Latency: threads 1.<" in comparison_page(timed)


def test_names_are_not_taken_for_signs(comparison: Comparison) -> None:
    first = comparison.models[0]
    odd = replace(first, measured=replace(first.measured, name="<img src=x>|*"))
    changed = replace(comparison, models=(odd, *comparison.models[1:]))
    assert "<img" not in comparison_page(changed)
    assert "\\<img src=x>\\|\\*" in comparison_markdown(changed)


def test_the_terminal_shows_what_the_page_says(comparison: Comparison, capsys: pytest.CaptureFixture[str]) -> None:
    show_comparison(comparison)
    shown = capsys.readouterr().out
    assert headline(comparison) in shown
    for difference in comparison.differences:
        for sentence in difference.says:
            assert sentence in shown and sentence.split(".")[0] in comparison_page(comparison)


def test_a_fault_is_named_first_everywhere(
    comparison: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same, blind = comparison.differences
    assert same.faults.found() == ()
    assert [item.name for item in blind.faults.dead] == ["no_helmet"]
    sentence = f"class no_helmet: never reported; of {blind.faults.dead[0].heads} heads first finds"
    page, markdown = comparison_page(comparison), comparison_markdown(comparison)
    assert (
        page.index("<h2>Findings</h2>") < page.index("<h2>Differences</h2>")
        and f'<b><span translate="no">blind</span></b> {sentence}' in page
    )
    assert f"- **blind** {sentence.replace('_', chr(92) + '_')}" in markdown
    show_comparison(comparison)
    assert f"finding  blind  {sentence}" in capsys.readouterr().out
    write_comparison(comparison, tmp_path)
    assert read_comparison(tmp_path).differences == comparison.differences


def test_without_a_fault_there_is_no_such_card(made: tuple[Dataset, Predictions]) -> None:
    dataset, found = made
    result = compare([_contender("a", found), _contender("b", found)], dataset, dataset)
    assert "Findings" not in comparison_page(result) and "Findings" not in comparison_markdown(result)


def test_a_model_is_asked_again_only_where_it_lost(
    made: tuple[Dataset, Predictions], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red and blue swapped: what the candidate gives for the swapped picture is what the first gives for the plain."""
    dataset, found = made
    monkeypatch.setattr(Sample, "read_image", lambda sample: np.full((2, 2, 3), int(sample.image_path.stem), np.uint8))
    asked: list[int] = []

    def predict(image: Image) -> Detections:
        asked.append(int(image[0, 0, 0]))
        return found.detections[asked[-1]]

    random = np.random.default_rng(0)
    off = tuple(replace(item, scores=random.random(len(item)).astype(np.float32)) for item in found.detections)
    worse = replace(_contender("worse", replace(found, detections=off)), predict=predict)
    result = compare([_contender("a", found), worse], dataset, dataset)
    assert len(asked) == 40 and result.differences[0].faults.colours is not None
    asked.clear()
    same = compare([_contender("a", found), replace(_contender("b", found), predict=predict)], dataset, dataset)
    assert asked == [] and not same.differences[0].faults.is_colour_probed
