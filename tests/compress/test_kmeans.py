"""K-means on a line: by hand, without loss where there is room, and against trying every split."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from helmlite.compress.kernels.kmeans import codebook_for, nearest


def floats(*values: float) -> np.ndarray:  # type: ignore[type-arg]
    return np.array(values, np.float32)


def error(values: np.ndarray, codebook: np.ndarray) -> float:  # type: ignore[type-arg]
    return float(((codebook[nearest(values, codebook)] - values).astype(np.float64) ** 2).sum())


def test_by_hand() -> None:
    # linear start between 0 and 12: 0, 6, 12.  Borders 3 and 9 give {0, 1, 2}, {7, 8}, {12}: means 1, 7.5, 12, and
    # the new borders 4.25 and 9.75 part them the same way
    values = floats(12, 0, 7, 1, 8, 2)
    codebook = codebook_for(values, 3)
    assert codebook.tolist() == [1.0, 7.5, 12.0]
    assert nearest(values, codebook).tolist() == [2, 0, 1, 0, 1, 0]


def test_a_round_that_moves_members() -> None:
    # start 0 and 10, border 5: {0, 4, 5} and {10}; means 3 and 10, border 6.5, nothing moves.  With 6 in place of 5:
    # {0, 4} and {6, 10}: means 2 and 8
    assert codebook_for(floats(0, 4, 5, 10), 2).tolist() == [3.0, 10.0]
    assert codebook_for(floats(0, 4, 6, 10), 2).tolist() == [2.0, 8.0]


@pytest.mark.parametrize("count", [5, 6, 32])
def test_nothing_is_lost_where_there_is_room(count: int) -> None:
    neighbour = float(np.nextafter(np.float32(0.3), np.float32(1)))
    values = floats(0.3, -2, neighbour, 7, 0.3, 5, -2)
    codebook = codebook_for(values, count)
    assert len(codebook) == 5
    assert np.array_equal(codebook[nearest(values, codebook)], values)


def test_a_far_weight_has_a_centroid_of_its_own() -> None:
    values = np.append(np.linspace(-1, 1, 1000, dtype=np.float32), np.float32(50))
    assert codebook_for(values, 4)[-1] == 50


def test_centroids_in_a_gap_go_where_the_error_is() -> None:
    # start 0, 33.3, 66.7, 100: two of them have no members.  {0, 0.1, 1, 1.1} is parted once, and a half of it again
    values = floats(0, 0.1, 1, 1.1, 100)
    codebook = codebook_for(values, 4)
    assert len(codebook) == 4
    assert error(values, codebook) == pytest.approx(2 * 0.05**2, rel=1e-3)


def test_zero_stays_alone() -> None:
    values = floats(0, 0, 0, 0.01, 0.02, 5, 6, -3)
    codebook = codebook_for(values, 4, keep_zero=True)
    index = nearest(values, codebook)
    assert (codebook[index] == 0).tolist() == [True, True, True, False, False, False, False, False]
    assert len(codebook) <= 4


def test_no_worse_than_the_best_split_by_a_third() -> None:
    values = np.sort(np.random.default_rng(0).standard_normal(24)).astype(np.float32)
    parts = (np.split(values, cuts) for cuts in combinations(range(1, 24), 3))
    best = min(sum(float(((part - part.mean()) ** 2).sum()) for part in split) for split in parts)
    assert best <= error(values, codebook_for(values, 4)) <= best * 4 / 3


def test_one_value_and_one_centroid() -> None:
    assert codebook_for(floats(3, 3), 2).tolist() == [3.0]
    assert codebook_for(floats(1, 2, 6), 1).tolist() == [3.0]
    assert nearest(floats(1, 2, 6), floats(3)).tolist() == [0, 0, 0]
