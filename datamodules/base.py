"""The contract of a corpus: named recordings in three splits, each loaded as mono 16 kHz speech at one level.

file -> read_audio -> mono -> DC removed -> 16 kHz (soxr HQ) -> scaled to -25 dBFS active level -> float32 "N"

Level rule: 0 dBFS is an RMS of 1.0 (a full-scale sine has -3.01 dBFS). The waveform is cut into 20 ms frames without
overlap, what is left at the end counts for nothing; the level is the RMS over all samples of the active frames, those
within 40 dB of the loudest frame. Nothing is clipped: peaks may exceed 1.0.
"""

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, final, get_args

import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16_000
LEVEL = -25.0  # dBFS over active frames
FRAME_SECONDS = 0.02
ACTIVE_RANGE = 40.0  # dB below the loudest frame
SILENCE = -80.0  # dBFS; a 16-bit file in which only the last bit flickers stays below -90
SHORTEST_SECONDS = 0.5
RATES = (4_000, 768_000)  # Hz; anything else is a damaged header
LONGEST = 1 << 33  # samples; a header without a length claims more

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class DataError(ValueError):
    """Unusable data: one clear line for the user."""


class Item(NamedTuple):
    """One recording."""

    name: str  # unique in the corpus, safe as a file name
    path: Path
    speaker: str


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


def read_audio(path: Path) -> tuple[np.ndarray, int]:
    """Waveform (float32 [N], mean of the channels) and sample rate in Hz; DataError where there is none to be had."""
    try:
        if not path.is_file():  # also keeps open() from waiting on a named pipe
            raise DataError(f"{shown(path)}: no such file")
        with path.open("rb") as stream, soundfile.SoundFile(stream) as file:
            length, rate = file.frames, file.samplerate
            samples = file.read(dtype="float32", always_2d=True) if length < LONGEST else np.zeros((0, 1))
    except soundfile.LibsndfileError as error:
        raise DataError(f"{shown(path)}: not readable as audio ({error.error_string.strip('. ')})") from None
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be opened ({error.strerror or error})") from None
    if length >= LONGEST:
        raise DataError(f"{shown(path)}: its header does not say how long it is; encode it again")
    if not length:
        raise DataError(f"{shown(path)}: holds no samples")
    if len(samples) < length:
        raise DataError(f"{shown(path)}: cut short, {len(samples)} of {length} samples are there")
    if not np.isfinite(samples).all():
        raise DataError(f"{shown(path)}: holds NaN or infinite samples")
    return samples.mean(axis=1, dtype=np.float64).astype(np.float32), rate


def active_level(waveform: np.ndarray, rate: int) -> float:
    """Level of a waveform [N] of at least 20 ms by the level rule above, in dBFS; -inf for zeros."""
    length = round(FRAME_SECONDS * rate)
    frames = waveform[: len(waveform) // length * length].reshape(-1, length)
    powers = np.square(frames, dtype=np.float64).mean(axis=1)
    if not powers.max():
        return float("-inf")
    return float(10 * np.log10(powers[powers >= powers.max() * 10 ** (-ACTIVE_RANGE / 10)].mean()))


def condition(waveform: np.ndarray, rate: int) -> np.ndarray:
    """Waveform [N] at any rate in Hz -> float32 at 16 kHz, without DC, at LEVEL; DataError if silent or too short."""
    if not RATES[0] <= rate <= RATES[1]:
        raise DataError(f"its sample rate of {rate} Hz is not between {RATES[0]} and {RATES[1]}")
    if len(waveform) < SHORTEST_SECONDS * rate:
        raise DataError(f"only {len(waveform) / rate:.2f} s long; at least {SHORTEST_SECONDS} s are needed")
    centred = waveform - waveform.mean(dtype=np.float64)  # first: resampling an offset would ring at both ends
    resampled = soxr.resample(centred, rate, SAMPLE_RATE, quality="HQ")
    level = active_level(resampled, SAMPLE_RATE)
    if level < SILENCE:
        raise DataError(f"silent (below {SILENCE:.0f} dBFS)")
    return (resampled * 10 ** ((LEVEL - level) / 20)).astype(np.float32)


class Corpus(ABC):
    """A corpus plug-in: the file's name is the registered name, the constructor's arguments are its options."""

    title: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str]
    revision: ClassVar[str]
    url: ClassVar[str]
    hours: ClassVar[float | None]  # of audio; None where it depends on the user's files
    remedy: ClassVar[str] = "repair or remove them"  # what a user can do about unusable files
    _fingerprint: str = ""

    @abstractmethod
    def items(self, split: Split) -> list[Item]:
        """The recordings of one split, sorted, the same at every call; no speaker is in two splits."""

    @final
    def load(self, item: Item) -> np.ndarray:
        """float32 [N], mono, 16 kHz, DC removed, at -25 dBFS active level; DataError names an unusable file."""
        waveform, rate = read_audio(item.path)
        try:
            return condition(waveform, rate)
        except DataError as error:
            raise DataError(f"{shown(item.path)}: {error}") from None

    @final
    def fingerprint(self) -> str:
        """16 hex digits over the names, speakers and contents of all splits; where the files lie does not enter."""
        if not self._fingerprint:
            digest = hashlib.sha256()
            for split in SPLITS:
                for item in self.items(split):
                    digest.update(repr((split, item.name, item.speaker, content_hash(item.path))).encode())
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    @final
    def validate(self) -> None:
        """Open every file once; DataError names the first unusable ones, how many there are, and what to do."""
        items = [item for split in SPLITS for item in self.items(split)]
        faults = [fault for item in items if (fault := self.fault(item))]
        if faults:
            first = "; ".join(faults[:3]) + ("; ..." if len(faults) > 3 else "")
            raise DataError(f"{len(faults)} of {len(items)} files cannot be used: {first}; {self.remedy}")

    @final
    def fault(self, item: Item) -> str:
        """Why load() refuses this item, or an empty string."""
        try:
            self.load(item)
        except DataError as error:
            return str(error)
        return ""


def content_hash(path: Path) -> str:
    """sha256 of a file; DataError if it cannot be read."""
    try:
        if not path.is_file():
            raise DataError(f"{shown(path)}: no such file")
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be opened ({error.strerror or error})") from None
