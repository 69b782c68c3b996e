"""Arrays computed once and kept on disk: what the caches of patterns and of waveforms share.

An entry is KEY.npy, the rows of all items one after another (float32, memory-mapped, so that a crop is one contiguous
read), and its index KEY.json. Both are written under other names and moved into place when complete, the index last:
two processes may build the same entry at once, and what a killed one leaves is never read.
"""

import contextlib
import hashlib
import json
import mmap
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
from numpy.lib import format as npy

from ..errors import DataError
from .items import Item, Recorded, Split
from .memory import cache_folder, moved_when_complete

CHECKED_ROWS = 256  # rows that tell a foreign file from ours
ORPHAN_SECONDS = 3600  # a part file untouched for so long belongs to nobody

Progress = Callable[[Iterable[Item], str], Iterable[Item]]
Set = TypeVar("Set", bound="Pieces")


class Cached(NamedTuple):
    """What an entry holds."""

    names: list[str]
    lengths: list[int]
    rows: np.ndarray  # float32


class Pieces(ABC):
    """Items of lengths[0], lengths[1], ... rows, held one after another in one array, in memory or on disk."""

    def __init__(self, names: Sequence[str], lengths: Sequence[int], rows: np.ndarray) -> None:
        self.names = list(names)
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self._rows = rows
        self._starts = np.cumsum(self.lengths) - self.lengths

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> np.ndarray:
        """One item, float32."""

    @abstractmethod
    def crops(self, count: int, length: int, generator: np.random.Generator) -> np.ndarray:
        """Random crops, float32: every position where a crop fits is equally likely.

        A shorter item has one position; what fills it up follows.
        """

    def _item(self, index: int) -> np.ndarray:
        index = range(len(self))[index]
        item = np.array(self._rows[self._starts[index] :][: self.lengths[index]])
        _let_go(self._rows)
        return item

    def places(self, count: int, length: int, generator: np.random.Generator) -> list[tuple[int, int]]:
        """Item and first row of random crops: every position where a crop fits is equally likely."""
        positions = np.maximum(self.lengths - length, 0) + 1
        ends = np.cumsum(positions)
        drawn = generator.integers(ends[-1], size=count)
        items = np.searchsorted(ends, drawn, side="right")
        return [(int(item), int(first)) for item, first in zip(items, drawn - (ends - positions)[items], strict=True)]

    def _crops(self, count: int, length: int, generator: np.random.Generator, fill: float) -> np.ndarray:
        """float32 [count, length, ...] for crops()."""
        return self._cut(self.places(count, length, generator), length, fill)

    def _cut(self, places: Sequence[tuple[int, int]], length: int, fill: float) -> np.ndarray:
        """float32 [count, length, ...] from these places on; `fill` follows an item's last row."""
        crops = np.full((len(places), length, *self._rows.shape[1:]), fill, dtype=np.float32)
        for crop, (item, first) in zip(crops, places, strict=True):
            there = max(0, min(length, self.lengths[item] - first))
            crop[:there] = self._rows[self._starts[item] + first :][:there]
        _let_go(self._rows)
        return crops


def cached(
    make: type[Set],
    what: str,
    identity: Sequence[Any],
    row: tuple[int, ...],
    corpus: Recorded,
    split: Split,
    compute: Callable[[Item], np.ndarray],
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Set:
    """The pieces of a split: from the cache ($CODECBENCH_CACHE or ~/.cache/codecbench), or computed and kept there.

    `compute` gives the rows of an item, each of shape `row`; `identity` is all that they follow from, beside the
    recordings; `progress(items, description)` wraps the items while they are computed. DataError if the split is
    empty, a recording is unusable or the cache cannot be written.
    """
    folder = cache_folder(cache_dir)
    key = json.dumps([identity[0], corpus.fingerprint(), split, *identity[1:]], sort_keys=True)
    entry = folder / f"{what}-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    cached = _read(entry, row)
    if cached is not None:
        return make(*cached)
    items = corpus.items(split)
    if not items:
        raise DataError(f"the {split} split holds no recordings; add some or choose other data")
    watched = progress(items, f"{what} of {split}") if progress else items
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_orphans(folder)
        return make(*_write(entry, row, ((item.name, compute(item)) for item in watched)))
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{folder}: no {what} can be kept here ({reason}); point CODECBENCH_CACHE elsewhere") from None


def _read(entry: Path, row: tuple[int, ...]) -> Cached | None:
    """A complete entry whose rows have this shape; None if there is none, or it is damaged or not ours."""
    try:
        index = json.loads(entry.with_suffix(".json").read_text())
        rows = npy.open_memmap(entry.with_suffix(".npy"), mode="r")
        cached = Cached(index["names"], index["lengths"], rows)
        fits = rows.shape == (sum(cached.lengths), *row) and len(cached.names) == len(cached.lengths)
        ours = index["key"] == entry.name and index["checksum"] == _checksum(rows)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return cached if fits and ours else None


def _write(entry: Path, row: tuple[int, ...], pieces: Iterable[tuple[str, np.ndarray]]) -> Cached:
    names: list[str] = []
    lengths: list[int] = []
    with moved_when_complete(entry.with_suffix(".npy")) as file:
        _write_header(file, (0, *row))
        for name, piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype="<f4").data)
            names.append(name)
            lengths.append(len(piece))
        file.seek(0)
        _write_header(file, (sum(lengths), *row))
    rows = npy.open_memmap(entry.with_suffix(".npy"), mode="r")
    index = {"key": entry.name, "checksum": _checksum(rows), "names": names, "lengths": lengths}
    with moved_when_complete(entry.with_suffix(".json")) as file:
        file.write(json.dumps(index).encode())
    return Cached(names, lengths, rows)


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """The .npy header; numpy pads it so that a larger number of rows fits into the same place."""
    header: dict[str, Any] = {"descr": "<f4", "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(file, header)


def _checksum(rows: np.ndarray) -> int:
    checksum = zlib.crc32(rows[:: len(rows) // CHECKED_ROWS + 1].tobytes())
    _let_go(rows)
    return checksum


def _let_go(rows: np.ndarray) -> None:
    """Give back the memory of what was read from disk: the kernel keeps it as long as nobody needs the room."""
    if isinstance(rows.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        rows.base.madvise(mmap.MADV_DONTNEED)


def _remove_orphans(folder: Path) -> None:
    for part in folder.glob("*.part"):
        with contextlib.suppress(OSError):  # another process may be quicker
            if time.time() - part.stat().st_mtime > ORPHAN_SECONDS:
                part.unlink()
