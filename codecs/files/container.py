"""The bitstream file of one item: a header of at most 16 bytes, then its entropy-coded codes.

| bytes | field |
|---|---|
| 1 | magic 0xCB |
| 1 | low 4 bits: version; bit 4: Huffman instead of range coder; bits 5, 6, 7: rate, seed, prefix follow |
| 2 | fingerprint of the model that wrote the codes: its first 2 of 32 bytes |
| 1-4 | length of the source in samples, 7 bits a byte, lowest first, high bit: more follow |
| 0, 2 | sample rate of the source, where it is not the domain's own; big-endian, in Hz, below 4000 in units of 200 Hz |
| 0, 1 | seed of the noise that encoder and decoder share, where it is not 0 |
| 0, 1 | place, among the model's prefixes, of the leading streams coded, where these are not all |
| 4 | CRC-32 of the whole fingerprint, the header before it and the payload, big-endian |

A file of another model is known by 2 bytes, and by the checksum where these happen to be equal.
"""

import contextlib
import hashlib
import os
import uuid
import zlib
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from ...quantizers.coding.entropy import Coder
from ...quantizers.coding.errors import BitstreamError

MAGIC, VERSION = 0xCB, 2
HUFFMAN, RATE, SEED, PREFIX = (1 << bit for bit in (4, 5, 6, 7))
MAX_SAMPLES = (1 << 28) - 1  # 4.6 hours at 16 kHz
FIXED_BYTES = 4  # magic to fingerprint
LONGEST_HEADER = 16
LOWEST_RATE, COARSE_HZ, HIGHEST_RATE = 4_000, 200, 768_000


def shown(path: Path) -> str:
    """The path in one printable line, whatever its name holds."""
    text = str(path)
    return text if text.isprintable() else repr(text)[1:-1]


class Header(NamedTuple):
    """What a file tells the decoder besides its codes."""

    samples: int  # length of the source
    coder: Coder = "range"
    rate: int | None = None  # Hz of the source; None: the domain's own
    seed: int = 0  # of the noise that both sides draw
    prefix: int | None = None  # place in codec.prefixes; None: all streams are coded

    @property
    def size(self) -> int:
        """Bytes of the header in the file, checksum included."""
        return FIXED_BYTES + len(_fields(self)) + 4


def fingerprint(module: nn.Module) -> bytes:
    """SHA-256 over the sorted (name, dtype, shape, bytes) of the module's state: equal wherever the model is equal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()


def pack(header: Header, payload: bytes, fingerprint: bytes) -> bytes:
    """The file's content. Raises BitstreamError where a field does not fit its place."""
    flags = HUFFMAN * (header.coder == "huffman") | RATE * (header.rate is not None)
    flags |= SEED * (header.seed != 0) | PREFIX * (header.prefix is not None)
    head = bytes([MAGIC, VERSION | flags]) + fingerprint[:2] + _fields(header)
    return head + _checksum(fingerprint, head, payload) + payload


def unpack(data: bytes, fingerprint: bytes) -> tuple[Header, bytes]:
    """Header and payload of a file's content. Raises BitstreamError."""
    _recognise(data, fingerprint)
    flags, rest = int.from_bytes(data[1:2]), data[FIXED_BYTES:]
    varint = next((end for end in range(1, 5) if rest[end - 1 : end] < b"\x80"), 4)
    rate_at = varint + 2 * bool(flags & RATE)
    seed_at = rate_at + bool(flags & SEED)
    end = seed_at + bool(flags & PREFIX)
    head, checksum, payload = data[: FIXED_BYTES + end], rest[end : end + 4], rest[end + 4 :]
    if len(checksum) < 4:
        raise BitstreamError(f"cut short within the header, after {len(data)} bytes; copy or encode it anew")
    if _checksum(fingerprint, head, payload) != checksum:
        raise BitstreamError(
            "damaged, cut short, or of another model (its checksum does not fit); copy or encode it anew"
        )
    if rest[varint - 1] >= 0x80:
        raise BitstreamError(f"a length of more than {MAX_SAMPLES} samples; encode the signal anew")
    samples = sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(rest[:varint]))
    rate = _rate_of(int.from_bytes(rest[varint:rate_at])) if flags & RATE else None
    seed = rest[rate_at] if flags & SEED else 0
    prefix = rest[seed_at] if flags & PREFIX else None
    return Header(samples, "huffman" if flags & HUFFMAN else "range", rate, seed, prefix), payload


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a whole file or nothing. Raises BitstreamError."""
    path = Path(path)
    unfinished = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        if path.exists() and not path.is_file():  # a device would be replaced by a file
            raise BitstreamError(f"{shown(path)}: is no file to write to; choose another place")
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except BitstreamError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise BitstreamError(f"{shown(path)}: cannot be written ({reason}); choose another place") from error
    finally:
        with contextlib.suppress(OSError, ValueError):
            unfinished.unlink()


def read(path: str | os.PathLike[str], fingerprint: bytes) -> tuple[Header, bytes]:
    """Header and payload of a file. Raises BitstreamError."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a pipe or a device may never end
            raise BitstreamError("is no file; check the name")
        with path.open("rb") as file:
            begin = file.read(LONGEST_HEADER)
            _recognise(begin, fingerprint)  # before a large file of another kind is read
            return unpack(begin + file.read(), fingerprint)
    except BitstreamError as error:
        raise BitstreamError(f"{shown(path)}: {error}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BitstreamError(f"{shown(path)}: cannot be read ({reason}); check the name") from error


def _fields(header: Header) -> bytes:
    """What lies between fingerprint and checksum."""
    if not 0 <= header.samples <= MAX_SAMPLES:
        raise BitstreamError(f"a bitstream holds at most {MAX_SAMPLES} samples, not {header.samples}; cut the signal")
    for value in (header.seed, header.prefix or 0):
        if not 0 <= value <= 0xFF:
            raise BitstreamError(f"{value} does not fit the one byte of a dither seed or prefix; choose 0 to 255")
    rate = b"" if header.rate is None else _rate_code(header.rate).to_bytes(2)
    seed = bytes([header.seed]) if header.seed else b""
    prefix = b"" if header.prefix is None else bytes([header.prefix])
    return _varint(header.samples) + rate + seed + prefix


def _rate_code(rate: int) -> int:
    if LOWEST_RATE <= rate <= 0xFFFF:
        return rate
    if 0xFFFF < rate <= HIGHEST_RATE and rate % COARSE_HZ == 0:
        return rate // COARSE_HZ
    raise BitstreamError(
        f"a bitstream cannot name {rate} Hz (from {LOWEST_RATE} to {0xFFFF} Hz, above in steps of {COARSE_HZ} Hz "
        f"to {HIGHEST_RATE} Hz); resample the signal"
    )


def _rate_of(code: int) -> int:
    rate = code if code >= LOWEST_RATE else code * COARSE_HZ
    if code < LOWEST_RATE and not 0xFFFF < rate <= HIGHEST_RATE:
        raise BitstreamError(f"an impossible sample rate (code {code}); encode the signal anew")
    return rate


def _recognise(data: bytes, fingerprint: bytes) -> None:
    """BitstreamError where the first bytes, as far as they are there, are not those of this model's files."""
    if not data or data[0] != MAGIC:
        raise BitstreamError("not a bitstream of this program; pass one that benchmark run or encode wrote")
    if len(data) > 1 and data[1] & 0x0F != VERSION:
        raise BitstreamError(
            f"bitstream version {data[1] & 0x0F}, this program reads {VERSION}; install the one that wrote it"
        )
    if data[2:FIXED_BYTES] != fingerprint[: len(data[2:FIXED_BYTES])]:
        raise BitstreamError("written by another model; decode it with the run that encoded it")


def _checksum(fingerprint: bytes, head: bytes, payload: bytes) -> bytes:
    return zlib.crc32(payload, zlib.crc32(fingerprint + head)).to_bytes(4)


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(data + bytes([number]))
