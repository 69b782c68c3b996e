"""A trained codec on the test set: real files, decoded by a fresh model, compared, scored."""

import contextlib
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ...codecs.base import Codec
from ...codecs.files.container import Header
from ...codecs.files.files import decode_file, encode_file, operating
from ...quantizers.coding.entropy import Coder, information
from ..errors import UserError
from ..metrics.codes import codebook_use
from ..metrics.scoring.pool import score_pool
from ..tracks.base import TestItem, Track

SHOWN = 3  # items, spread over the test set, whose decoded audio and pictures are kept
TOLERANCE = 1e-5  # between what the encoder expected and what the file decodes to

Watched = Callable[[Iterable[Any], str], Iterable[Any]]


class Evaluation(NamedTuple):
    """What came out on the test set."""

    rows: list[dict[str, Any]]  # one per item: name, seconds, bytes, rates, scores
    codebook: list[dict[str, Any]]  # one per quantizer
    seconds: dict[str, float]  # encode, decode, score, audio


@contextlib.contextmanager
def timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    """Add the seconds that something takes."""
    begin = time.perf_counter()
    yield
    seconds[what] += time.perf_counter() - begin


def evaluate(decoder: Codec, encoder: Codec, track: Track, folder: Path, coder: Coder, watched: Watched) -> Evaluation:
    """Encode every test item to `folder`/bitstreams, decode the file with `decoder`, score it.

    Items are scored in other processes while the next ones are coded. UserError if a file does not decode to what the
    encoder expected: then no score would mean anything.
    """
    files, shown = folder / "bitstreams", folder / "examples"
    for place in (files, shown):
        place.mkdir(exist_ok=True)
    seconds: dict[str, float] = {"encode": 0.0, "decode": 0.0, "score": 0.0, "audio": 0.0}
    rows, codes, pending = [], [], []
    items, front_end = track.test_items(), track.front_end
    length = None if front_end is None else front_end.signal_length
    examples = spread(len(items))
    with score_pool(len(items)) as pool:
        for number, source in enumerate(watched(items, "encode, decode, score")):
            item = track.load(source)
            path = files / f"{item.name}.cbs"
            with timed(seconds, "encode"):
                seed = zlib.crc32(item.name.encode()) & 0xFF  # of dither: an item's own, the same in every run
                sent, expected = encode_file(encoder, item.signal, path, coder, item.samples, seed=seed)
            with timed(seconds, "decode"):
                header, decoded = decode_file(decoder, path, length)
            _compare(path, expected, decoded)
            with timed(seconds, "score"):
                pending.append(track.score(item, decoded, pool))
            if number in examples:
                track.show(item, decoded, shown)
            seconds["audio"] += item.seconds
            codes.append(sent)
            rows.append(_row(item, path, header, encoder, sent))
        with timed(seconds, "score"):
            scores = [wait() for wait in pending]
    return Evaluation([row | own for row, own in zip(rows, scores, strict=True)], _codebooks(encoder, codes), seconds)


def spread(count: int) -> set[int]:
    """SHOWN of so many items, the first and the last among them."""
    return {round(number * (count - 1) / (SHOWN - 1)) for number in range(SHOWN)}


def _compare(path: Path, expected: torch.Tensor, decoded: torch.Tensor) -> None:
    worst = float((expected - decoded).abs().max()) if expected.shape == decoded.shape else float("inf")
    if not worst <= TOLERANCE:
        raise UserError(f"{path}: decodes to something else than was encoded (difference {worst:.1e}); mend the codec")


def kilobits_per_second(
    codec: Codec, codes: torch.Tensor, header: Header, payload: int, seconds: float
) -> dict[str, float]:
    """The rates of one file: nominal, entropy, payload and, header included, measured."""
    with operating(codec, header.seed, codes.shape[1]):
        nominal = sum(quantizer.nominal_bits for quantizer in codec.quantizers) * codes.shape[2]
        entropy = information(codec, codes)
    bits = {"nominal": nominal, "entropy": entropy, "payload": 8 * payload, "measured": 8 * (header.size + payload)}
    return {name: each / seconds / 1000 for name, each in bits.items()}


def _row(item: TestItem, path: Path, header: Header, codec: Codec, codes: torch.Tensor) -> dict[str, Any]:
    size = path.stat().st_size
    rates = kilobits_per_second(codec, codes, header, size - header.size, item.seconds)
    about = {"item": item.name, **item.conditions, "seconds": item.seconds, "bytes": size}
    return about | {f"{name}_kbps": value for name, value in rates.items()}


def _codebooks(codec: Codec, codes: list[torch.Tensor]) -> list[dict[str, Any]]:
    every = torch.cat(codes, dim=2)
    parts = zip(codec.quantizers, codec.split(every), strict=True)
    return [codebook_use(part, quantizer.alphabet) | {"size": list(quantizer.alphabet)} for quantizer, part in parts]
