"""What a training sees in every step: random crops, drawn from the seed and the step alone."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from ..specs.training import Training
from ..tracks.base import Track


class Steps(Dataset[Tensor]):
    """Batch number `step` of a run; drawn from the seed and the step alone."""

    def __init__(self, track: Track, training: Training, seed: int) -> None:
        self.track, self.training, self.seed = track, training, seed

    def __len__(self) -> int:
        return self.training.steps

    def __getitem__(self, step: int) -> Tensor:
        return crops(self.track, self.training, self.training.batch_size, [self.seed, step])


class From:
    """A sampler that goes on where a checkpoint stopped."""

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.end))

    def __len__(self) -> int:
        return self.end  # Lightning goes on counting from the checkpoint's batch


def crops(track: Track, training: Training, count: int, seed: list[int]) -> Tensor:
    """Random crops of the training split, of the length that a training asks for, with B."""
    return track.training_batch(count, crop_length(training, track.signal_rate), np.random.default_rng(seed))


def crop_length(training: Training, signal_rate: float) -> int:
    """Samples of a crop of a signal of so many per second."""
    return max(1, round(training.crop_seconds * signal_rate))
