"""LibriTTS: LibriSpeech's readers cut anew from the original MP3s, at sentence ends and 24 kHz.

ROOT/LibriTTS/train-clean-100/SPEAKER/CHAPTER/SPEAKER_CHAPTER_NNNNNN_NNNNNN.wav. Where train-*, dev-* and test-* folders
are all there they are the splits; where only train-* are, speakers in the order of sha256(name) fill validation (10 %),
test (20 %) and train.
"""

import re
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from .base import Item, Recordings, Split, shown
from .errors import DataError
from .parts.downloads import Archive, located
from .parts.tree import Splits, first_per_speaker, in_splits, shared_out

ARCHIVE = Archive(
    "train-clean-100.tar.gz",
    "https://www.openslr.org/resources/60",
    "md5:4a8c202b78fe1bc0c47916a98f3a2ea8",
    "7.7 GB",
    "LibriTTS",
    "train-clean-100",
)
SUBSETS: dict[str, Split] = {"train": "train", "dev": "validation", "test": "test"}
PATTERNS = ("*-*/[0-9]*/[0-9]*/*_*_*_*.wav",)
NAME = re.compile(r"(\d+)_\d+_\d+_\d+\.wav")


class LibriTTS(Recordings):
    """Read English, up to 2,456 speakers.

    Options: root, the folder that holds LibriTTS/ (that folder itself, or its train-clean-100, will do); download,
    fetch train-clean-100 (247 speakers, 7.7 GB) into root if nothing is there; utterances_per_speaker, the first so
    many of each speaker (None: all); mirror, the address that holds the archive.
    """

    title: ClassVar[str] = "LibriTTS"
    licence: ClassVar[str] = "CC BY 4.0"
    citation: ClassVar[str] = "Zen et al.: LibriTTS, Interspeech 2019, arXiv:1904.02882"
    revision: ClassVar[str] = "SLR60"
    url: ClassVar[str] = "https://www.openslr.org/60"
    hours: ClassVar[float | None] = 585.0
    remedy: ClassVar[str] = "unpack its archive again"

    def __init__(
        self,
        root: str = "",
        download: bool = False,
        utterances_per_speaker: int | None = None,
        mirror: str = ARCHIVE.mirror,
    ) -> None:
        super().__init__()
        self.root = root
        self.download = download
        self.utterances_per_speaker = utterances_per_speaker
        self.mirror = mirror

    def items(self, split: Split) -> list[Item]:
        """The utterances of one split, sorted; DataError where the corpus is missing or a subset lacks."""
        return self._splits[split]

    @cached_property
    def _splits(self) -> Splits:
        places = ("LibriTTS", ".", "..")
        home = located("libritts", self.root, places, PATTERNS, ARCHIVE, self.mirror if self.download else None)
        paths = [path for path in home.glob(PATTERNS[0]) if NAME.fullmatch(path.name)]
        subsets = {path: path.relative_to(home).parts[0] for path in paths}
        kinds = {path: subset.partition("-")[0] for path, subset in subsets.items()}
        owners: dict[Path, Split] = {path: SUBSETS[kind] for path, kind in kinds.items() if kind in SUBSETS}
        items = [Item(path.stem, path, path.parent.parent.name) for path in owners]
        items = first_per_speaker(items, self.utterances_per_speaker)
        splits = in_splits(items, owners)
        if splits["train"] and not splits["validation"] and not splits["test"]:
            speakers = shared_out(home, {item.speaker for item in items})
            return in_splits(items, {item.path: speakers[item.speaker] for item in items})
        lacking = [f"{name}-*" for name, split in SUBSETS.items() if not splits[split]]
        if lacking:
            there = ", ".join(sorted(set(subsets.values())))
            raise DataError(f"{shown(home)} has {there} but no {' and no '.join(lacking)}; unpack one of these as well")
        return splits
