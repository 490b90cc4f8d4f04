"""COCO's numbers: worked by hand, and equal to pycocotools on real and on random data."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helmlite.data.dataset import Dataset, Sample, dataset_of
from helmlite.data.load import load_dataset
from helmlite.data.roles import with_roles
from helmlite.detections import Detections, no_detections
from helmlite.evaluate.accuracy import (
    Predictions,
    SkippedPicture,
    coco_results,
    coco_truth,
    load_predictions,
    measure_accuracy,
    predict_all,
    predictions_kept,
    save_predictions,
)


def _pycocotools(predictions: Predictions, dataset: Dataset) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = coco_truth(predictions, dataset)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(coco_results(predictions)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats[:6]]


def _ours(predictions: Predictions, dataset: Dataset) -> list[float]:
    found = measure_accuracy(predictions, dataset)
    values = [found.map, found.map50, found.map75, *found.by_size.values()]
    return [-1.0 if value is None else value for value in values]


def _jittered(dataset: Dataset, seed: int) -> Predictions:
    random = np.random.default_rng(seed)
    found = []
    for sample in dataset:
        sides = np.tile(sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2], (1, 2))
        boxes = sample.boxes_xyxy + sides * random.normal(0, 0.08, sides.shape)
        labels = np.where(random.random(len(sides)) < 0.9, sample.labels, 1 - sample.labels)
        found.append(Detections(boxes.astype(np.float32), random.random(len(sides)).astype(np.float32), labels))
    return Predictions(tuple(found), tuple(range(len(dataset))))


@pytest.mark.parametrize("name", ["bikes_helmets", "india_traffic", "thai_cctv", "hardhat"])
def test_real_sets_score_as_pycocotools_says(shared: Path, name: str) -> None:
    dataset = load_dataset(shared / "data" / name / "data.yaml", "test")
    predictions = _jittered(dataset, seed=3)
    ours = _ours(predictions, dataset)
    assert 0.1 < ours[0] < 0.9
    assert ours == pytest.approx(_pycocotools(predictions, dataset), abs=1e-6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), noise=st.floats(0, 20), false=st.integers(1, 130))
def test_random_data_scores_as_pycocotools_says(
    random_set: Callable[..., tuple[Dataset, Predictions]], seed: int, noise: float, false: int
) -> None:
    dataset, predictions = random_set(seed, pictures=8, noise=noise, false=false)
    assert _ours(predictions, dataset) == pytest.approx(_pycocotools(predictions, dataset), abs=1e-6)


def test_one_of_two_heads_is_found(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    """IoU 0.8: found at 0.50 to 0.80, seven of ten thresholds.  Recall 0.5 reaches 51 of 101 recall points."""
    data = dataset(sample([(0, 0, 100, 100), (200, 0, 300, 100)], [1, 1]))
    accuracy = measure_accuracy(predictions(found([(0, 0, 80, 100)], [0.9], [1])), data)
    assert accuracy.map50 == pytest.approx(51 / 101)
    assert accuracy.map == pytest.approx(0.7 * 51 / 101)
    helmet, no_helmet = accuracy.per_class
    assert no_helmet.ap == pytest.approx(0.7 * 51 / 101)
    assert (no_helmet.images, no_helmet.boxes, no_helmet.role) == (1, 2, "no_helmet")
    assert helmet.ap is None  # nothing of it is labelled: unknown, not 0
    assert helmet.ap50 is None
    assert accuracy.by_size == {"small": None, "medium": None, "large": pytest.approx(0.7 * 51 / 101)}


def test_nothing_found_is_zero_and_nothing_labelled_is_unknown(sample, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    nothing = predictions(no_detections())
    assert measure_accuracy(nothing, dataset(sample([(0, 0, 9, 9)], [0]))).map == 0.0
    assert measure_accuracy(nothing, dataset(sample([], []))).map is None


def test_a_label_without_a_class_is_refused(sample, found, predictions, dataset) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="label 7, but the data set has 2 classes"):
        measure_accuracy(predictions(found([(0, 0, 9, 9)], [0.5], [7])), dataset(sample([], [])))


def _picture(path: Path, value: int = 90) -> Path:
    cv2.imwrite(str(path), np.full((20, 30, 3), value, dtype=np.uint8))
    return path


def test_unreadable_pictures_are_skipped_counted_and_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    paths = [_picture(tmp_path / "a.png"), broken, _picture(tmp_path / "c.png"), tmp_path / "missing.jpg"]
    data = dataset_of([Sample(path, *nothing) for path in paths], with_roles(["helmet"]))
    seen: list[tuple[int, int]] = []
    predictions = predict_all(lambda image: no_detections(), data, lambda done, total: seen.append((done, total)))
    assert predictions.indices == (0, 2)
    assert [Path(item.path).name for item in predictions.skipped] == ["broken.jpg", "missing.jpg"]
    assert "not a readable picture" in predictions.skipped[0].reason
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert measure_accuracy(predictions, data).images == 2


def test_a_broken_label_file_is_skipped_like_a_broken_picture(tmp_path: Path) -> None:
    paths = (_picture(tmp_path / "a.png"), _picture(tmp_path / "b.png"))

    def load(index: int) -> Sample:
        if index == 1:
            raise ValueError("b.txt, line 3: five numbers were expected")
        return Sample(paths[index], np.zeros((0, 4), np.float32), np.zeros(0, np.int64))

    predictions = predict_all(lambda image: no_detections(), Dataset(with_roles(["helmet"]), paths, load))
    assert predictions.skipped[0].reason == "b.txt, line 3: five numbers were expected"


def test_no_pictures_and_no_readable_pictures_are_errors(tmp_path: Path, sample, dataset) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="has no pictures"):
        predict_all(lambda image: no_detections(), dataset())
    with pytest.raises(ValueError, match="None of the 1 pictures can be read"):
        predict_all(lambda image: no_detections(), dataset(sample([], [], str(tmp_path / "gone"))))


def test_what_a_detector_raises_is_not_swallowed(tmp_path: Path) -> None:
    data = dataset_of(
        [Sample(_picture(tmp_path / "a.png"), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))],
        with_roles(["helmet"]),
    )

    def refuse(image: object) -> Detections:
        raise ValueError("the network wants 3 channels")

    with pytest.raises(ValueError, match="wants 3 channels"):
        predict_all(refuse, data)


def test_predictions_come_back_bit_by_bit(tmp_path: Path, random_set) -> None:  # type: ignore[no-untyped-def]
    data, predictions = random_set(1)
    file = tmp_path / "found.json"
    save_predictions(replace(predictions, detections=(no_detections(), *predictions.detections[1:])), data, file)
    again = load_predictions(file, data)
    assert len(again.detections[0]) == 0
    for before, after in zip(predictions.detections[1:], again.detections[1:], strict=True):
        assert before.boxes_xyxy.tobytes() == after.boxes_xyxy.tobytes()
        assert before.scores.tobytes() == after.scores.tobytes()
        assert before.labels.tolist() == after.labels.tolist()


@pytest.mark.parametrize("content", [b"", b'{"format": 1, "pic', b"[1]", b"{}", b"\x80\xff"])
def test_damaged_predictions_that_were_kept_are_made_again(tmp_path: Path, content: bytes) -> None:
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    data = dataset_of([Sample(_picture(tmp_path / "a.png"), *nothing)], with_roles(["helmet"]))
    lines: list[str] = []
    looked: list[int] = []

    def predict(image: object) -> Detections:
        looked.append(1)
        return no_detections()

    kept = tmp_path / "predictions" / "test.json"
    for _ in range(2):
        predictions_kept(kept, predict, data, lines.append)
    assert (len(looked), lines) == (1, [])
    kept.write_bytes(content)
    assert len(predictions_kept(kept, predict, data, lines.append)) == 1
    assert (len(looked), lines) == (2, [f"{kept}: damaged, and made again"])
    assert len(load_predictions(kept, data)) == 1


def test_kept_predictions_are_of_these_pictures_labels_and_classes_or_made_again(tmp_path: Path) -> None:
    box, classes = np.array([[1, 1, 5, 5]], np.float32), with_roles(["helmet", "no_helmet"])
    paths = (_picture(tmp_path / "a.png", 0), _picture(tmp_path / "b.png", 9))
    samples = [Sample(path, box, np.array([0])) for path in paths]
    kept, lines = tmp_path / "found.json", list[str]()
    looked: list[int] = []

    def predict(image: object) -> Detections:
        looked.append(1)
        return no_detections()

    def looked_at(data: Dataset) -> int:
        looked.clear()
        assert len(predictions_kept(kept, predict, data, lines.append)) == len(data)
        return len(looked)

    data = dataset_of(samples, classes)
    assert (looked_at(data), looked_at(data), lines) == (2, 0, [])
    more = dataset_of([*samples, replace(samples[0], image_path=_picture(tmp_path / "c.png", 70))], classes)
    assert (looked_at(more), looked_at(more)) == (3, 0)
    assert looked_at(data) == 2, "fewer"
    _picture(tmp_path / "b.png", 200)
    assert looked_at(data) == 2, "another picture under the same name"
    relabelled = dataset_of([samples[0], replace(samples[1], labels=np.array([1]))], classes)
    assert looked_at(relabelled) == 2, "other labels"
    assert looked_at(replace(relabelled, classes=classes[::-1])) == 2, "other classes"
    assert set(lines) == {f"{kept}: not of these very pictures, labels and classes, and made again"} and len(lines) == 5


def test_a_picture_that_was_mended_since_is_looked_at(tmp_path: Path) -> None:
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    (tmp_path / "b.png").write_bytes(b"broken")
    paths = (_picture(tmp_path / "a.png"), tmp_path / "b.png")
    data = dataset_of([Sample(path, *nothing) for path in paths], with_roles(["helmet"]))
    kept, lines = tmp_path / "found.json", list[str]()
    for _ in range(2):
        assert len(predictions_kept(kept, lambda image: no_detections(), data, lines.append)) == 1
    assert lines == []
    _picture(tmp_path / "b.png")
    assert len(predictions_kept(kept, lambda image: no_detections(), data, lines.append)) == 2


def test_predictions_of_an_earlier_version_open_but_are_not_taken_for_kept_ones(tmp_path: Path) -> None:
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    data = dataset_of([Sample(_picture(tmp_path / "a.png"), *nothing)], with_roles(["helmet"]))
    kept, lines = tmp_path / "found.json", list[str]()
    predictions_kept(kept, lambda image: no_detections(), data)
    values = json.loads(kept.read_text("utf-8"))
    assert values.pop("sha256") == data.sha256()
    kept.write_text(json.dumps(values), "utf-8")
    assert len(load_predictions(kept, data)) == 1
    predictions_kept(kept, lambda image: no_detections(), data, lines.append)
    assert len(lines) == 1


def test_predictions_in_other_classes_are_refused(tmp_path: Path, random_set) -> None:  # type: ignore[no-untyped-def]
    data, predictions = random_set(1)
    data = replace(data, classes=with_roles(["helmet", "no_helmet"]))
    save_predictions(predictions, data, tmp_path / "found.json")
    same = replace(data, classes=with_roles(["With Helmet", "Without Helmet"]))
    assert len(load_predictions(tmp_path / "found.json", same)) == len(predictions)
    with pytest.raises(ValueError, match="counts 'helmet' as class 0, which is class 1 of this data set"):
        load_predictions(tmp_path / "found.json", replace(same, classes=same.classes[::-1]))


def test_a_name_that_is_not_utf8_comes_back(tmp_path: Path, random_set) -> None:  # type: ignore[no-untyped-def]
    data, predictions = random_set(1)
    name = os.fsdecode(b"\xcd\xb7.jpg")
    named = replace(data, image_paths=(Path(name), *data.image_paths[1:]))
    skipped = (SkippedPicture(name, "not readable"),)
    save_predictions(replace(predictions, skipped=skipped), named, tmp_path / "found.json")
    assert load_predictions(tmp_path / "found.json", named).skipped == skipped


def test_predictions_of_other_pictures_are_refused(tmp_path: Path, random_set) -> None:  # type: ignore[no-untyped-def]
    data, predictions = random_set(1)
    file = tmp_path / "found.json"
    save_predictions(predictions, data, file)
    with pytest.raises(ValueError, match=r"predictions for '1\.jpg' as picture 1, which this data set has not"):
        load_predictions(file, data.subset([0, 2]))
    file.write_text("[]")
    with pytest.raises(ValueError, match="does not hold predictions written by helmlite"):
        load_predictions(file, data)
