"""What a training sees: random crops in every step, drawn from the seed and the step alone, and held-out ones."""

from functools import partial

import numpy as np
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from ...datamodules.parts.batches import fixed_loader, training_loader
from ..specs.training import Training
from ..tracks.base import Track


class TrainingData(LightningDataModule):
    """The batches of one training on one track; a resumed one goes on at the checkpoint's step."""

    def __init__(self, track: Track, training: Training, seed: int) -> None:
        super().__init__()
        self.track, self.training, self.seed = track, training, seed

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Batch number `step` is drawn from (seed, step)."""
        make = partial(step_batch, self.track, self.training, self.seed)
        return training_loader(make, self.training.steps, self.trainer, self.training.workers)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """The same batch each time."""
        return fixed_loader(lambda number: self.track.validation_batch(), 1)


def step_batch(track: Track, training: Training, seed: int, step: int) -> Tensor:
    """The crops of one step, with B."""
    return crops(track, training, training.batch_size, [seed, step])


def crops(track: Track, training: Training, count: int, seed: list[int]) -> Tensor:
    """Random crops of the training split, of the length that a training asks for, with B."""
    return track.training_batch(count, crop_length(training, track.signal_rate), np.random.default_rng(seed))


def crop_length(training: Training, signal_rate: float) -> int:
    """Samples of a crop of a signal of so many per second."""
    return max(1, round(training.crop_seconds * signal_rate))
