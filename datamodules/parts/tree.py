"""Folders of audio files in nobody's layout: what they hold, safe names, and who is in which split."""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from ..base import SPLITS, Item, Split, shown
from ..errors import DataError

FOLDERS: dict[str, Split] = {"train": "train", "test": "test"}
FOLDERS |= dict.fromkeys(("validation", "valid", "val", "dev"), "validation")
LONGEST_NAME = 150  # bytes; with what others append it stays within the 255 that file systems allow

FEWEST = 3  # speakers for three splits

Splits = dict[Split, list[Item]]


def audio_files(root: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Every file below the root with one of the suffixes, through links too, but no folder twice."""

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
            if name.lower().endswith(suffixes) and not name.startswith("."):
                yield Path(folder) / name


def splits_by_folder(root: Path, paths: list[Path]) -> dict[Path, Split]:
    """The split of every file by its first folder; empty where the folder has no splits of its own."""
    firsts = {path: path.relative_to(root).parts[0].casefold() for path in paths if path.parent != root}
    by_folder: dict[Path, Split] = {path: FOLDERS[first] for path, first in firsts.items() if first in FOLDERS}
    lacking = [split for split in SPLITS if split not in by_folder.values()]
    if len(lacking) > 1:
        return {}
    if lacking:
        present = " and ".join(sorted({firsts[path] + "/" for path in by_folder}))
        raise DataError(f"{shown(root)}: has {present} with audio files but no {lacking[0]}/; add it")
    outside = [path for path in paths if path not in by_folder]
    if outside:
        raise DataError(
            f"{shown(root)}: {len(outside)} files lie outside train/, validation/ and test/; move them, first "
            f"{shown(outside[0])}"
        )
    return by_folder


def named_items(root: Path, paths: list[Path], depth: int) -> list[Item]:
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


def hashed_splits(root: Path, items: list[Item], testable: Collection[str] | None = None) -> dict[Path, Split]:
    """The split of every file by shared_out() of the speakers; DataError below three of them."""
    speakers = {item.speaker for item in items}
    if len(speakers) < FEWEST:
        raise DataError(
            f"{shown(root)}: the number of its speakers is {len(speakers)}, of usable files {len(items)}; three splits "
            "need at least 3 files, or 3 folders of files, directly in --data.root; add some, or pass a deeper folder"
        )
    owners = shared_out(root, speakers, testable=testable)
    return {item.path: owners[item.speaker] for item in items}


def shared_out(
    place: Path, units: Iterable[str], noun: str = "speakers", testable: Collection[str] | None = None
) -> dict[str, Split]:
    """10 % validation, 20 % test, the rest train, at least one each, in the order of sha256(name).

    Where not all are testable, the others stay out of test. DataError below three.
    """
    order = sorted(set(units), key=_hash)
    if len(order) < FEWEST:
        raise DataError(f"{shown(place)} holds {len(order)} {noun}; three splits need at least {FEWEST}; add some")
    allowed = [unit for unit in order if testable is None or unit in testable]
    held, tested = max(1, round(0.1 * len(order))), max(1, round(0.2 * len(order)))
    test = allowed[held : held + tested] or allowed[-1:]
    validation = [unit for unit in order if unit not in test][:held]
    owners: dict[str, Split] = dict.fromkeys(order, "train")
    owners |= dict.fromkeys(validation, "validation")
    owners |= dict.fromkeys(test, "test")
    return owners


def first_per_speaker(items: list[Item], count: int | None) -> list[Item]:
    """The first `count` recordings of every speaker by name (None: all); DataError below one."""
    if count is None:
        return items
    if count < 1:
        raise DataError(f"utterances_per_speaker={count} must be at least 1, or null for all")
    speakers: dict[str, list[Item]] = {}
    for item in sorted(items):
        speakers.setdefault(item.speaker, []).append(item)
    return [item for part in speakers.values() for item in part[:count]]


def in_splits(items: Iterable[Item], owners: Mapping[Path, Split]) -> Splits:
    """The items of each split, sorted."""
    ordered = sorted(items)
    return {split: [item for item in ordered if owners[item.path] == split] for split in SPLITS}


def check_splits(root: Path, splits: Splits) -> None:
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
