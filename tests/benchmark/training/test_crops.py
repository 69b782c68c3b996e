"""The batches of the suite's own trainings."""

from types import SimpleNamespace

import numpy as np
import torch
from codecbench.benchmark.specs.training import Training
from codecbench.benchmark.tracks.vector import VectorTrack
from codecbench.benchmark.training.crops import TrainingData
from codecbench.datamodules.toy import Toy


def test_a_batch_hangs_on_the_seed_and_its_step_alone() -> None:
    track, training = VectorTrack(Toy(points=50)), Training(steps=6, batch_size=3, crop_seconds=0.02)
    data = TrainingData(track, training, seed=9)
    whole = list(data.train_dataloader())
    expected = [track.training_batch(3, 20, np.random.default_rng([9, step])) for step in range(6)]
    assert all(map(torch.equal, whole, expected)) and len(whole) == 6
    progress = SimpleNamespace(total=SimpleNamespace(ready=4))  # of a trainer that comes from a checkpoint
    data.trainer = SimpleNamespace(fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)))
    batches = iter(data.train_dataloader())
    assert torch.equal(next(batches), whole[4]) and torch.equal(next(batches), whole[5])
    assert torch.equal(next(iter(data.val_dataloader())), track.validation_batch())
