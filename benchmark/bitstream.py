"""The bitstream file of one item: a header of at most 16 bytes, then its entropy-coded codes.

| bytes | field |
|---|---|
| 2 | magic `CB` |
| 1 | version |
| 1 | coder: 0 range, 1 Huffman |
| 4 | fingerprint of the model that wrote the codes |
| 1-4 | signal length in samples, 7 bits a byte, lowest first, high bit: more follow |
| 4 | CRC-32 of all that precedes it and of the payload, big-endian |
"""

import contextlib
import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, get_args

import torch
from jaxtyping import Int
from torch import Tensor, nn

from .entropy_coding import Coder, Source, decode_codes, encode_codes
from .errors import BitstreamError

MAGIC = b"CB"
VERSION = 1
CODERS: tuple[Coder, ...] = get_args(Coder)
MAX_SAMPLES = (1 << 28) - 1  # 4.6 hours at 16 kHz
FIXED_BYTES = 8  # magic to fingerprint


class Header(NamedTuple):
    """What a file tells the decoder besides its codes."""

    version: int
    coder: Coder
    fingerprint: bytes  # the first 4 bytes of the model's
    samples: int  # length of the signal


def fingerprint(module: nn.Module) -> bytes:
    """SHA-256 over the sorted (name, dtype, shape, bytes) of the module's state: equal wherever the model is equal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()


def header_bytes(samples: int) -> int:
    """Bytes of the header of a signal of this length."""
    return FIXED_BYTES + len(_varint(samples)) + 4


def write(
    path: str | os.PathLike[str],
    source: Source,
    codes: Int[Tensor, "1 S T"],
    samples: int,
    fingerprint: bytes,
    coder: Coder = "range",
) -> int:
    """Write the codes of one signal, all or nothing; returns the bytes in the file. Raises BitstreamError."""
    path = Path(path)
    if not 0 <= samples <= MAX_SAMPLES:
        raise BitstreamError(f"{path}: a bitstream holds at most {MAX_SAMPLES} samples, not {samples}; cut the signal")
    payload = encode_codes(source, codes, coder)
    head = MAGIC + bytes([VERSION, CODERS.index(coder)]) + fingerprint[:4] + _varint(samples)
    data = head + zlib.crc32(head + payload).to_bytes(4, "big") + payload
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise BitstreamError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
    return len(data)


def read(
    path: str | os.PathLike[str], source: Source, positions: Callable[[int], int], fingerprint: bytes
) -> tuple[Header, Int[Tensor, "1 S T"]]:
    """The header and codes of a file; `positions` gives T for a length in samples. Raises BitstreamError."""
    try:
        header, payload = _parse(Path(path).read_bytes())
        if header.fingerprint != fingerprint[:4]:
            raise BitstreamError("written by another model; decode it with the run that encoded it")
        return header, decode_codes(source, payload, positions(header.samples), header.coder)
    except OSError as error:
        raise BitstreamError(f"{path}: cannot be read ({error.strerror}); check the name") from error
    except BitstreamError as error:
        raise BitstreamError(f"{path}: {error}") from error


def _parse(data: bytes) -> tuple[Header, bytes]:
    if not data or data[:2] != MAGIC[: len(data)]:
        raise BitstreamError("not a bitstream of this program; pass one of a run's bitstreams")
    if len(data) > 2 and data[2] != VERSION:
        raise BitstreamError(
            f"bitstream version {data[2]}, this program reads {VERSION}; install the one that wrote it"
        )
    end = next((end for end in range(FIXED_BYTES, len(data)) if data[end] < 0x80), len(data)) + 1
    head, checksum, payload = data[:end], data[end : end + 4], data[end + 4 :]
    if len(checksum) < 4:
        raise BitstreamError(f"cut short within the header, after {len(data)} bytes; copy or encode it anew")
    if zlib.crc32(head + payload).to_bytes(4, "big") != checksum:
        raise BitstreamError("damaged or cut short (its checksum does not fit); copy or encode it anew")
    samples = sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(head[FIXED_BYTES:]))
    if samples > MAX_SAMPLES:
        raise BitstreamError(f"an impossible length of {samples} samples; encode the signal anew")
    if data[3] >= len(CODERS):
        raise BitstreamError(f"an unknown entropy coder ({data[3]}); install the version that wrote it")
    return Header(data[2], CODERS[data[3]], head[4:FIXED_BYTES], samples), payload


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(data + bytes([number]))
