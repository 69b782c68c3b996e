"""A trained codec on the test set: real files, decoded by a fresh model, compared, scored."""

import contextlib
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..codecs.base import Codec
from ..datamodules.base import shown
from ..quantizers.base import Quantizer
from . import bitstream
from .bitstream import Header, fingerprint
from .entropy_coding import Coder, decode_codes, encode_codes, information
from .errors import BitstreamError, UserError
from .metrics.codes import codebook_use
from .metrics.workers import score_pool
from .tracks import FrontEnd, TestItem, Track

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
    items = track.test_items()
    examples = spread(len(items))
    with score_pool(len(items)) as pool:
        for number, source in enumerate(watched(items, "encode, decode, score")):
            item = track.load(source)
            path = files / f"{item.name}.cbs"
            with timed(seconds, "encode"):
                seed = zlib.crc32(item.name.encode()) & 0xFF  # of dither: an item's own, the same in every run
                sent, expected = encode_file(encoder, item.signal, path, coder, item.samples, seed=seed)
            with timed(seconds, "decode"):
                header, decoded = decode_file(decoder, path, track.front_end)
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


@torch.no_grad()
def encode_file(
    codec: Codec,
    signal: torch.Tensor,
    path: Path,
    coder: Coder,
    samples: int | None = None,
    rate: int | None = None,
    seed: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Write one signal (without B) as a bitstream; its codes "1 S T" and what it should decode to.

    The header carries `samples` and `rate` of the source (None: the signal's own length, the domain's own rate), the
    `seed` of noise where the codec draws any, and the streams that the codec is truncated to. BitstreamError where the
    latents are not finite or the file cannot be written.
    """
    prefixes, streams = codec.prefixes, len(codec.alphabet)
    header = Header(
        signal.shape[-1] if samples is None else samples,
        coder,
        rate,
        seed if codec.dithers else 0,
        None if streams == prefixes[-1] else prefixes.index(streams),
    )
    with _operating(codec, header.seed, streams), _about(path):
        coded = codec(signal[None])
        if not all(quantized.source.isfinite().all() for quantized in coded.quantized):
            raise BitstreamError("the codec makes NaN or infinity of this signal; train it anew")
        codes = torch.cat([quantized.codes for quantized in coded.quantized], dim=1)
        data = bitstream.pack(header, encode_codes(codec, codes, coder), fingerprint(codec))
    bitstream.write(path, data)
    return codes, coded.signal[0]


def decode_file(codec: Codec, path: Path, front_end: FrontEnd | None = None) -> tuple[Header, torch.Tensor]:
    """The signal (without B) of a bitstream, from the model and the file alone; the codec stays as it was.

    `front_end` gives the signal's length for that of the source (None: the same). Raises BitstreamError.
    """
    header, payload = bitstream.read(path, fingerprint(codec))
    with _about(path):
        return header, decode_payload(codec, header, payload, front_end)


@torch.no_grad()
def decode_payload(codec: Codec, header: Header, payload: bytes, front_end: FrontEnd | None = None) -> torch.Tensor:
    """The signal (without B) of a file's header and payload. Raises BitstreamError."""
    if header.samples == 0:
        raise BitstreamError("holds no samples; encode a longer signal")
    prefixes = codec.prefixes
    if header.prefix is not None and header.prefix >= len(prefixes):
        raise BitstreamError(f"of {len(prefixes)} numbers of streams it names no. {header.prefix}; encode anew")
    length = front_end.signal_length(header.samples, header.rate) if front_end else header.samples
    shape = (*codec.leading, length)
    with _operating(codec, header.seed, prefixes[-1 if header.prefix is None else header.prefix]):
        codes = decode_codes(codec, payload, codec.positions(shape), header.coder)
        signal = codec.decode(codes, shape)[0]
    if not signal.isfinite().all():
        raise BitstreamError("decodes to NaN or infinity; encode the signal anew")
    return signal


@contextlib.contextmanager
def _about(path: Path) -> Iterator[None]:
    """A BitstreamError names the file."""
    try:
        yield
    except BitstreamError as error:
        raise BitstreamError(f"{shown(path)}: {error}") from error


@contextlib.contextmanager
def _operating(codec: Codec, seed: int, streams: int) -> Iterator[None]:
    """The codec at an operating point and under a seed of shared noise; afterwards it is as before."""
    quantizers = [module for module in codec.modules() if isinstance(module, Quantizer)]
    before, seeds = len(codec.alphabet), [quantizer.dither_seed for quantizer in quantizers]
    try:
        codec.truncate(streams)
        codec.set_dither_seed(seed)
        yield
    finally:
        codec.truncate(before)
        for quantizer, old in zip(quantizers, seeds, strict=True):
            quantizer.dither_seed = old


def _compare(path: Path, expected: torch.Tensor, decoded: torch.Tensor) -> None:
    worst = float((expected - decoded).abs().max()) if expected.shape == decoded.shape else float("inf")
    if not worst <= TOLERANCE:
        raise UserError(f"{path}: decodes to something else than was encoded (difference {worst:.1e}); mend the codec")


def kilobits_per_second(
    codec: Codec, codes: torch.Tensor, header: Header, payload: int, seconds: float
) -> dict[str, float]:
    """The rates of one file: nominal, entropy, payload and, header included, measured."""
    with _operating(codec, header.seed, codes.shape[1]):
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
