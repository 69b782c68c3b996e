"""One signal to a file and back: signal -> codec -> codes -> entropy coder -> container -> file."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from ...quantizers.base import Quantizer
from ...quantizers.coding.entropy import Coder, decode_codes, encode_codes
from ...quantizers.coding.errors import BitstreamError
from ..base import Codec
from . import container
from .container import Header, fingerprint, shown

Length = Callable[[int, int | None], int]  # samples and rate (Hz; None: the domain's own) of a source -> of its signal


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
    with operating(codec, header.seed, streams), _about(path):
        coded = codec(signal[None])
        if not all(quantized.source.isfinite().all() for quantized in coded.quantized):
            raise BitstreamError("the codec makes NaN or infinity of this signal; train it anew")
        codes = torch.cat([quantized.codes for quantized in coded.quantized], dim=1)
        data = container.pack(header, encode_codes(codec, codes, coder), fingerprint(codec))
    container.write(path, data)
    return codes, coded.signal[0]


def decode_file(codec: Codec, path: Path, length: Length | None = None) -> tuple[Header, torch.Tensor]:
    """The signal (without B) of a bitstream, from the model and the file alone; the codec stays as it was.

    `length` gives the signal's length for that of the source (None: the same). Raises BitstreamError.
    """
    header, payload = container.read(path, fingerprint(codec))
    with _about(path):
        return header, decode_payload(codec, header, payload, length)


@torch.no_grad()
def decode_payload(codec: Codec, header: Header, payload: bytes, length: Length | None = None) -> torch.Tensor:
    """The signal (without B) of a file's header and payload. Raises BitstreamError."""
    if header.samples == 0:
        raise BitstreamError("holds no samples; encode a longer signal")
    prefixes = codec.prefixes
    if header.prefix is not None and header.prefix >= len(prefixes):
        raise BitstreamError(f"of {len(prefixes)} numbers of streams it names no. {header.prefix}; encode anew")
    samples = header.samples if length is None else length(header.samples, header.rate)
    shape = (*codec.leading, samples)
    with operating(codec, header.seed, prefixes[-1 if header.prefix is None else header.prefix]):
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
def operating(codec: Codec, seed: int, streams: int) -> Iterator[None]:
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
