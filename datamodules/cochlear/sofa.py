"""A measured head from a SOFA file (AES69), convention SimpleFreeFieldHRIR.

SOFA counts azimuths counter-clockwise, to the left; here they count to the right. Its first receiver is the left ear.
Some published files count clockwise, or name the ears' places the other way round, so that is read from the
sound: what comes from the left is louder at the left ear.
"""

import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, final

import numpy as np

from ..base import RATES, shown
from ..errors import DataError
from .head import Head, at_16_khz

if TYPE_CHECKING:
    import h5py

CONVENTION = "SimpleFreeFieldHRIR"
FARTHEST = 10.0  # degrees between the side asked for and the nearest one measured

log = logging.getLogger(__name__)


class Measured(NamedTuple):
    """Impulse responses of both ears [M, 2, N] at `rate` Hz from `directions` [M, 3], unit vectors: front, left, up."""

    directions: np.ndarray
    responses: np.ndarray
    rate: int


@final
class SofaHead(Head):
    """The left ear of a head measured without a room, or in the one room that the file was measured in."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def response(self, azimuth: float) -> np.ndarray:
        """Of the direction measured nearest to this azimuth at elevation 0; DataError beyond 10 degrees."""
        measured, angle = self._measured, np.radians(azimuth)
        cosines = measured.directions @ np.array([np.cos(angle), -np.sin(angle), 0.0])
        nearest = int(np.argmax(cosines))
        away = float(np.degrees(np.arccos(min(1.0, cosines[nearest]))))
        if away > FARTHEST + 1e-6:
            raise DataError(
                f"{shown(self.path)}: the direction nearest to azimuth {azimuth:g} is {away:.0f} degrees away; rooms "
                "need all sides: pass --data.scenarios '[Anechoic]', or other --data.azimuths"
            )
        return at_16_khz(measured.responses[nearest, 0], measured.rate)

    def note(self) -> str:
        """Where it comes from."""
        return f"the head was measured ({self.path.name}); rooms are simulated around it"

    def files(self) -> list[Path]:
        """That file."""
        return [self.path]

    @cached_property
    def _measured(self) -> Measured:
        measured = read_sofa(self.path)
        left = measured.directions[:, 1]
        power = 10 * np.log10(np.square(measured.responses).sum(axis=2) + 1e-20)
        if left @ (power[:, 0] - power[:, 1]) < 0:
            log.warning("%s: its azimuths run clockwise, against the convention; they are turned round", self.path.name)
            measured = measured._replace(directions=measured.directions * np.array([1, -1, 1]))
        return measured


def read_sofa(path: Path) -> Measured:
    """What a SOFA file holds, delays applied; DataError where it is none, or of another convention."""
    import h5py  # slow to load, and few runs need it

    if not path.is_file():
        raise DataError(f"{shown(path)}: no such file")
    try:
        with h5py.File(path) as file:
            return _read(path, file)
    except OSError as error:
        raise DataError(f"{shown(path)}: not readable as SOFA, which is HDF5 ({_line(error)})") from None
    except KeyError as error:
        raise DataError(f"{shown(path)}: no complete SOFA file ({_line(error)})") from None


def _read(path: Path, file: "h5py.File") -> Measured:
    convention, kind = _text(file.attrs.get("SOFAConventions")), _text(file.attrs.get("DataType"))
    if (convention, kind) != (CONVENTION, "FIR"):
        _refuse(path, f"its convention is {convention or 'unknown'} ({kind or 'no DataType'}), not {CONVENTION} (FIR)")
    responses = _numbers(file, "Data.IR")
    if responses.ndim != 3 or responses.shape[1] != 2 or not responses.size:
        _refuse(path, f"Data.IR has the shape {responses.shape}; a left and a right ear are needed: (M, 2, N)")
    if not np.isfinite(responses).all() or not responses.any(axis=2).all():
        _refuse(path, "Data.IR holds silent responses, or NaN or infinite numbers")
    rate, unit = _numbers(file, "Data.SamplingRate").ravel(), _text(file["Data.SamplingRate"].attrs.get("Units"))
    if len(set(rate)) != 1 or unit.lower() != "hertz" or not RATES[0] <= rate[0] <= RATES[1]:
        _refuse(path, f"its sampling rate is {rate[:1]} {unit or 'without unit'}; one rate in hertz is needed")
    return Measured(_directions(path, file, len(responses)), _delayed(path, file, responses), round(rate[0]))


def _directions(path: Path, file: "h5py.File", count: int) -> np.ndarray:
    view = _numbers(file, "ListenerView").reshape(-1, 3)
    if not (np.abs(view - [1, 0, 0]) < 1e-3).all():
        _refuse(path, f"its listener looks towards {view[0].tolist()}; only [1, 0, 0] is understood")
    positions, about = _numbers(file, "SourcePosition"), file["SourcePosition"].attrs
    kind, units = _text(about.get("Type")), _text(about.get("Units"))
    if positions.shape != (count, 3):
        _refuse(path, f"SourcePosition has the shape {positions.shape}; ({count}, 3) is needed")
    if not np.isfinite(positions).all() or (kind == "cartesian" and not positions.any(axis=1).all()):
        _refuse(path, "SourcePosition holds NaN or infinite numbers, or the place of the head itself")
    if kind == "cartesian":
        return positions / np.linalg.norm(positions, axis=1, keepdims=True)
    if kind != "spherical" or not units.lower().startswith("degree"):
        _refuse(path, f"SourcePosition is {kind or 'of no type'} in {units or 'no unit'}; degrees are needed")
    azimuths, elevations = np.radians(positions[:, :2]).T
    flat = np.cos(elevations)
    return np.stack([flat * np.cos(azimuths), flat * np.sin(azimuths), np.sin(elevations)], axis=1)


def _delayed(path: Path, file: "h5py.File", responses: np.ndarray) -> np.ndarray:
    """The responses with Data.Delay, whole samples, before them."""
    delays = np.rint(_numbers(file, "Data.Delay")).astype(int)
    if delays.ndim != 2 or delays.shape[0] not in (1, len(responses)) or delays.shape[1] not in (1, 2):
        _refuse(path, f"Data.Delay has the shape {delays.shape}")
    if delays.min() < 0 or delays.max() > responses.shape[2] + RATES[1]:
        _refuse(path, "Data.Delay holds negative or huge delays")
    if not delays.any():
        return responses
    delayed = np.zeros((*responses.shape[:2], responses.shape[2] + delays.max()))
    for (index, ear), delay in np.ndenumerate(np.broadcast_to(delays, responses.shape[:2])):
        delayed[index, ear, delay : delay + responses.shape[2]] = responses[index, ear]
    return delayed


def _numbers(file: "h5py.File", name: str) -> np.ndarray:
    return np.asarray(file[name], dtype=np.float64)


def _text(value: Any) -> str:
    """An attribute, which may be bytes, text or empty."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value if isinstance(value, str) else ""


def _line(error: Exception) -> str:
    return " ".join(str(error).strip("'\"").split())


def _refuse(path: Path, why: str) -> NoReturn:
    raise DataError(f"{shown(path)}: {why}; use another file")
