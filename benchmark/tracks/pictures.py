"""Pictures of what a codec did to a signal, as PNG files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray

from ...leaderboards.plots import DPI, new_figure, save_figure

SPECTRUM = 512  # samples of a spectrogram's frame


def electrodogram(
    reference: ArrayLike, decoded: ArrayLike, frame_rate: float, path: Path | str, title: str = ""
) -> None:
    """Draw a stimulation pattern before and after coding, and what changed; frame_rate in frames/s.

    Both patterns are (bands, frames), band 0 the lowest frequency; magnitude 0 is the base level, and what is below it
    or NaN is an unselected band and stays blank. Electrodes are numbered as on the array: 22 at the bottom, 1 on top.
    """
    before, after = np.asarray(reference, dtype=np.float64), np.asarray(decoded, dtype=np.float64)
    if before.ndim != 2 or before.shape != after.shape or before.size == 0:
        raise ValueError(f"two patterns of one shape (bands, frames) are wanted; got {before.shape} and {after.shape}")
    frames = before.shape[1]
    figure = new_figure(float(np.clip(frames / DPI, 9, 24)), 8.4)
    axes = figure.subplots(3, 1, sharex=True, sharey=True)
    extent = (0.0, frames / frame_rate, 0.0, float(len(before)))
    top = max(1.0, float(np.nanmax(before, initial=0)), float(np.nanmax(after, initial=0)))
    for axis, pattern, name in ((axes[0], before, "uncoded"), (axes[1], after, "decoded")):
        blank = np.ma.masked_where(~(pattern >= 0), pattern)
        image = axis.imshow(blank, cmap="viridis_r", vmin=0, vmax=top, **_as_grid(extent))
        _electrodes(axis, len(before), name)
    figure.colorbar(image, ax=axes[:2], label="magnitude", pad=0.01, aspect=30)
    _changes(figure, axes[2], before, after, extent)
    axes[2].set_xlabel("time (s)")
    figure.suptitle(title)
    save_figure(figure, path)


def spectrograms(reference: ArrayLike, decoded: ArrayLike, sample_rate: int, path: Path | str, title: str = "") -> None:
    """Draw a waveform [N] before and after coding, in dB below the loudest point of both, and its samples on top.

    ValueError: the two are not of one length of at least SPECTRUM samples.
    """
    before, after = np.asarray(reference, dtype=np.float64), np.asarray(decoded, dtype=np.float64)
    if before.ndim != 1 or before.shape != after.shape or len(before) < SPECTRUM:
        raise ValueError(f"two waveforms of one length are wanted; got {before.shape} and {after.shape}")
    seconds = len(before) / sample_rate
    figure = new_figure(float(np.clip(2 * seconds, 7, 24)), 6.8)
    axes = figure.subplots(3, 1, sharex=True, height_ratios=[1, 2, 2])
    for waveform, name, style in ((before, "reference", "0.6"), (after, "decoded", "C0")):
        axes[0].plot(np.arange(len(before)) / sample_rate, waveform, color=style, linewidth=0.4, label=name)
    axes[0].legend(frameon=False, fontsize="small", ncols=2, loc="upper right")
    powers = [_powers(waveform) for waveform in (before, after)]
    loudest = max(float(power.max()) for power in powers) or 1.0
    for axis, power, name in zip(axes[1:], powers, ("reference", "decoded"), strict=True):
        level = 10 * np.log10(np.maximum(power / loudest, 1e-12))
        extent = (0.0, seconds, 0.0, sample_rate / 2000)
        axis.imshow(level, cmap="magma", vmin=-80, vmax=0, **_as_grid(extent))
        axis.set_ylabel("frequency (kHz)")
        axis.set_title(name, loc="left", fontsize="medium")
    figure.colorbar(axes[1].images[0], ax=axes[1:], label="level (dB)", pad=0.01, aspect=30)
    axes[2].set_xlabel("time (s)")
    figure.suptitle(title)
    save_figure(figure, path)


def training_curve(steps: Sequence[int], validation_loss: ArrayLike, path: Path | str) -> None:
    """Draw the validation loss against optimiser steps, its lowest value marked; losses that are not finite have gaps.

    ValueError: there are none, or not as many as steps.
    """
    loss = np.asarray(validation_loss, dtype=np.float64)
    if len(steps) != len(loss) or len(loss) == 0:
        raise ValueError(f"{len(steps)} steps and {len(loss)} validation losses do not make a curve")
    figure = new_figure(6.0, 3.6)
    axis = figure.subplots()
    axis.plot(steps, loss, marker="." if len(loss) < 100 else "", color="C0")
    best = int(np.argmin(np.where(np.isfinite(loss), loss, np.inf)))
    axis.plot(steps[best], loss[best], "o", color="C1", label=f"lowest: {loss[best]:.4g} at step {steps[best]}")
    axis.set_xlabel("optimiser steps")
    axis.set_ylabel("validation loss")
    axis.grid(alpha=0.25)
    axis.legend(frameon=False)
    save_figure(figure, path)


def masking(
    frequencies: ArrayLike,
    spectrum: ArrayLike,
    tonal: ArrayLike,
    noise: ArrayLike,
    threshold: ArrayLike,
    quiet: ArrayLike,
    path: Path | str,
) -> None:
    """Draw one frame's spectrum, maskers, masking threshold and threshold in quiet, dB of bins whose Hz are given.

    A masker that is not there is -inf or NaN. ValueError: the arrays differ in length, or are empty.
    """
    arrays = (frequencies, spectrum, tonal, noise, threshold, quiet)
    if len({np.shape(array) for array in arrays}) > 1 or np.ndim(frequencies) != 1 or not np.size(frequencies):
        raise ValueError("six arrays of one length are wanted, a number for every bin")
    bins, levels, tones, noises, mask, hearing = (np.asarray(array, dtype=np.float64) for array in arrays)
    figure = new_figure(8.0, 4.6)
    axis = figure.subplots()
    kilohertz = bins / 1000
    above = {"where": levels > mask, "interpolate": True}
    axis.fill_between(kilohertz, mask, levels, **above, color="C0", alpha=0.15, linewidth=0, label="unmasked")
    axis.plot(kilohertz, levels, color="C0", linewidth=0.9, label="signal")
    axis.plot(kilohertz, hearing, color="0.4", linestyle="--", linewidth=1, label="threshold in quiet")
    axis.plot(kilohertz, mask, color="C3", linewidth=1.6, label="global masking threshold")
    for maskers, marker, colour, name in ((tones, "^", "C1", "tonal masker"), (noises, "o", "C2", "noise masker")):
        there = np.isfinite(maskers)
        axis.plot(kilohertz[there], maskers[there], marker, color=colour, markeredgecolor="k", markersize=6, label=name)
    top = np.nan_to_num([levels, mask, tones, noises], neginf=0).max()
    axis.set_ylim(min(mask.min(), 0) - 20, top + 10)  # what lies far below every threshold is not looked for
    axis.set_xlim(0, kilohertz[-1])
    axis.set_xlabel("frequency (kHz)")
    axis.set_ylabel("sound pressure level (dB)")
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize="small", ncols=2)
    save_figure(figure, path)


def _powers(waveform: NDArray) -> NDArray:
    """Short-time power "bins frames", frames half overlapping."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, SPECTRUM)[:: SPECTRUM // 2]
    return np.square(np.abs(np.fft.rfft(frames * np.hanning(SPECTRUM)))).T


def _changes(figure: Figure, axis: Axes, before: NDArray, after: NDArray, extent: tuple[float, ...]) -> None:
    """Error where both selected the band; a band that only one of them selected in a plain colour."""
    was, now = before >= 0, after >= 0
    error = np.ma.masked_where(~(was & now), after - before)
    limit = max(float(np.ma.filled(abs(error), 0).max()), 0.05)
    image = axis.imshow(error, cmap="RdBu_r", vmin=-limit, vmax=limit, **_as_grid(extent))
    patches = []
    for name, colour, bands in (("missed", "#303030", was & ~now), ("added", "#3f9b4f", ~was & now)):
        axis.imshow(np.ma.masked_where(~bands, bands), cmap=ListedColormap([colour]), **_as_grid(extent))
        share = 100 * bands.sum() / max(was.sum(), 1)
        patches.append(Patch(color=colour, label=f"{name}: {share:.1f} % of the selected"))
    where = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}  # above, where it hides nothing
    axis.legend(handles=patches, ncols=2, fontsize="small", frameon=False, **where)
    _electrodes(axis, len(before), "decoded − uncoded")
    figure.colorbar(image, ax=axis, label="difference", pad=0.01, aspect=14)


def _electrodes(axis: Axes, bands: int, name: str) -> None:
    numbers = [number for number in range(bands, 0, -1) if number in (1, bands) or number % 5 == 0]
    axis.set_yticks([bands - number + 0.5 for number in numbers], [str(number) for number in numbers])
    axis.set_ylabel("electrode")
    axis.set_title(name, loc="left", fontsize="medium")


def _as_grid(extent: tuple[float, ...]) -> dict[str, Any]:
    return {"origin": "lower", "aspect": "auto", "interpolation": "nearest", "extent": extent}
