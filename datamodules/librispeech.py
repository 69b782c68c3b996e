"""LibriSpeech train-clean-100: 251 speakers reading audio books, split 171/20/60 by a committed list.

ROOT/LibriSpeech/train-clean-100/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac, as the corpus unpacks. The list is
corpora/librispeech_split.json; corpora/make_librispeech_split.py states and repeats its rule (sexes balanced).
"""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from .base import Item, Recordings, Split, shown
from .errors import DataError
from .parts.downloads import Archive, located

SUBSET = "train-clean-100"
ARCHIVE = Archive(
    f"{SUBSET}.tar.gz",
    "https://www.openslr.org/resources/12",
    "md5:2a93770f6d5c6c964bc36631d331a522",  # published beside the archive in md5sum.txt
    "6.4 GB",
    "LibriSpeech",
    SUBSET,
)
PLACES = (f"LibriSpeech/{SUBSET}", SUBSET, ".")
PATTERNS = ("[0-9]*/[0-9]*/*-*-*.flac",)
LIST = Path(__file__).parent / "corpora" / "librispeech_split.json"
LIST_SHA256 = "1a7870e4f2c9724cc096680c6099199531b089b3c23b8e292630ca9c6848000f"


class LibriSpeech(Recordings):
    """Real read English.

    Options: root, the folder that holds LibriSpeech/ (that folder itself, or its train-clean-100, will do);
    download, fetch 6.4 GB into root if it is not there; utterances_per_speaker, the first so many of each speaker
    (None: all 28,539); mirror, the address that holds the archive.
    """

    title: ClassVar[str] = "LibriSpeech train-clean-100"
    licence: ClassVar[str] = "CC BY 4.0"
    citation: ClassVar[str] = (
        "Panayotov, Chen, Povey, Khudanpur: Librispeech, ICASSP 2015, doi:10.1109/ICASSP.2015.7178964"
    )
    revision: ClassVar[str] = f"SLR12, split {LIST_SHA256[:8]}"
    url: ClassVar[str] = "https://www.openslr.org/12"
    hours: ClassVar[float | None] = 100.6
    remedy: ClassVar[str] = f"unpack {SUBSET}.tar.gz again"

    def __init__(
        self,
        root: str = "",
        download: bool = False,
        utterances_per_speaker: int | None = 1,
        mirror: str = ARCHIVE.mirror,
    ) -> None:
        super().__init__()
        if utterances_per_speaker is not None and utterances_per_speaker < 1:
            raise DataError(f"utterances_per_speaker={utterances_per_speaker} must be at least 1, or null for all")
        self.root = root
        self.download = download
        self.utterances_per_speaker = utterances_per_speaker
        self.mirror = mirror

    def items(self, split: Split) -> list[Item]:
        """The first utterances of every speaker of one split; DataError where the corpus is missing or incomplete."""
        items, missing = [], []
        for speaker in _listed_speakers()[split]:
            paths = sorted((self._subset / speaker).glob(f"*/{speaker}-*.flac"))[: self.utterances_per_speaker]
            items += [Item(path.stem, path, speaker) for path in paths]
            missing += [] if paths else [speaker]
        if missing:
            named = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise DataError(f"{shown(self._subset)} lacks {len(missing)} speakers of {SUBSET} ({named}); {self.remedy}")
        return sorted(items)

    @cached_property
    def _subset(self) -> Path:
        mirror = self.mirror if self.download else None
        return located("librispeech", self.root, PLACES, PATTERNS, ARCHIVE, mirror)


def _listed_speakers() -> dict[str, list[str]]:
    try:
        text = LIST.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{shown(LIST)}: cannot be opened ({error.strerror}); install codecbench again") from None
    if hashlib.sha256(text.encode()).hexdigest() != LIST_SHA256:
        raise DataError(f"{shown(LIST)}: the list of speakers was changed; install codecbench again")
    return json.loads(text)
