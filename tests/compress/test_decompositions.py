"""Decompositions: exact at full rank, errors and ranks known by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from helmlite.compress.kernels.decompositions import (
    DECOMPOSITIONS,
    Kernels,
    cp,
    separable,
    separable_errors,
    spatial,
    svd,
    tails,
    tucker,
)


def random_kernel(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def whole_kernel(kernels: Kernels, inputs: int) -> Tensor:
    """The kernel (out, in, h, w) of a chain: what it answers to a single 1 in each input channel, read backwards.

    A link whose kernels have a second dimension of 1 is depthwise.
    """
    height, width = (max(item.shape[side] for item in kernels) for side in (2, 3))
    answer = torch.zeros(inputs, inputs, 2 * height - 1, 2 * width - 1)
    answer[range(inputs), range(inputs), height - 1, width - 1] = 1.0
    for kernel in kernels:
        answer = nn.functional.conv2d(answer, kernel, groups=answer.shape[1] if kernel.shape[1] == 1 else 1)
    return answer.transpose(0, 1).flip(2, 3)


def relative_error(kernels: Kernels, weight: Tensor) -> float:
    return float(
        torch.linalg.vector_norm(whole_kernel(kernels, weight.shape[1]) - weight) / torch.linalg.vector_norm(weight)
    )


@pytest.mark.parametrize(
    ("method", "shape", "ranks"),
    [
        ("svd", (6, 5, 1, 1), (5,)),
        ("svd", (5, 6, 1, 1), (5,)),
        ("spatial", (6, 5, 3, 3), (15,)),
        ("spatial", (4, 5, 1, 5), (5,)),
        ("tucker", (6, 5, 3, 3), (5, 6)),
        ("cp", (6, 5, 3, 3), (45,)),
    ],
)
def test_full_rank_gives_the_layer_again(method: str, shape: tuple[int, ...], ranks: tuple[int, ...]) -> None:
    weight = random_kernel(*shape)
    kernels = DECOMPOSITIONS[method].kernels(weight, ranks)
    assert relative_error(kernels, weight) < 1e-5
    assert all(item.dtype == weight.dtype for item in kernels)


def test_tails_by_hand() -> None:
    assert tails(torch.tensor([4.0, 2.0, 1.0])).tolist() == [7.0, 3.0, 1.0, 0.0]


def test_svd_of_a_matrix_worked_by_hand() -> None:
    """diag(3, 2, 1) at rank 2 loses the 1: a squared error of 1 of 14."""
    weight = torch.diag(torch.tensor([3.0, 2.0, 1.0]))[:, :, None, None]
    assert whole_kernel(svd(weight, (2,)), weight.shape[1]).flatten(1) == pytest.approx(
        torch.diag(torch.tensor([3.0, 2.0, 0.0]))
    )
    (squares,) = DECOMPOSITIONS["svd"].spectra(weight)
    assert squares.tolist() == pytest.approx([9.0, 4.0, 1.0])


@pytest.mark.parametrize("rank", [1, 3, 4])
def test_svd_and_spatial_lose_the_tail_of_singular_values(rank: int) -> None:
    pointwise = random_kernel(6, 5, 1, 1)
    values = torch.linalg.svdvals(pointwise.flatten(1))
    lost = float((whole_kernel(svd(pointwise, (rank,)), pointwise.shape[1]) - pointwise).square().sum())
    assert lost == pytest.approx(float(values[rank:].square().sum()), rel=1e-4, abs=1e-8)

    wide = random_kernel(4, 3, 3, 3)
    matrix = wide.permute(1, 2, 0, 3).reshape(9, 12)  # (in * h, out * w)
    lost = float((whole_kernel(spatial(wide, (rank,)), wide.shape[1]) - wide).square().sum())
    assert lost == pytest.approx(float(torch.linalg.svdvals(matrix)[rank:].square().sum()), rel=1e-4)


def test_tucker_finds_known_ranks() -> None:
    """A kernel made of a (3, 2) core is exact with ranks (q, p) = (2, 3), and is not with less."""
    core, outer, inner = random_kernel(3, 2, 3, 3), random_kernel(8, 3, seed=1), random_kernel(7, 2, seed=2)
    weight = torch.einsum("pqhw,op,iq->oihw", core, outer, inner)
    assert relative_error(tucker(weight, (2, 3)), weight) < 1e-5
    assert relative_error(tucker(weight, (2, 2)), weight) > 0.01
    assert [item.shape for item in tucker(weight, (2, 3))] == [(2, 7, 1, 1), (3, 2, 3, 3), (8, 3, 1, 1)]


@pytest.mark.parametrize("seed", range(5))
def test_cp_recovers_a_tensor_of_rank_2(seed: int) -> None:
    a, b = random_kernel(6, 2, seed=10 * seed), random_kernel(5, 2, seed=10 * seed + 1)
    weight = torch.einsum("or,ir,hwr->oihw", a, b, random_kernel(3, 3, 2, seed=10 * seed + 2))
    kernels = cp(weight, (2,))
    assert relative_error(kernels, weight) < 1e-3
    assert relative_error(cp(weight, (1,)), weight) > 0.05


def test_cp_by_hand() -> None:
    """One channel to two, as 2 times the filter [1 2 1] and -1 times it: a single term."""
    weight = torch.tensor([2.0, -1.0])[:, None, None, None] * torch.tensor([1.0, 2.0, 1.0])[None, None, None, :]
    kernels = cp(weight, (1,))
    assert [tuple(item.shape) for item in kernels] == [(1, 1, 1, 1), (1, 1, 1, 3), (2, 1, 1, 1)]
    product = kernels[0].item() * kernels[1].flatten()[None] * kernels[2].flatten()[:, None]
    assert product == pytest.approx(torch.tensor([[2.0, 4.0, 2.0], [-1.0, -2.0, -1.0]]), abs=1e-4)


@pytest.mark.parametrize(("method", "ranks"), [("spatial", (6,)), ("tucker", (4, 5)), ("cp", (20,))])
def test_spectra_bound_the_error(method: str, ranks: tuple[int, ...]) -> None:
    weight = random_kernel(8, 7, 3, 3)
    spectra = DECOMPOSITIONS[method].spectra(weight)
    bound = sum(float(tails(item)[rank]) for item, rank in zip(spectra, ranks))
    lost = float((whole_kernel(DECOMPOSITIONS[method].kernels(weight, ranks), 7) - weight).square().sum())
    assert all(float(item.sum()) == pytest.approx(float(weight.square().sum()), rel=1e-4) for item in spectra)
    assert 0 < lost <= bound * (1 + 1e-4)
    if method == "spatial":
        assert lost == pytest.approx(bound, rel=1e-3)
    else:  # fitted afterwards: better than the bound
        assert lost < 0.95 * bound


def test_separable_by_hand() -> None:
    """Channel 0 is [[3 0] [0 1]] over (out, window): the filter (1, 0) stays, a squared error of 1 of 10.

    Channel 1 has one filter (1, 1) for both outputs and is exact: in all 1 of 10 + 4.
    """
    weight = torch.zeros(2, 2, 1, 2)
    weight[:, 0, 0] = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    weight[:, 1, 0] = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    expected = weight.clone()
    expected[1, 0, 0, 1] = 0.0
    assert whole_kernel(separable(weight, (1,)), weight.shape[1]) == pytest.approx(expected, abs=1e-6)
    assert separable_errors(weight).tolist() == pytest.approx([1.0, 1 / 14, 0.0], abs=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_separable_loses_each_channels_tail(rank: int) -> None:
    weight = random_kernel(8, 5, 3, 3)
    lost = float((whole_kernel(separable(weight, (rank,)), weight.shape[1]) - weight).square().sum())
    tail = sum(float(torch.linalg.svdvals(weight[:, c].flatten(1))[rank:].square().sum()) for c in range(5))
    assert lost == pytest.approx(tail, rel=1e-4)
    assert float(separable_errors(weight)[rank]) == pytest.approx(tail / float(weight.square().sum()), rel=1e-4)


def test_separable_is_exact_with_as_many_filters_as_the_window() -> None:
    weight = random_kernel(12, 3, 3, 3)
    assert relative_error(separable(weight, (9,)), weight) < 1e-5


def test_a_kernel_of_zeros_stays_zero() -> None:
    for method, ranks in (("spatial", (2,)), ("tucker", (2, 2)), ("cp", (2,))):
        kernels = DECOMPOSITIONS[method].kernels(torch.zeros(4, 4, 3, 3), ranks)
        assert torch.isfinite(torch.cat([item.flatten() for item in kernels])).all()
        assert float(whole_kernel(kernels, 4).abs().max()) < 1e-6
