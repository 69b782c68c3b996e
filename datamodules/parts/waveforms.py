"""The waveforms of a corpus, decoded once and kept on disk (float32: 230 MB an hour at 16 kHz, see cache.py).

The key covers the recordings, the sample rate and the level.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np

from .cache import Pieces, Progress, cached
from .items import Recorded, Split

VERSION = 1  # raise it when the same recordings give other waveforms


@final
class WaveformSet(Pieces):
    """Waveforms of N_1, N_2, ... samples, held as one array of all samples."""

    def __getitem__(self, index: int) -> np.ndarray:
        """Waveform `index`, float32 [N]."""
        return self._item(index)

    def crops(self, count: int, length: int, generator: np.random.Generator) -> np.ndarray:
        """Random crops, float32 [count, length]: every position where a crop fits is equally likely.

        A shorter waveform has one position; zeros follow it.
        """
        return self._crops(count, length, generator, fill=0.0)

    def cut(self, places: Sequence[tuple[int, int]], length: int) -> np.ndarray:
        """float32 [count, length] from these items and samples on; zeros follow an item's last."""
        return self._cut(places, length, fill=0.0)


def cached_waveforms(
    corpus: Recorded, split: Split, cache_dir: Path | None = None, progress: Progress | None = None
) -> WaveformSet:
    """The waveforms of a split: from the cache ($CODECBENCH_CACHE or ~/.cache/codecbench), or decoded and kept there.

    `progress(items, description)` wraps the items while they are decoded. DataError if the split is empty, a recording
    is unusable or the cache cannot be written.
    """
    identity = [VERSION, corpus.sample_rate, corpus.level]
    return cached(WaveformSet, "waveforms", identity, (), corpus, split, corpus.load, cache_dir, progress)
