"""The embedded corpus: 240 sentences of our own, each spoken once by one of 12 synthetic voices (espeak-ng).

For smoke tests and CI: results on synthetic voices say nothing about how a codec serves real speech.
Train has 6 voices of 24 sentences, validation 2 of 16, test 4 of 16; no voice and no sentence is in two splits.
"""

import csv
from pathlib import Path
from typing import ClassVar

from .base import Item, Recordings, Split
from .errors import DataError

CORPORA = Path(__file__).parent / "corpora"


class Demo(Recordings):
    """Twelve synthetic voices, 7.6 minutes; no options."""

    title: ClassVar[str] = "demo: twelve synthetic voices"
    licence: ClassVar[str] = "Apache-2.0"
    citation: ClassVar[str] = "The codecbench authors, 2026; spoken by eSpeak NG 1.51"
    revision: ClassVar[str] = "1"
    url: ClassVar[str] = ""
    hours: ClassVar[float | None] = 0.126
    remedy: ClassVar[str] = "install codecbench again"

    def items(self, split: Split) -> list[Item]:
        """The utterances of one split, sorted by name."""
        try:
            with (CORPORA / "demo.csv").open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if row["split"] == split]
        except OSError as error:
            raise DataError(f"the demo corpus is missing ({error.strerror}); {self.remedy}") from None
        items = [Item(Path(row["file"]).stem, CORPORA / "demo" / row["file"], row["voice"]) for row in rows]
        return sorted(items)
