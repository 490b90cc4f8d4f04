"""Where rounding goes, on networks small enough to see it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.edits.fold_batchnorm import fold_batchnorm
from helmlite.compress.edits.merge_parallel import merge_parallel_convs
from helmlite.compress.rounding.quantize_points import Points, choose_points
from helmlite.data.roles import with_roles
from helmlite.detector.tiny import new_tiny
from helmlite.detector.trace import Graph, trace

_CLASSES = with_roles(["helmet", "no_helmet"])


def points_of(network: nn.Module, **settings: object) -> Points:
    return choose_points(network.eval(), trace(network, 32), **settings)  # type: ignore[arg-type]


class Split(nn.Module):
    """The block that most YOLO are made of: one half goes on through another convolution, all parts are joined."""

    def __init__(self, act: type[nn.Module] = nn.SiLU) -> None:
        super().__init__()
        self.enter, self.act = nn.Conv2d(3, 8, 1), act()
        self.inner, self.inner_act = nn.Conv2d(4, 4, 3, padding=1), act()
        self.last = nn.Conv2d(12, 2, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        first, second = self.act(self.enter(images)).chunk(2, 1)
        return (self.last(torch.cat([first, second, self.inner_act(self.inner(second))], 1)),)


def test_after_the_activation_and_not_before_and_one_scale_at_the_join() -> None:
    points = points_of(Split())
    assert points.weights == {"enter": "images", "inner": "act/silu", "last": "act/silu"}
    assert points.edges == ("images", "act/silu", "inner_act/silu")
    assert points.shared == (("act/silu", "inner_act/silu"),)
    assert points.carried == {"/chunk[0]": "act/silu", "/chunk[1]": "act/silu", "/cat": "act/silu"}


def test_the_last_convolution_answers_in_float() -> None:
    parts = {part.name: part.why for part in points_of(Split()).stayed_float}
    assert set(parts) == {"last/conv2d", "decode"}
    assert "float result" in parts["last/conv2d"]


def test_before_the_activation_where_asked_for_and_only_where_it_is_no_relu() -> None:
    assert points_of(Split(), before_activation=True).edges == (
        "images", "enter/conv2d", "act/silu", "inner/conv2d", "inner_act/silu",
    )  # fmt: skip
    assert points_of(Split(nn.ReLU), before_activation=True).edges == ("images", "act/relu", "inner_act/relu")


def test_a_convolution_that_is_kept_in_float_has_no_rounded_input() -> None:
    points = points_of(Split(), keep_float=("last",))
    assert list(points.weights) == ["enter", "inner"]
    assert points.edges == ("images", "act/silu")  # `inner_act` is read by `last` alone
    whys = {part.name: part.why for part in points.stayed_float}
    assert whys["last/conv2d"] == "kept in float as asked for"
    assert whys["/cat"] == "its result goes into float operators only"


class Sums(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.a(images)
        x = x + self.b(x)
        x = nn.functional.interpolate(self.pool(x), scale_factor=2) + 1.0
        return (self.last(x),)


def test_both_sides_of_a_sum_and_pooling_carries_on() -> None:
    points = points_of(Sums())
    assert points.edges == ("images", "a/conv2d", "/add#1")  # a sum with a number is no INT8 operator
    assert "/add" in {part.name for part in points.stayed_float}


class PooledSum(Sums):
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.a(images)
        return (self.last(nn.functional.interpolate(self.pool(x + self.b(x)), scale_factor=2)),)


def test_a_sum_of_two() -> None:
    points = points_of(PooledSum())
    assert points.edges == ("images", "a/conv2d", "b/conv2d", "/add")
    assert points.carried == {"pool/max_pool2d": "/add", "/interpolate": "/add"}
    assert points.shared == ()


class Attention(nn.Module):
    """One head over all cells; the value goes through a convolution of its own as well, as in YOLO11."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.qkv = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 12, 1)
        self.position, self.last = nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.enter(images)
        batch, width, height, side = x.shape
        q, k, v = self.qkv(x).view(batch, 12, height * side).split([4, 4, 4], 1)
        weights = ((q * 0.5).transpose(1, 2) @ k).softmax(-1)
        mixed = (v @ weights.transpose(1, 2)).view(batch, width, height, side)
        return (self.last(mixed + self.position(v.reshape(batch, width, height, side))),)


def test_attention_in_float_rounds_the_value_only_on_its_way_to_the_convolution() -> None:
    points = points_of(Attention())
    assert points.edges == ("images", "enter/conv2d", "/matmul#1", "/reshape", "position/conv2d", "/add")
    why = {part.name for part in points.stayed_float if part.why.startswith("attention")}
    assert why == {"/mul", "/matmul", "/softmax", "/matmul#1"}


def test_attention_in_integers_knows_the_range_of_a_softmax() -> None:
    points = points_of(Attention(), attention="int8")
    assert points.edges == (
        "images", "enter/conv2d", "qkv/conv2d", "/mul", "/softmax", "/matmul#1", "position/conv2d", "/add",
    )  # fmt: skip
    assert points.fixed == {"/softmax": (0.0, 1.0)}
    assert points.carried["/transpose#1"] == "/softmax"


def _reads_rounded(graph: Graph, points: Points) -> dict[str, bool]:
    names = {"images", *points.edges, *points.carried}
    made = {0: "images"}
    for op in graph.ops:
        for index, value in enumerate(op.outputs):
            made[value] = op.name if len(op.outputs) == 1 else f"{op.name}[{index}]"
    return {op.name: made.get(op.inputs[0]) in names for op in graph.ops if op.kind == "conv2d"}


@pytest.mark.parametrize(
    "name",
    ["tiny"]
    + [
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n")
    ],
)
def test_every_convolution_of_every_family_reads_integers_and_no_result_is_rounded(name: str) -> None:
    if name == "tiny":
        detector = new_tiny(_CLASSES, 64)
    else:
        pytest.importorskip("ultralytics")
        from helmlite.detector.ultralytics import new_ultralytics

        detector = new_ultralytics(name, _CLASSES)
    network = merge_parallel_convs(fold_batchnorm(detector)).network
    graph = trace(network, 64)
    points = choose_points(network, graph)
    reads = _reads_rounded(graph, points)
    assert len(reads) == len(points.weights)
    assert all(reads.values()), [op for op, is_rounded in reads.items() if not is_rounded]
    producers = graph.producers()
    heads = {producers[value].name for value in graph.results}
    assert len(heads) == 6
    assert not heads & {*points.edges, *points.carried}
    assert heads <= {part.name for part in points.stayed_float}
    grouped = [name for group in points.shared for name in group]
    assert len(grouped) == len(set(grouped))
