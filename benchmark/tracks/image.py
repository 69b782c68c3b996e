"""The track of images: small photographs, whole, scored by structural similarity and peak SNR.

A second stands for 1,000 pixels: what is kbit/s elsewhere is bit per pixel here, and one file holds one image. The
signal's last axis are the columns of an image; all images have one shape.
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

PIXELS_PER_SECOND = 1000
VALIDATION_IMAGES = 256
ENLARGED = 8  # times, of the pictures to look at


def columns_per_second(rows: int) -> float:
    """Samples per second of images of so many rows."""
    return PIXELS_PER_SECOND / rows


@final
class ImageScorer(Scorer):
    """Images, by structural similarity and peak SNR."""

    name = "image"
    notes = ("kbit/s reads as bit per pixel: a second stands for 1,000 pixels, in latency and complexity too",)

    def score(self, item: TestItem, decoded: Tensor, submit: Submit) -> Pending:
        return score_item(self.name, {"reference": item.signal, "decoded": decoded}, submit)

    def show(self, item: TestItem, decoded: Tensor, folder: Path) -> None:
        """One picture: the image on the left, what became of it on the right."""
        from matplotlib.image import imsave

        pair = torch.cat([item.signal, decoded.clamp(0, 1)], -1).permute(1, 2, 0).numpy()
        imsave(folder / f"{item.name}.png", pair.repeat(ENLARGED, 0).repeat(ENLARGED, 1))


@final
class ImageTrack(Track):
    """Images "3 H W" in [0, 1] of a corpus of arrays; training crops are whole images, whatever length is asked for."""

    def __init__(self, corpus: Arrays) -> None:
        self.scorer = ImageScorer()
        self.images = {split: corpus.array(split) for split in ("train", "validation", "test")}
        _, colours, rows, columns = self.images["train"].shape
        self.leading, self.columns = (colours, rows), columns
        self.signal_rate = columns_per_second(rows)
        self._validation = torch.stack(self.signals("validation", VALIDATION_IMAGES))

    @property
    def typical_length(self) -> int:
        return self.columns

    def training_batch(self, batch_size: int, length: int, generator: np.random.Generator) -> Tensor:
        images = self.images["train"]
        return torch.from_numpy(images[generator.integers(len(images), size=batch_size)])

    def validation_batch(self) -> Tensor:
        return self._validation

    def signals(self, split: Split, count: int) -> list[Tensor]:
        images = self.images[split]
        return [torch.from_numpy(images[index]) for index in spread(count, len(images))]

    def test_items(self) -> Sequence[int]:
        return range(len(self.images["test"]))

    def load(self, item: int) -> TestItem:
        image = torch.from_numpy(self.images["test"][item])
        return TestItem(f"{item:05d}", image, image, image.shape[-1] / self.signal_rate, image.shape[-1])

    def loss(self, signal: Tensor, decoded: Tensor) -> Tensor:
        return (signal - decoded).square().mean()
