"""The contract of a corpus: three splits of recordings (speech, music) or of arrays (images, vectors).

file -> read_audio -> mono -> DC removed -> sample_rate (soxr HQ) -> levelled -> float32 "N", see parts/sound.py

A corpus is a LightningDataModule too: Trainer.fit(module, corpus). What its loaders give is in docs/lightning.md.
"""

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar, final

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from .errors import DataError
from .parts.batches import fixed_loader, training_loader
from .parts.items import SPLITS, Content, Item, Split, content_hash, shown
from .parts.items import root_folder as root_folder
from .parts.memory import FileMemory
from .parts.sound import CLIPPED_SHARE, LEVEL, SAMPLE_RATE, clipped_share, condition, read_audio
from .parts.sound import FRAME_SECONDS as FRAME_SECONDS
from .parts.sound import RATES as RATES
from .parts.sound import SHORTEST_SECONDS as SHORTEST_SECONDS
from .parts.sound import SILENCE as SILENCE
from .parts.sound import active_level as active_level
from .parts.sound import read_channels as read_channels
from .parts.sound import resample as resample
from .parts.waveforms import WaveformSet, cached_waveforms

CHECKS = 1  # raise it when load() refuses other files

log = logging.getLogger(__name__)
Some = TypeVar("Some", bound="Corpus")


class Corpus(LightningDataModule, ABC):
    """A corpus plug-in: the file's name is the registered name, the constructor's arguments are its options.

    Derive from Recordings (items: files of speech or music) or from Arrays (array: images or vectors). A constructor of
    its own calls super().__init__(). How a Trainer gets its batches is no option of the corpus: see batches().
    """

    kind: ClassVar[Content]
    title: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str]
    revision: ClassVar[str]
    url: ClassVar[str]
    hours: ClassVar[float | None]  # of audio; None where it depends on the user's files, or there is no sound
    remedy: ClassVar[str] = "repair or remove them"  # what a user can do about unusable files
    _fingerprint: str = ""
    batch_size: int = 16
    crop_seconds: float = 1.0  # of recordings, in training and validation
    crop_seed: int = 0
    workers: int = 0  # processes that load

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def train_dataloader(self) -> DataLoader[Tensor]:
        """Random batches, number n drawn from the seed and n alone; an epoch is as large as the train split."""

    @abstractmethod
    def val_dataloader(self) -> DataLoader[Tensor]:
        """The validation split, the same batches each time."""

    @abstractmethod
    def test_dataloader(self) -> DataLoader[Tensor]:
        """The whole test split in its order."""

    @final
    def batches(self: Some, batch_size: int = 16, crop_seconds: float = 1.0, seed: int = 0, workers: int = 0) -> Some:
        """Set what the loaders of a Trainer give; returns the corpus itself. The benchmark's own trainings have theirs.

        `crop_seconds` is the length of the crops of recordings, `workers` the number of processes that load, which
        changes no number. ValueError where one is out of range.
        """
        if batch_size < 1 or crop_seconds <= 0 or seed < 0 or workers < 0:
            raise ValueError(
                f"batch_size={batch_size}, crop_seconds={crop_seconds}, seed={seed}, workers={workers}: the first two "
                "must be above 0, the others at least 0"
            )
        self.batch_size, self.crop_seconds, self.crop_seed, self.workers = batch_size, crop_seconds, seed, workers
        return self

    @abstractmethod
    def contents(self) -> Iterator[tuple[str, ...]]:
        """All that makes the data what they are, wherever they lie."""

    @abstractmethod
    def validate(self) -> None:
        """Look at everything once; DataError where something cannot be used."""

    def notes(self) -> list[str]:
        """What a reader of the scores must know about these data; a sentence each."""
        return []

    @final
    def fingerprint(self) -> str:
        """16 hex digits over the names and contents of all splits; where the files lie does not enter."""
        if not self._fingerprint:
            digest = hashlib.sha256()
            for part in self.contents():
                digest.update(repr(part).encode())
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint


class Recordings(Corpus):
    """A corpus of audio files, each loaded as a mono waveform."""

    kind: ClassVar[Content] = "speech"
    sample_rate: int = SAMPLE_RATE  # Hz of what load() gives
    level: float | None = LEVEL  # dBFS of what load() gives; None: as recorded, peaks at most 1.0

    @abstractmethod
    def items(self, split: Split) -> list[Item]:
        """The recordings of one split, sorted, the same at every call; no speaker is in two splits."""

    def load(self, item: Item) -> np.ndarray:
        """float32 [N], mono, at sample_rate and level, DC removed; DataError names an unusable file."""
        return self._conditioned(item.path, *read_audio(item.path))

    def reference(self, item: Item) -> np.ndarray:
        """What intelligibility is scored against, as long as load(item): another signal only where that is noisy."""
        return self.load(item)

    def conditions(self, item: Item) -> dict[str, str | float]:
        """How load(item) came about, for tables by condition (snr_db, noise, ...); nothing for plain recordings."""
        return {}

    def ingredients(self) -> Iterator[tuple[str, ...]]:
        """All that load() and reference() follow from beside the files of the items; DataError: it cannot be used."""
        yield from ()

    @final
    def train_dataloader(self) -> DataLoader[Tensor]:
        """Random crops "B N" at sample_rate; an epoch lasts as long as the recordings. DataError as cached_waveforms.

        Every place where a crop fits is equally likely; zeros follow a shorter recording.
        """
        return training_loader(*self._crops("train"), self.trainer, self.workers)

    @final
    def val_dataloader(self) -> DataLoader[Tensor]:
        """Crops "B N" as in training, the same in every epoch; together as long as the recordings."""
        return fixed_loader(*self._crops("validation"), self.workers)

    @final
    def test_dataloader(self) -> DataLoader[Tensor]:
        """Whole recordings "1 N", one after the other."""
        waveforms = cached_waveforms(self, "test")
        return fixed_loader(partial(_whole, waveforms), len(waveforms), self.workers)

    def _crops(self, split: Split) -> tuple[Callable[[int], Tensor], int]:
        """Batch number n, and how many last as long as the split."""
        waveforms, length = cached_waveforms(self, split), max(1, round(self.crop_seconds * self.sample_rate))
        count = max(1, round(waveforms.lengths.sum() / (self.batch_size * length)))
        return partial(_cropped, waveforms, self.batch_size, length, self.crop_seed), count

    @final
    def contents(self) -> Iterator[tuple[str, ...]]:
        """Split, name, speaker and sha256 of every file, and the further ingredients."""
        with FileMemory("sha256", [item.path for split in SPLITS for item in self.items(split)]) as memory:
            for split in SPLITS:
                for item in self.items(split):
                    yield (split, item.name, item.speaker, memory.recall(item.path, content_hash))
        yield from self.ingredients()

    @final
    def validate(self) -> None:
        """Open every file once; DataError names the first unusable ones, how many there are, and what to do.

        Clipped recordings are usable: how many there are is logged.
        """
        items = [item for split in SPLITS for item in self.items(split)]
        faults, clipped = [], []
        with FileMemory(f"checks {CHECKS} {self.sample_rate} {self.level}", [item.path for item in items]) as memory:
            for item in items:
                try:
                    clipped += [item.path] * (memory.recall(item.path, self._checked) == "clipped")
                except DataError as error:
                    faults.append(str(error))
        if faults:
            raise DataError(
                f"{len(faults)} of {len(items)} files cannot be used: {_first(faults, '; ')}; {self.remedy}"
            )
        if clipped:
            log.warning(
                "%d of %d files are clipped: %s", len(clipped), len(items), _first([*map(shown, clipped)], ", ")
            )

    @final
    def fault(self, item: Item) -> str:
        """Why load() refuses this item, or an empty string."""
        try:
            self.load(item)
        except DataError as error:
            return str(error)
        return ""

    @final
    def usable(self, items: list[Item]) -> list[Item]:
        """The items that load() does not refuse; the others are logged. DataError where none is left."""
        faults = {item: fault for item in items if (fault := self.fault(item))}
        for fault in faults.values():
            log.warning("left out: %s", fault)
        if len(faults) == len(items):
            raise DataError(f"none of the {len(items)} files can be used; the first: {faults[items[0]]}")
        return [item for item in items if item not in faults]

    def _conditioned(self, path: Path, waveform: np.ndarray, rate: int) -> np.ndarray:
        try:
            return condition(waveform, rate, self.sample_rate, self.level)
        except DataError as error:
            raise DataError(f"{shown(path)}: {error}") from None

    def _checked(self, path: Path) -> str:
        waveform, rate = read_audio(path)
        self._conditioned(path, waveform, rate)
        return "clipped" if clipped_share(waveform) > CLIPPED_SHARE else "sound"


class Arrays(Corpus):
    """A corpus of equally shaped arrays, which fit into memory."""

    hours: ClassVar[float | None] = None

    @abstractmethod
    def array(self, split: Split) -> np.ndarray:
        """float32, the same at every call: images "N 3 H W" in [0, 1], vectors "N C"."""

    @final
    def train_dataloader(self) -> DataLoader[Tensor]:
        """Images "B 3 H W" or vectors "B C", drawn with replacement; an epoch has as many as the split."""
        array = self.array("train")
        make = partial(_drawn, array, self.batch_size, self.crop_seed)
        return training_loader(make, max(1, round(len(array) / self.batch_size)), self.trainer, self.workers)

    @final
    def val_dataloader(self) -> DataLoader[Tensor]:
        """The validation split in its order."""
        return self._ordered("validation")

    @final
    def test_dataloader(self) -> DataLoader[Tensor]:
        """The test split in its order."""
        return self._ordered("test")

    def _ordered(self, split: Split) -> DataLoader[Tensor]:
        array = self.array(split)
        return fixed_loader(partial(_row, array, self.batch_size), -(-len(array) // self.batch_size), self.workers)

    @final
    def contents(self) -> Iterator[tuple[str, ...]]:
        """Split, shape and sha256 of every array."""
        for split in SPLITS:
            array = np.ascontiguousarray(self.array(split), dtype="<f4")
            yield (split, str(array.shape), hashlib.sha256(array.data).hexdigest())

    @final
    def validate(self) -> None:
        """DataError where a split is empty or differs in shape from the others, or a value is not finite."""
        shapes = set()
        for split in SPLITS:
            array = self.array(split)
            shapes.add(array.shape[1:])
            if not len(array) or len(shapes) > 1 or not np.isfinite(array).all():
                raise DataError(f"the {split} split, {array.shape}, is empty, of another shape, or not finite")


def _cropped(waveforms: WaveformSet, count: int, length: int, seed: int, number: int) -> Tensor:
    return torch.from_numpy(waveforms.crops(count, length, np.random.default_rng([seed, number])))


def _whole(waveforms: WaveformSet, number: int) -> Tensor:
    return torch.from_numpy(waveforms[number])[None]


def _drawn(array: np.ndarray, count: int, seed: int, number: int) -> Tensor:
    return torch.from_numpy(array[np.random.default_rng([seed, number]).integers(len(array), size=count)])


def _row(array: np.ndarray, count: int, number: int) -> Tensor:
    return torch.from_numpy(array[number * count :][:count])


def _first(names: list[str], between: str) -> str:
    return between.join(names[:3]) + (f"{between}..." if len(names) > 3 else "")
