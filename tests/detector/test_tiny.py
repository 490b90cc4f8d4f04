"""The `tiny` family: its network, its assigner and its loss, with numbers worked by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helmlite.data.roles import Class, with_roles
from helmlite.detector.detector import Architecture, Batch, Detector, TrainingMaps
from helmlite.detector.families import family_of
from helmlite.detector.macs import count_parameters
from helmlite.detector.tiny import TinyFamily, new_tiny
from helmlite.detector.tiny_loss import (
    Assignment,
    Cells,
    LossWeights,
    Objects,
    TinyLoss,
    assign,
    complete_iou,
    flat_predictions,
    padded_objects,
    plain_iou,
)
from helmlite.runtime.decode import HeadLayout, decode_maps

CLASSES = with_roles(["helmet", "no_helmet"])


@pytest.fixture(scope="module")
def tiny() -> Detector:
    return new_tiny(CLASSES, seed=1)


# --- network


def test_it_has_about_half_a_million_parameters(tiny: Detector) -> None:
    assert 450_000 < count_parameters(tiny.network) < 650_000


@pytest.mark.parametrize("size", [64, 96, 320])
def test_maps_have_the_shapes_that_the_layout_says(tiny: Detector, size: int) -> None:
    with torch.no_grad():
        maps = tiny.network(torch.rand(2, 3, size, size))
    expected = [(2, count, size // stride, size // stride) for stride in (8, 16, 32) for count in (4, 2)]
    assert [tuple(item.shape) for item in maps] == expected
    assert tiny.architecture.layout == HeadLayout((8, 16, 32), reg_max=1, class_count=2)


def test_one_class_and_many(tiny: Detector) -> None:
    for count in (1, 7):
        network = new_tiny([Class(f"c{index}") for index in range(count)], 64).network
        assert network(torch.zeros(1, 3, 64, 64))[1].shape[1] == count


def test_the_description_is_plain_data_that_rebuilds_the_layers(tiny: Detector) -> None:
    described = json.loads(json.dumps(tiny.architecture.description))
    rebuilt = TinyFamily().build(_with_description(tiny, described))
    rebuilt.load_state_dict(tiny.network.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for first, second in zip(tiny.network(images), rebuilt.eval()(images)):
            assert torch.equal(first, second)


def test_a_wrong_description_is_refused(tiny: Detector) -> None:
    with pytest.raises(ValueError, match="not a description of a tiny detector"):
        TinyFamily().build(_with_description(tiny, {"stem": 16}))
    short = {**tiny.architecture.description, "neck": [64, 96]}
    with pytest.raises(ValueError, match="4 stages and 3 scales; got 4 and 2"):
        TinyFamily().build(_with_description(tiny, short))


def test_seeds_decide_the_weights_and_nothing_else() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second, other = (new_tiny(CLASSES, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.rand(1), expected)
    name = "backbone.stem.conv.weight"
    assert torch.equal(first.network.state_dict()[name], second.network.state_dict()[name])
    assert not torch.equal(first.network.state_dict()[name], other.network.state_dict()[name])


def test_width_scales_all_channels_in_eights(tiny: Detector) -> None:
    half = new_tiny(CLASSES, width=0.5).network
    assert count_parameters(half) < 0.4 * count_parameters(tiny.network)
    widths = [module.out_channels for module in half.modules() if isinstance(module, nn.Conv2d) and module.bias is None]
    assert all(width % 4 == 0 for width in widths)
    assert new_tiny(CLASSES, width=0.01).network(torch.zeros(1, 3, 64, 64))[0].shape == (1, 4, 8, 8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"classes": []}, "at least one class"),
        ({"input_size": 100}, "multiple of 32 pixels; got 100"),
        ({"input_size": 0}, "multiple of 32 pixels; got 0"),
        ({"width": 0.0}, "width above 0; got 0.0"),
        ({"width": math.nan}, "width above 0; got nan"),
    ],
)
def test_wrong_arguments_are_explained(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        new_tiny(**{"classes": CLASSES, **wrong})  # type: ignore[arg-type]


def test_modules_are_plain_so_that_every_technique_finds_them(tiny: Detector) -> None:
    leaves = [module for module in tiny.network.modules() if not list(module.children())]
    assert {type(module) for module in leaves} == {nn.Conv2d, nn.BatchNorm2d, nn.SiLU, nn.MaxPool2d}
    assert not any(getattr(module, "inplace", False) for module in leaves)
    assert any(module.groups > 1 for module in leaves if isinstance(module, nn.Conv2d))


def test_the_family_gives_maps_and_features_in_one_pass(tiny: Detector) -> None:
    family = family_of(tiny)
    assert isinstance(family, TinyFamily)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        made = family.training_maps(tiny.network, images)
        plain = tiny.network(images)
    assert all(torch.equal(first, second) for first, second in zip(made.maps, plain))
    assert made.extra == ()
    assert [tuple(item.shape) for item in made.features] == [(1, 64, 8, 8), (1, 96, 4, 4), (1, 128, 2, 2)]
    assert not tiny.network.get_submodule("neck")._forward_hooks  # nothing stays behind
    assert family.channel_ties(tiny.network) == ()
    assert family.attributes_after(tiny.network, {}, {}) == {}


def test_an_untrained_detector_is_unsure_of_everything(tiny: Detector) -> None:
    found = tiny.predictor(64)(np.full((40, 60, 3), 90, np.uint8))
    assert len(found) > 0
    assert found.scores.max() < 0.2


# --- boxes


def test_equal_boxes_have_complete_iou_one() -> None:
    box = torch.tensor([[3.0, 4.0, 10.0, 8.0]])
    assert complete_iou(box, box).item() == pytest.approx(1.0, abs=1e-5)


def test_boxes_apart_are_judged_by_their_distance() -> None:
    # IoU 0, centres 4 apart, box around both 6 x 2, same shape: CIoU = -16 / 40
    first, second = torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([4.0, 0.0, 6.0, 2.0])
    assert plain_iou(first, second).item() == 0.0
    assert complete_iou(first, second).item() == pytest.approx(-0.4, abs=1e-5)


def test_shapes_that_differ_cost() -> None:
    # 4 x 2 and 2 x 4 about one centre: IoU 4 / 12; v = 4 / pi^2 (atan 2 - atan 1/2)^2 = 0.16783
    # a = v / (2/3 + v) = 0.20111; CIoU = 0.33333 - 0.20111 * 0.16783 = 0.29958
    first, second = torch.tensor([0.0, 0.0, 4.0, 2.0]), torch.tensor([1.0, -1.0, 3.0, 3.0])
    assert plain_iou(first, second).item() == pytest.approx(1 / 3, abs=1e-6)
    assert complete_iou(first, second).item() == pytest.approx(0.29958, abs=1e-4)


def test_boxes_turned_inside_out_still_have_a_gradient() -> None:
    crossed = torch.tensor([[6.0, 6.0, 2.0, 2.0]], requires_grad=True)
    overlap = complete_iou(crossed, torch.tensor([[0.0, 0.0, 8.0, 4.0]])).sum()
    overlap.backward()
    assert torch.isfinite(crossed.grad).all()
    assert crossed.grad.abs().sum() > 0


def test_flat_predictions_are_decoded_as_at_the_edge() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, count, 64 // s, 64 // s, generator=generator) for s in (8, 16, 32) for count in (4, 2)]
    boxes, logits, cells = flat_predictions(maps, (8, 16, 32))
    expected_boxes, expected_scores = decode_maps([item.numpy() for item in maps], HeadLayout((8, 16, 32), 1, 2))
    assert boxes[0].numpy() == pytest.approx(expected_boxes, abs=1e-4)
    assert logits[0].sigmoid().numpy() == pytest.approx(expected_scores, abs=1e-6)
    assert cells.centres_xy[:2].tolist() == [[4.0, 4.0], [12.0, 4.0]]
    assert cells.centres_xy[64].tolist() == [8.0, 8.0]
    assert cells.strides[[0, 63, 64, 79, 80, 83]].tolist() == [8, 8, 16, 16, 32, 32]


# --- objects and assignment


def test_objects_are_padded_to_the_most_crowded_picture() -> None:
    targets = torch.tensor([[2, 1, 0.5, 0.5, 0.5, 0.25], [0, 0, 0.25, 0.5, 0.1, 0.2], [2, 0, 0.5, 0.5, 1.0, 1.0]])
    objects = padded_objects(targets, 3, 100)
    assert objects.real.tolist() == [[True, False], [False, False], [True, True]]
    assert objects.labels.tolist() == [[0, 0], [0, 0], [1, 0]]
    assert objects.boxes_xyxy[0, 0].tolist() == pytest.approx([20, 40, 30, 60])
    assert objects.boxes_xyxy[2, 0].tolist() == pytest.approx([25, 37.5, 75, 62.5])
    assert objects.boxes_xyxy[2, 1].tolist() == pytest.approx([0, 0, 100, 100])


def test_no_objects_at_all_leave_one_empty_place() -> None:
    objects = padded_objects(torch.zeros(0, 6), 2, 100)
    assert objects.real.tolist() == [[False], [False]]


def one_scale() -> Cells:
    """Four by four cells of 8 pixels; cells 0, 1, 4, 5 have their centres in (0, 0, 16, 16)."""
    y, x = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    return Cells((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * 8.0, torch.full((16,), 8.0))


def one_object(*boxes: tuple[float, float, float, float]) -> Objects:
    count = len(boxes)
    return Objects(torch.tensor([boxes]), torch.zeros(1, count, dtype=torch.long), torch.ones(1, count).bool())


def assigned(
    predicted: dict[int, tuple[float, ...]], scores: dict[int, float], objects: Objects, k: int = 10
) -> Assignment:
    boxes = torch.full((1, 16, 4), 200.0)  # far away
    chances = torch.full((1, 16, 1), 0.01)
    for cell, box in predicted.items():
        boxes[0, cell] = torch.tensor(box)
    for cell, score in scores.items():
        chances[0, cell] = score
    return assign(boxes, chances, one_scale(), objects, cells_per_object=k)


def test_claims_weigh_score_and_overlap() -> None:
    # cell 0: score 1/4, IoU 1   -> claim 1/2;  cell 1: score 1, IoU 1/2 -> claim 1/64
    # scaled so that the best one is asked for the best IoU, 1: 1 and 1/32
    result = assigned({0: (0, 0, 16, 16), 1: (0, 0, 16, 8)}, {0: 0.25, 1: 1.0}, one_object((0.0, 0.0, 16.0, 16.0)))
    assert result.quality[0, :2].tolist() == pytest.approx([1.0, 1 / 32], abs=1e-5)
    assert result.taken[0].nonzero().flatten().tolist() == [0, 1, 4, 5]
    assert result.quality[0, 2:].abs().sum() == 0


def test_only_the_best_cells_are_taken() -> None:
    result = assigned({0: (0, 0, 16, 16), 1: (0, 0, 16, 8)}, {}, one_object((0.0, 0.0, 16.0, 16.0)), k=1)
    assert result.taken[0].nonzero().flatten().tolist() == [0]


def test_a_better_box_outside_the_object_is_not_taken() -> None:
    result = assigned({15: (0, 0, 16, 16), 0: (0, 0, 8, 16)}, {}, one_object((0.0, 0.0, 16.0, 16.0)), k=1)
    assert result.taken[0].nonzero().flatten().tolist() == [0]


def test_a_contested_cell_goes_where_it_fits_best() -> None:
    # Both objects hold the centre of cell 5 (12, 12); its box fits the second one exactly.
    objects = one_object((0.0, 0.0, 16.0, 16.0), (8.0, 8.0, 24.0, 24.0))
    result = assigned({0: (0, 0, 16, 16), 5: (8, 8, 24, 24)}, {5: 0.9}, objects)
    assert result.object_index[0, 5] == 1
    assert result.object_index[0, 0] == 0
    assert result.quality[0, 5].item() == pytest.approx(1.0, abs=1e-5)
    assert result.quality[0, 0].item() == pytest.approx(1.0, abs=1e-5)


def test_an_object_smaller_than_a_cell_still_has_one() -> None:
    result = assigned({0: (0, 0, 2, 2)}, {}, one_object((0.5, 0.5, 2.5, 2.5)))  # holds no cell's centre
    assert result.taken[0].nonzero().flatten().tolist() == [0]
    assert result.quality[0, 0] > 0.3


def test_empty_places_take_no_cell() -> None:
    objects = padded_objects(torch.zeros(0, 6), 1, 32)
    result = assigned({0: (0, 0, 16, 16)}, {}, objects)
    assert not result.taken.any()
    assert result.quality.sum() == 0


# --- loss


def perfect_maps(sure: float) -> TrainingMaps:
    """One 8-pixel scale of 4 x 4 cells whose cells 0, 1, 4, 5 answer with (0, 0, 16, 16), as sure as given."""
    cells = one_scale().centres_xy
    distances = torch.cat([cells - 0.0, 16.0 - cells], 1).T.reshape(1, 4, 4, 4) / 8
    logits = torch.full((1, 2, 4, 4), -sure)
    logits[0, 1, :2, :2] = sure
    return TrainingMaps((distances, logits), (), ())


def batch_of(targets: list[list[float]]) -> Batch:
    return Batch(torch.zeros(1, 3, 32, 32), torch.tensor(targets).reshape(-1, 6))


def test_a_perfect_answer_costs_nothing() -> None:
    loss, parts = TinyLoss((8,))(perfect_maps(20.0), batch_of([[0, 1, 0.25, 0.25, 0.5, 0.5]]))
    assert loss.item() == pytest.approx(0.0, abs=1e-4)
    assert parts == {"box": pytest.approx(0.0, abs=1e-5), "score": pytest.approx(0.0, abs=1e-5)}


def test_an_unsure_answer_costs_its_cross_entropy() -> None:
    # All 32 logits are 0, so each costs ln 2; the four qualities are 1 (claim 0.5^0.5 scaled to IoU 1): sum 4.
    loss, parts = TinyLoss((8,), LossWeights(box=5.0, score=2.0))(
        perfect_maps(0.0), batch_of([[0, 1, 0.25, 0.25, 0.5, 0.5]])
    )
    assert parts["score"] == pytest.approx(32 * math.log(2) / 4, rel=1e-4)
    assert loss.item() == pytest.approx(2 * 32 * math.log(2) / 4, rel=1e-3)


def test_the_wrong_class_costs() -> None:
    right, _ = TinyLoss((8,))(perfect_maps(4.0), batch_of([[0, 1, 0.25, 0.25, 0.5, 0.5]]))
    wrong, _ = TinyLoss((8,))(perfect_maps(4.0), batch_of([[0, 0, 0.25, 0.25, 0.5, 0.5]]))
    assert wrong.item() > right.item() + 1


def test_pictures_without_objects_only_ask_for_silence() -> None:
    maps = perfect_maps(0.0)
    logits, distances = maps.maps[1].requires_grad_(), maps.maps[0].requires_grad_()
    loss, parts = TinyLoss((8,))(TrainingMaps((distances, logits), (), ()), batch_of([]))
    loss.backward()
    assert parts == {"box": 0.0, "score": pytest.approx(32 * math.log(2), rel=1e-5)}
    assert (logits.grad > 0).all()  # every score is to fall
    assert distances.grad is None or distances.grad.abs().sum() == 0


def test_every_parameter_learns_from_a_batch_with_an_empty_picture() -> None:
    detector = new_tiny(CLASSES, 64, width=0.5)
    network = detector.network.train()
    loss = TinyFamily().task_loss(detector.architecture, network, 1)
    targets = torch.tensor([[1, 0, 0.5, 0.5, 0.3, 0.3], [1, 1, 0.2, 0.2, 0.1, 0.1], [1, 1, 0.6, 0.6, 0.9, 0.9]])
    value, _ = loss(
        TinyFamily().training_maps(network, torch.rand(2, 3, 64, 64)), Batch(torch.rand(2, 3, 64, 64), targets)
    )
    value.backward()
    loss.epoch_ended()
    assert torch.isfinite(value)
    assert all(item.grad is not None and torch.isfinite(item.grad).all() for item in network.parameters())


def test_it_learns_two_pictures_by_heart() -> None:
    torch.manual_seed(0)
    detector = new_tiny(CLASSES, 64, width=0.25)
    images, targets = two_pictures()
    network = detector.network.train()
    loss = TinyFamily().task_loss(detector.architecture, network, 1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=6e-3)
    for _ in range(45):
        optimizer.zero_grad()
        value, _ = loss(TinyFamily().training_maps(network, images), Batch(images, targets))
        value.backward()
        optimizer.step()
    for position, expected in enumerate(([8, 8, 24, 24], [32, 24, 56, 48])):
        network.train()  # statistics of two pictures are no statistics: judge it as it was trained
        with torch.no_grad():
            maps = [item[position : position + 1].numpy() for item in network(images)]
        boxes, scores = decode_maps(maps, detector.architecture.layout)
        best = int(scores.max(axis=1).argmax())
        assert int(scores[best].argmax()) == position
        assert boxes[best] == pytest.approx(expected, abs=3.0)


def two_pictures() -> tuple[Tensor, Tensor]:
    """A red square (class 0) at (8, 8, 24, 24) and a blue one (class 1) at (32, 24, 56, 48) on grey."""
    images = torch.full((2, 3, 64, 64), 0.5)
    images[0, :, 8:24, 8:24] = torch.tensor([1.0, 0.1, 0.1])[:, None, None]
    images[1, :, 24:48, 32:56] = torch.tensor([0.1, 0.1, 1.0])[:, None, None]
    targets = torch.tensor([[0, 0, 0.25, 0.25, 0.25, 0.25], [1, 1, 44 / 64, 36 / 64, 0.375, 0.375]])
    return images, targets


def _with_description(detector: Detector, description: dict[str, object]) -> Architecture:
    return replace(detector.architecture, description=description)
