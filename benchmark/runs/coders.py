"""What a run codes files with: its trained model, or its codec with nothing to train.

The same object codes the test items of a run and the files of a user. On the cochlear track a codec of patterns stands
behind the front end, a classical codec of waveforms before it.
"""

import contextlib
import hashlib
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from math import nan
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from ...codecs.base import Codec
from ...codecs.classical.base import ClassicalCodec
from ...codecs.files import container
from ...codecs.files.container import Header
from ...codecs.files.files import decode_file, encode_file, operating
from ...datamodules.base import Recordings, shown
from ...quantizers.coding.entropy import Coder, information
from ...quantizers.coding.errors import BitstreamError
from ..errors import UserError
from ..metrics.codes import codebook_use
from ..specs.options import told_by
from ..specs.spec import MODEL, Spec
from ..tracks.base import FrontEnd, TestItem, Track
from ..tracks.choose import corpus_of
from ..tracks.cochlear import CochlearFrontEnd
from ..tracks.waveform import WaveformFrontEnd
from .evaluation import EXAMPLES, Coding, Seconds, Subject, timed
from .macs import macs_per_second
from .record import ITEMS, codebook_summary, environment

BITSTREAMS = "bitstreams"
FILES = {"items": ITEMS, "bitstreams": BITSTREAMS, "examples": EXAMPLES}
TOLERANCE = 1e-5  # between what the encoder expected and what the file decodes to


class Asked(NamedTuple):
    """How a file is to be coded."""

    samples: int  # of the source
    rate: int | None = None  # Hz of the source; None: that of the front end
    streams: int | None = None  # the first so many; None: all
    coder: Coder | None = None  # None: that of the run
    seed: int = 0  # of noise that both sides draw


class Written(NamedTuple):
    """What went into a file."""

    about: str  # how many codes, and how they were coded
    codes: Tensor | None = None  # "1 S T", where the codec has any
    expected: Tensor | None = None  # what the file should decode to, where that is known


class RunCoder(ABC):
    """Between a signal (without B) and a file."""

    front_end: FrontEnd | None  # between sound and that signal; None: the signal is the source itself

    @property
    @abstractmethod
    def mark(self) -> bytes:
        """Tells its files from those of other models and settings."""

    @abstractmethod
    def write(self, signal: Tensor, target: Path, asked: Asked) -> Written:
        """The file of a signal. UserError, BitstreamError: it cannot be."""

    @abstractmethod
    def read(self, source: Path) -> tuple[Header, Tensor]:
        """Header and signal of a file. BitstreamError: it is no such file."""

    @abstractmethod
    def rates(self, written: Written, header: Header, payload: int, seconds: float) -> dict[str, float]:
        """kbit/s of a file of so many bytes: those known of nominal and entropy, payload, and with header, measured."""

    @abstractmethod
    def described(self, track: Track, codes: list[Tensor]) -> dict[str, Any]:
        """What a record says of it: codebook, complexity, environment, files; `codes` are those of all items."""


@final
class TrainedCoder(RunCoder):
    """A trained model."""

    def __init__(self, spec: Spec, codec: Codec, front_end: FrontEnd | None) -> None:
        self.spec, self.codec, self.front_end = spec, codec, front_end

    @property
    def mark(self) -> bytes:
        return container.fingerprint(self.codec)

    def write(self, signal: Tensor, target: Path, asked: Asked) -> Written:
        if asked.streams is not None:
            try:
                self.codec.truncate(asked.streams)
            except ValueError as error:
                raise UserError(f"--streams: {error}") from error
        coder = asked.coder or self.spec.coder
        codes, expected = encode_file(self.codec, signal, target, coder, asked.samples, asked.rate, asked.seed)
        about = f"{codes.shape[2]} positions, {codes.shape[1]} code(s) each, {coder} coder"
        return Written(about, codes, expected)

    def read(self, source: Path) -> tuple[Header, Tensor]:
        return decode_file(self.codec, source, None if self.front_end is None else self.front_end.signal_length)

    def rates(self, written: Written, header: Header, payload: int, seconds: float) -> dict[str, float]:
        codes = written.codes
        assert codes is not None
        with operating(self.codec, header.seed, codes.shape[1]):
            nominal = sum(quantizer.nominal_bits for quantizer in self.codec.quantizers) * codes.shape[2]
            entropy = information(self.codec, codes)
        return _kilobits({"nominal": nominal, "entropy": entropy}, header, payload, seconds)

    def described(self, track: Track, codes: list[Tensor]) -> dict[str, Any]:
        codec, rate = self.codec, track.signal_rate
        parts = zip(codec.quantizers, codec.split(torch.cat(codes, dim=2)), strict=True)
        used = [
            codebook_use(part, quantizer.alphabet) | {"size": list(quantizer.alphabet)} for quantizer, part in parts
        ]
        complexity = {
            "parameters": sum(p.numel() for p in codec.parameters()),
            "quantizer_parameters": sum(p.numel() for quantizer in codec.quantizers for p in quantizer.parameters()),
            "macs_per_second": macs_per_second(codec, rate),
            "latency_s": codec.lookahead / rate,
        }
        return {"codebook": codebook_summary(used), "complexity": complexity, "files": {"model": MODEL, **FILES}}


@final
class ClassicalCoder(RunCoder):
    """A codec with nothing to train, where a spec has it; `rate` is in samples per second of what it is given."""

    def __init__(self, spec: Spec) -> None:
        """UserError where the codec cannot code the spec's data here."""
        self.spec, self.codec = spec, self._built(spec)
        corpus = corpus_of(spec)
        assert isinstance(corpus, Recordings), "tracks see to it"
        if spec.codec.options["track"] == "cochlear" and "stimulation" in self.codec.domains:
            front_end, self.rate, given = CochlearFrontEnd(spec.ace), spec.ace.frame_rate, asdict(spec.ace)
        else:
            front_end, self.rate = WaveformFrontEnd(corpus.sample_rate, corpus.level), corpus.sample_rate
            given = {"sample_rate": self.rate}
        self.front_end, self._length = front_end, front_end.signal_length
        with told_by(spec.codec.name):
            self.codec.check(self.rate)
        setting = [spec.codec.name, spec.codec.options, spec.bitrate, given]
        self._mark = hashlib.sha256(json.dumps(setting, sort_keys=True).encode()).digest()

    @property
    def mark(self) -> bytes:
        return self._mark

    def write(self, signal: Tensor, target: Path, asked: Asked) -> Written:
        for option in ("streams", "coder"):
            if getattr(asked, option) is not None:
                raise UserError(f"--{option}: {self.spec.codec.name} has its own bitstream; leave it out")
        with self._may_fail(target, "encode"):
            payload = self.codec.encode(signal.numpy(), self.rate)
        container.write(target, container.pack(Header(asked.samples, rate=asked.rate), payload, self.mark))
        return Written(f"the bitstream of {self.spec.codec.name}")

    def read(self, source: Path) -> tuple[Header, Tensor]:
        header, payload = container.read(source, self.mark)
        if header.samples == 0:
            raise BitstreamError(f"{shown(source)}: holds no samples; encode a longer signal")
        with self._may_fail(source, "decode"):
            length = self._length(header.samples, header.rate)
            signal = torch.from_numpy(self.codec.decode(payload, length, self.rate))
        return header, signal

    def rates(self, written: Written, header: Header, payload: int, seconds: float) -> dict[str, float]:
        return {"nominal": self.spec.bitrate or nan, "entropy": nan} | _kilobits({}, header, payload, seconds)

    def described(self, track: Track, codes: list[Tensor]) -> dict[str, Any]:
        size = {"parameters": 0, "quantizer_parameters": 0, "macs_per_second": None}
        complexity = {**size, "latency_s": self.codec.latency_s(self.rate)}
        return {"complexity": complexity, "environment": environment() | {"av": version("av")}, "files": FILES}

    @staticmethod
    def _built(spec: Spec) -> ClassicalCodec:
        return spec.codec.build(spec.bitrate)

    @contextlib.contextmanager
    def _may_fail(self, path: Path, what: str) -> Iterator[None]:
        """Libraries raise many kinds of errors at what they cannot code."""
        try:
            yield
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise BitstreamError(f"{shown(path)}: {self.spec.codec.name} cannot {what} this ({reason})") from error


@final
class CodedRun(Subject):
    """The test items of a track, coded by one coder and decoded by another, which sees nothing but the files."""

    def __init__(self, track: Track, encoder: RunCoder, decoder: RunCoder) -> None:
        self.track, self.encoder, self.decoder = track, encoder, decoder
        self.sources = track.test_items()
        self.codes: list[Tensor] = []  # of every item so far
        self.hears = isinstance(encoder.front_end, WaveformFrontEnd) and isinstance(track.front_end, CochlearFrontEnd)

    def load(self, source: Any) -> TestItem:
        return self.track.load(source)

    def code(self, item: TestItem, folder: Path, seconds: Seconds) -> Coding:
        """UserError if the file does not decode to what the encoder expected: then no score would mean anything."""
        path = folder / BITSTREAMS / f"{item.name}.cbs"
        path.parent.mkdir(exist_ok=True)
        given = item.sound if self.hears and item.sound is not None else item.signal
        with timed(seconds, "encode"):
            seed = zlib.crc32(item.name.encode()) & 0xFF  # of dither: an item's own, the same in every run
            written = self.encoder.write(given, path, Asked(item.samples, seed=seed))
        with timed(seconds, "decode"):
            header, decoded = self.decoder.read(path)
            if self.hears and self.track.front_end is not None:
                decoded = self.track.front_end.analyse(decoded)
        if written.expected is not None:
            _compare(path, written.expected, decoded)
        if written.codes is not None:
            self.codes.append(written.codes)
        size = path.stat().st_size
        rates = self.encoder.rates(written, header, size - header.size, item.seconds)
        return Coding(decoded, {"bytes": size} | {f"{name}_kbps": kbps for name, kbps in rates.items()})


def _kilobits(bits: dict[str, float], header: Header, payload: int, seconds: float) -> dict[str, float]:
    every = bits | {"payload": 8 * payload, "measured": 8 * (header.size + payload)}
    return {name: each / seconds / 1000 for name, each in every.items()}


def _compare(path: Path, expected: Tensor, decoded: Tensor) -> None:
    worst = float((expected - decoded).abs().max()) if expected.shape == decoded.shape else float("inf")
    if not worst <= TOLERANCE:
        raise UserError(f"{path}: decodes to something else than was encoded (difference {worst:.1e}); mend the codec")
