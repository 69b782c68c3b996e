"""The stimulation patterns of a corpus, computed once and kept on disk (float32, frames x 22, see cache.py).

The key covers the recordings and the front end.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import final

import numpy as np
import torch

from ..base import Item, Recordings, Split
from ..parts.cache import Pieces, Progress, cached
from .ace import BANDS, UNSELECTED, AceConfig, ace

VERSION = 1  # raise it when the same recordings and parameters give other patterns


@final
class PatternSet(Pieces):
    """Patterns of T_1, T_2, ... frames, held as one array "F 22" of all frames."""

    def __getitem__(self, index: int) -> np.ndarray:
        """Pattern `index`, float32 [22, T]."""
        return np.ascontiguousarray(self._item(index).T)

    @property
    def total_frames(self) -> int:
        """Frames of all patterns together."""
        return int(self.lengths.sum())

    def crops(self, count: int, length: int, generator: np.random.Generator) -> np.ndarray:
        """Random crops, float32 [count, 22, length]: every position where a crop fits is equally likely.

        A shorter pattern has one position; UNSELECTED frames follow it.
        """
        return self.cut(self.places(count, length, generator), length)

    def cut(self, places: Sequence[tuple[int, int]], length: int) -> np.ndarray:
        """float32 [count, 22, length] from these items and frames on; UNSELECTED frames follow an item's last."""
        return np.ascontiguousarray(self._cut(places, length, UNSELECTED).transpose(0, 2, 1))


def cached_patterns(
    corpus: Recordings,
    split: Split,
    config: AceConfig,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> PatternSet:
    """The patterns of a split: from the cache ($CODECBENCH_CACHE or ~/.cache/codecbench), or computed and kept there.

    `progress(items, description)` wraps the items while they are computed. DataError if the split is empty, a recording
    is unusable or the cache cannot be written.
    """

    def frames(item: Item) -> np.ndarray:
        return ace(torch.from_numpy(corpus.load(item))[None], config)[0].T.numpy()

    identity = [VERSION, asdict(config)]
    return cached(PatternSet, "patterns", identity, (BANDS,), corpus, split, frames, cache_dir, progress)
