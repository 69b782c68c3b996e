"""A sound file to a bitstream and back, by the codec of a run: `benchmark encode` and `benchmark decode`.

encode: sound at any rate -> mono -> DC removed -> the domain's rate -> level -> front end -> codec -> bitstream
decode: bitstream -> codec -> front end -> the source's rate and length -> sound

The level is what the codec was trained at: -25 dBFS, or that of the recording where a corpus leaves them as they are.
Sound below SILENCE, or of less than a frame, is coded at the level it has: there is nothing to raise. What is decoded
is set to -25 dBFS where the front end does not keep the level: a waveform of silence stays silence.
"""

import argparse
import contextlib
import io
from collections.abc import Iterator
from math import inf, isnan
from pathlib import Path

import numpy as np
import soundfile
import torch

from ...codecs.files import container
from ...codecs.files.container import Header
from ...datamodules.base import FRAME_SECONDS, LEVEL, RATES, SILENCE, active_level, read_audio, resample, shown
from ...quantizers.coding.entropy import Coder
from ...quantizers.coding.errors import BitstreamError
from ..errors import UserError
from ..specs.spec import Spec
from ..tracks.base import FrontEnd
from ..tracks.choose import front_end_of
from ..training.model import MODEL, SPEC, load_model
from .coders import Asked, ClassicalCoder, RunCoder, TrainedCoder

REMEDY = "name the folder of a finished run, such as runs/NAME"
FORMATS = {".wav": "WAV", ".flac": "FLAC", ".aiff": "AIFF", ".aif": "AIFF"}  # those that keep every sample
FULL_SCALE = 0.999


def encode(
    source: Path, target: Path, run: Path, streams: int | None = None, entropy_coder: Coder | None = None
) -> list[str]:
    """Write the bitstream of a sound file; lines that say what came of it. UserError, DataError: one line why not."""
    _keep_apart(source, target)
    waveform, rate = read_audio(source)
    channels = _channels(source)
    if not RATES[0] <= rate <= RATES[1]:
        raise UserError(f"{shown(source)}: its sample rate of {rate} Hz is not between {RATES[0]} and {RATES[1]}")
    coder = run_coder(run)
    front_end = _front_end(coder)
    if len(waveform) < front_end.shortest * rate:
        raise UserError(
            f"{shown(source)}: only {len(waveform)} samples long; at least {front_end.shortest * rate:.0f} are needed"
        )
    header_rate = None if rate == front_end.sample_rate else rate
    try:
        _ = Header(len(waveform), rate=header_rate).size
    except BitstreamError as error:
        raise UserError(f"{shown(source)}: {error}") from error
    sound = resample(waveform - waveform.mean(dtype=np.float64), rate, front_end.sample_rate)
    gain, levelled = _gain(sound, front_end.sample_rate, front_end.level)
    signal = front_end.analyse(torch.from_numpy((sound * gain).astype(np.float32)))
    written = coder.write(signal, target, Asked(len(waveform), header_rate, streams, entropy_coder))
    seconds = len(waveform) / rate
    header, payload = container.read(target, coder.mark)
    rates = coder.rates(written, header, len(payload), seconds)
    resampled = f"resampled to {front_end.sample_rate} Hz, " if header_rate else ""
    mixed = "mono" if channels == 1 else f"{channels} channels mixed to one"
    return [
        f"{shown(source)}: {seconds:.3f} s, {len(waveform)} samples at {rate} Hz, {mixed}, {resampled}{levelled}",
        f"{shown(target)}: {header.size + len(payload)} bytes, {header.size} of them header; {written.about}",
        "kbit/s: "
        + ", ".join(
            f"{'open' if value == inf else f'{value:.3f}'} {name}" for name, value in rates.items() if not isnan(value)
        ),
    ]


def decode(source: Path, target: Path, run: Path) -> list[str]:
    """Write the sound of a bitstream; lines that say what came of it. UserError: one line why not."""
    _keep_apart(source, target)
    kind = FORMATS.get(target.suffix.lower())
    if kind is None:
        raise UserError(f"{shown(target)}: name a file that keeps every sample: {', '.join(FORMATS)}")
    coder = run_coder(run)
    front_end = _front_end(coder)
    header, signal = coder.read(source)
    rate = header.rate or front_end.sample_rate
    sound = front_end.synthesise(signal, front_end.resampled_length(header.samples, rate)).numpy()
    gain = 1.0 if front_end.keeps_level else _gain(sound, front_end.sample_rate, LEVEL)[0]
    sound = resample(sound * gain, front_end.sample_rate, rate, header.samples)
    loudest = float(np.abs(sound).max())
    lowered = min(1.0, FULL_SCALE / max(loudest, 1e-9))
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, sound * lowered, rate, format=kind, subtype="PCM_16")
    except (soundfile.LibsndfileError, ValueError) as error:
        raise UserError(f"{shown(target)}: {kind} cannot hold {rate} Hz; write .wav") from error
    container.write(target, buffer.getvalue())
    seconds, size = header.samples / rate, source.stat().st_size
    level = _level(sound * lowered, rate)
    return [
        f"{shown(source)}: {seconds:.3f} s, {size} bytes, {8 * size / seconds / 1000:.3f} kbit/s measured",
        f"{shown(target)}: {header.samples} samples at {rate} Hz, mono, "
        + ("" if level is None else f"{level:.1f} dBFS: " if level >= SILENCE else "silent: ")
        + front_end.output,
    ]


def _front_end(coder: RunCoder) -> FrontEnd:
    assert coder.front_end is not None, "run_coder() refuses what is no sound"
    return coder.front_end


def _gain(sound: np.ndarray, rate: int, wanted: float | None) -> tuple[float, str]:
    """The factor to a level of `wanted` dBFS (None: to a peak of at most 1), and what is done, in words."""
    level = _level(sound, rate)
    if level is None:
        return 1.0, "too short to have a level, coded as it is"
    if level < SILENCE:
        return 1.0, f"silent (below {SILENCE:.0f} dBFS), coded as it is"
    if wanted is None:
        return 1 / max(1.0, float(np.abs(sound).max())), f"{level:.1f} dBFS, coded as it is"
    return 10 ** ((wanted - level) / 20), f"{level:.1f} dBFS set to {wanted:.1f} dBFS"


def _level(sound: np.ndarray, rate: int) -> float | None:
    """In dBFS by the level rule; None for less than a frame."""
    return active_level(sound, rate) if len(sound) >= round(FRAME_SECONDS * rate) else None


def _channels(path: Path) -> int:
    with path.open("rb") as stream, soundfile.SoundFile(stream) as file:
        return file.channels


def _keep_apart(source: Path, target: Path) -> None:
    try:
        same = source.resolve() == target.resolve() or (target.exists() and target.samefile(source))
    except (OSError, ValueError, RuntimeError):  # what is wrong with a name is said where the file is opened
        same = False
    if same:
        raise UserError(f"{shown(target)}: would replace what is read; name another file")


def run_coder(run: Path) -> RunCoder:
    """That of a run's folder. UserError where there is none."""
    if not (run / SPEC).is_file():
        raise UserError(f"--run {shown(run)}: holds no {SPEC}; {REMEDY}")
    with _about(run, OSError, ValueError):  # UserError and UnicodeDecodeError are ValueErrors
        spec = Spec.from_yaml((run / SPEC).read_text(encoding="utf-8"))
    with _about(run, KeyError, TypeError, AttributeError, argparse.ArgumentError):
        if not spec.trained:
            return ClassicalCoder(spec)
        if not (run / MODEL).is_file():
            raise UserError(f"--run {shown(run)}: holds no {MODEL}; {REMEDY}")
        return TrainedCoder(spec, load_model(run, spec), front_end_of(spec))


@contextlib.contextmanager
def _about(run: Path, *errors: type[Exception]) -> Iterator[None]:
    """What is wrong with a spec that somebody has edited is said in one line."""
    try:
        yield
    except errors as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
        raise UserError(f"--run {shown(run)}: its {SPEC} cannot be used ({reason})") from error
