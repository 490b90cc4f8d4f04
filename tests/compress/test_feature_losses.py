"""Each feature loss against its paper's formula written out in loops, and against numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from helmlite.compress.teaching.distill_losses import channel_wise_loss
from helmlite.compress.teaching.feature_losses import (
    FEATURE_LOSSES,
    MaskedGeneration,
    ScaleLosses,
    generation_loss,
    l2_loss,
    pearson_loss,
)
from helmlite.compress.teaching.focal_global import (
    ATTENTION,
    BACKGROUND,
    FOREGROUND,
    GLOBAL,
    ContextBlock,
    FocalGlobal,
    attention_loss,
    channel_attention,
    feature_loss,
    masks,
    spatial_attention,
)
from helmlite.detector.detector import Batch

Array = NDArray[np.float64]


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(3)
    return torch.randn(shape, generator=random), torch.randn(shape, generator=random)


def as_array(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def batch_of(pictures: int, targets: list[list[float]], is_labelled: list[bool] | None = None) -> Batch:
    flags = None if is_labelled is None else torch.tensor(is_labelled)
    return Batch(torch.zeros(pictures, 3, 32, 32), torch.tensor(targets).reshape(-1, 6), flags)


def test_l2_is_fitnets_equation_3_over_its_terms():
    student, teacher = pair(2, 3, 4, 5)
    total = 0.0
    for s, t in zip(as_array(student).ravel(), as_array(teacher).ravel()):
        total += (t - s) ** 2
    assert l2_loss(student, teacher).item() == pytest.approx(0.5 * total / (2 * 3 * 4 * 5), rel=1e-5)
    assert l2_loss(torch.zeros(1, 1, 1, 2), torch.tensor([[[[2.0, 4.0]]]])).item() == pytest.approx((4 + 16) / 4)


def test_cwd_is_shus_equation_4():
    student, teacher = pair(2, 3, 4, 5)
    temperature, total = 2.0, 0.0
    for b in range(2):
        for c in range(3):
            soft = [np.exp(as_array(maps)[b, c].ravel() / temperature) for maps in (student, teacher)]
            ours, theirs = (values / values.sum() for values in soft)
            total += temperature**2 / 3 * sum(t * math.log(t / s) for s, t in zip(ours, theirs))
    assert channel_wise_loss(student, teacher, temperature).item() == pytest.approx(total / 2, rel=1e-5)


def test_pkd_is_one_minus_pearsons_r_of_each_channel_over_the_batch():
    student, teacher = pair(2, 3, 4, 5)
    ours, theirs = as_array(student), as_array(teacher)
    correlations = [np.corrcoef(ours[:, c].ravel(), theirs[:, c].ravel())[0, 1] for c in range(3)]
    assert pearson_loss(student, teacher).item() == pytest.approx(np.mean([1 - r for r in correlations]), rel=1e-5)
    # equation 3: 1 / (2 m) sum (s - t)^2 of standardized values, m = 2 * 4 * 5
    total = 0.0
    for c in range(3):
        s, t = ((x[:, c] - x[:, c].mean()) / x[:, c].std() for x in (ours, theirs))
        total += ((s - t) ** 2).sum() / (2 * 40)
    assert pearson_loss(student, teacher).item() == pytest.approx(total / 3, rel=1e-5)


def test_pkd_by_hand():
    teacher = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
    assert pearson_loss(5 + 2 * teacher, teacher).item() == pytest.approx(0, abs=1e-6)  # level and gain are free
    assert pearson_loss(-teacher, teacher).item() == pytest.approx(2, rel=1e-5)
    # (1, 2, 4, 3) against (1, 2, 3, 4): covariance 1, variances 1.25, r = 0.8
    swapped = torch.tensor([1.0, 2.0, 4.0, 3.0]).view(1, 1, 2, 2)
    assert pearson_loss(swapped, teacher).item() == pytest.approx(0.2, rel=1e-5)


def test_a_constant_channel_is_no_division_by_zero():
    student = torch.ones(1, 1, 2, 2, requires_grad=True)
    loss = pearson_loss(student, torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2))
    loss.backward()
    assert loss.item() == pytest.approx(0.5)  # 1 / (2 m) of the teacher's m values of variance 1
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())


def convolved(maps: Array, weight: Array, bias: Array) -> Array:
    """3x3 with a border of zeros.  (C, H, W) -> (K, H, W)"""
    channels, height, width = maps.shape
    padded = np.zeros((channels, height + 2, width + 2))
    padded[:, 1:-1, 1:-1] = maps
    out = np.zeros((len(weight), height, width))
    for k in range(len(weight)):
        for y in range(height):
            for x in range(width):
                out[k, y, x] = bias[k] + (weight[k] * padded[:, y : y + 3, x : x + 3]).sum()
    return out


def test_mgd_is_yangs_equations_2_to_4_over_their_terms():
    student, teacher = pair(2, 3, 4, 5)
    torch.manual_seed(0)
    loss = MaskedGeneration(3)
    torch.manual_seed(7)
    found = loss(student, teacher, batch_of(2, [])).item()
    torch.manual_seed(7)
    drawn = as_array(torch.rand(2, 1, 4, 5))
    total = 0.0
    first, second = loss.generation[0], loss.generation[2]
    for b in range(2):
        mask = np.where(drawn[b] < 0.65, 0.0, 1.0)  # equation 2: one for all channels
        middle = np.maximum(convolved(as_array(student)[b] * mask, as_array(first.weight), as_array(first.bias)), 0)
        made = convolved(middle, as_array(second.weight), as_array(second.bias))
        total += ((as_array(teacher)[b] - made) ** 2).sum()
    assert found == pytest.approx(total / (2 * 3 * 4 * 5), rel=1e-5)
    assert generation_loss(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 3.0]]]])).item() == 5


def test_mgd_hides_about_two_thirds_of_the_pixels_and_follows_the_seed():
    loss = MaskedGeneration(1)
    seen: list[Tensor] = []
    loss.generation.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        loss(torch.ones(4, 1, 50, 50), torch.ones(4, 1, 50, 50), batch_of(4, []))
    assert seen[0].mean().item() == pytest.approx(0.35, abs=0.02)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_fgd_masks_by_hand():
    # cells of 1/4: the first box covers columns 1-2 and rows 1-2, the second, smaller one column 2 and row 1
    targets = torch.tensor([[0, 0, 0.5, 0.5, 0.5, 0.5], [0, 1, 0.625, 0.375, 0.2, 0.2]])
    foreground, scale = masks(targets, 2, 4, 4)
    assert foreground[0].tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    outside = pytest.approx(1 / 12)
    assert scale[0].tolist()[0] == [outside] * 4
    assert scale[0].tolist()[1] == [outside, 0.25, 1.0, outside]  # the smallest box counts where two meet
    assert scale[0].tolist()[2] == [outside, 0.25, 0.25, outside]
    assert foreground[1].sum().item() == 0
    assert scale[1].tolist() == [[pytest.approx(1 / 16)] * 4] * 4


def test_a_box_covers_every_cell_that_it_touches_and_at_least_one():
    touching, _ = masks(torch.tensor([[0, 0, 0.5, 0.5, 0.1, 0.1]]), 1, 4, 4)  # over the middle corner
    assert touching[0].tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    corner, _ = masks(torch.tensor([[0, 0, 0.999, 0.001, 0.001, 0.001]]), 1, 4, 4)
    assert corner[0, 0, 3].item() == 1
    assert corner.sum().item() == 1
    whole, scale = masks(torch.tensor([[0, 0, 0.5, 0.5, 1.0, 1.0]]), 1, 4, 4)
    assert whole.sum().item() == 16
    assert scale.sum().item() == pytest.approx(1)


def attention(maps: Array, temperature: float) -> tuple[Array, Array]:
    """A^S (H, W) and A^C (C,) of one picture, equations 4 to 7."""
    channels, height, width = maps.shape
    spatial = np.exp(np.abs(maps).sum(axis=0) / channels / temperature)
    channel = np.exp(np.abs(maps).sum(axis=(1, 2)) / (height * width) / temperature)
    return height * width * spatial / spatial.sum(), channels * channel / channel.sum()


def test_fgd_focal_part_is_yangs_equations_8_and_9():
    student, teacher = pair(2, 3, 4, 4)
    targets = torch.tensor([[0, 0, 0.5, 0.5, 0.5, 0.5], [1, 1, 0.125, 0.125, 0.25, 0.25]])
    inside = [{(y, x): 0.25 for y in (1, 2) for x in (1, 2)}, {(0, 0): 1.0}]
    features, apart = 0.0, 0.0
    for b in range(2):
        ours, theirs = as_array(student)[b], as_array(teacher)[b]
        (at_place, at_channel), (our_place, our_channel) = attention(theirs, 0.5), attention(ours, 0.5)
        background = 1 / (16 - len(inside[b]))
        for k in range(3):
            for y in range(4):
                for x in range(4):
                    is_inside = (y, x) in inside[b]
                    weight = FOREGROUND * inside[b][y, x] if is_inside else BACKGROUND * background
                    features += weight * at_place[y, x] * at_channel[k] * (theirs[k, y, x] - ours[k, y, x]) ** 2
        apart += np.abs(at_place - our_place).sum() + np.abs(at_channel - our_channel).sum()
    found = feature_loss(student, teacher, *masks(targets, 2, 4, 4), 0.5)
    assert found.item() == pytest.approx(features / 2, rel=1e-5)
    assert attention_loss(student, teacher, 0.5).item() == pytest.approx(apart / 2, rel=1e-5)


def test_fgd_attention_by_hand():
    maps = torch.tensor([[[[math.log(3), 0.0]]]])  # one channel, two pixels, T = 1: softmax 3/4 and 1/4, times 2
    assert spatial_attention(maps, 1.0).flatten().tolist() == pytest.approx([1.5, 0.5])
    assert channel_attention(maps.view(1, 2, 1, 1), 1.0).flatten().tolist() == pytest.approx([1.5, 0.5])
    assert spatial_attention(-maps, 1.0).flatten().tolist() == pytest.approx([1.5, 0.5])  # of absolute values


def test_fgd_context_is_yangs_equation_12():
    torch.manual_seed(0)
    block = ContextBlock(4)
    maps = pair(1, 4, 3, 2)[0]
    assert torch.equal(block(maps), maps)  # at first every picture is its own context
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    values = as_array(maps)[0].reshape(4, 6)
    key = np.exp(as_array(block.key.weight).reshape(4) @ values + as_array(block.key.bias))
    context = sum(key[j] / key.sum() * values[:, j] for j in range(6))
    narrow = as_array(block.narrow.weight).reshape(2, 4) @ context + as_array(block.narrow.bias)
    normed = (narrow - narrow.mean()) / np.sqrt(narrow.var() + 1e-5)
    normed = normed * as_array(block.norm.weight).ravel() + as_array(block.norm.bias).ravel()
    added = as_array(block.widen.weight).reshape(4, 2) @ np.maximum(normed, 0) + as_array(block.widen.bias)
    wanted = values + added[:, None]
    assert as_array(block(maps))[0].reshape(4, 6) == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_fgd_is_the_sum_of_its_parts():
    student, teacher = pair(2, 3, 4, 4)
    batch = batch_of(2, [[0, 0, 0.5, 0.5, 0.5, 0.5]])
    loss = FocalGlobal(3)
    features = feature_loss(student, teacher, *masks(batch.targets, 2, 4, 4), 0.5)
    relation = (as_array(teacher) - as_array(student)) ** 2  # the context blocks begin with nothing to add
    wanted = features.item() + ATTENTION * attention_loss(student, teacher, 0.5).item() + GLOBAL * relation.sum() / 2
    assert loss(student, teacher, batch).item() == pytest.approx(wanted, rel=1e-5)


def test_fgd_takes_no_background_from_pictures_without_labels():
    student, teacher = pair(2, 3, 4, 4)
    loss = FocalGlobal(3)
    both = loss(student, teacher, batch_of(2, [])).item()
    one = loss(student, teacher, batch_of(2, [], [True, False])).item()
    foreground, scale = masks(torch.zeros(0, 6), 2, 4, 4)
    of_second = feature_loss(student[1:], teacher[1:], foreground[1:], scale[1:], 0.5).item() / 2
    assert both - one == pytest.approx(of_second, rel=1e-3)
    assert of_second > 0


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_every_loss_has_a_slope_and_starts_alike_from_the_seed(name):
    student, teacher = pair(2, 4, 4, 4)
    batch = batch_of(2, [[0, 0, 0.5, 0.5, 0.5, 0.5]])
    first, second = (ScaleLosses(name, (4,), 1.0) for _ in range(2))
    student.requires_grad_()
    torch.manual_seed(0)
    loss = first([student], [teacher], batch)
    loss.backward()
    assert student.grad is not None
    assert student.grad.abs().sum().item() > 0
    torch.manual_seed(0)
    assert second([student], [teacher], batch).item() == loss.item()
    learned = sum(parameter.numel() for parameter in first.parameters())
    assert (learned > 0) == (name in ("mgd", "fgd"))
    two = ScaleLosses(name, (4, 4), 1.0)
    assert len(list(two.scales)) == 2


def test_an_unknown_loss_is_named():
    with pytest.raises(ValueError, match=r"unknown feature_loss 'dog'; known are cwd, l2, mgd, fgd, pkd\."):
        ScaleLosses("dog", (4,), 1.0)


@pytest.mark.parametrize("name", ["cwd", "l2", "pkd"])
def test_a_student_that_agrees_costs_nothing(name):
    maps = pair(2, 3, 4, 4)[0]
    assert ScaleLosses(name, (3,), 1.0)([maps], [maps], batch_of(2, [])).item() == pytest.approx(0, abs=1e-6)
    assert FocalGlobal(3)(maps, maps, batch_of(2, [])).item() == pytest.approx(0, abs=1e-6)
