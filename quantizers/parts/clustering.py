"""k-means for codebooks of 1 to 16 bit: scikit-learn's, and for large codebooks the same iteration with our own search.

Codebooks of up to 6 bit start as scikit-learn starts them (k-means++, doi:10.5555/1283383.1283494), which for 15 bit
takes minutes. Others start from seeds drawn in rounds, each with probability proportional to the squared distance to
the seeds so far, as k-means|| does (Bahmani et al., arXiv:1203.6402), but every round doubles their number: all
distances once. Above 2**28 distances (11 bit and 131,072 vectors) Lloyd's iteration runs here: scikit-learn's takes two
to four times as long. Large codebooks see few iterations, so that none costs minutes.
"""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from .nearest import nearest, scorer

FEW_MEANS = 64  # up to here k-means++
FIRST_ROUND = 64  # the first seeds are one 64th of all, drawn evenly
LARGE = 1 << 28  # distances of one iteration
DISTANCES, OWN_DISTANCES = 1 << 32, 1 << 33  # of all iterations: scikit-learn's, and here
LEAST, MOST = 3, 100  # iterations
TOLERANCE = 1e-6  # of the squared movement, as a share of the variance
TINY = 1e-12


def kmeans(vectors: Float[Tensor, "N C"], size: int) -> Float[Tensor, "K C"]:
    """`size` means of more vectors than that; computed so that a seed gives them exactly, on the CPU."""
    points = vectors.detach().cpu()
    points = points if points.dtype == torch.float64 else points.float()
    middle = points.mean(0)  # far from the origin distances lose their digits
    points = points - middle
    distances = len(points) * size
    if distances > LARGE:
        means = lloyd(points, spread_seeds(points, size), min(max(OWN_DISTANCES // distances, LEAST), MOST))
    else:
        means = _scikit_kmeans(points, size, min(DISTANCES // distances, MOST))
    return (means + middle).to(vectors)


def lloyd(points: Float[Tensor, "N C"], means: Float[Tensor, "K C"], iterations: int) -> Float[Tensor, "K C"]:
    """Lloyd's iteration: every mean moves to the mean of the points nearest to it; one without points stays."""
    for _ in range(iterations):
        chosen = nearest(points, scorer(means, _even(points)))
        sums = torch.zeros_like(means).index_add_(0, chosen, points)
        counts = torch.bincount(chosen, minlength=len(means))[:, None]
        means = torch.where(counts > 0, sums / counts, means)
    return means


def spread_seeds(points: Float[Tensor, "N C"], size: int) -> Float[Tensor, "K C"]:
    """`size` distinct points, drawn in rounds with probabilities that follow their squared distance to those so far."""
    new = chosen = torch.randperm(len(points))[: max(1, size // FIRST_ROUND)]
    distances = points.new_full((len(points),), torch.inf)
    while len(chosen) < size:
        seeds = points[new]
        apart = (points - seeds[nearest(points, scorer(seeds, _even(points)))]).square().sum(1)
        distances = torch.minimum(distances, apart)
        chances = distances / distances.max().clamp_min(TINY) + TINY  # of copies of a seed: next to none
        chances[chosen] = 0
        new = torch.multinomial(chances, min(len(chosen), size - len(chosen)))
        chosen = torch.cat([chosen, new])
    return points[chosen]


def _scikit_kmeans(points: Tensor, size: int, iterations: int) -> Tensor:
    from sklearn.cluster import KMeans  # imported where used: one second
    from threadpoolctl import threadpool_limits

    means = KMeans(
        size,
        init="k-means++" if size <= FEW_MEANS else spread_seeds(points, size).numpy(),  # type: ignore[arg-type]
        n_init=1,  # type: ignore[arg-type]
        max_iter=iterations,
        tol=TOLERANCE,
        random_state=int(torch.randint(2**31 - 1, ())),
    )
    with threadpool_limits(min(torch.get_num_threads(), 2)), warnings.catch_warnings():  # more: order of sums
        warnings.simplefilter("ignore")  # fewer distinct points than means
        means.fit(points.numpy())
    return torch.from_numpy(means.cluster_centers_)


def _even(points: Tensor) -> Tensor:
    return points.new_ones(points.shape[1])
