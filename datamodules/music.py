"""Any folder of music, searched to any depth, in the layout of `folder`: an artist or album per folder, or files alone.

Mono (the mean of the channels), as loud as it was mastered: only the DC offset is removed, and peaks end at 1.0.
A file that comes from a lossy coder (MP3, Vorbis, Opus, ADPCM, ...) trains but is never a reference: with all that
shares its folder it is kept out of test. The coder is read from the file itself, whatever its suffix; what was decoded
and stored as WAV or FLAC afterwards cannot be told.
"""

from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import soundfile

from .base import Content, Item, Recordings, Split, root_folder, shown
from .errors import DataError
from .parts.tree import Splits, audio_files, check_splits, hashed_splits, in_splits, named_items, splits_by_folder

LOSSY_SUFFIXES = (".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".wma")
SUFFIXES = (".wav", ".flac", ".aif", ".aiff", *LOSSY_SUFFIXES)
LOSSLESS = ("PCM_", "FLOAT", "DOUBLE", "ALAC_", "DWVW_")  # how libsndfile names the codings that lose nothing


class Music(Recordings):
    """Your own music.

    Options: root, the folder; sample_rate in Hz, to which everything is resampled; skip_bad, leave out files that
    cannot be used and say which, instead of stopping.
    """

    kind: ClassVar[Content] = "music"
    title: ClassVar[str] = "a folder of music"
    licence: ClassVar[str] = "unknown"
    citation: ClassVar[str] = ""
    revision: ClassVar[str] = ""
    url: ClassVar[str] = ""
    hours: ClassVar[float | None] = None
    remedy: ClassVar[str] = "repair or remove them, or pass --data.skip_bad"
    level = None

    def __init__(self, root: str = "", sample_rate: Literal[44_100, 32_000] = 44_100, skip_bad: bool = False) -> None:
        super().__init__()
        self.root = root
        self.sample_rate = sample_rate
        self.skip_bad = skip_bad

    def items(self, split: Split) -> list[Item]:
        """The recordings of one split, sorted by name; DataError where the folder cannot be split in three."""
        return self._splits[split]

    def notes(self) -> list[str]:
        """How many files are lossy, where some are."""
        items = [item for split in self._splits.values() for item in split]
        lossy = sum(is_lossy(item.path) for item in items)
        return [f"{lossy} of {len(items)} files come from a lossy coder; they are kept out of test"] if lossy else []

    @cached_property
    def _splits(self) -> Splits:
        if not self.root:
            raise DataError("music needs --data.root DIR, a folder of music (WAV, FLAC, AIFF; to train also MP3, OGG)")
        root = root_folder(self.root)
        paths = list(audio_files(root, SUFFIXES))
        if not paths:
            raise DataError(f"{shown(root)}: holds no file of music ({', '.join(SUFFIXES)})")
        by_folder = splits_by_folder(root, paths)
        items = named_items(root, paths, depth=1 if by_folder else 0)
        if self.skip_bad:
            items = self.usable(items)
        lossy = {item.speaker for item in items if is_lossy(item.path)}
        owners = by_folder or hashed_splits(root, items, {item.speaker for item in items} - lossy)
        for item in items:
            if item.speaker in lossy and owners[item.path] == "test":
                owners[item.path] = "train"
        splits = in_splits(items, owners)
        if lossy and not splits["test"]:
            raise DataError(
                f"{shown(root)}: no lossless music is left for test: {len(lossy)} folders or single files are (partly) "
                "lossy; add WAV, FLAC or AIFF of its own"
            )
        check_splits(root, splits)
        return splits


def is_lossy(path: Path) -> bool:
    """Whether a file's coding loses something; by its suffix alone where it cannot be read."""
    if not path.is_file():  # a named pipe would keep open() waiting
        return False
    try:
        with path.open("rb") as stream, soundfile.SoundFile(stream) as file:
            return not file.subtype.startswith(LOSSLESS)
    except (OSError, soundfile.LibsndfileError):
        return path.suffix.lower() in LOSSY_SUFFIXES
