"""What a network still costs while channels go, in multiply-accumulates or in milliseconds on the target.

Either is   rest + sum over convolutions of rate * multiply-accumulates:

    multiply-accumulates   rate 1
    latency                rate = measured time / multiply-accumulates of that convolution, at its present width

The second is a straight line through what was measured.  Kernels are not straight lines (a thin layer waits for
memory, an odd width wastes lanes), and operators beside convolutions, which get a little cheaper too, are taken as
they are.  So it holds for small cuts, and pruning in rounds measures anew before each (HALP, Shen 2022, arXiv
2110.10811, has a table of measured widths instead).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from helmlite.compress.channels.channel_groups import Bundle
from helmlite.compress.layer_times import LayerTimes
from helmlite.detector.detector import Detector
from helmlite.detector.macs import ConvCost, conv_costs, count_macs, shape_trace

Loss = Mapping[str, tuple[int, int]]  # module path -> output and input channels that it loses


class Ledger:
    """The cost of a network while channels go.  left: what remains, in `unit`."""

    def __init__(self, costs: tuple[ConvCost, ...], rest: float, rates: Mapping[str, float], unit: str) -> None:
        """rest: what is taken as unchanged; rates: module path -> cost of one multiply-accumulate."""
        self._outputs = {cost.path: float(cost.out_channels) for cost in costs}
        self._inputs = {cost.path: float(cost.in_channels) for cost in costs}
        self._depthwise = {cost.path for cost in costs if cost.groups == cost.in_channels > 1}
        self._rates = rates
        self._by_path: dict[str, list[ConvCost]] = defaultdict(list)
        for cost in costs:
            self._by_path[cost.path].append(cost)
        self.unit = unit
        self.left = float(rest + sum(rates[cost.path] * cost.macs for cost in costs))

    def saving(self, loss: Loss) -> float:
        """What goes with these channels."""
        return sum(
            self._cost(path, self._outputs[path], self._inputs[path])
            - self._cost(path, self._outputs[path] - outputs, self._inputs[path] - inputs)
            for path, (outputs, inputs) in loss.items()
            if path in self._by_path
        )

    def remove(self, loss: Loss) -> None:
        """Lets these channels go."""
        self.left -= self.saving(loss)
        for path, (outputs, inputs) in loss.items():
            if path in self._by_path:
                self._outputs[path] -= outputs
                self._inputs[path] -= inputs

    def for_bundles(self, bundles: Sequence[Bundle]) -> BundleCosts:
        """What remains as a function of the steps that each bundle keeps, from here on."""
        return BundleCosts(self, bundles)

    def terms(self) -> tuple[list[str], NDArray[np.float64]]:
        """Convolutions, and for each a row: cost of a pair of channels, outputs, inputs, whether it is depthwise."""
        paths = list(self._by_path)
        rows = [
            (
                self._rates[path]
                * sum(cost.positions * cost.kernel_area for cost in self._by_path[path])
                / (1 if path in self._depthwise else self._by_path[path][0].groups),
                self._outputs[path],
                self._inputs[path],
                float(path in self._depthwise),
            )
            for path in paths
        ]
        return paths, np.array(rows, dtype=np.float64).reshape(-1, 4)

    def _cost(self, path: str, outputs: float, inputs: float) -> float:
        per_position = outputs if path in self._depthwise else outputs * inputs / self._by_path[path][0].groups
        rate = self._rates[path]
        return sum(rate * cost.positions * cost.kernel_area * per_position for cost in self._by_path[path])


class BundleCosts:
    """The cost of a network as a function of how many steps each of its bundles keeps.

    A convolution that one bundle feeds and another leaves costs outputs * inputs: what one bundle saves depends on
    the other.  Nothing is taken as a straight line here; the numbers are the ledger's own.
    """

    def __init__(self, ledger: Ledger, bundles: Sequence[Bundle]) -> None:
        paths, terms = ledger.terms()
        row = {path: index for index, path in enumerate(paths)}
        self._rate, self._outputs, self._inputs = terms[:, 0], terms[:, 1], terms[:, 2]
        self._depthwise = terms[:, 3] > 0
        self._whole = np.array([bundle.steps for bundle in bundles], dtype=np.float64)
        self._out_step, self._in_step = np.zeros((2, len(paths), len(bundles)))
        for column, bundle in enumerate(bundles):
            for path, (outputs, inputs) in loss_of_step(bundle).items():
                if path in row:
                    self._out_step[row[path], column] = outputs
                    self._in_step[row[path], column] = inputs
        self._touched = [np.nonzero(self._out_step[:, i] + self._in_step[:, i])[0] for i in range(len(bundles))]
        self._rest = ledger.left - float(self._costs(self._outputs, self._inputs).sum())

    def total(self, kept: Sequence[int]) -> float:
        """What remains where each bundle keeps so many steps."""
        gone = self._whole - np.asarray(kept, dtype=np.float64)
        costs = self._costs(self._outputs - self._out_step @ gone, self._inputs - self._in_step @ gone)
        return self._rest + float(costs.sum())

    def change(self, kept: Sequence[int], bundle: int, levels: Sequence[int]) -> NDArray[np.float64]:
        """What is added where one bundle, by its index, goes from where it is in `kept` to each of `levels`."""
        rows = self._touched[bundle]
        others = self._whole - np.asarray(kept, dtype=np.float64)
        others[bundle] = 0.0
        gone = self._whole[bundle] - np.array([*levels, kept[bundle]], dtype=np.float64)  # the last one is what is now
        costs = self._costs(
            (self._outputs[rows] - self._out_step[rows] @ others)[:, None] - self._out_step[rows, bundle, None] * gone,
            (self._inputs[rows] - self._in_step[rows] @ others)[:, None] - self._in_step[rows, bundle, None] * gone,
            rows,
        ).sum(axis=0)
        found: NDArray[np.float64] = costs[:-1] - costs[-1]
        return found

    def _costs(
        self, outputs: NDArray[np.float64], inputs: NDArray[np.float64], rows: NDArray[np.int64] | slice = slice(None)
    ) -> NDArray[np.float64]:
        """Of each convolution; `outputs` and `inputs` (P,) or (P, levels)."""
        shape = (-1,) + (1,) * (outputs.ndim - 1)
        per_position = np.where(self._depthwise[rows].reshape(shape), outputs, outputs * inputs)
        found: NDArray[np.float64] = self._rate[rows].reshape(shape) * per_position
        return found


def loss_of_step(bundle: Bundle) -> dict[str, tuple[int, int]]:
    """Output and input channels that every module loses with one step of a bundle, whichever units go."""
    loss: dict[str, tuple[int, int]] = {}
    for group in bundle.groups:
        per_step = len(group.units) // bundle.steps
        for member in group.units[0]:
            outputs, inputs = loss.get(member.path, (0, 0))
            loss[member.path] = (
                outputs + per_step * (member.role == "out"),
                inputs + per_step * (member.role == "in"),
            )
    return loss


def macs_ledger(detector: Detector, input_size: int) -> Ledger:
    """In multiply-accumulates for one square picture of `input_size` pixels."""
    costs = conv_costs(detector.network, shape_trace(detector.network, input_size))
    rest = count_macs(detector.network, input_size) - sum(cost.macs for cost in costs)
    return Ledger(costs, rest, {cost.path: 1.0 for cost in costs}, "MACs")


def latency_ledger(detector: Detector, input_size: int, times: LayerTimes) -> Ledger:
    """In milliseconds.  Raises ValueError where `times` lacks a convolution that the network runs."""
    costs = conv_costs(detector.network, shape_trace(detector.network, input_size))
    macs: dict[str, int] = defaultdict(int)
    for cost in costs:
        macs[cost.path] += cost.macs
    unknown = sorted(set(macs) - set(times.convolutions))
    if unknown:
        raise ValueError(f"There is no measured time of the convolution '{unknown[0]}'.")
    return Ledger(costs, times.rest, {path: times.convolutions[path] / count for path, count in macs.items()}, "ms")
