"""The contract of a corpus: three splits of recordings (speech, music) or of arrays (images, vectors).

file -> read_audio -> mono -> DC removed -> sample_rate (soxr HQ) -> levelled -> float32 "N"

Level rule of speech: 0 dBFS is an RMS of 1.0 (a full-scale sine has -3.01 dBFS). The waveform is cut into 20 ms frames
without overlap, what is left at the end counts for nothing; the level is the RMS over all samples of the active frames,
those within 40 dB of the loudest frame. It is brought to -25 dBFS; nothing is clipped: peaks may exceed 1.0.
Music (level None) stays as it was mastered; only what exceeds 1.0 once resampled is scaled down until its peak is 1.0.
"""

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, final, get_args

import numpy as np
import soundfile
import soxr

from .errors import DataError
from .parts.memory import FileMemory

SAMPLE_RATE = 16_000  # Hz, of speech
LEVEL = -25.0  # dBFS over active frames
FRAME_SECONDS = 0.02
ACTIVE_RANGE = 40.0  # dB below the loudest frame
SILENCE = -80.0  # dBFS; a 16-bit file in which only the last bit flickers stays below -90
SHORTEST_SECONDS = 0.5
RATES = (4_000, 768_000)  # Hz; anything else is a damaged header
LONGEST = 1 << 33  # samples; a header without a length claims more
FULL_SCALE, CLIPPED_SHARE = 0.999, 1e-3  # clipped: more than this share of the samples lies beyond this magnitude
CHECKS = 1  # raise it when load() refuses other files

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Kind = Literal["speech", "music", "image", "vector"]

log = logging.getLogger(__name__)


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
    samples, rate = read_channels(path)
    return samples.mean(axis=1, dtype=np.float64).astype(np.float32), rate


def read_channels(path: Path) -> tuple[np.ndarray, int]:
    """Samples (float32 [N, channels]) and sample rate in Hz; DataError where there are none to be had."""
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
    return samples, rate


def active_level(waveform: np.ndarray, rate: int) -> float:
    """Level of a waveform [N] of at least 20 ms by the level rule above, in dBFS; -inf for zeros."""
    length = round(FRAME_SECONDS * rate)
    frames = waveform[: len(waveform) // length * length].reshape(-1, length)
    powers = np.square(frames, dtype=np.float64).mean(axis=1)
    if not powers.max():
        return float("-inf")
    return float(10 * np.log10(powers[powers >= powers.max() * 10 ** (-ACTIVE_RANGE / 10)].mean()))


def condition(
    waveform: np.ndarray, rate: int, sample_rate: int = SAMPLE_RATE, target: float | None = LEVEL
) -> np.ndarray:
    """Waveform [N] at any rate in Hz -> float32 at sample_rate, without DC, at a level of `target` dBFS.

    None as target leaves the level as it is, up to a peak of 1.0. DataError if silent or too short.
    """
    if not RATES[0] <= rate <= RATES[1]:
        raise DataError(f"its sample rate of {rate} Hz is not between {RATES[0]} and {RATES[1]}")
    if len(waveform) < SHORTEST_SECONDS * rate:
        raise DataError(f"only {len(waveform) / rate:.2f} s long; at least {SHORTEST_SECONDS} s are needed")
    centred = waveform - waveform.mean(dtype=np.float64)  # first: resampling an offset would ring at both ends
    resampled = soxr.resample(centred, rate, sample_rate, quality="HQ")
    level = active_level(resampled, sample_rate)
    if level < SILENCE:
        raise DataError(f"silent (below {SILENCE:.0f} dBFS)")
    gain = 1 / max(1.0, float(np.abs(resampled).max())) if target is None else 10 ** ((target - level) / 20)
    return (resampled * gain).astype(np.float32)


def resample(sound: np.ndarray, rate: int, wanted: int, length: int | None = None) -> np.ndarray:
    """Sound [N] at another rate in Hz; `length` samples, by default as many as N last there, rounded up."""
    length = -(-len(sound) * wanted // rate) if length is None else length
    resampled = soxr.resample(sound, rate, wanted, quality="HQ")[:length]
    return np.pad(resampled, (0, length - len(resampled)))


class Corpus(ABC):
    """A corpus plug-in: the file's name is the registered name, the constructor's arguments are its options.

    Derive from Recordings (items: files of speech or music) or from Arrays (array: images or vectors).
    """

    kind: ClassVar[Kind]
    title: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str]
    revision: ClassVar[str]
    url: ClassVar[str]
    hours: ClassVar[float | None]  # of audio; None where it depends on the user's files, or there is no sound
    remedy: ClassVar[str] = "repair or remove them"  # what a user can do about unusable files
    _fingerprint: str = ""

    @abstractmethod
    def contents(self) -> Iterator[tuple[str, ...]]:
        """All that makes the data what they are, wherever they lie."""

    @abstractmethod
    def validate(self) -> None:
        """Look at everything once; DataError where something cannot be used."""

    def notes(self) -> list[str]:
        """What a reader of the scores must know about these data; a sentence each."""
        return []

    @final
    def fingerprint(self) -> str:
        """16 hex digits over the names and contents of all splits; where the files lie does not enter."""
        if not self._fingerprint:
            digest = hashlib.sha256()
            for part in self.contents():
                digest.update(repr(part).encode())
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint


class Recordings(Corpus):
    """A corpus of audio files, each loaded as a mono waveform."""

    kind: ClassVar[Kind] = "speech"
    sample_rate: int = SAMPLE_RATE  # Hz of what load() gives
    level: float | None = LEVEL  # dBFS of what load() gives; None: as recorded, peaks at most 1.0

    @abstractmethod
    def items(self, split: Split) -> list[Item]:
        """The recordings of one split, sorted, the same at every call; no speaker is in two splits."""

    def load(self, item: Item) -> np.ndarray:
        """float32 [N], mono, at sample_rate and level, DC removed; DataError names an unusable file."""
        return self._conditioned(item.path, *read_audio(item.path))

    def reference(self, item: Item) -> np.ndarray:
        """What intelligibility is scored against, as long as load(item): another signal only where that is noisy."""
        return self.load(item)

    def conditions(self, item: Item) -> dict[str, str | float]:
        """How load(item) came about, for tables by condition (snr_db, noise, ...); nothing for plain recordings."""
        return {}

    def ingredients(self) -> Iterator[tuple[str, ...]]:
        """All that load() and reference() follow from beside the files of the items; DataError: it cannot be used."""
        yield from ()

    @final
    def contents(self) -> Iterator[tuple[str, ...]]:
        """Split, name, speaker and sha256 of every file, and the further ingredients."""
        with FileMemory("sha256", [item.path for split in SPLITS for item in self.items(split)]) as memory:
            for split in SPLITS:
                for item in self.items(split):
                    yield (split, item.name, item.speaker, memory.recall(item.path, content_hash))
        yield from self.ingredients()

    @final
    def validate(self) -> None:
        """Open every file once; DataError names the first unusable ones, how many there are, and what to do.

        Clipped recordings are usable: how many there are is logged.
        """
        items = [item for split in SPLITS for item in self.items(split)]
        faults, clipped = [], []
        with FileMemory(f"checks {CHECKS} {self.sample_rate} {self.level}", [item.path for item in items]) as memory:
            for item in items:
                try:
                    clipped += [item.path] * (memory.recall(item.path, self._checked) == "clipped")
                except DataError as error:
                    faults.append(str(error))
        if faults:
            raise DataError(
                f"{len(faults)} of {len(items)} files cannot be used: {_first(faults, '; ')}; {self.remedy}"
            )
        if clipped:
            log.warning(
                "%d of %d files are clipped: %s", len(clipped), len(items), _first([*map(shown, clipped)], ", ")
            )

    @final
    def fault(self, item: Item) -> str:
        """Why load() refuses this item, or an empty string."""
        try:
            self.load(item)
        except DataError as error:
            return str(error)
        return ""

    @final
    def usable(self, items: list[Item]) -> list[Item]:
        """The items that load() does not refuse; the others are logged. DataError where none is left."""
        faults = {item: fault for item in items if (fault := self.fault(item))}
        for fault in faults.values():
            log.warning("left out: %s", fault)
        if len(faults) == len(items):
            raise DataError(f"none of the {len(items)} files can be used; the first: {faults[items[0]]}")
        return [item for item in items if item not in faults]

    def _conditioned(self, path: Path, waveform: np.ndarray, rate: int) -> np.ndarray:
        try:
            return condition(waveform, rate, self.sample_rate, self.level)
        except DataError as error:
            raise DataError(f"{shown(path)}: {error}") from None

    def _checked(self, path: Path) -> str:
        waveform, rate = read_audio(path)
        self._conditioned(path, waveform, rate)
        return "clipped" if clipped_share(waveform) > CLIPPED_SHARE else "sound"


class Arrays(Corpus):
    """A corpus of equally shaped arrays, which fit into memory."""

    hours: ClassVar[float | None] = None

    @abstractmethod
    def array(self, split: Split) -> np.ndarray:
        """float32, the same at every call: images "N 3 H W" in [0, 1], vectors "N C"."""

    @final
    def contents(self) -> Iterator[tuple[str, ...]]:
        """Split, shape and sha256 of every array."""
        for split in SPLITS:
            array = np.ascontiguousarray(self.array(split), dtype="<f4")
            yield (split, str(array.shape), hashlib.sha256(array.data).hexdigest())

    @final
    def validate(self) -> None:
        """DataError where a split is empty or differs in shape from the others, or a value is not finite."""
        shapes = set()
        for split in SPLITS:
            array = self.array(split)
            shapes.add(array.shape[1:])
            if not len(array) or len(shapes) > 1 or not np.isfinite(array).all():
                raise DataError(f"the {split} split, {array.shape}, is empty, of another shape, or not finite")


def clipped_share(waveform: np.ndarray) -> float:
    """The share of the samples of a waveform [N] that lie at full scale."""
    return float((np.abs(waveform) >= FULL_SCALE).mean())


def content_hash(path: Path) -> str:
    """sha256 of a file; DataError if it cannot be read."""
    try:
        if not path.is_file():
            raise DataError(f"{shown(path)}: no such file")
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be opened ({error.strerror or error})") from None


def _first(names: list[str], between: str) -> str:
    return between.join(names[:3]) + (f"{between}..." if len(names) > 3 else "")
