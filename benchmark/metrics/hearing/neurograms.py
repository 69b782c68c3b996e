"""ViSQOL's two costly steps, bit for bit as visqol-python computes them, on many frames or offsets at once.

Every sum keeps the library's order and nothing is fused, so the results are the same doubles; only what is independent
runs side by side. Speech quality is compared on gammatone spectrograms (Slaney, 1993) by NSIM (Hines and Harte, 2012).
"""

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]

BLOCK = 64  # frames side by side: their windows stay in the second-level cache
NEVER = -1e308  # below any sum of similarities
EDGES = ((1, 1, 2), (0, 1, 2), (0, 1, 1))  # left, middle and right neighbour in a patch's first, inner, last column


@njit(cache=True)
def gammatone(sound: Array, window: Array, numerators: Array, denominators: Array, hop: int) -> Array:
    """RMS "bands frames" of four cascaded second-order filters, at rest at the start of every windowed frame.

    Numerators "4 bands 2" and denominators "bands 2" (without the leading 1) of transposed direct form II.
    """
    length, bands, frames = len(window), len(denominators), 1 + (len(sound) - len(window)) // hop
    output = np.empty((bands, frames))
    block, state = np.empty((length, BLOCK)), np.empty((9, BLOCK))
    for first in range(0, frames, BLOCK):
        count = min(BLOCK, frames - first)
        for f in range(count):
            for n in range(length):
                block[n, f] = sound[(first + f) * hop + n] * window[n]
        for band in range(bands):
            state[:] = 0.0
            a1, a2 = denominators[band]
            b00, b01 = numerators[0, band]
            b10, b11 = numerators[1, band]
            b20, b21 = numerators[2, band]
            b30, b31 = numerators[3, band]
            for n in range(length):
                for f in range(count):
                    x = block[n, f]
                    y = b00 * x + state[0, f]
                    state[0, f] = b01 * x - a1 * y + state[1, f]
                    state[1, f] = -(a2 * y)
                    x, y = y, b10 * y + state[2, f]
                    state[2, f] = b11 * x - a1 * y + state[3, f]
                    state[3, f] = -(a2 * y)
                    x, y = y, b20 * y + state[4, f]
                    state[4, f] = b21 * x - a1 * y + state[5, f]
                    state[5, f] = -(a2 * y)
                    x, y = y, b30 * y + state[6, f]
                    state[6, f] = b31 * x - a1 * y + state[7, f]
                    state[7, f] = -(a2 * y)
                    state[8, f] += y * y
            for f in range(count):
                output[band, first + f] = np.sqrt(state[8, f] / length)
    return output


@njit(cache=True)
def _similarities(
    patches: Array,
    patch_moments: Array,
    decoded: Array,
    decoded_moments: Array,
    lows: NDArray[np.int64],
    highs: NDArray[np.int64],
    kernel: Array,
    c1: float,
    c3: float,
) -> Array:
    """Mean NSIM "patches offsets" of reference patches "patches bands columns" against "bands offsets+columns-1"."""
    count, bands, columns = patches.shape
    output = np.zeros((count, decoded.shape[1] - columns + 1))
    cross, row = np.empty(output.shape[1]), np.empty(output.shape[1])
    for p in range(count):
        low, offsets = lows[p], highs[p] - lows[p]
        total = output[p, low : low + offsets]
        for band in range(bands):
            row[:] = 0.0
            for column in range(columns):
                left, right = max(column - 1, 0), min(column + 1, columns - 1)
                cross[:] = 0.0
                for i in range(3):
                    line = min(max(band + i - 1, 0), bands - 1)
                    w0, w1, w2 = kernel[i]
                    r0, r1, r2 = patches[p, line, left], patches[p, line, column], patches[p, line, right]
                    d0 = decoded[line, low + left : low + left + offsets]
                    d1 = decoded[line, low + column : low + column + offsets]
                    d2 = decoded[line, low + right : low + right + offsets]
                    for o in range(offsets):
                        cross[o] = ((cross[o] + w0 * (r0 * d0[o])) + w1 * (r1 * d1[o])) + w2 * (r2 * d2[o])
                edge = 0 if column == 0 else (2 if column == columns - 1 else 1)
                means = decoded_moments[edge, 0, band, low + column : low + column + offsets]
                variances = decoded_moments[edge, 1, band, low + column : low + column + offsets]
                mean, variance = patch_moments[0, p, band, column], patch_moments[1, p, band, column]
                for o in range(offsets):
                    product, spread = mean * means[o], variance * variances[o]
                    intensity = (2.0 * product + c1) / (mean * mean + means[o] * means[o] + c1)
                    root = np.sqrt(abs(spread)) + c3
                    row[o] += intensity * ((cross[o] - product + c3) / (c3 if spread < 0.0 else root))
            for o in range(offsets):
                total[o] += row[o] / columns
        for o in range(offsets):
            total[o] /= bands
    return output


def _moments(cell: Callable[[int, int], Array], kernel: Array) -> Array:
    """Mean and variance "2 ..." of the nine neighbours cell(row, column), weighted."""
    mean, square = 0.0, 0.0
    for i in range(3):
        for j in range(3):
            value = cell(i, j)
            mean, square = mean + kernel[i, j] * value, square + kernel[i, j] * (value * value)
    return np.stack([mean, square - mean * mean])


def similarities(
    patches: Array,
    spectrogram: Array,
    lows: NDArray[np.int64],
    highs: NDArray[np.int64],
    kernel: Array,
    c1: float,
    c3: float,
) -> Array:
    """NSIM "patches frames" of reference patches "patches bands columns" at the frames `lows` to `highs` of a
    spectrogram "bands frames", zero where there is none; what lies beyond its end is zero, beyond a patch its edge.
    """
    _, bands, columns = patches.shape
    around = np.pad(patches, ((0, 0), (1, 1), (1, 1)), mode="edge")
    patch_moments = _moments(lambda i, j: around[:, i : i + bands, j : j + columns], kernel)
    decoded = np.pad(spectrogram, ((0, 0), (0, columns - 1)))
    framed, width = np.pad(decoded, 1, mode="edge"), decoded.shape[1]
    decoded_moments = np.stack(
        [_moments(lambda i, j, at=at: framed[i : i + bands, at[j] : at[j] + width], kernel) for at in EDGES]
    )
    return _similarities(patches, patch_moments, decoded, decoded_moments, lows, highs, kernel, c1, c3)


def forward_pass(
    patches: Array,
    decoded_patches: Array,
    indices: NDArray[np.int64],
    count: int,
    frames: int,
    reach: int,
    kernel: Array,
    c1: float,
    c3: float,
) -> tuple[Array, NDArray[np.int64]]:
    """Best sums of similarities of the patches up to each one, by its frame, and the frame of the patch before.

    In place of visqol.numba_accel._dp_forward_pass: the frame before is an earlier one, of equal sums the latest, or
    the same frame where leaving the patch out is better.
    """
    lows, highs = np.maximum(0, indices - reach), np.minimum(frames, indices + reach + 1)
    spectrogram = np.ascontiguousarray(decoded_patches[:, :, 0].T)
    similarity = similarities(patches[:count], spectrogram, lows[:count], highs[:count], kernel, c1, c3)
    sums, before = np.zeros((len(indices), frames)), np.full((len(indices), frames), -1, dtype=np.int64)
    for p in range(count):
        here = slice(lows[p], highs[p])
        if p == 0:
            sums[0, here] = similarity[0, here]
            continue
        start = lows[p - 1]
        best, latest = np.full(frames + 1, NEVER), np.full(frames + 1, -1)  # over the frames before each one
        best[start + 1 :] = np.maximum.accumulate(sums[p - 1, start:])
        found = np.where(sums[p - 1, start:] == best[start + 1 :], np.arange(start, frames), -1)
        latest[start + 1 :] = np.maximum.accumulate(found)
        moved, stayed = similarity[p, here] + best[here], sums[p - 1, here]
        sums[p, here] = np.where(stayed > moved, stayed, moved)
        before[p, here] = np.where(stayed > moved, np.arange(lows[p], highs[p]), latest[here])
    return sums, before
