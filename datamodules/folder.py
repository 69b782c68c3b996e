"""Any folder of WAV, FLAC, OGG or MP3 files, searched to any depth; hidden files and folders are passed over.

Splits: where the folder has train/, validation/ (or valid/, val/, dev/) and test/, those. Otherwise speakers, in the
order of sha256(name), fill validation (10 %), test (20 %) and train (the rest), at least one speaker each.
A speaker is the first folder below the root (or below train/ ...); a file that lies in none is a speaker of its own.
"""

from functools import cached_property
from typing import ClassVar

from .base import Item, Recordings, Split, root_folder, shown
from .errors import DataError
from .parts.tree import Splits, audio_files, check_splits, hashed_splits, in_splits, named_items, splits_by_folder

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


class Folder(Recordings):
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
        super().__init__()
        self.root = root
        self.skip_bad = skip_bad

    def items(self, split: Split) -> list[Item]:
        """The recordings of one split, sorted by name; DataError where the folder cannot be split in three."""
        return self._splits[split]

    @cached_property
    def _splits(self) -> Splits:
        if not self.root:
            raise DataError("folder needs --data.root DIR, a folder of WAV, FLAC, OGG or MP3 files")
        root = root_folder(self.root)
        paths = list(audio_files(root, SUFFIXES))
        if not paths:
            raise DataError(f"{shown(root)}: holds no WAV, FLAC, OGG or MP3 file")
        by_folder = splits_by_folder(root, paths)
        items = named_items(root, paths, depth=1 if by_folder else 0)
        if self.skip_bad:
            items = self.usable(items)
        splits = in_splits(items, by_folder or hashed_splits(root, items))
        check_splits(root, splits)
        return splits
