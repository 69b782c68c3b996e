"""Exact nearest-codeword search that never holds all distances at once: the core of every vector quantizer.

    argmin_k ||w * (x - c_k)||^2 = argmin_k  1/2 ||w * c_k||^2 - x . (w^2 * c_k)

The scores of a chunk of vectors are one addmm that stays in the cache. In a long row of scores the lowest of each block
is found first, then the block, then the place in it. Ties go to the lowest index, as argmin says. It runs under vmap.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 64  # codewords
LONG_ROW, MANY = 4 * BLOCK, 1 << 16  # from so many columns and scores on, two levels pay
FEW = 1 << 11  # up to so many scores argmin is as fast as min
CHUNK = {"cpu": 1 << 18}  # scores held at once, by kind of device: what a core's cache holds
LARGE_CHUNK = 1 << 27
LEAST_ROWS = 32  # fewer vectors at once starve the matrix product

Scorer = tuple[Float[Tensor, " K"], Float[Tensor, "C K"]]  # offset and weights: scores = offset - vectors @ weights


def scorer(codewords: Float[Tensor, "K C"], metric: Float[Tensor, " C"]) -> Scorer:
    """What turns vectors into scores: half their squared distances to the codewords, less |w * x|^2 / 2."""
    weighted = codewords * metric
    return weighted.square().sum(1) / 2, (weighted * metric).T


def nearest(vectors: Float[Tensor, "N C"], scorer: Scorer) -> Int[Tensor, " N"]:
    """Index of each vector's nearest codeword."""
    return chosen(vectors, scorer, lambda scores, _: lowest(scores), vectors[:, :0])


def chosen(
    vectors: Float[Tensor, "N C"],
    scorer: Scorer,
    choose: Callable[[Tensor, Tensor], Tensor],
    noise: Float[Tensor, "N R"],
) -> Int[Tensor, " N"]:
    """Index of the codeword that `choose` takes for each vector, from its scores "n K" and its noise "n R"."""
    offset, weights = scorer
    rows = max(LEAST_ROWS, CHUNK.get(vectors.device.type, LARGE_CHUNK) // len(offset))
    parts = zip(vectors.split(rows), noise.split(rows), strict=True)
    indices = [choose(torch.addmm(offset, part, weights, alpha=-1), drawn) for part, drawn in parts]
    return torch.cat(indices) if len(indices) > 1 else indices[0]


def lowest(scores: Float[Tensor, "N K"]) -> Int[Tensor, " N"]:
    """argmin of each row, exactly, several times faster."""
    rows, columns = scores.shape
    if rows * columns <= FEW:
        return scores.argmin(1)
    if columns < LONG_ROW or columns % BLOCK or rows * columns < MANY:
        return scores.min(1).indices
    blocks = scores.reshape(-1, BLOCK)
    lows = blocks.amin(1).reshape(rows, -1)
    block = lows.min(1).indices
    starts = torch.arange(0, lows.numel(), lows.shape[1], device=scores.device)
    return block * BLOCK + blocks.index_select(0, starts + block).min(1).indices
