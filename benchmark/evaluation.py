"""A trained codec on the test set: real files, decoded by a fresh model, compared, scored."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..codecs.base import Codec
from . import bitstream
from .bitstream import Header, fingerprint
from .entropy_coding import Coder, information
from .errors import UserError
from .metrics.codes import codebook_use
from .tracks import TestItem, Track

SHOWN = 3  # items whose decoded audio and pictures are kept
TOLERANCE = 1e-5  # between what the encoder expected and what the file decodes to

Watched = Callable[[Iterable[Any], str], Iterable[Any]]


class Evaluation(NamedTuple):
    """What came out on the test set."""

    rows: list[dict[str, Any]]  # one per item: name, seconds, bytes, rates, scores
    codebook: list[dict[str, Any]]  # one per quantizer
    seconds: dict[str, float]  # encode, decode, score, audio


@contextlib.contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    seconds[what] += time.perf_counter() - begin


def evaluate(decoder: Codec, encoder: Codec, track: Track, folder: Path, coder: Coder, watched: Watched) -> Evaluation:
    """Encode every test item to `folder`/bitstreams, decode the file with `decoder`, score it.

    UserError if a file does not decode to what the encoder expected: then no score would mean anything.
    """
    files, shown = folder / "bitstreams", folder / "examples"
    for place in (files, shown):
        place.mkdir(exist_ok=True)
    seconds: dict[str, float] = {"encode": 0.0, "decode": 0.0, "score": 0.0, "audio": 0.0}
    rows, codes = [], []
    for number, source in enumerate(watched(track.test_items(), "encode, decode, score")):
        item = track.load(source)
        path = files / f"{item.name}.cbs"
        with _timed(seconds, "encode"):
            sent, expected = encode_file(encoder, item.signal, path, coder)
        with _timed(seconds, "decode"):
            _, decoded = decode_file(decoder, path)
        _compare(path, expected, decoded)
        with _timed(seconds, "score"):
            scores = track.score(item, decoded)
        if number < SHOWN:
            track.show(item, decoded, shown)
        seconds["audio"] += item.seconds
        codes.append(sent)
        rows.append(_row(item, path, encoder, sent) | scores)
    return Evaluation(rows, _codebooks(encoder, codes), seconds)


@torch.no_grad()
def encode_file(codec: Codec, signal: torch.Tensor, path: Path, coder: Coder) -> tuple[torch.Tensor, torch.Tensor]:
    """Write one signal (without B) as a bitstream; its codes "1 S T" and what it should decode to."""
    coded = codec(signal[None])
    codes = torch.cat([quantized.codes for quantized in coded.quantized], dim=1)
    bitstream.write(path, codec, codes, signal.shape[-1], fingerprint(codec), coder)
    return codes, coded.signal[0]


def decode_file(codec: Codec, path: Path) -> tuple[Header, torch.Tensor]:
    """The signal of a bitstream, from the model and the file alone."""

    def positions(samples: int) -> int:
        return codec.positions((*codec.leading, samples))

    header, codes = bitstream.read(path, codec, positions, fingerprint(codec))
    return header, codec.decode(codes, (*codec.leading, header.samples))[0]


def _compare(path: Path, expected: torch.Tensor, decoded: torch.Tensor) -> None:
    worst = float((expected - decoded).abs().max()) if expected.shape == decoded.shape else float("inf")
    if not worst <= TOLERANCE:
        raise UserError(f"{path}: decodes to something else than was encoded (difference {worst:.1e}); mend the codec")


def _row(item: TestItem, path: Path, codec: Codec, codes: torch.Tensor) -> dict[str, Any]:
    size = path.stat().st_size
    header = bitstream.header_bytes(item.signal.shape[-1])
    kilobits = {
        "nominal": sum(q.nominal_bits for q in codec.quantizers) * codes.shape[2],
        "entropy": information(codec, codes),
        "payload": 8 * (size - header),
        "measured": 8 * size,
    }
    rates = {f"{name}_kbps": bits / item.seconds / 1000 for name, bits in kilobits.items()}
    return {"item": item.name, "seconds": item.seconds, "bytes": size} | rates


def _codebooks(codec: Codec, codes: list[torch.Tensor]) -> list[dict[str, Any]]:
    every = torch.cat(codes, dim=2)
    parts = zip(codec.quantizers, codec.split(every), strict=True)
    return [codebook_use(part, quantizer.alphabet) | {"size": list(quantizer.alphabet)} for quantizer, part in parts]
