"""The rule of least divergence, worked by hand and where it differs from the others."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from helmlite.compress.rounding.calibrate import Observer
from helmlite.compress.rounding.value_ranges import Histogram, divergence, range_by


def test_divergence_by_hand() -> None:
    counts = np.array([2.0, 0.0, 1.0, 3.0])
    # two integers for four bins: the second stands for 1 and 3, and says 2 and 2
    assert divergence(counts, 0, 3, 2) == pytest.approx(math.log(1 / 2) / 6 + math.log(3 / 2) / 2)
    # the last bin is left out and counted in the third: P 2 0 4, Q 2 0 1, and each is divided by its own sum
    assert divergence(counts, 0, 2, 3) == pytest.approx(math.log(1 / 2) / 3 + math.log(2) * 2 / 3)
    assert divergence(counts, 0, 3, 4) == pytest.approx(0)


def test_a_clipped_end_counts_at_the_end_on_both_sides() -> None:
    counts = np.array([1.0, 4.0, 4.0, 1.0])
    # P 5 5, Q 4 4: equal once divided by their sums
    assert divergence(counts, 1, 2, 2) == pytest.approx(0)


def test_entropy_leaves_out_what_is_rare_and_far() -> None:
    values = torch.cat([torch.randn(200_000, generator=torch.Generator().manual_seed(0)).abs(), torch.tensor([40.0])])
    observer = Observer()
    observer.see(values)
    low, high = observer.range_by("entropy", 0, 255)
    assert low == 0.0
    assert 2 < high < 20
    assert observer.range_by("min_max", 0, 255) == (0.0, 40.0)


def test_entropy_seeks_both_ends_of_a_value_of_both_signs() -> None:
    random = torch.Generator().manual_seed(0)
    observer = Observer()
    observer.see(torch.cat([torch.randn(200_000, generator=random), torch.tensor([-30.0, 60.0])]))
    low, high = observer.range_by("entropy", 0, 255)
    assert -30 < low < -2
    assert 2 < high < 60


def test_entropy_keeps_everything_where_every_bin_has_an_integer() -> None:
    counts = np.zeros(100)
    counts[::7] = 3.0
    seen = Histogram(counts, (-1.0, 1.0), -0.9, 0.8)
    assert range_by("entropy", seen, 100, 255) == (-0.9, 0.8)
