"""LJ Speech: one woman reading seven non-fiction books, 13,100 utterances at 22.05 kHz.

ROOT/LJSpeech-1.1/wavs/LJ001-0001.wav (or .flac). It has one speaker, so every split hears the same voice. With three or
more chapters (LJ001 to LJ050), whole chapters are shared out in the order of sha256(name) to validation (10 %), test
(20 %) and train; with fewer, single utterances are.
"""

import re
from functools import cached_property
from typing import ClassVar

from .base import Item, Recordings, Split
from .parts.downloads import Archive, located
from .parts.tree import Splits, in_splits, shared_out

ARCHIVE = Archive(
    "LJSpeech-1.1.tar.bz2",
    "https://data.keithito.com/data/speech",
    "sha256:be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
    "2.7 GB",
    "LJSpeech-1.1",
    "wavs",
)
NAME = re.compile(r"(LJ\d+)-\d+\.(wav|flac)")


class LJSpeech(Recordings):
    """Read English, one speaker.

    Options: root, the folder that holds LJSpeech-1.1/ (that folder itself, or its wavs, will do); download, fetch
    2.7 GB into root if it is not there; mirror, the address that holds the archive.
    """

    title: ClassVar[str] = "The LJ Speech Dataset"
    licence: ClassVar[str] = "public domain"
    citation: ClassVar[str] = "Ito & Johnson: The LJ Speech Dataset, 2017, https://keithito.com/LJ-Speech-Dataset/"
    revision: ClassVar[str] = "1.1"
    url: ClassVar[str] = "https://keithito.com/LJ-Speech-Dataset/"
    hours: ClassVar[float | None] = 23.9
    remedy: ClassVar[str] = f"unpack {ARCHIVE.name} again"

    def __init__(self, root: str = "", download: bool = False, mirror: str = ARCHIVE.mirror) -> None:
        super().__init__()
        self.root = root
        self.download = download
        self.mirror = mirror

    def items(self, split: Split) -> list[Item]:
        """The utterances of one split, sorted; DataError where the corpus is missing or has fewer than 3 utterances."""
        return self._splits[split]

    def notes(self) -> list[str]:
        """That all splits share one voice."""
        return ["one speaker: train, validation and test hear the same voice"]

    @cached_property
    def _splits(self) -> Splits:
        places = ("LJSpeech-1.1/wavs", "wavs", ".")
        patterns = ("LJ*-*.wav", "LJ*-*.flac")
        home = located("ljspeech", self.root, places, patterns, ARCHIVE, self.mirror if self.download else None)
        matches = {path: match for path in home.iterdir() if (match := NAME.fullmatch(path.name))}
        chapters = {path: match[1] for path, match in matches.items()}
        units = chapters if len(set(chapters.values())) > 2 else {path: path.stem for path in matches}
        owners = shared_out(home, units.values(), "utterances")
        return in_splits(
            [Item(path.stem, path, "LJ") for path in matches], {path: owners[units[path]] for path in matches}
        )
