"""VCTK: 110 speakers of English in many accents, about 400 sentences each, read in a hemi-anechoic chamber at 48 kHz.

ROOT/VCTK-Corpus-0.92/wav48_silence_trimmed/p225/p225_001_mic1.flac (0.92), or ROOT/VCTK-Corpus/wav48/p225/p225_001.wav
(0.80). It has no splits of its own: speakers in the order of sha256(name) fill validation (10 %), test (20 %), train.
The first 24 sentences are the same for all speakers. Two speakers, p280 and p315, have no second microphone.
"""

import re
from functools import cached_property
from typing import ClassVar, Literal

from .base import Item, Recordings, Split, shown
from .errors import DataError
from .parts.downloads import Archive, located
from .parts.tree import Splits, first_per_speaker, in_splits, shared_out

ARCHIVE = Archive(
    "VCTK-Corpus-0.92.zip",
    "https://datashare.is.ed.ac.uk/bitstream/handle/10283/3443",
    "md5:8a6ba2946b36fcbef0212cad601f4bfa",
    "11 GB",
    "VCTK-Corpus-0.92",
    "wav48_silence_trimmed",
)
PLACES = ("VCTK-Corpus-0.92/wav48_silence_trimmed", "wav48_silence_trimmed", "VCTK-Corpus/wav48", "wav48", ".")
PATTERNS = ("p[0-9]*/p*_mic*.flac", "p[0-9]*/p*.wav")


class VCTK(Recordings):
    """Read English, 110 speakers.

    Options: root, the folder that holds VCTK-Corpus-0.92/ or VCTK-Corpus/ (or that folder itself); download, fetch
    11 GB into root if it is not there; mic, 1 (omnidirectional DPA 4035) or 2 (Sennheiser MKH 800), which 0.80 does not
    tell apart; utterances_per_speaker, the first so many of each speaker (None: all, 44,000); mirror, the address that
    holds the archive.
    """

    title: ClassVar[str] = "CSTR VCTK Corpus"
    licence: ClassVar[str] = "CC BY 4.0"
    citation: ClassVar[str] = "Yamagishi, Veaux & MacDonald: CSTR VCTK Corpus (0.92), 2019, doi:10.7488/ds/2645"
    revision: ClassVar[str] = "0.92, or 0.80 (which is under ODC-By 1.0)"
    url: ClassVar[str] = "https://doi.org/10.7488/ds/2645"
    hours: ClassVar[float | None] = 44.0
    remedy: ClassVar[str] = f"unpack {ARCHIVE.name} again"

    def __init__(
        self,
        root: str = "",
        download: bool = False,
        mic: Literal[1, 2] = 1,
        utterances_per_speaker: int | None = None,
        mirror: str = ARCHIVE.mirror,
    ) -> None:
        super().__init__()
        self.root = root
        self.download = download
        self.mic = mic
        self.utterances_per_speaker = utterances_per_speaker
        self.mirror = mirror

    def items(self, split: Split) -> list[Item]:
        """The utterances of one split, sorted; DataError where the corpus is missing or has fewer than 3 speakers."""
        return self._splits[split]

    @cached_property
    def _splits(self) -> Splits:
        home = located("vctk", self.root, PLACES, PATTERNS, ARCHIVE, self.mirror if self.download else None)
        wanted = re.compile(rf"[ps]\d+_\d+(_mic{self.mic}\.flac|\.wav)")
        paths = [path for path in home.glob("[ps][0-9]*/*") if wanted.fullmatch(path.name)]
        items = [Item(path.stem, path, path.parent.name) for path in paths]
        if not items:
            raise DataError(
                f"{shown(home)} holds no recordings of microphone {self.mic}; pass --data.mic {3 - self.mic}"
            )
        items = first_per_speaker(items, self.utterances_per_speaker)
        owners = shared_out(home, {item.speaker for item in items})
        return in_splits(items, {item.path: owners[item.speaker] for item in items})
