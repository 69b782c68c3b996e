"""A user's recordings of noise: one file a noise, named after it."""

from functools import cached_property
from pathlib import Path

import numpy as np

from ..base import FRAME_SECONDS, SAMPLE_RATE, SILENCE, DataError, condition, read_audio, root_folder, shown
from ..base import SHORTEST_SECONDS as SHORTEST_SPEECH
from ..tree import audio_files
from .conditions import NOISES
from .noise import extended

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
SHORTEST_SECONDS = 1.0


class NoiseFiles:
    """The noises in a folder, searched to any depth; none without a folder.

    BFR, Bus, CCITT and Office are recognised in upper or lower case; other noises are called as their files.
    """

    def __init__(self, root: str = "") -> None:
        self.root = root
        self._recordings: dict[str, np.ndarray] = {}

    @cached_property
    def paths(self) -> dict[str, Path]:
        """Noise -> file, sorted; DataError where the folder holds none, or two of one name."""
        if not self.root:
            return {}
        root, found = root_folder(self.root), {}
        for path in audio_files(root, SUFFIXES):
            name = next((noise for noise in NOISES if noise.casefold() == path.stem.casefold()), path.stem)
            if name in found:
                raise DataError(f"{shown(path)}: {shown(found[name])} is noise {name!r} as well; keep one")
            found[name] = path
        if not found:
            raise DataError(f"{shown(root)}: holds no noise ({', '.join(SUFFIXES)})")
        return dict(sorted(found.items()))

    def excerpt(self, name: str, length: int, generator: np.random.Generator) -> np.ndarray:
        """float64 [length] at 16 kHz from a random place on; where the recording ends it is faded into its start."""
        recording = self.recording(name)
        return extended(recording, length, int(generator.integers(len(recording))))

    def recording(self, name: str) -> np.ndarray:
        """float32 [N] at 16 kHz; DataError where it is unreadable, shorter than a second, or silent for half of one."""
        if name not in self._recordings:
            path = self.paths[name]
            sound, rate = read_audio(path)
            if len(sound) < SHORTEST_SECONDS * rate:
                raise DataError(f"{shown(path)}: only {len(sound) / rate:.2f} s long; noise needs 1 s, better minutes")
            try:
                sound = condition(sound, rate, SAMPLE_RATE)
                _check_silence(sound)
            except DataError as error:
                raise DataError(f"{shown(path)}: {error}") from None
            self._recordings[name] = sound
        return self._recordings[name]


def _check_silence(sound: np.ndarray) -> None:
    """DataError where an excerpt, which may run over the end, could hold nothing: no gain would give it an SNR."""
    length = round(FRAME_SECONDS * SAMPLE_RATE)
    powers = sound[: len(sound) // length * length].reshape(-1, length).var(axis=1, dtype=np.float64)  # DC is no noise
    heard = np.flatnonzero(powers > 10 ** (SILENCE / 10))
    if not len(heard):
        raise DataError("silent but for its offset")
    gaps = np.diff([*heard, heard[0] + len(powers)]) - 1
    longest = int(np.argmax(gaps))
    if (gaps[longest] + 2) * FRAME_SECONDS >= SHORTEST_SPEECH:  # frames beside a gap may be silent in part
        begin, seconds = (heard[longest] + 1) % len(powers) * FRAME_SECONDS, gaps[longest] * FRAME_SECONDS
        raise DataError(f"silent for {seconds:.2f} s from {begin:.2f} s on; cut that out")
