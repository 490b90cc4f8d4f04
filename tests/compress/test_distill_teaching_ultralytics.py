"""Feature losses and stored teachers on Ultralytics networks: every family takes them, dual heads in both branches."""

from __future__ import annotations

import pytest
import torch

from helmlite.compress.checkpoint import save_checkpoint
from helmlite.compress.distill import Distill, DistillObjective
from helmlite.compress.teaching.distill_losses import class_loss, flat_maps
from helmlite.compress.teaching.feature_losses import FEATURE_LOSSES
from helmlite.compress.teaching.stored_teacher import StoredTeacherObjective, StoredWeights
from helmlite.compress.technique import WithRemarks
from helmlite.data.roles import with_roles
from helmlite.detector.detector import Batch, Detector
from helmlite.detector.families import family_of
from helmlite.detector.fit_state import EpochPlan
from helmlite.detector.objective import float_maps

pytest.importorskip("ultralytics")
pytestmark = pytest.mark.slow

CLASSES = with_roles(["helmet", "no_helmet"])
PLAN = EpochPlan(2, 1, False, 1, 0.0, 0.0, {})
OTHERS = ["yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo12n"]


def random_yolo(name: str, seed: int) -> Detector:
    from helmlite.detector.ultralytics import new_ultralytics

    return new_ultralytics(name, CLASSES, seed, input_size=64)


def one_batch() -> Batch:
    targets = torch.tensor([[0, 1, 0.5, 0.5, 0.4, 0.4]])
    found = torch.tensor([[0, 1, 0.5, 0.5, 0.4, 0.4, 0.9], [1, 0, 0.4, 0.6, 0.5, 0.5, 0.5]])
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return Batch(images, targets, torch.tensor([True, False]), found)


def check_feature_losses(name: str) -> None:
    teacher, student = random_yolo(name, 0), random_yolo(name, 1)
    for loss_name in FEATURE_LOSSES:
        settings = Distill(epochs=1, feature_loss=loss_name)
        objective = DistillObjective(settings, student, student.network, teacher, PLAN, 64)
        loss, parts = objective.loss(student.network.train(), one_batch(), 0)
        loss.backward()
        assert parts["kd_features"] > 0, loss_name
        assert bool(torch.isfinite(loss)), loss_name


def check_stored_teacher(name: str) -> None:
    student = random_yolo(name, 1)
    objective = StoredTeacherObjective(StoredWeights(0, 1, 1, 1.0), student, student.network, PLAN, {})
    loss, parts = objective.loss(student.network.train(), one_batch(), 0)
    loss.backward()
    assert parts["kd_classes"] > 0
    assert parts["kd_boxes"] > 0
    branches = ("cv2", "cv3", "one2one_cv2", "one2one_cv3") if student.network.is_dual else ("cv2", "cv3")
    for path in branches:
        scales = getattr(student.network.head, path)
        gradients = [scale[-1].bias.grad for scale in scales]
        assert sum(float(item.abs().sum()) for item in gradients if item is not None) > 0, path


@pytest.mark.parametrize("name", ["yolo11n", "yolo26n"])
def test_feature_losses_on_yolo(name):
    check_feature_losses(name)


@pytest.mark.parametrize("name", ["yolo11n", "yolo26n"])
def test_stored_boxes_teach_every_branch(name):
    check_stored_teacher(name)


@pytest.mark.matrix
@pytest.mark.parametrize("name", OTHERS)
def test_the_other_families(name):
    check_feature_losses(name)
    check_stored_teacher(name)


def test_a_teacher_of_another_family_and_size():
    """yolo26n has distances where yolo11n has distributions, and a neck of another width."""
    teacher, student = random_yolo("yolo11n", 0), random_yolo("yolo26n", 1)
    objective = DistillObjective(Distill(epochs=1, feature_loss="pkd"), student, student.network, teacher, PLAN, 64)
    loss, parts = objective.loss(student.network.train(), one_batch(), 0)
    loss.backward()
    assert parts["kd_boxes"] > 0
    assert parts["kd_features"] > 0


@pytest.mark.parametrize(
    ("teacher_name", "student_name", "taught", "untaught"),
    [
        ("yolo11n", "yolo26n", "cv3", "one2one_cv3"),  # one dense head cannot teach a sparse one
        ("yolo26n", "yolo11n", "cv3", None),
    ],
)
def test_a_head_is_taught_by_one_of_its_kind(teacher_name, student_name, taught, untaught):
    teacher, student = random_yolo(teacher_name, 0), random_yolo(student_name, 1)
    settings = Distill(epochs=1, task=0.0, features=0.0)
    objective = DistillObjective(settings, student, student.network, teacher, PLAN, 64)
    loss, _ = objective.loss(student.network.train(), one_batch(), 0)
    loss.backward()
    head = student.network.head

    def pull(branch):
        gradients = [scale[-1].bias.grad for scale in getattr(head, branch)]
        return sum(float(item.abs().sum()) for item in gradients if item is not None)

    assert pull(taught) > 0
    assert untaught is None or pull(untaught) == 0
    expected = float(class_loss(*(flat_maps(maps)[1] for maps in dense_maps(student, teacher)), 1.0).detach())
    assert objective.loss(student.network, one_batch(), 0)[1]["kd_classes"] == pytest.approx(expected, rel=1e-4)


def dense_maps(*detectors):
    """The one-to-many branch of each, on the batch that is taught with; the first as it trains."""
    for number, detector in enumerate(detectors):
        network = detector.network.train(number == 0)
        found = float_maps(family_of(detector), network, one_batch().images, bf16=False)
        yield found.maps if detector.architecture.layout.needs_nms else found.extra


def test_a_report_says_which_branch_had_no_teacher(tmp_path):
    save_checkpoint(random_yolo("yolo11n", 0), tmp_path / "teacher", {})
    settings = Distill(epochs=1, teacher=str(tmp_path / "teacher"))
    assert isinstance(settings, WithRemarks)
    (line,) = settings.remarks(random_yolo("yolo26n", 1))
    assert "no one-to-one branch" in line
    assert settings.remarks(random_yolo("yolo11n", 1)) == ()
    for teacher in ("original", "none", "stored:nowhere"):
        assert Distill(epochs=1, teacher=teacher).remarks(random_yolo("yolo26n", 1)) == ()
