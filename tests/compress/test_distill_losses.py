"""Each loss against numbers worked by hand, and 0 where the student says what the teacher says."""

from __future__ import annotations

import math

import pytest
import torch

from helmlite.compress.teaching.distill_losses import (
    box_distribution_loss,
    box_overlap_loss,
    channel_wise_loss,
    class_loss,
    confidence,
    expected_distances,
    flat_maps,
)


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def bernoulli_kl(target: float, given: float) -> float:
    return target * math.log(target / given) + (1 - target) * math.log((1 - target) / (1 - given))


def test_class_loss_by_hand():
    teacher = torch.tensor([[[logit(0.9), logit(0.1)]]])  # one class, two cells
    student = torch.tensor([[[logit(0.5), logit(0.4)]]])
    # weights max(0.9, 0.5) and max(0.1, 0.4); the teacher's confidence is 1.0 in all
    wanted = (0.9 * bernoulli_kl(0.9, 0.5) + 0.4 * bernoulli_kl(0.1, 0.4)) / 1.0
    assert class_loss(student, teacher).item() == pytest.approx(wanted, rel=1e-5)


def test_class_loss_with_temperature_by_hand():
    teacher, student = torch.tensor([[[2.0]]]), torch.tensor([[[-1.0]]])
    soft_teacher, soft_student = 1 / (1 + math.exp(-1.0)), 1 / (1 + math.exp(0.5))
    weight = 1 / (1 + math.exp(-2.0))  # of the sharp probabilities, as is the total (0.88, counted as at least 1)
    wanted = 4 * weight * bernoulli_kl(soft_teacher, soft_student)
    assert class_loss(student, teacher, temperature=2.0).item() == pytest.approx(wanted, rel=1e-5)


def test_class_loss_is_divided_by_the_teachers_confidence():
    teacher = torch.full((1, 2, 8), logit(0.5))  # confidence 8 * 0.5 = 4
    student = torch.full((1, 2, 8), logit(0.25))
    assert class_loss(student, teacher).item() == pytest.approx(16 * 0.5 * bernoulli_kl(0.5, 0.25) / 4, rel=1e-5)


def test_easy_background_does_not_drown_one_head():
    teacher, student = torch.full((1, 1, 3001), -9.0), torch.full((1, 1, 3001), -7.0)
    teacher[..., 0], student[..., 0] = 2.0, 0.0
    only_background = student.clone()
    only_background[..., 0] = teacher[..., 0]
    assert 0 < class_loss(only_background, teacher).item() < 0.05 * class_loss(student, teacher).item()


def test_false_alarms_of_the_student_are_pushed_down():
    student = torch.tensor([[[3.0]]], requires_grad=True)  # the teacher sees nothing there
    class_loss(student, torch.tensor([[[-8.0]]])).backward()
    assert student.grad is not None
    assert student.grad.item() > 0.5


def test_box_distribution_loss_by_hand():
    # two bins for each side, T = 2; only the left side differs: teacher (2 ln 3, 0), student (0, 0)
    teacher = torch.zeros(1, 8, 2)
    teacher[0, 0, 0] = 2 * math.log(3)  # softened: 3/4 and 1/4
    student = torch.zeros(1, 8, 2)
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    weight = torch.tensor([[0.6, 0.9]])  # of the two cells; the sum is 1.5
    wanted = 4 * divergence / 4 * 0.6 / 1.5
    assert box_distribution_loss(student, teacher, weight, 2, 2.0).item() == pytest.approx(wanted, rel=1e-5)


def test_box_overlap_loss_by_hand():
    # teacher 2 x 2 around the cell; student 1 wider on the right: IoU 4/6, hull = union
    teacher = torch.tensor([[[1.0], [1.0], [1.0], [1.0]]])
    student = torch.tensor([[[1.0], [1.0], [2.0], [1.0]]])
    assert box_overlap_loss(student, teacher, torch.ones(1, 1)).item() == pytest.approx(1 - 4 / 6, rel=1e-5)
    # student higher at the top and narrower at the left: inner 1.5 * 2, union 4 + 1.5 * 3 - 3 = 5.5, hull 2 * 3
    student = torch.tensor([[[0.5], [2.0], [1.0], [1.0]]])
    wanted = 1 - (3 / 5.5 - 0.5 / 6)
    assert box_overlap_loss(student, teacher, torch.ones(1, 1)).item() == pytest.approx(wanted, rel=1e-5)


def test_box_overlap_loss_pulls_a_box_that_is_turned_inside_out():
    teacher = torch.tensor([[[1.0], [1.0], [1.0], [1.0]]])
    student = torch.tensor([[[-2.0], [1.0], [0.5], [1.0]]], requires_grad=True)
    loss = box_overlap_loss(student, teacher, torch.ones(1, 1))
    assert 1 <= loss.item() <= 2
    student = torch.full((1, 4, 1), 5.0, requires_grad=True)
    box_overlap_loss(student, teacher, torch.ones(1, 1)).backward()
    assert student.grad is not None
    assert bool((student.grad > 0).all())


def test_cells_in_which_the_teacher_sees_nothing_count_nothing():
    student, teacher = torch.rand(2, 4, 5), torch.rand(2, 4, 5)
    assert box_overlap_loss(student, teacher, torch.zeros(2, 5)).item() == 0
    assert box_distribution_loss(torch.rand(2, 8, 5), torch.rand(2, 8, 5), torch.zeros(2, 5), 2, 1.0).item() == 0


def test_channel_wise_loss_by_hand():
    # one channel over two positions, T = 1: teacher (ln 3, 0) -> 3/4 and 1/4, student even
    teacher = torch.tensor([math.log(3), 0.0]).view(1, 1, 1, 2)
    student = torch.zeros(1, 1, 1, 2)
    wanted = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert channel_wise_loss(student, teacher, 1.0).item() == pytest.approx(wanted, rel=1e-5)
    # a second channel that agrees halves the mean; T = 2 on doubled logits is the same divergence times 4
    both = torch.cat([teacher, student], dim=1)
    assert channel_wise_loss(student.expand(1, 2, 1, 2), both, 1.0).item() == pytest.approx(wanted / 2, rel=1e-5)
    assert channel_wise_loss(student, 2 * teacher, 2.0).item() == pytest.approx(4 * wanted, rel=1e-5)


def test_a_channels_level_is_free():
    maps = torch.rand(2, 3, 4, 4)
    assert channel_wise_loss(maps + 5, maps, 1.0).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_every_loss_is_nothing_and_has_no_slope_where_both_agree(temperature):
    generator = torch.Generator().manual_seed(0)
    classes = torch.randn(2, 3, 7, generator=generator)
    boxes = torch.randn(2, 16, 7, generator=generator)
    distances = torch.rand(2, 4, 7, generator=generator) + 0.1
    maps = torch.randn(2, 5, 4, 4, generator=generator)
    losses = {
        "classes": (classes, lambda student: class_loss(student, classes, temperature)),
        "boxes": (boxes, lambda student: box_distribution_loss(student, boxes, confidence(classes), 4, temperature)),
        "overlap": (distances, lambda student: box_overlap_loss(student, distances, confidence(classes))),
        "features": (maps, lambda student: channel_wise_loss(student, maps, temperature)),
    }
    for name, (agreed, loss) in losses.items():
        student = agreed.clone().requires_grad_()
        value = loss(student)
        value.backward()
        assert value.item() == pytest.approx(0, abs=1e-5), name
        if name != "overlap":  # which has a kink there
            assert student.grad is not None
            assert student.grad.abs().max().item() < 1e-5, name
        moved = agreed + 0.3 * torch.randn(agreed.shape, generator=generator)
        assert loss(moved).item() > 1e-4, name


def test_expected_distances():
    logits = torch.log(torch.tensor([0.5, 0.25, 0.25])).repeat(4).view(1, 12, 1)
    assert expected_distances(logits, 3)[0, :, 0].tolist() == pytest.approx([0.75] * 4)  # 0 / 2 + 1 / 4 + 2 / 4
    same = torch.rand(1, 4, 6)
    assert expected_distances(same, 1) is same


def test_flat_maps_and_confidence():
    maps = [torch.full((1, 4, 2, 2), 1.0), torch.full((1, 2, 2, 2), 2.0)]
    maps += [torch.full((1, 4, 1, 1), 3.0), torch.full((1, 2, 1, 1), 4.0)]
    boxes, classes = flat_maps(maps)
    assert boxes[0, 0].tolist() == [1, 1, 1, 1, 3]
    assert classes[0, 1].tolist() == [2, 2, 2, 2, 4]
    assert confidence(torch.tensor([[[0.0], [logit(0.8)]]])).item() == pytest.approx(0.8)
