"""The hearing-aid head of Kayser et al. (2009) from a user's copy: behind the left ear, front microphone.

ROOT/hrir/anechoic/anechoic_distcm_80_el_0_az_{A}.wav    8 channels, 3 and 4 the front microphones left and right
ROOT/hrir/office_I/office_I_distcm_100_el_0_az_{A}.wav   6 channels, 1 and 2 the front microphones

A counts in steps of 5 degrees, negative to the left. Where the file of an azimuth is missing, that of the other side is
taken with the ears exchanged. The cafeteria was measured at six places without a grid of azimuths: it is simulated.
Kayser et al., EURASIP JASP 2009:298605, doi:10.1155/2009/298605. For research and education only: it is not shipped.
"""

from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple, final

import numpy as np

from ..base import read_channels, shown
from ..errors import DataError
from .head import Head, at_16_khz, wrapped

PLACES = ("HRIR_database_wav/hrir", "hrir", ".")
GRID = 5  # degrees


class _Set(NamedTuple):
    """Where one room's files lie, how many channels they have, which are left and right, and how far round they go."""

    pattern: str
    channels: int
    ears: tuple[int, int]
    widest: int


SETS = {
    "Anechoic": _Set("anechoic/anechoic_distcm_80_el_0_az_{}.wav", 8, (2, 3), 180),
    "Office": _Set("office_I/office_I_distcm_100_el_0_az_{}.wav", 6, (0, 1), 90),
}


@final
class KayserHead(Head):
    """A hearing aid behind the left ear of an artificial head, without a room and in an office."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def response(self, azimuth: float) -> np.ndarray:
        """Of the nearest azimuth of the grid, source at 80 cm; DataError where a file is missing or damaged."""
        return self._response("Anechoic", azimuth)

    def in_room(self, scenario: str, azimuth: float) -> np.ndarray | None:
        """Of the office, source at 1 m, up to 90 degrees to either side."""
        known = scenario in SETS and abs(wrapped(azimuth)) <= SETS[scenario].widest + GRID / 2
        return self._response(scenario, azimuth) if known else None

    def note(self) -> str:
        """What is measured and what is not."""
        return (
            "the head was measured behind the ear (Kayser et al. 2009), as was the office; the cafeteria is simulated"
        )

    def files(self) -> list[Path]:
        """All files that may be read."""
        return sorted(path for part in SETS.values() for path in self._home.glob(part.pattern.format("*")))

    def _response(self, scenario: str, azimuth: float) -> np.ndarray:
        rounded = GRID * round(wrapped(azimuth) / GRID)
        rounded = 180 if rounded == -180 else max(-SETS[scenario].widest, min(rounded, SETS[scenario].widest))
        part = SETS[scenario]
        file, mirrored = (self._home / part.pattern.format(side) for side in (rounded, -rounded))
        if file.is_file() or not mirrored.is_file():
            return _channel(file, part.channels, part.ears[0])
        return _channel(mirrored, part.channels, part.ears[1])

    @cached_property
    def _home(self) -> Path:
        home = next((self.root / place for place in PLACES if (self.root / place / "anechoic").is_dir()), None)
        if home is None:
            raise DataError(f"{shown(self.root)}: holds no hrir/anechoic; name the folder of the database of Kayser")
        return home


@cache
def _channel(path: Path, channels: int, index: int) -> np.ndarray:
    sound, rate = read_channels(path)
    if sound.shape[1] != channels:
        raise DataError(f"{shown(path)}: has {sound.shape[1]} channels, not {channels}")
    if not sound[:, index].any():
        raise DataError(f"{shown(path)}: channel {index + 1} is silent")
    response = at_16_khz(sound[:, index].astype(np.float64), rate)
    response.flags.writeable = False  # it is handed out again
    return response
