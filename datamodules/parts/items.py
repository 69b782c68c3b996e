"""What a corpus consists of: splits of recordings, each a file of a speaker; and paths as users write them."""

import hashlib
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, get_args, runtime_checkable

import numpy as np

from ..errors import DataError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Content = Literal["speech", "music", "image", "vector"]


class Item(NamedTuple):
    """One recording."""

    name: str  # unique in the corpus, safe as a file name
    path: Path
    speaker: str


@runtime_checkable
class Recorded(Protocol):
    """A corpus of recordings, as far as its waveforms follow from it."""

    sample_rate: int  # Hz of what load() gives
    level: float | None  # dBFS of what load() gives

    def items(self, split: Split) -> list[Item]:
        """The recordings of one split."""
        ...

    def load(self, item: Item) -> np.ndarray:
        """float32 [N]."""
        ...

    def fingerprint(self) -> str:
        """Of the names and contents of all splits."""
        ...


def shown(path: Path) -> str:
    """The path in one printable line, whatever its name holds."""
    text = str(path)
    return text if text.isprintable() else repr(text)[1:-1]


def root_folder(root: str) -> Path:
    """The path a user gave as --data.root, ~ expanded; DataError where ~NAME is nobody."""
    try:
        return Path(root).expanduser()
    except RuntimeError:
        raise DataError(f"{root}: there is no such home folder; write the path in full") from None


def content_hash(path: Path) -> str:
    """sha256 of a file; DataError if it cannot be read."""
    try:
        if not path.is_file():
            raise DataError(f"{shown(path)}: no such file")
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be opened ({error.strerror or error})") from None
