"""The rounding of one convolution's weight that keeps its answer best: the problem that adaround.py solves for each.

A convolution at chosen positions is a product of patches and weights, so nothing here knows of pictures.  The
derivatives are written out and every array is used again: on a processor the steps spend their time in memory, and
this takes a tenth of what PyTorch's own derivatives take.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from helmlite.compress.rounding.quantization_plan import QuantPoint

_LOW, _HIGH = -0.1, 1.1  # the sigmoid is stretched to these and cut to 0 .. 1
_BETA = (20, 2)
_FREE = 0.2  # share of the steps without the push towards 0 and 1
_PUSH = 30.0  # weight of it
_RATE = 0.1
_BATCH = 128  # positions in each step

Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Choice:
    """weight: (G, O / G, K) on the grid; bias: (O,); nearest, error: mean square errors on held positions"""

    weight: Tensor
    bias: Tensor
    nearest: float
    error: float


@dataclass(frozen=True)
class LayerProblem:
    """One convolution at P positions.

    weight:  (G, O / G, K), K = inputs of a group * h * w; bias: (O,); scale: (G, O / G, 1) or (1, 1, 1)
    low, high: the smallest and the largest integer
    patches: (G, P, K), what the layer reads in the quantized network
    target:  (P, O), what it gave in the float network, before `activation`
    """

    weight: Tensor
    bias: Tensor
    scale: Tensor
    low: int
    high: int
    patches: Tensor
    target: Tensor
    activation: Activation

    def choose(self, held: Tensor, steps: int, move_bias: bool, seed: int) -> Choice:
        """The better of learned rounding and rounding to nearest, by the positions in `held` (P,), which only judge."""
        weights = (self.nearest(), self.learned(~held, steps, seed))
        tried = [(weight, self.bias) for weight in weights]
        if move_bias:
            tried += [(weight, self.bias + self._mean_error(weight, ~held)) for weight in weights]
        errors = [self.error(weight, bias, held) for weight, bias in tried]
        best = min(range(len(tried)), key=errors.__getitem__)
        return Choice(*tried[best], nearest=errors[0], error=errors[best])

    def nearest(self) -> Tensor:
        """The weight rounded to nearest."""
        return torch.round(self.weight / self.scale).clamp(self.low, self.high) * self.scale

    def error(self, weight: Tensor, bias: Tensor, where: Tensor) -> float:
        """Mean square error behind the activation.  where: (P,) bool"""
        answers = _answers(self.patches[:, where], weight, bias)
        return float((self.activation(answers) - self.activation(self.target[where])).square().mean())

    def learned(self, where: Tensor, steps: int, seed: int) -> Tensor:
        """The weight with each element rounded up or down as the layer's answer at these positions wants it."""
        plain = self.error(self.nearest(), self.bias, where)
        if plain == 0:
            return self.nearest()
        order = torch.nonzero(where).flatten()
        order = order[torch.randperm(len(order), generator=torch.Generator().manual_seed(seed)).to(order.device)]
        patches, wanted = self.patches[:, order], self.activation(self.target[order])
        whole = self.weight / self.scale
        floor = torch.floor(whole).clamp(self.low, self.high)
        movable = (self.weight != 0) & (whole < self.high) & (whole >= self.low)
        descent = _Descent(whole - floor, floor * self.scale, movable * self.scale)
        batch = min(_BATCH, len(order))
        for step in range(steps):
            start = step * batch % (len(order) - batch + 1)
            part, aim = patches[:, start : start + batch], wanted[start : start + batch]
            slope = self._slope(_answers(part, descent.weight(), self.bias), aim) / plain
            descent.step(torch.bmm(slope.view(batch, len(part), -1).permute(1, 2, 0), part), beta_at(step / steps))
        return (floor + movable * (descent.up() >= 0.5)) * self.scale

    def _slope(self, answers: Tensor, aim: Tensor) -> Tensor:
        """Derivative of the mean square error by what the layer gives before its activation, (B, O)."""
        with torch.enable_grad():
            given = answers.requires_grad_()
            (slope,) = torch.autograd.grad((self.activation(given) - aim).square().mean(), given)
        return slope

    def _mean_error(self, weight: Tensor, where: Tensor) -> Tensor:
        return (self.target[where] - _answers(self.patches[:, where], weight, self.bias)).mean(0)


def layer_problem(
    conv: nn.Conv2d,
    scale: Tensor,
    point: QuantPoint,
    patches: Tensor,
    target: Tensor,
    activation: Activation | None,
    device: torch.device,
) -> LayerProblem:
    """The problem of one convolution, on `device`.  scale: (O,) or (); patches, target, activation: as it has them"""
    weight = conv.weight.detach().reshape(conv.groups, conv.out_channels // conv.groups, -1)
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().clone()
    steps = scale.view(conv.groups, -1, 1) if point.axis == 0 else scale.view(1, 1, 1)
    tensors = (weight, bias, steps)
    weight, bias, steps = (item.to(device) for item in tensors)
    return LayerProblem(
        weight, bias, steps, point.low, point.high, patches.to(device), target.to(device), activation or _as_it_is
    )


def rectified_sigmoid(slopes: Tensor) -> Tensor:
    """How far a weight goes up from the integer below it, 0 to 1."""
    return (torch.sigmoid(slopes) * (_HIGH - _LOW) + _LOW).clamp(0, 1)


def beta_at(done: float) -> int | None:
    """The exponent when this share of the steps is done; None before the push begins.

    >>> beta_at(0.1), beta_at(0.2), beta_at(0.6), beta_at(1.0)
    (None, 20, 12, 2)

    Even numbers only: an odd power of 2 h - 1 then keeps its sign and is a few multiplications.
    """
    if done < _FREE:
        return None
    share = 0.5 * (1 + math.cos(math.pi * (done - _FREE) / (1 - _FREE)))  # from 1 to 0
    return 2 * math.ceil((_BETA[1] + (_BETA[0] - _BETA[1]) * share - 1e-9) / 2)


def odd_power(values: Tensor, exponent: int) -> Tensor:
    """`values` to an odd exponent, by squaring."""
    made, square, left = values.clone(), values.square(), exponent // 2
    while left:
        if left % 2:
            made.mul_(square)
        left //= 2
        if left:
            square.square_()
    return made


class _Descent:
    """The steps of one layer's V: W~ = base + h(V) * step, by Adam."""

    def __init__(self, rest: Tensor, base: Tensor, step: Tensor) -> None:
        inside = ((rest.clamp(0.01, 0.99) - _LOW) / (_HIGH - _LOW)).contiguous()
        self._slopes = torch.logit(inside).requires_grad_()
        self._slopes.grad = torch.zeros_like(inside)
        self._base, self._step = base, step
        self._sigmoid, self._up, self._weight = (torch.empty_like(inside) for _ in range(3))
        self._optimizer = torch.optim.Adam([self._slopes], lr=_RATE, fused=True)

    def up(self) -> Tensor:
        """h(V)."""
        return rectified_sigmoid(self._slopes.detach())

    def weight(self) -> Tensor:
        """W~, in memory that the next call uses again."""
        torch.sigmoid(self._slopes.detach(), out=self._sigmoid)
        torch.mul(self._sigmoid, _HIGH - _LOW, out=self._up).add_(_LOW).clamp_(0, 1)
        return torch.addcmul(self._base, self._up, self._step, out=self._weight)

    def step(self, by_weight: Tensor, beta: int | None) -> None:
        """One step.  by_weight: derivative of the error by W~, (G, O / G, K)

        d(1 - mean |2h - 1|^beta) / dh = -2 beta (2h - 1)^(beta - 1) / count
        """
        slope = by_weight.mul_(self._step)
        off_middle = self._up.mul_(2).sub_(1)
        inside = off_middle.abs() < 1  # where h is cut to 0 or 1 it does not move
        if beta is not None:
            slope.sub_(odd_power(off_middle, beta - 1), alpha=_PUSH * 2 * beta / slope.numel())
        torch.addcmul(self._sigmoid, self._sigmoid, self._sigmoid, value=-1, out=self._sigmoid)  # of the sigmoid
        assert self._slopes.grad is not None
        torch.mul(slope.mul_(self._sigmoid), inside, out=self._slopes.grad).mul_(_HIGH - _LOW)
        self._optimizer.step()


def _answers(patches: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(G, P, K), (G, O / G, K) -> (P, O), before the activation."""
    return torch.bmm(patches, weight.transpose(1, 2)).transpose(0, 1).flatten(1) + bias


def _as_it_is(values: Tensor) -> Tensor:
    return values
