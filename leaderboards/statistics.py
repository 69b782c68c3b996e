"""Error bars: bootstrap intervals over items, paired differences, and intervals over seeds."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtrit

Vector = NDArray[np.float64]

CHUNK = 1_000_000  # drawn numbers held at a time


def bootstrap_mean(
    values: ArrayLike, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of the items that are not NaN, and its bootstrap interval (low, high); NaN bounds below two items.

    Bias-corrected and accelerated (BCa, Efron 1987, J. Am. Stat. Assoc. 82:171), as scores are bounded and skewed;
    its levels are widened for few items (Hesterberg 2015, Am. Stat. 69:371, expanded percentiles): without that, 95 %
    intervals of 10 items cover 90 %. Infinite items give NaN bounds.
    """
    items = np.asarray(values, dtype=np.float64).ravel()
    items = items[~np.isnan(items)]
    if len(items) == 0:
        return np.nan, np.nan, np.nan
    mean = float(items.mean())
    if len(items) < 2 or not np.isfinite(mean):
        return mean, np.nan, np.nan
    if np.ptp(items) == 0:
        return float(items[0]), float(items[0]), float(items[0])
    rng = np.random.default_rng(seed)
    means = _chunked(resamples, len(items), lambda size: items[rng.integers(len(items), size=size)].mean(axis=1))
    low, high = np.quantile(means, _bca_levels(items, means, confidence))
    return mean, float(low), float(high)


def paired_difference(
    a: ArrayLike, b: ArrayLike, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float, float, float]:
    """Mean of a - b over the items both have, its bootstrap interval (low, high) and a two-sided p-value.

    p is that of the sign-flip permutation test (Good, Permutation Tests, 3.2.1), which asks only that a difference is
    as likely positive as negative: exact up to 13 items, above that (1 + hits) / (1 + resamples). ValueError: the
    lengths differ.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"paired items must be two equally long lists; got shapes {first.shape} and {second.shape}")
    with np.errstate(invalid="ignore"):  # inf - inf: both perfect, no finite difference
        differences = first - second
    differences = differences[~np.isnan(differences)]
    return (
        *bootstrap_mean(differences, confidence, resamples, seed),
        sign_flip_p(differences, resamples, seed),
    )


def sign_flip_p(differences: Vector, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value of "these paired differences (n,) are symmetric about zero"; NaN without finite ones."""
    n = len(differences)
    if n == 0 or not np.isfinite(differences).all():
        return float("nan")
    reached = abs(differences.sum()) - 1e-12 * np.abs(differences).sum()  # ties up to rounding count as reached
    if 2**n <= resamples:
        signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return float((np.abs(signs @ differences) >= reached).mean())
    rng = np.random.default_rng(seed)
    sums = _chunked(resamples, n, lambda size: (1.0 - 2.0 * rng.integers(2, size=size)) @ differences)
    return float((1 + (np.abs(sums) >= reached).sum()) / (1 + resamples))


def across_seeds(
    means: Sequence[float | int], lows: Sequence[float | int], highs: Sequence[float | int], confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean over seeds and its interval, from each seed's mean and interval over the same items.

    More seeds do not make more items: the item part is the average distance of the bounds, the seed part Student's
    t interval of the means, and both add in squares (MOVER: Zou & Donner 2008, Stat. Med. 27:1693). Resampling two
    or three seeds instead would claim about half their spread. One seed: its own interval, which leaves seeds out.
    """
    centre = np.asarray(means, dtype=np.float64)
    mean, count = float(centre.mean()), len(centre)
    if count == 1:
        return mean, float(lows[0]), float(highs[0])
    below, above = float((centre - np.asarray(lows)).mean()), float((np.asarray(highs) - centre).mean())
    seeds = float(stdtrit(count - 1, (1 + confidence) / 2) * centre.std(ddof=1) / np.sqrt(count))
    return mean, mean - float(np.hypot(below, seeds)), mean + float(np.hypot(above, seeds))


def _bca_levels(items: Vector, means: Vector, confidence: float) -> Vector:
    centred = items - items.mean()
    acceleration = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)  # of a mean: its jackknife in closed form
    share = ((means < items.mean()).mean() + (means <= items.mean()).mean()) / 2
    bias = ndtri(np.clip(share, 1 / len(means), 1 - 1 / len(means)))
    n = len(items)
    reach = stdtrit(n - 1, (1 + confidence) / 2) * np.sqrt(n / (n - 1))
    shifted = bias + np.array([-reach, reach])
    return ndtr(bias + shifted / (1 - acceleration * shifted))


def _chunked(rows: int, width: int, draw: Callable[[tuple[int, int]], Vector]) -> Vector:
    """`draw` called on parts of (rows, width), so that long test sets need little memory."""
    step = max(1, CHUNK // width)
    return np.concatenate([draw((min(step, rows - begin), width)) for begin in range(0, rows, step)])
