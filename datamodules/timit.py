"""TIMIT: 630 speakers of eight American dialects, ten sentences each, 16 kHz.

ROOT/TIMIT/TRAIN/DR1/FCJF0/SX37.WAV, names in upper or lower case; .WAV are NIST SPHERE files, which are read as they
are. TEST (168 speakers) is test; of TRAIN (462) the first 10 % of the speakers in the order of sha256(name) are
validation. It is sold by the Linguistic Data Consortium and cannot be downloaded here.
"""

import re
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from .base import Item, Recordings, Split, shown
from .errors import DataError
from .parts.downloads import located
from .parts.tree import Splits, in_splits, shared_out

NAME = re.compile(r"(SA|SI|SX)\d+\.WAV", re.IGNORECASE)
FOLDERS: dict[str, Split] = {"train": "train", "test": "test"}
PATTERNS = tuple(f"{folder}/{dialect}[0-9]/*/*" for folder, dialect in (("TRAIN", "DR"), ("train", "dr")))


class TIMIT(Recordings):
    """Read American English, 630 speakers.

    Options: root, the folder that holds TIMIT/ (or that folder itself); sa, keep the two sentences SA1 and SA2, which
    all speakers of all splits say.
    """

    title: ClassVar[str] = "TIMIT acoustic-phonetic corpus"
    licence: ClassVar[str] = "LDC User Agreement"
    citation: ClassVar[str] = "Garofolo et al.: TIMIT, LDC93S1, 1993, doi:10.35111/17gk-bn40"
    revision: ClassVar[str] = "LDC93S1"
    url: ClassVar[str] = "https://catalog.ldc.upenn.edu/LDC93S1"
    hours: ClassVar[float | None] = 5.4
    remedy: ClassVar[str] = "copy them from the LDC's medium again"

    def __init__(self, root: str = "", sa: bool = False) -> None:
        super().__init__()
        self.root = root
        self.sa = sa

    def items(self, split: Split) -> list[Item]:
        """The utterances of one split, sorted; DataError where the corpus is missing or incomplete."""
        return self._splits[split]

    @cached_property
    def _splits(self) -> Splits:
        try:
            home = located("timit", self.root, ("TIMIT", "timit", "."), PATTERNS)
        except DataError as error:
            raise DataError(f"{error}; TIMIT is sold at {self.url}") from None
        owners: dict[Path, Split] = {}
        items = []
        for path in home.glob("*/*/*/*"):
            folder, _, speaker, name = path.relative_to(home).parts
            if folder.lower() in FOLDERS and NAME.fullmatch(name) and (self.sa or not name.upper().startswith("SA")):
                owners[path] = FOLDERS[folder.lower()]
                items.append(Item(f"{speaker}-{path.stem}".upper(), path, speaker.upper()))
        shared = shared_out(home, {item.speaker for item in items if owners[item.path] == "train"})
        for item in items:
            if owners[item.path] == "train" and shared[item.speaker] == "validation":
                owners[item.path] = "validation"
        splits = in_splits(items, owners)
        if not splits["test"]:
            raise DataError(f"{shown(home)} has TRAIN but no recordings in TEST; copy that folder too")
        return splits
