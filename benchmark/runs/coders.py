"""What codes files of the user's: the trained model of a run's folder, or its codec with nothing to train."""

import argparse
import contextlib
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from ...codecs.base import Codec
from ...codecs.classical.base import ClassicalCodec
from ...codecs.files import container
from ...codecs.files.container import Header
from ...codecs.files.files import decode_file, encode_file
from ...datamodules.base import Recordings, shown
from ...quantizers.coding.entropy import Coder
from ...quantizers.coding.errors import BitstreamError
from ..errors import UserError
from ..specs.classical import is_classical, make_baseline
from ..specs.options import told_by
from ..specs.spec import Spec
from ..tracks.base import FrontEnd
from ..tracks.choose import corpus_of, front_end_of
from ..tracks.cochlear import CochlearFrontEnd
from ..tracks.waveform import WaveformFrontEnd
from ..training.model import MODEL, SPEC, load_model
from .evaluation import kilobits_per_second

REMEDY = "name the folder of a finished run, such as runs/NAME"


class Asked(NamedTuple):
    """How a file is to be coded."""

    samples: int  # of the source
    rate: int | None = None  # Hz of the source; None: that of the front end
    streams: int | None = None  # the first so many; None: all
    coder: Coder | None = None  # None: that of the run


class Written(NamedTuple):
    """What came of a file."""

    header: int  # bytes
    payload: int  # bytes
    codes: str  # how many, and how they were coded
    rates: dict[str, float]  # kbit/s


class RunCoder(ABC):
    """Between the signal of a front end and a file."""

    front_end: FrontEnd

    @abstractmethod
    def write(self, signal: Tensor, target: Path, asked: Asked) -> Written:
        """The file of a signal (without B). UserError, BitstreamError: it cannot be."""

    @abstractmethod
    def read(self, source: Path) -> tuple[Header, Tensor]:
        """Header and signal (without B) of a file. BitstreamError: it is no such file."""


def run_coder(run: Path) -> RunCoder:
    """That of a run's folder. UserError where there is none."""
    if not (run / SPEC).is_file():
        raise UserError(f"--run {shown(run)}: holds no {SPEC}; {REMEDY}")
    with _about(run, OSError, ValueError):  # UserError and UnicodeDecodeError are ValueErrors
        spec = Spec.from_yaml((run / SPEC).read_text(encoding="utf-8"))
    with _about(run, KeyError, TypeError, AttributeError, argparse.ArgumentError):
        if is_classical(spec.codec.name):
            return _Classical(spec)
        if not (run / MODEL).is_file():
            raise UserError(f"--run {shown(run)}: holds no {MODEL}; {REMEDY}")
        return _Trained(spec, load_model(run, spec))


@contextlib.contextmanager
def _about(run: Path, *errors: type[Exception]) -> Iterator[None]:
    """What is wrong with a spec that somebody has edited is said in one line."""
    try:
        yield
    except errors as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
        raise UserError(f"--run {shown(run)}: its {SPEC} cannot be used ({reason})") from error


@final
class _Trained(RunCoder):
    def __init__(self, spec: Spec, codec: Codec) -> None:
        self.spec, self.codec, self.front_end = spec, codec, front_end_of(spec)

    def write(self, signal: Tensor, target: Path, asked: Asked) -> Written:
        if asked.streams is not None:
            try:
                self.codec.truncate(asked.streams)
            except ValueError as error:
                raise UserError(f"--streams: {error}") from error
        coder = asked.coder or self.spec.coder
        codes, _ = encode_file(self.codec, signal, target, coder, asked.samples, asked.rate)
        header, payload = container.read(target, container.fingerprint(self.codec))
        seconds = asked.samples / (asked.rate or self.front_end.sample_rate)
        rates = kilobits_per_second(self.codec, codes, header, len(payload), seconds)
        about = f"{codes.shape[2]} positions, {codes.shape[1]} code(s) each, {header.coder} coder"
        return Written(header.size, len(payload), about, rates)

    def read(self, source: Path) -> tuple[Header, Tensor]:
        return decode_file(self.codec, source, self.front_end.signal_length)


@final
class _Classical(RunCoder):
    """Waveforms are coded as they are on every track: what is decoded is the sound, before any front end."""

    def __init__(self, spec: Spec) -> None:
        self.spec, self.placed = spec, placed(spec)
        self.front_end = self.placed.front_end

    def write(self, signal: Tensor, target: Path, asked: Asked) -> Written:
        for option in ("streams", "coder"):
            if getattr(asked, option) is not None:
                raise UserError(f"--{option}: {self.spec.codec.name} has its own bitstream; leave it out")
        header = Header(asked.samples, rate=asked.rate)
        with self._may_fail(target, "encode"):
            payload = self.placed.codec.encode(signal.numpy(), self.placed.rate)
        container.write(target, container.pack(header, payload, self.placed.mark))
        seconds = asked.samples / (asked.rate or self.front_end.sample_rate)
        rates = {} if self.spec.bitrate is None else {"nominal": self.spec.bitrate}
        bits = {"payload": 8 * len(payload), "measured": 8 * (header.size + len(payload))}
        rates |= {name: each / seconds / 1000 for name, each in bits.items()}
        return Written(header.size, len(payload), f"the bitstream of {self.spec.codec.name}", rates)

    def read(self, source: Path) -> tuple[Header, Tensor]:
        header, payload = container.read(source, self.placed.mark)
        if header.samples == 0:
            raise BitstreamError(f"{shown(source)}: holds no samples; encode a longer signal")
        with self._may_fail(source, "decode"):
            length = self.front_end.signal_length(header.samples, header.rate)
            signal = torch.from_numpy(self.placed.codec.decode(payload, length, self.placed.rate))
        return header, signal

    @contextlib.contextmanager
    def _may_fail(self, path: Path, what: str) -> Iterator[None]:
        """Libraries raise many kinds of errors at what they cannot code."""
        try:
            yield
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise BitstreamError(f"{shown(path)}: {self.spec.codec.name} cannot {what} this ({reason})") from error


class Placed(NamedTuple):
    """A classical codec where a spec has it."""

    codec: ClassicalCodec
    front_end: FrontEnd  # between sound and the codec itself
    rate: float  # samples per second of what the codec is given
    mark: bytes  # tells its files from those of other codecs and settings

    @property
    def of_patterns(self) -> bool:
        """Whether the codec is given stimulation patterns, not sound."""
        return isinstance(self.front_end, CochlearFrontEnd)


def placed(spec: Spec) -> Placed:
    """A new instance of a spec's codec. UserError where it cannot code the spec's data here."""
    codec = make_baseline(spec.codec.name, spec.codec.options, spec.bitrate)
    corpus = recordings(corpus_of(spec))
    if spec.codec.options["track"] == "cochlear" and "stimulation" in codec.domains:
        front_end, rate, given = CochlearFrontEnd(spec.ace), spec.ace.frame_rate, asdict(spec.ace)
    else:
        front_end, rate = WaveformFrontEnd(corpus.sample_rate, corpus.level), corpus.sample_rate
        given = {"sample_rate": rate}
    with told_by(spec.codec.name):
        codec.check(rate)
    setting = [spec.codec.name, spec.codec.options, spec.bitrate, given]
    return Placed(codec, front_end, rate, hashlib.sha256(json.dumps(setting, sort_keys=True).encode()).digest())


def recordings(corpus: Any) -> Recordings:
    """The corpus, which holds sound."""
    assert isinstance(corpus, Recordings), "domains see to it"
    return corpus
