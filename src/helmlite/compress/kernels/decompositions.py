"""A convolution's kernel as a chain of smaller kernels: pure tensor functions on `torch.linalg`.

Kernels are (out, in, h, w), as PyTorch has them; those of a depthwise link are (channels, 1, h, w).

    svd        1 x 1: (r, in, 1, 1), (out, r, 1, 1).  Truncated SVD, the best of its rank (Eckart and Young 1936)
    spatial    h x w: (r, in, h, 1), (out, r, 1, w).  SVD of the kernel as a matrix (in * h, out * w): Jaderberg 2014,
               arXiv 1405.3866, scheme 2, solved in closed form
    tucker     h x w: (q, in, 1, 1), (p, q, h, w), (out, p, 1, 1).  Tucker-2 (Kim 2016, arXiv 1511.06530): HOSVD, then
               a few sweeps in which one side is fitted with the other held still (HOOI, De Lathauwer 2000)
    cp         h x w: (r, in, 1, 1), depthwise (r, 1, h, w), (out, r, 1, 1).  A sum of r products of vectors, by
               alternating least squares (Lebedev 2015, arXiv 1412.6553).  There the window is split into h and w too;
               it stays whole here, since h * w numbers are few beside in + out and the chain is one link shorter
    separable  h x w: depthwise (in * m, 1, h, w), (out, in * m, 1, 1).  For each input channel the best rank m of the
               matrix (out, h * w)

Singular vectors come from the eigenvectors of the smaller Gram matrix in float64: several times faster than an SVD of
the whole, and exact at full rank whatever the rounding, since the other factor is a projection onto them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Kernels = tuple[Tensor, ...]
Ranks = tuple[int, ...]

_HOOI_SWEEPS = 2
_ALS_SWEEPS = 100
_ALS_WORK = 6e8  # multiply-accumulates for one kernel, so that a wide layer takes a second and not a minute
_RIDGE = 1e-7  # of the mean diagonal: keeps the normal equations solvable where two terms are nearly parallel


@dataclass(frozen=True)
class Decomposition:
    """One way to split a kernel.

    spectra: kernel -> for each of its ranks the squared singular values that a rank of so many keeps, largest first.
             What lies behind the ranks, summed over all of them, bounds the squared error (it is the squared error,
             where there is one rank and nothing is fitted afterwards)
    kernels: kernel, ranks -> the kernels of the chain, in the kernel's type
    """

    spectra: Callable[[Tensor], tuple[Tensor, ...]]
    kernels: Callable[[Tensor, Ranks], Kernels]


def svd(weight: Tensor, ranks: Ranks) -> Kernels:
    """(out, in, 1, 1) -> (r, in, 1, 1), (out, r, 1, 1).  ranks: (r,)"""
    left, right = _truncated(weight.flatten(1), ranks[0])
    return _typed(weight, right[:, :, None, None], left[:, :, None, None])


def spatial(weight: Tensor, ranks: Ranks) -> Kernels:
    """(out, in, h, w) -> (r, in, h, 1), (out, r, 1, w).  ranks: (r,)"""
    out, inputs, height, width = weight.shape
    left, right = _truncated(_rows_by_columns(weight), ranks[0])  # (in * h, r), (r, out * w)
    vertical = left.T.reshape(-1, inputs, height, 1)
    horizontal = right.reshape(-1, out, width).transpose(0, 1)[:, :, None]
    return _typed(weight, vertical, horizontal)


def tucker(weight: Tensor, ranks: Ranks) -> Kernels:
    """(out, in, h, w) -> (q, in, 1, 1), (p, q, h, w), (out, p, 1, 1).  ranks: (q, p)"""
    exact = weight.detach().double()
    inner, outer = ranks
    of_inputs = _basis(_input_gram(exact), inner)  # (in, q)
    of_outputs = _basis(_output_gram(exact), outer)  # (out, p)
    for _ in range(_HOOI_SWEEPS):
        of_outputs = _basis(_output_gram(_inputs_times(exact, of_inputs)), outer)
        of_inputs = _basis(_input_gram(_outputs_times(exact, of_outputs)), inner)
    core = _outputs_times(_inputs_times(exact, of_inputs), of_outputs)
    return _typed(weight, of_inputs.T[:, :, None, None], core, of_outputs[:, :, None, None])


def cp(weight: Tensor, ranks: Ranks) -> Kernels:
    """(out, in, h, w) -> (r, in, 1, 1), depthwise (r, 1, h, w), (out, r, 1, 1).  ranks: (r,)"""
    height, width = weight.shape[2:]
    rank = ranks[0]
    cube = weight.detach().double().flatten(2)  # (out, in, h * w)
    factors = _alternating_least_squares(cube, _cp_start(cube, rank), _als_sweeps(cube, rank))
    of_outputs, of_inputs, of_window = factors
    window = of_window.T.reshape(rank, 1, height, width)
    return _typed(weight, of_inputs.T[:, :, None, None], window, of_outputs[:, :, None, None])


def separable(weight: Tensor, ranks: Ranks) -> Kernels:
    """(out, in, h, w) -> depthwise (in * m, 1, h, w), (out, in * m, 1, 1).  ranks: (m,)

    W[:, c] = sum_j s_j u_j v_j^T: channel c is filtered by the leading v_j, and s_j u_j say where to each result goes.
    """
    out, (height, width) = len(weight), weight.shape[2:]
    by_channel = weight.detach().double().flatten(2).transpose(0, 1)  # (in, out, h * w)
    values, vectors = torch.linalg.eigh(by_channel.transpose(1, 2) @ by_channel)
    filters = vectors[:, :, -ranks[0] :].flip(2)  # (in, h * w, m), orthonormal
    spread = (by_channel @ filters).permute(1, 0, 2)  # (out, in, m)
    scale = _shared_scale(values[:, -ranks[0] :].flip(1))  # (in, m)
    depthwise = (filters * scale[:, None]).transpose(1, 2).reshape(-1, 1, height, width)
    return _typed(weight, depthwise, (spread / scale).reshape(out, -1)[:, :, None, None])


def separable_errors(weight: Tensor) -> Tensor:
    """For each m (0, 1, ...) the relative squared error of `separable` with it, of length min(out, h * w) + 1."""
    by_channel = weight.detach().double().flatten(2).transpose(0, 1)
    squares = torch.linalg.eigvalsh(by_channel.transpose(1, 2) @ by_channel).clamp(min=0).flip(1)  # (in, h * w)
    return tails(squares[:, : min(by_channel.shape[1:])].sum(0)) / squares.sum().clamp(min=1e-300)


def tails(squares: Tensor) -> Tensor:
    """For each rank from 0 to all the sum of what lies behind it.  tails([4, 2, 1]) = [7, 3, 1, 0]"""
    behind = squares.flip(0).cumsum(0).flip(0)
    return torch.cat([behind, behind.new_zeros(1)])


def _matrix_spectrum(matrix: Tensor) -> Tensor:
    """Squared singular values, largest first."""
    exact = matrix.detach().double()
    gram = exact @ exact.T if exact.shape[0] <= exact.shape[1] else exact.T @ exact
    return _spectrum(gram)


def _spectrum(gram: Tensor) -> Tensor:
    return torch.linalg.eigvalsh(gram).clamp(min=0).flip(0)


def _tucker_spectra(weight: Tensor) -> tuple[Tensor, ...]:
    exact = weight.detach().double()
    out, inputs, height, width = exact.shape
    inner = _spectrum(_input_gram(exact))[: out * height * width]
    outer = _spectrum(_output_gram(exact))[: inputs * height * width]
    return inner, outer


def _cp_spectrum(weight: Tensor) -> Tensor:
    slices = _rotated_slices(weight.detach().double().flatten(2))[0]
    return torch.cat([_matrix_spectrum(item) for item in slices]).sort(descending=True).values


DECOMPOSITIONS: Mapping[str, Decomposition] = {
    "svd": Decomposition(lambda weight: (_matrix_spectrum(weight.flatten(1)),), svd),
    "spatial": Decomposition(lambda weight: (_matrix_spectrum(_rows_by_columns(weight)),), spatial),
    "tucker": Decomposition(_tucker_spectra, tucker),
    "cp": Decomposition(lambda weight: (_cp_spectrum(weight),), cp),
}


def _truncated(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best (m, r) @ (r, n) of a matrix, singular values shared evenly between the two."""
    exact = matrix.detach().double()
    if exact.shape[0] > exact.shape[1]:
        right, left = _truncated(exact.T, rank)
        return left.T, right.T
    values, vectors = torch.linalg.eigh(exact @ exact.T)
    scale = _shared_scale(values[-rank:].flip(0))
    basis = vectors[:, -rank:].flip(1)
    return basis * scale, (basis.T @ exact) / scale[:, None]


def _shared_scale(squares: Tensor) -> Tensor:
    """Square roots of singular values; those of (almost) nothing count as a little, which cancels out."""
    least = squares.amax().clamp(min=1e-30) * 1e-12
    return squares.clamp(min=least).sqrt().sqrt()


def _rows_by_columns(weight: Tensor) -> Tensor:
    """(out, in, h, w) -> (in * h, out * w)"""
    out, inputs, height, width = weight.shape
    return weight.permute(1, 2, 0, 3).reshape(inputs * height, out * width)


def _input_gram(weight: Tensor) -> Tensor:
    unfolded = weight.transpose(0, 1).flatten(1)  # (in, out * h * w)
    return unfolded @ unfolded.T


def _output_gram(weight: Tensor) -> Tensor:
    unfolded = weight.flatten(1)  # (out, in * h * w)
    return unfolded @ unfolded.T


def _basis(gram: Tensor, rank: int) -> Tensor:
    """Eigenvectors of the largest eigenvalues, as columns."""
    return torch.linalg.eigh(gram).eigenvectors[:, -rank:].flip(1)


def _inputs_times(weight: Tensor, basis: Tensor) -> Tensor:
    return torch.einsum("oihw,iq->oqhw", weight, basis)


def _outputs_times(weight: Tensor, basis: Tensor) -> Tensor:
    return torch.einsum("oihw,op->pihw", weight, basis)


def _rotated_slices(cube: Tensor) -> tuple[Tensor, Tensor]:
    """The kernel's window in its own principal directions: slices (h * w, out, in), directions (h * w, h * w)."""
    unfolded = cube.flatten(0, 1)
    directions = torch.linalg.eigh(unfolded.T @ unfolded).eigenvectors.flip(1)
    return (cube @ directions).permute(2, 0, 1), directions


def _cp_start(cube: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best `rank` terms of all slices' SVDs: orthogonal, so their error is known, and exact at full rank.

    A random start needs many more sweeps and can end in a poor fit.
    """
    slices, directions = _rotated_slices(cube)
    terms = min(cube.shape[:2])
    parts = [_truncated(item, terms) for item in slices]  # (out, terms), (terms, in)
    of_outputs = torch.cat([left for left, _ in parts], 1)
    of_inputs = torch.cat([right.T for _, right in parts], 1)
    sizes = torch.linalg.vector_norm(of_outputs, dim=0) * torch.linalg.vector_norm(of_inputs, dim=0)
    chosen = sizes.argsort(descending=True, stable=True)[:rank]
    owners = torch.arange(len(parts)).repeat_interleave(terms)
    return _evened(of_outputs[:, chosen], of_inputs[:, chosen], directions[:, owners[chosen]])


def _als_sweeps(cube: Tensor, rank: int) -> int:
    """As many as the work allowed for one kernel covers, at least 1."""
    return int(max(1, min(_ALS_SWEEPS, _ALS_WORK // (3 * cube.numel() * rank))))


def _alternating_least_squares(
    cube: Tensor, start: tuple[Tensor, Tensor, Tensor], sweeps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Each factor in turn fitted with the two others held still.  cube: (out, in, window)"""
    a, b, c = start
    for _ in range(sweeps):
        a = _solved(torch.einsum("oiw,ir,wr->or", cube, b, c), b, c)
        b = _solved(torch.einsum("oiw,or,wr->ir", cube, a, c), a, c)
        c = _solved(torch.einsum("oiw,or,ir->wr", cube, a, b), a, b)
        a, b, c = _evened(a, b, c)
    return a, b, c


def _solved(target: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """X with X G = target, where G is the Gram matrix of the two factors' column-wise products."""
    gram = (first.T @ first) * (second.T @ second)
    gram.diagonal().add_(_RIDGE * gram.diagonal().mean().clamp(min=1e-30))
    return torch.cholesky_solve(target.T, torch.linalg.cholesky(gram)).T


def _evened(*factors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same products with columns of equal length in all three: no factor grows while another vanishes."""
    lengths = [torch.linalg.vector_norm(item, dim=0).clamp(min=1e-30) for item in factors]
    shared = (lengths[0] * lengths[1] * lengths[2]) ** (1 / 3)
    a, b, c = (item / length * shared for item, length in zip(factors, lengths))
    return a, b, c


def _typed(weight: Tensor, *kernels: Tensor) -> Kernels:
    return tuple(item.to(weight.dtype).contiguous() for item in kernels)
