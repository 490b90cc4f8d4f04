"""Gates: whether a unit stays is learned with the weights, under a price on multiply-accumulates.

Louizos 2018, "Learning Sparse Neural Networks through L0 Regularization", arXiv 1712.01312.  Every unit has a gate z
that multiplies it, drawn anew in every step from the hard concrete distribution (beta = 2/3, gamma = -0.1, zeta = 1.1):

    s = sigmoid((log u - log(1 - u) + log alpha) / beta)         u uniform in (0, 1)                       eq. 10
    z = min(1, max(0, s * (zeta - gamma) + gamma))               exactly 0 and exactly 1 have probability  eq. 11
    P(z > 0) = sigmoid(log alpha - beta * log(-gamma / zeta))    differentiable                            eq. 12
    z at evaluation = min(1, max(0, sigmoid(log alpha) * (zeta - gamma) + gamma))                          eq. 13

Instead of the paper's L0 norm, the price is on the expected multiply-accumulates, which follow from P(z > 0):

    E = rest + sum over convolutions of positions * kernel area * E[outputs] * E[inputs] / groups
    loss + m * g + w / 2 * g^2,   g = E / before - target(step)

the augmented Lagrangian of g = 0 (Hestenes 1969).  The target falls from 1 to `macs_ratio` in the first half of the
training; the multiplier m becomes m + w * g at each of 20 updates, so that the price rises as long as the target is
missed and falls, or pays for open gates, once it is more than met.  E counts gates as independent, so a
convolution that has one unit on both sides counts a little too low; the cut counts exactly.

A gate sits behind every BatchNorm that its unit goes through, and behind a convolution that no BatchNorm follows: a
closed gate then is silence, as if the unit were cut.  After training the evaluation gates are multiplied into those
scales, shifts, kernels and biases, and the units that are least likely to be open go first, whatever they cost, until
the multiply-accumulates asked for are left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from helmlite.compress.channels.cut_channels import Choice
from helmlite.compress.channels.unit_tensors import UnitTensors
from helmlite.compress.order import check_follows
from helmlite.compress.penalty import (
    Budget,
    about,
    check_settings,
    joined_state,
    rates,
    train_and_cut,
    untrained_stand_in,
)
from helmlite.compress.prune import Prune
from helmlite.compress.technique import Context
from helmlite.detector.detector import Batch, Detector
from helmlite.detector.device import device_of
from helmlite.detector.families import family_of
from helmlite.detector.fit_state import EpochPlan, below
from helmlite.detector.macs import ConvCost, conv_costs, shape_trace
from helmlite.detector.objective import Objective
from helmlite.detector.trace import Graph, intercept, tensors_in

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
_FIRST_LOG_ALPHA = 2.5  # open in 98 of 100 steps, and 1 at evaluation: training begins with the detector as it is
_ANNEALED = 0.5  # share of the training after which the target is macs_ratio
_UPDATES = 20  # of the multiplier
_TRACE_SIZE = 64  # pixels


@dataclass(frozen=True)
class Gates:
    """Trains with a hard concrete gate on every unit of channels, then cuts the units least likely to be open.

    strength: w, of the price on multiply-accumulates
    travel:   how far log alpha can move over the whole training; how fast it learns follows from the number of steps
    the others: see `penalty.CutSettings`
    """

    name: ClassVar[str] = "gates"
    macs_ratio: float
    minutes: float | None = None
    epochs: int | None = None
    learning_rate: float = 1e-3
    batch_size: int = 16
    teacher: str = "original"
    strength: float = 100.0
    travel: float = 10.0
    min_keep: float = 0.1
    images: int = 128

    def __post_init__(self) -> None:
        check_settings(self)
        if not (0 < self.strength < math.inf and 0 < self.travel < math.inf):  # nan is refused too
            raise ValueError(
                f"gates: strength and travel must be above 0 and finite; got {self.strength:g} and {self.travel:g}."
            )

    def apply(self, detector: Detector, context: Context) -> Detector:
        """The detector with fewer channels and trained weights.

        Raises TechniqueOrderError after what fixes channels, ValueError where the ratio cannot be reached.
        """
        check_follows(self.name, detector)
        budget = Budget(self, detector, context)
        graph = shape_trace(detector.network, context.input_size)
        places = gate_places(detector, budget.units)
        expected = ExpectedMacs(detector.network, budget.units, graph, budget.macs)

        def make(base: Objective, network: nn.Module, plan: EpochPlan) -> GatedObjective:
            return GatedObjective(self, base, budget, places, expected, network, plan, about(self, context))

        return train_and_cut(self, detector, context, budget, make)

    def stand_in(self) -> Prune:
        """L2 pruning to the same multiply-accumulates."""
        return untrained_stand_in(self)


Places = Mapping[str, Tensor]  # module path -> for each of its output channels the unit's number, or -1


class GatedObjective:
    """A base objective on the gated network, and the price on expected multiply-accumulates."""

    def __init__(
        self,
        settings: Gates,
        base: Objective,
        budget: Budget,
        places: Places,
        expected: ExpectedMacs,
        network: nn.Module,
        plan: EpochPlan,
        told: Mapping[str, Any],
    ) -> None:
        self._settings, self._base, self._budget, self._places, self._told = settings, base, budget, places, told
        device = device_of(network)
        self._expected = expected
        self._steps = plan.epochs * plan.steps_per_epoch
        self._interval = max(self._steps // _UPDATES, 1)
        self._speed = settings.travel / (settings.learning_rate * sum(rates(plan)))
        self._moved = nn.Parameter(torch.zeros(budget.units.count, device=device))
        self._multiplier = 0.0

    @property
    def log_alpha(self) -> Tensor:
        """(units,).  It moves `speed` times as far as the optimizer thinks.

        Its gradient is handed on as it is: Adam does not mind, and the limit on the norm of all gradients does not
        fall to the gates alone.
        """
        return _FIRST_LOG_ALPHA + self._moved + (self._speed - 1) * self._moved.detach()

    def identity(self) -> Mapping[str, Any]:
        return {**self._told, "base": self._base.identity()}

    def parameters(self) -> Iterable[nn.Parameter]:
        return (*self._base.parameters(), self._moved)

    def loss(self, network: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        log_alpha = self.log_alpha
        noise = torch.rand(len(log_alpha)).to(log_alpha.device)  # `fit` seeds every step, whatever the device
        with gated(network, self._places, drawn_gates(log_alpha, noise)):
            loss, parts = self._base.loss(network, batch, step)
        share = self._expected(open_probability(log_alpha))
        price = augmented_lagrangian(share - self._target(step), self._multiplier, self._settings.strength)
        return loss + price, {**parts, "expected_macs": float(share.detach()), "price": float(price.detach())}

    def after_step(self, network: nn.Module, step: int) -> None:
        self._base.after_step(network, step)
        if (step + 1) % self._interval == 0:
            with torch.no_grad():
                gap = float(self._expected(open_probability(self.log_alpha))) - self._target(step)
            self._multiplier += self._settings.strength * gap

    def epoch_ended(self) -> None:
        self._base.epoch_ended()

    def state_dict(self) -> dict[str, Tensor]:
        own = {"moved": self._moved.detach(), "multiplier": torch.tensor(self._multiplier, dtype=torch.float64)}
        return joined_state(self._base, own)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._base.load_state_dict(below("base.", state))
        with torch.no_grad():
            self._moved.copy_(state["penalty.moved"])
        self._multiplier = float(state["penalty.multiplier"])

    def finished(self, trained: Detector) -> tuple[Detector, Choice]:
        log_alpha = self.log_alpha.detach().double().cpu()
        settled = replace(trained, network=with_gates(trained, self._places, evaluation_gates(log_alpha)))
        return settled, self._budget.choose_smallest(self._budget.units.by_group(open_probability(log_alpha)))

    def _target(self, step: int) -> float:
        """The share of the multiply-accumulates that is asked for in this step."""
        progress = min((step + 1) / max(_ANNEALED * self._steps, 1.0), 1.0)
        return 1 - progress * (1 - self._settings.macs_ratio)


def drawn_gates(log_alpha: Tensor, noise: Tensor) -> Tensor:
    """Hard concrete gates in [0, 1] (eq. 10 and 11).  noise: uniform in [0, 1), of the same shape."""
    noise = noise.clamp(1e-6, 1 - 1e-6)
    soft = ((noise.log() - (1 - noise).log() + log_alpha) / BETA).sigmoid()
    return (soft * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def open_probability(log_alpha: Tensor) -> Tensor:
    """P(gate > 0), eq. 12."""
    return (log_alpha - BETA * math.log(-GAMMA / ZETA)).sigmoid()


def evaluation_gates(log_alpha: Tensor) -> Tensor:
    """The gates without chance, eq. 13."""
    return (log_alpha.sigmoid() * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def augmented_lagrangian(gap: Tensor, multiplier: float, strength: float) -> Tensor:
    """What a constraint gap = 0 adds to a loss; 0 at gap 0, with slope `multiplier` there."""
    return multiplier * gap + strength / 2 * gap.square()


class ExpectedMacs:
    """Expected multiply-accumulates as a share of `whole`, from the probability that each unit is open.

    What is not in convolutions (matrix products) is counted as it is.
    """

    def __init__(self, network: nn.Module, units: UnitTensors, graph: Graph, whole: int) -> None:
        costs = conv_costs(network, graph)
        self._rest = (whole - sum(cost.macs for cost in costs)) / whole
        self._terms = [_Term(cost, units, whole) for cost in costs]

    def __call__(self, is_open: Tensor) -> Tensor:
        """is_open: (units,) probabilities -> scalar."""
        padded = torch.cat([is_open, is_open.new_ones(1)])  # -1 is the last: a channel that always stays
        return self._rest + torch.stack([term(padded) for term in self._terms]).sum()


class _Term:
    """One convolution: cost * E[outputs] * E[inputs], or cost * E[outputs] where it is depthwise."""

    def __init__(self, cost: ConvCost, units: UnitTensors, whole: int) -> None:
        owned = units.owners.get(f"{cost.path}.weight")
        is_depthwise = cost.groups == cost.in_channels > 1
        self._share = cost.macs / whole
        self._numbers: list[Tensor] = []
        if owned is not None:
            self._numbers.append(owned.rows.reshape(-1))
            if owned.columns is not None and not is_depthwise:
                self._numbers.append(owned.columns.reshape(-1))

    def __call__(self, padded: Tensor) -> Tensor:
        share = padded.new_tensor(self._share)
        for index, numbers in enumerate(self._numbers):
            self._numbers[index] = numbers = numbers.to(padded.device)
            share = share * padded[numbers].mean()
        return share


def gate_places(detector: Detector, units: UnitTensors) -> Places:
    """Where gates sit: BatchNorms that units go through, and convolutions of theirs that no BatchNorm follows."""
    modules = dict(detector.network.named_modules())
    paths = dict.fromkeys(name.rpartition(".")[0] for name in units.owners)
    normed = _normed_convs(detector)
    return {
        path: units.owners[f"{path}.weight"].rows.reshape(-1)
        for path in paths
        if isinstance(modules[path], nn.BatchNorm2d)
        or (isinstance(modules[path], nn.Conv2d) and path not in normed and _owns_rows(units, path))
    }


def _normed_convs(detector: Detector) -> set[str]:
    """Paths of convolutions whose results BatchNorms read and nothing else, in every branch of the head."""
    made_by: dict[int, str] = {}
    alive: list[Tensor] = []  # so that no id is used twice
    readers: dict[str, set[str]] = {}

    def on_op(name: str, module: str, kind: str, args: Any, kwargs: Any, function: Callable[..., Any]) -> Any:
        for tensor in tensors_in((args, kwargs)):
            if id(tensor) in made_by:
                readers.setdefault(made_by[id(tensor)], set()).add(kind)
        result = function(*args, **kwargs)
        if kind == "conv2d":
            made_by[id(result)] = module
            alive.append(result)
        return result

    network = detector.copy().network.eval()
    with torch.no_grad(), intercept(network, on_op):
        family_of(detector).training_maps(network, torch.zeros(1, 3, _TRACE_SIZE, _TRACE_SIZE))
    return {path for path, kinds in readers.items() if kinds == {"batch_norm"}}


def _owns_rows(units: UnitTensors, path: str) -> bool:
    return bool((units.owners[f"{path}.weight"].rows >= 0).any())


@contextmanager
def gated(network: nn.Module, places: Places, gates: Tensor) -> Iterator[None]:
    """While open, forward passes multiply every unit by its gate.  gates: (units,)."""
    padded = torch.cat([gates, gates.new_ones(1)])
    handles = [
        network.get_submodule(path).register_forward_hook(_times(padded[numbers.to(gates.device)]))
        for path, numbers in places.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _times(factors: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(module: nn.Module, given: Any, made: Tensor) -> Tensor:
        return made * factors.to(made.dtype).view(1, -1, 1, 1)

    return hook


def with_gates(detector: Detector, places: Places, gates: Tensor) -> nn.Module:
    """A network of its own with the gates multiplied into scales and shifts, or into kernels and biases."""
    network = detector.copy().network
    padded = torch.cat([gates, gates.new_ones(1)])
    with torch.no_grad():
        for path, numbers in places.items():
            module = network.get_submodule(path)
            assert isinstance(module, (nn.BatchNorm2d, nn.Conv2d))
            factors = padded[numbers].to(module.weight.dtype)
            module.weight.mul_(factors.view([-1] + [1] * (module.weight.ndim - 1)))
            if module.bias is not None:
                module.bias.mul_(factors)
    return network
