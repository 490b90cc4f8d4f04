"""Distillation losses against their published definitions: the same tensors, every sum written out.

    python benchmarks/kd_definitions.py

The definitions are plain loops over numbers in float64, straight from the papers' equations, and share no code with
helmlite.  Where a paper's sum grows with the size of the map, helmlite's value is a mean; the column `scaled by` says
which factor lies between the two.  Exits with 1 where a value is farther than 1e-5 relative from its definition.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
from common import commit
from numpy.typing import NDArray

from helmlite.compress.teaching.distill_losses import box_distribution_loss, channel_wise_loss, class_loss
from helmlite.compress.teaching.feature_losses import MaskedGeneration, l2_loss, pearson_loss
from helmlite.compress.teaching.focal_global import (
    ATTENTION,
    BACKGROUND,
    FOREGROUND,
    GLOBAL,
    FocalGlobal,
)
from helmlite.detector.detector import Batch

Array = NDArray[np.float64]

_BATCH, _CHANNELS, _HEIGHT, _WIDTH = 2, 6, 8, 8
_BINS, _CELLS, _TEMPERATURE = 16, 20, 2.0
_NEAR = 1e-5
_BOXES = ((0, 0.25, 0.25, 0.25, 0.25), (0, 0.75, 0.5, 0.5, 0.5), (1, 0.5, 0.5, 0.25, 0.5))  # picture, x, y, w, h


def main() -> int:
    rng = np.random.default_rng(0)
    student, teacher = (rng.standard_normal((_BATCH, _CHANNELS, _HEIGHT, _WIDTH)) for _ in range(2))
    terms = student.size
    rows = [
        ("FitNets, Romero 2015, eq. 3", f"1 / {terms} terms", l2_loss, _fitnets(student, teacher) / terms),
        (
            f"CWD, Shu 2021, eq. 4, T = {_TEMPERATURE:g}",
            f"1 / {_BATCH * _CHANNELS} channels",
            lambda s, t: channel_wise_loss(s, t, _TEMPERATURE),
            _cwd(student, teacher, _TEMPERATURE) / _BATCH,
        ),
        ("PKD, Cao 2022, eq. 5", "mean over channels", pearson_loss, _pkd(student, teacher)),
    ]
    found = [(name, factor, _value(ours, student, teacher), wanted) for name, factor, ours, wanted in rows]
    found += [_mgd_row(student, teacher), _fgd_row(student, teacher), *_head_rows(rng)]
    print(f"commit {commit()}, seed 0, torch {torch.__version__}, maps {_BATCH} x {_CHANNELS} x {_HEIGHT} x {_WIDTH}\n")
    print("| loss | scaled by | helmlite | definition | relative difference |\n|---|---|---|---|---|")
    far = 0
    for name, factor, ours, wanted in found:
        difference = abs(ours - wanted) / abs(wanted)
        far += difference > _NEAR
        print(f"| {name} | {factor} | {ours:.9g} | {wanted:.9g} | {difference:.1e} |")
    return 1 if far else 0


def _value(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], student: Array, teacher: Array) -> float:
    return float(loss(torch.from_numpy(student), torch.from_numpy(teacher)))


def _fitnets(student: Array, teacher: Array) -> float:
    """1/2 sum (T - S)^2"""
    return 0.5 * sum((t - s) ** 2 for s, t in zip(student.ravel().tolist(), teacher.ravel().tolist()))


def _cwd(student: Array, teacher: Array, temperature: float) -> float:
    """T^2 / C sum over channels and places of phi(t) log(phi(t) / phi(s)), summed over pictures"""
    total = 0.0
    for picture in range(_BATCH):
        for channel in range(_CHANNELS):
            of_teacher = _softmax((teacher[picture, channel].ravel() / temperature).tolist())
            of_student = _softmax((student[picture, channel].ravel() / temperature).tolist())
            total += _divergence(of_teacher, of_student)
    return temperature**2 / _CHANNELS * total


def _pkd(student: Array, teacher: Array) -> float:
    """1 - r of each channel, r over all places of the batch"""
    lost = []
    for channel in range(_CHANNELS):
        s, t = student[:, channel].ravel().tolist(), teacher[:, channel].ravel().tolist()
        mean_s, mean_t = math.fsum(s) / len(s), math.fsum(t) / len(t)
        together = math.fsum((a - mean_s) * (b - mean_t) for a, b in zip(s, t))
        alone = math.fsum((a - mean_s) ** 2 for a in s) * math.fsum((b - mean_t) ** 2 for b in t)
        lost.append(1 - together / math.sqrt(alone))
    return math.fsum(lost) / len(lost)


def _mgd_row(student: Array, teacher: Array) -> tuple[str, str, float, float]:
    """sum (T - G(M * S))^2, G: 3x3, ReLU, 3x3"""
    loss = MaskedGeneration(_CHANNELS).double()
    torch.manual_seed(3)
    with torch.no_grad():
        ours = float(loss(torch.from_numpy(student), torch.from_numpy(teacher), _labels()))
    torch.manual_seed(3)
    kept = torch.rand(_BATCH, 1, _HEIGHT, _WIDTH).numpy() >= loss.masked_share
    first, last = loss.generation[0], loss.generation[2]
    hidden = _convolved(student * kept, first.weight.detach().numpy(), first.bias.detach().numpy())
    drawn = _convolved(np.where(hidden > 0, hidden, 0), last.weight.detach().numpy(), last.bias.detach().numpy())
    wanted = math.fsum((t - g) ** 2 for t, g in zip(teacher.ravel().tolist(), drawn.ravel().tolist()))
    return "MGD, Yang 2022, eq. 4", f"1 / {student.size} terms", ours, wanted / student.size


def _convolved(maps: Array, weight: Array, bias: Array) -> Array:
    padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
    made = np.zeros_like(maps)
    for picture, out, row, column in np.ndindex(made.shape):
        window = padded[picture, :, row : row + 3, column : column + 3]
        made[picture, out, row, column] = (window * weight[out]).sum() + bias[out]
    return made


def _fgd_row(student: Array, teacher: Array) -> tuple[str, str, float, float]:
    """Equations 2 to 12, with context blocks of random last layers"""
    temperature = 0.5
    torch.manual_seed(4)
    loss = FocalGlobal(_CHANNELS, temperature).double()
    for block in (loss.student_context, loss.teacher_context):
        torch.nn.init.normal_(block.widen.weight)
    with torch.no_grad():
        ours = float(loss(torch.from_numpy(student), torch.from_numpy(teacher), _labels()))
    total = 0.0
    for picture in range(_BATCH):
        s, t = student[picture], teacher[picture]
        share, is_inside = _fgd_masks(picture)
        where_t, where_s = (_places(maps, temperature) for maps in (t, s))
        which_t, which_s = (_channels(maps, temperature) for maps in (t, s))
        for channel, row, column in np.ndindex(t.shape):
            side = FOREGROUND if is_inside[row, column] else BACKGROUND
            weight = side * share[row, column] * where_t[row][column] * which_t[channel]
            total += weight * (t[channel, row, column] - s[channel, row, column]) ** 2
        places = sum(abs(a - b) for one, other in zip(where_t, where_s) for a, b in zip(one, other))
        total += ATTENTION * (places + sum(abs(a - b) for a, b in zip(which_t, which_s)))
        relation = _context(t, loss.teacher_context) - _context(s, loss.student_context)
        total += GLOBAL * float((relation**2).sum())
    return "FGD, Yang 2022, eq. 2-12, T = 0.5", f"1 / {_BATCH} pictures", ours, total / _BATCH


def _fgd_masks(picture: int) -> tuple[Array, NDArray[np.bool_]]:
    """S and M: each place of a box has 1 / its places, the smallest where several meet; else 1 / background places"""
    is_inside = np.zeros((_HEIGHT, _WIDTH), bool)
    share = np.zeros((_HEIGHT, _WIDTH))
    for of, x, y, wide, high in _BOXES:
        if of == picture:
            columns = range(round((x - wide / 2) * _WIDTH), round((x + wide / 2) * _WIDTH))
            rows = range(round((y - high / 2) * _HEIGHT), round((y + high / 2) * _HEIGHT))
            for row in rows:
                for column in columns:
                    is_inside[row, column] = True
                    share[row, column] = max(share[row, column], 1 / (len(rows) * len(columns)))
    share[~is_inside] = 1 / (~is_inside).sum()
    return share, is_inside


def _places(maps: Array, temperature: float) -> list[list[float]]:
    means = [sum(abs(maps[c, y, x]) for c in range(_CHANNELS)) / _CHANNELS for y, x in np.ndindex(_HEIGHT, _WIDTH)]
    found = [_HEIGHT * _WIDTH * item for item in _softmax([mean / temperature for mean in means])]
    return [found[row * _WIDTH : (row + 1) * _WIDTH] for row in range(_HEIGHT)]


def _channels(maps: Array, temperature: float) -> list[float]:
    means = [sum(abs(value) for value in maps[c].ravel().tolist()) / (_HEIGHT * _WIDTH) for c in range(_CHANNELS)]
    return [_CHANNELS * item for item in _softmax([mean / temperature for mean in means])]


def _context(maps: Array, block: torch.nn.Module) -> Array:
    """R(F) = F + W_2 ReLU(LN(W_1 sum_j softmax_j(W_k F_j) F_j))"""
    values = {name: item.detach().double().numpy() for name, item in block.named_parameters()}
    flat = maps.reshape(_CHANNELS, -1)
    key = _softmax((values["key.weight"].reshape(-1) @ flat + values["key.bias"]).tolist())
    seen = flat @ np.array(key)
    narrow = values["narrow.weight"].reshape(-1, _CHANNELS) @ seen + values["narrow.bias"]
    centred = (narrow - narrow.mean()) / math.sqrt(narrow.var() + 1e-5)
    normed = centred * values["norm.weight"].reshape(-1) + values["norm.bias"].reshape(-1)
    added = values["widen.weight"].reshape(_CHANNELS, -1) @ np.maximum(normed, 0) + values["widen.bias"]
    return maps + added[:, None, None]


def _head_rows(rng: np.random.Generator) -> list[tuple[str, str, float, float]]:
    """Losses on the head's outputs."""
    student, teacher = (rng.standard_normal((1, 4 * _BINS, _CELLS)) for _ in range(2))
    weight = np.full((1, _CELLS), 1.0)
    ours = box_distribution_loss(
        torch.from_numpy(student), torch.from_numpy(teacher), torch.from_numpy(weight), _BINS, _TEMPERATURE
    )
    total = 0.0
    for side in range(4):
        for cell in range(_CELLS):
            s, t = (
                _softmax((item[0, side * _BINS : (side + 1) * _BINS, cell] / _TEMPERATURE).tolist())
                for item in (student, teacher)
            )
            total += _TEMPERATURE**2 * _divergence(t, s)
    ld = (
        f"LD, Zheng 2022, eq. 3, T = {_TEMPERATURE:g}",
        f"1 / {4 * _CELLS} sides",
        float(ours),
        total / (4 * _CELLS),
    )
    logits_s, logits_t = (rng.standard_normal((1, 1, _CELLS)) for _ in range(2))
    ours = class_loss(torch.from_numpy(logits_s), torch.from_numpy(logits_t), _TEMPERATURE)
    total = weights = 0.0
    for s, t in zip(logits_s.ravel().tolist(), logits_t.ravel().tolist()):
        p, q = _sigmoid(t / _TEMPERATURE), _sigmoid(s / _TEMPERATURE)
        weights += _sigmoid(t)
        total += max(_sigmoid(t), _sigmoid(s)) * _TEMPERATURE**2 * _divergence([p, 1 - p], [q, 1 - q])
    weighting = "each cell by the surer of the two, over the teacher's sum"
    kd = f"KD, Hinton 2015, two outcomes a class, T = {_TEMPERATURE:g}", weighting, float(ours), total / weights
    return [ld, kd]


def _labels() -> Batch:
    targets = torch.tensor([[of, 0.0, *box] for of, *box in _BOXES], dtype=torch.float64)
    return Batch(torch.zeros(_BATCH, 3, 32, 32), targets)


def _softmax(values: Sequence[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / math.fsum(powers) for power in powers]


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def _divergence(wanted: Sequence[float], found: Sequence[float]) -> float:
    return math.fsum(p * math.log(p / q) for p, q in zip(wanted, found))


if __name__ == "__main__":
    sys.exit(main())
