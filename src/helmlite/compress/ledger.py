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
from collections.abc import Mapping

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

    def _cost(self, path: str, outputs: float, inputs: float) -> float:
        per_position = outputs if path in self._depthwise else outputs * inputs / self._by_path[path][0].groups
        rate = self._rates[path]
        return sum(rate * cost.positions * cost.kernel_area * per_position for cost in self._by_path[path])


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
