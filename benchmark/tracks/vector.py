"""The track of vectors: points of a set, quantized as they are and scored by the mean squared error of a number.

A second stands for 1,000 vectors: what is kbit/s elsewhere is bit per vector here. The test set is cut into parts, each
an item with a file of its own, so that errors have an interval.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from ...datamodules.base import Arrays, Split
from ..metrics.base import Pending, Submit
from ..metrics.scoring.items import score_item
from .base import Scorer, TestItem, Track, spread

VECTORS_PER_SECOND = 1000.0
ITEMS = 10  # at most, of the test set
VALIDATION_VECTORS = 20_000
SHOWN_VECTORS = 4000


@final
class VectorScorer(Scorer):
    """Vectors, by the mean squared error of a number."""

    name = "vector"
    notes = ("kbit/s reads as bit per vector: a second stands for 1,000 vectors, in complexity too",)

    def score(self, item: TestItem, decoded: Tensor, submit: Submit) -> Pending:
        return score_item(self.name, {"reference": item.signal, "decoded": decoded}, submit)

    def show(self, item: TestItem, decoded: Tensor, folder: Path) -> None:
        """A picture of the first two numbers of each vector, and of what they were decoded to."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for signal, size, label in ((item.signal, 1, "vectors"), (decoded, 6, "decoded")):
            plane = signal[[0, min(1, len(signal) - 1)], :SHOWN_VECTORS].numpy()
            axes.scatter(*plane, s=size, label=label)
        axes.set_aspect("equal")
        axes.legend()
        figure.savefig(folder / f"{item.name}.png", dpi=120)


@final
class VectorTrack(Track):
    """Vectors "N C" of a corpus of arrays as signals "C N"."""

    signal_rate = VECTORS_PER_SECOND

    def __init__(self, corpus: Arrays) -> None:
        self.scorer = VectorScorer()
        self.vectors = {split: corpus.array(split).T for split in ("train", "validation", "test")}
        channels, count = self.vectors["test"].shape
        self.leading = (channels,)
        self.items = np.array_split(self.vectors["test"], min(ITEMS, count), axis=1)

    @property
    def typical_length(self) -> int:
        return self.items[0].shape[1]

    def training_batch(self, batch_size: int, length: int, generator: np.random.Generator) -> Tensor:
        """Any vectors, in no order: each is quantized alone."""
        vectors = self.vectors["train"]
        chosen = vectors[:, generator.integers(vectors.shape[1], size=(batch_size, length))]  # C B T
        return torch.from_numpy(np.ascontiguousarray(chosen.transpose(1, 0, 2)))

    def validation_batch(self) -> Tensor:
        return _signal(self.vectors["validation"][:, :VALIDATION_VECTORS])[None]

    def signals(self, split: Split, count: int) -> list[Tensor]:
        vectors = self.vectors[split]
        parts = np.array_split(vectors, max(1, vectors.shape[1] // self.typical_length), axis=1)
        return [_signal(parts[index]) for index in spread(count, len(parts))]

    def test_items(self) -> Sequence[int]:
        return range(len(self.items))

    def load(self, item: int) -> TestItem:
        signal = _signal(self.items[item])
        return TestItem(f"{item:02d}", signal, signal, signal.shape[1] / self.signal_rate, signal.shape[1])

    def loss(self, signal: Tensor, decoded: Tensor) -> Tensor:
        return (signal - decoded).square().mean()


def _signal(vectors: np.ndarray) -> Tensor:
    """float32 "C N", contiguous."""
    return torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32))
