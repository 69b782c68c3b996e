"""Any folder of WAV, FLAC, OGG or MP3 files, searched to any depth; hidden files and folders are passed over.

Splits: where the folder has train/, validation/ (or valid/, val/, dev/) and test/, those. Otherwise speakers, in the
order of sha256(name), fill validation (10 %), test (20 %) and train (the rest), at least one speaker each.
A speaker is the first folder below the root (or below train/ ...); a file that lies in none is a speaker of its own.
"""

import hashlib
import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from .base import SPLITS, Corpus, DataError, Item, Split, root_folder, shown

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
FOLDERS: dict[str, Split] = {"train": "train", "test": "test"}
FOLDERS |= dict.fromkeys(("validation", "valid", "val", "dev"), "validation")
LONGEST_NAME = 150  # bytes; with what others append it stays within the 255 that file systems allow

log = logging.getLogger(__name__)


class Folder(Corpus):
    """Your own recordings.

    Options: root, the folder; skip_bad, leave out files that cannot be used and say which, instead of stopping.
    """

    title: ClassVar[str] = "a folder of recordings"
    licence: ClassVar[str] = "unknown"
    citation: ClassVar[str] = ""
    revision: ClassVar[str] = ""
    url: ClassVar[str] = ""
    hours: ClassVar[float | None] = None
    remedy: ClassVar[str] = "repair or remove them, or pass --data.skip_bad"

    def __init__(self, root: str = "", skip_bad: bool = False) -> None:
        self.root = root
        self.skip_bad = skip_bad
        self._splits: dict[Split, list[Item]] | None = None

    def items(self, split: Split) -> list[Item]:
        """The recordings of one split, sorted by name; DataError where the folder cannot be split in three."""
        if self._splits is None:
            self._splits = self._split()
        return self._splits[split]

    def _split(self) -> dict[Split, list[Item]]:
        if not self.root:
            raise DataError("folder needs --data.root DIR, a folder of WAV, FLAC, OGG or MP3 files")
        root = root_folder(self.root)
        paths = list(_audio_files(root))
        if not paths:
            raise DataError(f"{shown(root)}: holds no WAV, FLAC, OGG or MP3 file")
        given = _given_splits(root, paths)
        items = _named(root, paths, depth=1 if given else 0)
        if self.skip_bad:
            items = self._usable(items)
        owners = given or _hashed_splits(root, items)
        splits: dict[Split, list[Item]] = {
            split: sorted(item for item in items if owners[item.path] == split) for split in SPLITS
        }
        _check(root, splits)
        return splits

    def _usable(self, items: list[Item]) -> list[Item]:
        faults = {item: fault for item in items if (fault := self.fault(item))}
        for fault in faults.values():
            log.warning("left out: %s", fault)
        if len(faults) == len(items):
            raise DataError(f"none of the {len(items)} files can be used; the first: {faults[items[0]]}")
        return [item for item in items if item not in faults]


def _audio_files(root: Path) -> Iterator[Path]:
    """Every audio file below the root, through links too, but no folder twice."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{shown(Path(error.filename))}: cannot be opened ({error.strerror})")

    seen = {os.path.realpath(root)}
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in list(folders):
            place = os.path.realpath(Path(folder) / name)
            if place in seen:  # a link in a circle
                folders.remove(name)
            seen.add(place)
        for name in sorted(files):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(folder) / name


def _given_splits(root: Path, paths: list[Path]) -> dict[Path, Split]:
    """The split of every file by its first folder; empty where the folder has no splits of its own."""
    firsts = {path: path.relative_to(root).parts[0].casefold() for path in paths if path.parent != root}
    given: dict[Path, Split] = {path: FOLDERS[first] for path, first in firsts.items() if first in FOLDERS}
    lacking = [split for split in SPLITS if split not in given.values()]
    if len(lacking) > 1:
        return {}
    if lacking:
        present = " and ".join(sorted({firsts[path] + "/" for path in given}))
        raise DataError(f"{shown(root)}: has {present} with audio files but no {lacking[0]}/; add it")
    outside = [path for path in paths if path not in given]
    if outside:
        raise DataError(
            f"{shown(root)}: {len(outside)} files lie outside train/, validation/ and test/; move them, first "
            f"{shown(outside[0])}"
        )
    return given


def _named(root: Path, paths: list[Path], depth: int) -> list[Item]:
    """Items with safe names; the speaker is the folder at this depth below the root, or else the file."""
    places = {path: path.relative_to(root) for path in paths}
    stems = {path: place.with_suffix("").parts for path, place in places.items()}
    speakers = {path: stem[depth] if len(stem) > depth + 1 else "__".join(stem) for path, stem in stems.items()}
    names = _safe_names({str(places[path]): "__".join(stem) for path, stem in stems.items()})
    voices = _safe_names({speaker: speaker for speaker in speakers.values()})
    return [Item(names[str(place)], path, voices[speakers[path]]) for path, place in places.items()]


def _safe_names(wanted: dict[str, str]) -> dict[str, str]:
    """File names without blanks, slashes, leading dots or dashes; what would coincide or is too long gets a hash."""
    normal = {key: unicodedata.normalize("NFC", name) for key, name in wanted.items()}
    clean = {key: re.sub(r"[^\w.-]+", "_", name).lstrip(".-") for key, name in normal.items()}
    count = Counter(name.casefold() for name in clean.values())  # file systems may not tell A from a
    for key, name in clean.items():
        if not name or count[name.casefold()] > 1 or len(name.encode()) > LONGEST_NAME:
            clean[key] = f"{name.encode()[:LONGEST_NAME].decode(errors='ignore')}_{_hash(key)[:8]}"
    return clean


def _hash(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()


def _hashed_splits(root: Path, items: list[Item]) -> dict[Path, Split]:
    """10 % validation, 20 % test, the rest train: whole speakers in the order of the hash of their names."""
    speakers = sorted({item.speaker for item in items}, key=_hash)
    if len(speakers) < 3:
        raise DataError(
            f"{shown(root)}: the number of its speakers is {len(speakers)}, of usable files {len(items)}; three splits "
            "need at least 3 files, or 3 folders of files, directly in --data.root; add some, or pass a deeper folder"
        )
    validation, test = max(1, round(0.1 * len(speakers))), max(1, round(0.2 * len(speakers)))
    owners: dict[str, Split] = dict.fromkeys(speakers, "train")
    owners |= dict.fromkeys(speakers[:validation], "validation")
    owners |= dict.fromkeys(speakers[validation : validation + test], "test")
    return {item.path: owners[item.speaker] for item in items}


def _check(root: Path, splits: dict[Split, list[Item]]) -> None:
    """Every split has an item, and no speaker is in two."""
    homes: dict[str, Split] = {}
    for split, items in splits.items():
        if not items:
            raise DataError(f"{shown(root)}: no usable file is left for {split}; every split needs at least one")
        for item in items:
            if homes.setdefault(item.speaker, split) != split:
                raise DataError(
                    f"{shown(root)}: speaker {item.speaker} is in {homes[item.speaker]} and {split}; keep each in one"
                )
