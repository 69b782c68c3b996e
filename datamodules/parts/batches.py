"""Loaders of numbered batches: batch number n of a training is drawn from (seed, n) alone.

A trainer that goes on from a checkpoint goes on with the number after those that it has had, in the middle of an epoch
too: it sees what it would have seen without the break. How many processes load changes nothing.
"""

from collections.abc import Callable, Iterator
from typing import Any

from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


class Batches(Dataset[Tensor]):
    """Batch number n is make(n); an epoch has `length` of them."""

    def __init__(self, make: Callable[[int], Tensor], length: int) -> None:
        self.make, self.length = make, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Tensor:
        return self.make(number)


class Onward:
    """A sampler of an epoch's batch numbers: on from those that the trainer has had, from 0 without one."""

    def __init__(self, length: int, trainer: Trainer | None) -> None:
        self.length, self.trainer = length, trainer

    def __iter__(self) -> Iterator[int]:
        begun = 0 if self.trainer is None else self.trainer.fit_loop.epoch_loop.batch_progress.total.ready
        return iter(range(begun, begun + self.length))  # in an epoch gone on with Lightning stops earlier

    def __len__(self) -> int:
        return self.length


class ResumableLoader(DataLoader[Tensor]):
    """A loader that Lightning need not warn of: where to go on is the sampler's knowledge."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the trainer keeps the count."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing."""


def training_loader(
    make: Callable[[int], Tensor], length: int, trainer: Trainer | None, workers: int = 0
) -> DataLoader[Tensor]:
    """Batches make(0), make(1), ... of one epoch after another, `length` an epoch."""
    batches = Batches(make, length)
    return ResumableLoader(batches, batch_size=None, sampler=Onward(length, trainer), num_workers=workers)


def fixed_loader(make: Callable[[int], Tensor], length: int, workers: int = 0) -> DataLoader[Tensor]:
    """Batches make(0) to make(length - 1), the same in every epoch."""
    return DataLoader(Batches(make, length), batch_size=None, sampler=range(length), num_workers=workers)
