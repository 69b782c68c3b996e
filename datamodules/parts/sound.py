"""Sound files read, and brought to one rate and level.

file -> read_audio -> mono -> DC removed -> sample_rate (soxr HQ) -> levelled -> float32 "N"

Level rule of speech: 0 dBFS is an RMS of 1.0 (a full-scale sine has -3.01 dBFS). The waveform is cut into 20 ms frames
without overlap, what is left at the end counts for nothing; the level is the RMS over all samples of the active frames,
those within 40 dB of the loudest frame. It is brought to -25 dBFS; nothing is clipped: peaks may exceed 1.0.
Music (level None) stays as it was mastered; only what exceeds 1.0 once resampled is scaled down until its peak is 1.0.
"""

from pathlib import Path

import numpy as np
import soundfile
import soxr

from ..errors import DataError
from .items import shown

SAMPLE_RATE = 16_000  # Hz, of speech
LEVEL = -25.0  # dBFS over active frames
FRAME_SECONDS = 0.02
ACTIVE_RANGE = 40.0  # dB below the loudest frame
SILENCE = -80.0  # dBFS; a 16-bit file in which only the last bit flickers stays below -90
SHORTEST_SECONDS = 0.5
RATES = (4_000, 768_000)  # Hz; anything else is a damaged header
LONGEST = 1 << 33  # samples; a header without a length claims more
FULL_SCALE, CLIPPED_SHARE = 0.999, 1e-3  # clipped: more than this share of the samples lies beyond this magnitude


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


def clipped_share(waveform: np.ndarray) -> float:
    """The share of the samples of a waveform [N] that lie at full scale."""
    return float((np.abs(waveform) >= FULL_SCALE).mean())
