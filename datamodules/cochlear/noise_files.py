"""A user's recordings of noise: one file a noise, named after it."""

from functools import cached_property
from pathlib import Path

import numpy as np

from ..base import FRAME_SECONDS, SAMPLE_RATE, SILENCE, Split, condition, read_audio, root_folder, shown
from ..base import SHORTEST_SECONDS as SHORTEST_SPEECH
from ..errors import DataError
from ..parts.tree import audio_files
from .conditions import NOISES
from .noise import extended

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
SHORTEST_SECONDS = 1.0
APART_SECONDS = 60.0  # recordings as long as this are divided among the splits
SHARES: dict[Split, tuple[float, float]] = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}


class NoiseFiles:
    """The noises in a folder, searched to any depth; none without a folder.

    BFR, Bus, CCITT and Office are recognised in upper or lower case; other noises are called as their files. Of a
    recording of a minute or more the first 60 % are heard in training, then 20 % each in validation and test.
    """

    def __init__(self, root: str = "") -> None:
        self.root = root
        self._recordings: dict[str, np.ndarray] = {}

    @cached_property
    def paths(self) -> dict[str, Path]:
        """Noise -> file, sorted; DataError where the folder holds none, or two of one name."""
        if not self.root:
            return {}
        root, paths = root_folder(self.root), {}
        for path in audio_files(root, SUFFIXES):
            name = next((noise for noise in NOISES if noise.casefold() == path.stem.casefold()), path.stem)
            if name in paths:
                raise DataError(f"{shown(path)}: {shown(paths[name])} is noise {name!r} as well; keep one")
            paths[name] = path
        if not paths:
            raise DataError(f"{shown(root)}: holds no noise ({', '.join(SUFFIXES)})")
        return dict(sorted(paths.items()))

    def excerpt(self, name: str, split: Split, length: int, generator: np.random.Generator) -> np.ndarray:
        """float64 [length] at 16 kHz of a split's part, from a random place on; its end is faded into its start."""
        part = self.part(name, split)
        return extended(part, length, int(generator.integers(len(part))))

    def part(self, name: str, split: Split) -> np.ndarray:
        """float32 [N]: what a split hears of a recording; DataError as recording()."""
        recording = self.recording(name)
        begin, end = _bounds(len(recording), split)
        return recording[begin:end]

    def apart(self, name: str) -> bool:
        """Whether a recording is long enough for every split to have a part of its own."""
        return len(self.part(name, "test")) < len(self.recording(name))

    def recording(self, name: str) -> np.ndarray:
        """float32 [N] at 16 kHz; DataError where it is unreadable, shorter than a second, or silent for half of one."""
        if name not in self._recordings:
            path = self.paths[name]
            sound, rate = read_audio(path)
            if len(sound) < SHORTEST_SECONDS * rate:
                raise DataError(f"{shown(path)}: only {len(sound) / rate:.2f} s long; noise needs 1 s, better minutes")
            try:
                sound = condition(sound, rate, SAMPLE_RATE)
                for begin, end in dict.fromkeys(_bounds(len(sound), split) for split in SHARES):
                    _check_silence(sound[begin:end], begin / SAMPLE_RATE)
            except DataError as error:
                raise DataError(f"{shown(path)}: {error}") from None
            self._recordings[name] = sound
        return self._recordings[name]


def _bounds(length: int, split: Split) -> tuple[int, int]:
    """Where a split's part of a recording begins and ends, in samples."""
    first, last = SHARES[split] if length >= APART_SECONDS * SAMPLE_RATE else (0.0, 1.0)
    return round(first * length), round(last * length)


def _check_silence(sound: np.ndarray, start: float) -> None:
    """DataError where an excerpt, which may run over the end, could hold nothing: no gain would give it an SNR.

    `start`: of this part in its recording, in seconds.
    """
    length = round(FRAME_SECONDS * SAMPLE_RATE)
    powers = sound[: len(sound) // length * length].reshape(-1, length).var(axis=1, dtype=np.float64)  # DC is no noise
    heard = np.flatnonzero(powers > 10 ** (SILENCE / 10))
    end = start + len(powers) * FRAME_SECONDS
    if not len(heard):
        raise DataError(f"silent but for its offset from {start:.2f} to {end:.2f} s; cut that out")
    gaps = np.diff([*heard, heard[0] + len(powers)]) - 1
    longest = int(np.argmax(gaps))
    if (gaps[longest] + 2) * FRAME_SECONDS >= SHORTEST_SPEECH:  # frames beside a gap may be silent in part
        begin, seconds = start + (heard[longest] + 1) * FRAME_SECONDS, gaps[longest] * FRAME_SECONDS
        over = f", over {end:.2f} s back to {start:.2f} s" if begin + seconds > end + FRAME_SECONDS / 2 else ""
        raise DataError(f"silent for {seconds:.2f} s from {begin:.2f} s on{over}; cut that out")
