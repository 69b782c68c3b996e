"""The stimulation patterns of a corpus, computed once and kept on disk.

A cache entry is `patterns-KEY.npy`, all frames of a split one after another (float32, frames x 22, memory-mapped, so
that a crop is one contiguous read), and its index `patterns-KEY.json`. The key covers the recordings and the front end.
Both files are written under other names and moved into place when complete, the index last: two processes may build the
same entry at once, and what a killed one leaves is never read.
"""

import contextlib
import hashlib
import json
import os
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.lib import format as npy

from ..base import Corpus, DataError, Item, Split
from .ace import BANDS, UNSELECTED, AceConfig, ace

VERSION = 1  # raise it when the same recordings and parameters give other patterns
CHECKED_FRAMES = 256  # frames that tell a foreign file from ours
ORPHAN_SECONDS = 3600  # a part file untouched for so long belongs to nobody

Progress = Callable[[Iterable[Item], str], Iterable[Item]]


class PatternSet:
    """Patterns of T_1, T_2, ... frames, held as one array "F 22" of all frames."""

    def __init__(self, names: Sequence[str], lengths: Sequence[int], frames: np.ndarray) -> None:
        self.names = list(names)
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self._frames = frames
        self._ends = np.cumsum(self.lengths)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> np.ndarray:
        """Pattern `index`, float32 [22, T]."""
        index = range(len(self))[index]
        end = self._ends[index]
        return np.ascontiguousarray(self._frames[end - self.lengths[index] : end].T)

    @property
    def total_frames(self) -> int:
        """Frames of all patterns together."""
        return int(self.lengths.sum())

    def crops(self, count: int, frames: int, generator: np.random.Generator) -> np.ndarray:
        """Random crops, float32 [count, 22, frames]: every position where a crop fits is equally likely.

        A shorter pattern has one position; UNSELECTED frames follow it.
        """
        positions = np.maximum(self.lengths - frames, 0) + 1
        ends = np.cumsum(positions)
        drawn = generator.integers(ends[-1], size=count)
        item = np.searchsorted(ends, drawn, side="right")
        first = drawn - (ends - positions)[item]
        frame = first[:, None] + np.arange(frames)
        inside = frame < self.lengths[item][:, None]
        rows = (self._ends - self.lengths)[item][:, None] + np.where(inside, frame, 0)
        crops = np.where(inside[..., None], self._frames[rows], np.float32(UNSELECTED))
        return np.ascontiguousarray(crops.transpose(0, 2, 1))


def cached_patterns(
    corpus: Corpus,
    split: Split,
    config: AceConfig,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> PatternSet:
    """The patterns of a split: from the cache ($CODECBENCH_CACHE or ~/.cache/codecbench), or computed and kept there.

    `progress(items, description)` wraps the items while they are computed. DataError if the split is empty, a recording
    is unusable or the cache cannot be written.
    """
    folder = cache_dir or Path(os.environ.get("CODECBENCH_CACHE") or "~/.cache/codecbench").expanduser()
    identity = json.dumps([VERSION, corpus.fingerprint(), split, asdict(config)], sort_keys=True)
    entry = folder / f"patterns-{hashlib.sha256(identity.encode()).hexdigest()[:32]}"
    found = _open(entry)
    if found is not None:
        return found
    items = corpus.items(split)
    if not items:
        raise DataError(f"the {split} split holds no recordings; add some or choose other data")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_orphans(folder)
        return _build(entry, corpus, items, config, progress(items, f"patterns of {split}") if progress else items)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"{folder}: no patterns can be kept here ({reason}); point CODECBENCH_CACHE elsewhere"
        ) from None


def _open(entry: Path) -> PatternSet | None:
    """The patterns of a complete entry; None if there is none, or it is damaged or not ours."""
    try:
        index = json.loads(entry.with_suffix(".json").read_text())
        frames = npy.open_memmap(entry.with_suffix(".npy"), mode="r")
        patterns = PatternSet(index["names"], index["lengths"], frames)
        fits = frames.shape == (patterns.total_frames, BANDS) and len(patterns) == len(patterns.lengths)
        ours = index["key"] == entry.name and index["checksum"] == _checksum(frames)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return patterns if fits and ours else None


def _build(entry: Path, corpus: Corpus, items: list[Item], config: AceConfig, watched: Iterable[Item]) -> PatternSet:
    lengths: list[int] = []
    with _moved_when_complete(entry.with_suffix(".npy")) as file:
        _write_header(file, 0)
        for item in watched:
            pattern = ace(torch.from_numpy(corpus.load(item))[None], config)[0]
            file.write(pattern.T.contiguous().numpy().data)
            lengths.append(pattern.shape[1])
        file.seek(0)
        _write_header(file, sum(lengths))
    frames = npy.open_memmap(entry.with_suffix(".npy"), mode="r")
    names = [item.name for item in items]
    index = {"key": entry.name, "checksum": _checksum(frames), "names": names, "lengths": lengths}
    with _moved_when_complete(entry.with_suffix(".json")) as file:
        file.write(json.dumps(index).encode())
    return PatternSet(names, lengths, frames)


def _write_header(file: BinaryIO, frames: int) -> None:
    """The .npy header; numpy pads it so that a larger number of frames fits into the same place."""
    header: dict[str, Any] = {"descr": "<f4", "fortran_order": False, "shape": (frames, BANDS)}
    npy.write_array_header_1_0(file, header)


def _checksum(frames: np.ndarray) -> int:
    return zlib.crc32(frames[:: len(frames) // CHECKED_FRAMES + 1].tobytes())


@contextlib.contextmanager
def _moved_when_complete(path: Path) -> Iterator[BinaryIO]:
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _remove_orphans(folder: Path) -> None:
    for part in folder.glob("patterns-*.part"):
        with contextlib.suppress(OSError):  # another process may be quicker
            if time.time() - part.stat().st_mtime > ORPHAN_SECONDS:
                part.unlink()
