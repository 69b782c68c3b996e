"""Codes to bytes and back under the integer tables of a quantizer or codec, group of streams by group of streams.

codes "1 S T" -> tables(known) -> columns, table row by table row -> range coder | Huffman code -> bytes

Within a group the symbols of row 0 come first, then those of row 1, ..., each in the order of their positions, then the
raw bytes of the escaped ones: the order hangs on Tables.index alone, which the decoder knows, and each row is one call.

How many positions a payload may claim is bounded before anything is allocated: no more than its bits can hold under the
tables, and where these make symbols almost free, FREE_SYMBOLS and SYMBOLS_PER_BYTE for every byte of the payload.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal, Protocol, runtime_checkable

import constriction
import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from ..base import ESCAPE_BITS, TABLE_BITS, Codes, Tables
from .errors import BitstreamError

# compiled modules without stubs
model: Any = constriction.stream.model  # pyright: ignore[reportAttributeAccessIssue]
queue: Any = constriction.stream.queue  # pyright: ignore[reportAttributeAccessIssue]
symbol: Any = constriction.symbol  # pyright: ignore[reportAttributeAccessIssue]

Coder = Literal["range", "huffman"]
Columns = NDArray[np.int32]  # symbols as columns of their table rows; constriction takes no other type
Row = NDArray[np.int64]  # counts of one table row

FREE_SYMBOLS = 1 << 22  # over all streams; an hour of 900 positions a second in one stream
SYMBOLS_PER_BYTE = 1 << 10
CODER_STATE = 72  # bits by which a range coder's payload may fall below the information of its symbols
TREES = 4096  # Huffman trees that are kept

RAW_BYTES = np.ones(256, dtype=np.int64)  # the table of the bytes of an escaped symbol: 8 bits each with either coder


@runtime_checkable
class Source(Protocol):
    """What codes are coded under: a quantizer or a codec."""

    @property
    def alphabet(self) -> tuple[int | None, ...]:
        """Symbols per stream."""
        ...

    def tables(self, known: Codes) -> Tables:
        """Entropy model of the next group of streams, given those already known."""
        ...


def encode_codes(source: Source, codes: Int[Tensor, "1 S T"], coder: Coder = "range") -> bytes:
    """Code the codes of one item. ValueError: a code outside its table; BitstreamError: more than a decoder accepts."""
    stream = _ENCODERS[coder]()

    def write(tables: Tables, known: int) -> Tensor:
        group = codes[:, known : known + tables.index.shape[1]].cpu()
        _write(stream, tables, group)
        return group

    _every_group(source, codes.shape[2], write)
    data = stream.data()
    if not _vouched(source, codes.shape[2], len(data)):
        raise BitstreamError(f"{codes.shape[2]} positions in {len(data)} bytes are too many; cut the signal")
    return data


def decode_codes(source: Source, data: bytes, positions: int, coder: Coder = "range") -> Int[Tensor, "1 S T"]:
    """The codes of `positions` positions. Raises BitstreamError where no encoder can have written the data."""
    reader, again = _DECODERS[coder](data), _ENCODERS[coder]()
    foreign = BitstreamError(f"{len(data)} bytes are not the code of {positions} positions; encode the signal anew")

    def read(tables: Tables, known: int) -> Tensor:
        group = _read(reader, tables)
        _write(again, tables, group)
        return group

    with _no_panic():  # a plug-in's tables may trip over codes that it never made
        possible = positions * least_bits(source, coder) <= 8 * len(data) + CODER_STATE
        if not (possible and _vouched(source, positions, len(data))):
            raise foreign
        codes = _every_group(source, positions, read)
        if not _within(codes, source.alphabet):
            raise foreign
    if again.data() != data:  # a decoder reads on past the end of short data, and stops before the end of long data
        raise foreign
    return codes


def least_bits(source: Source, coder: Coder = "range") -> float:
    """Bits that every position takes at least: those of the most probable symbol of any row, for each stream."""
    bits = 0.0

    def add(tables: Tables, _: int) -> Tensor:
        nonlocal bits
        streams, columns = tables.index.shape[1], tables.counts.shape[1]
        counts = tables.counts[:, : columns - tables.escape]
        if counts.numel() == 0:  # every symbol is escaped
            bits += streams * ESCAPE_BITS
        elif coder == "range":
            bits += streams * (TABLE_BITS - float(counts.max().double().log2()))
        elif columns > 1:
            bits += streams  # the shortest code word
        return torch.zeros_like(tables.index)

    _every_group(source, 1, add)
    return bits


def _within(codes: Tensor, alphabet: tuple[int | None, ...]) -> bool:
    """No code of a closed alphabet lies outside it, as an escape or a row with columns to spare would let it."""
    return all(
        size is None or not stream.numel() or (int(stream.min()) >= 0 and int(stream.max()) < size)
        for stream, size in zip(codes[0], alphabet, strict=True)
    )


def _vouched(source: Source, positions: int, size: int) -> bool:
    return positions * len(source.alphabet) <= FREE_SYMBOLS + SYMBOLS_PER_BYTE * size


def information(source: Source, codes: Int[Tensor, "1 S T"]) -> float:
    """Bits of the codes under the tables, raw bits of escaped symbols included: what an ideal coder would spend."""
    bits = 0.0

    def add(tables: Tables, known: int) -> Tensor:
        nonlocal bits
        group = codes[:, known : known + tables.index.shape[1]].cpu()
        columns, escaped = _columns(tables, group)
        counts = tables.counts.cpu().numpy()[tables.index.cpu().numpy().ravel(), columns]
        bits += float(TABLE_BITS * len(columns) - np.log2(counts).sum()) + ESCAPE_BITS * len(escaped)
        return group

    _every_group(source, codes.shape[2], add)
    return bits


def huffman_lengths(counts: Row) -> Row:
    """Code length in bits of every symbol of a table row; their mean under the counts is within [H, H + 1)."""
    if len(counts) == 1:
        return np.zeros(1, dtype=np.int64)
    tree = symbol.huffman.EncoderHuffmanTree(counts.astype(np.float64))
    lengths = []
    for column in range(len(counts)):
        encoder = symbol.QueueEncoder()
        encoder.encode_symbol(column, tree)
        lengths.append(encoder.get_compressed_and_bitrate()[1])
    return np.array(lengths, dtype=np.int64)


# -- groups of streams ------------------------------------------------------------------------------------------------


@torch.no_grad()
def _every_group(source: Source, positions: int, handle: Callable[[Tables, int], Tensor]) -> Tensor:
    codes = torch.zeros(1, len(source.alphabet), positions, dtype=torch.int64)
    known = 0
    while known < codes.shape[1]:
        group = handle(source.tables(codes[:, :known]), known)
        codes[:, known : known + group.shape[1]] = group
        known += group.shape[1]
    return codes


def _rows(tables: Tables) -> Iterator[tuple[Row, NDArray[np.int64] | slice]]:
    """Each table row in use, in ascending order, and its places in the flattened group."""
    index, counts = tables.index.cpu().numpy().ravel(), tables.counts.cpu().numpy()
    if len(index) and (index == index[0]).all():
        yield counts[index[0]], slice(None)
        return
    order = np.argsort(index.astype(np.uint16) if len(counts) <= 1 << 16 else index, kind="stable")  # 16 bits: radix
    for places in np.split(order, np.flatnonzero(np.diff(index[order])) + 1):
        if len(places):
            yield counts[index[places[0]]], places


def _columns(tables: Tables, group: Tensor) -> tuple[Columns, NDArray[np.int64]]:
    """The table column of every symbol, and the symbols that are escaped. Raises ValueError outside the table."""
    symbols = group.numpy().ravel()
    columns = symbols - tables.shift.cpu().numpy().ravel()
    escape = tables.counts.shape[1] - tables.escape  # the first column that no symbol has of its own
    outside = (columns < 0) | (columns >= escape)
    escaped = symbols[outside]
    limit = 1 << (ESCAPE_BITS - 1)
    if len(escaped) and not tables.escape:
        raise ValueError(f"code {escaped[0]} is outside its table of {escape} symbols")
    if len(escaped) and not (-limit <= escaped.min() and escaped.max() < limit):
        raise BitstreamError(f"code {np.abs(escaped).max()} does not fit the {ESCAPE_BITS} bits of an escaped symbol")
    return np.where(outside, escape, columns).astype(np.int32), escaped


def _write(stream: "_RangeEncoder | _HuffmanEncoder", tables: Tables, group: Tensor) -> None:
    columns, escaped = _columns(tables, group)
    for row, places in _rows(tables):
        if len(row) > 1:  # the only symbol of a row costs nothing
            stream.encode(columns[places], row)
    if len(escaped):
        stream.encode(np.frombuffer(escaped.astype(">i4").tobytes(), np.uint8).astype(np.int32), RAW_BYTES)


def _read(stream: "_RangeDecoder | _HuffmanDecoder", tables: Tables) -> Tensor:
    columns = np.zeros(tables.index.numel(), dtype=np.int64)
    for row, places in _rows(tables):
        if len(row) > 1:
            columns[places] = stream.decode(row, len(columns[places]))
    symbols = columns + tables.shift.cpu().numpy().ravel()
    escaped = (columns == tables.counts.shape[1] - 1) & tables.escape
    if escaped.any():
        raw = stream.decode(RAW_BYTES, ESCAPE_BITS // 8 * int(escaped.sum()))
        symbols[escaped] = np.frombuffer(raw.astype(np.uint8).tobytes(), ">i4")
    return torch.from_numpy(symbols).reshape(tables.index.shape)


# -- the two coders ---------------------------------------------------------------------------------------------------


@contextmanager
def _no_panic() -> Iterator[None]:
    """constriction's Rust panics are BaseExceptions, which `except Exception` lets through."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, BitstreamError):
        raise
    except BaseException as error:
        reason = " ".join(str(error).split())[:120]
        raise BitstreamError(f"the data cannot be decoded ({reason}); encode the signal anew") from error


def _categorical(counts: Row) -> Any:
    # float64 holds counts/2**20 and their sums exactly, so the fast construction is the same on every machine
    return model.Categorical(counts / counts.sum(), perfect=False)


@lru_cache(TREES)
def _tree(kind: Any, counts: bytes) -> Any:
    return kind(np.frombuffer(counts, dtype=np.int64).astype(np.float64))


class _RangeEncoder:
    def __init__(self) -> None:
        self.encoder = queue.RangeEncoder()

    def encode(self, columns: Columns, counts: Row) -> None:
        self.encoder.encode(columns, _categorical(counts))

    def data(self) -> bytes:
        """The shortest bytes, continued by zeros, inside the final interval (the library rounds up to 32 bits)."""
        words, (whole, (lower, width)) = self.encoder.get_compressed(), self.encoder.pos()
        carry = (lower + (1 << 32) - 1) >> 64  # the library has passed it on to the words before
        for length in range(8):
            step = 1 << (64 - 8 * length)
            point = -(-lower // step) * step
            if point - lower < width and point >> 64 == carry:
                return words[:whole].astype(">u4").tobytes() + point.to_bytes(9, "big")[1 : 1 + length]
        return words.astype(">u4").tobytes()


class _RangeDecoder:
    def __init__(self, data: bytes) -> None:
        words = np.frombuffer(data + bytes(-len(data) % 4), dtype=">u4").astype(np.uint32)
        self.decoder = queue.RangeDecoder(words)

    def decode(self, counts: Row, amount: int) -> Columns:
        return self.decoder.decode(_categorical(counts), amount)


class _HuffmanEncoder:
    def __init__(self) -> None:
        self.encoder = symbol.QueueEncoder()

    def encode(self, columns: Columns, counts: Row) -> None:
        tree = _tree(symbol.huffman.EncoderHuffmanTree, counts.tobytes())
        for column in columns.tolist():
            self.encoder.encode_symbol(column, tree)

    def data(self) -> bytes:
        words, bits = self.encoder.get_compressed_and_bitrate()
        return words.astype("<u4").tobytes()[: -(-bits // 8)]


class _HuffmanDecoder:
    def __init__(self, data: bytes) -> None:
        words = np.frombuffer(data + bytes(-len(data) % 4), dtype="<u4").astype(np.uint32)
        self.decoder = symbol.QueueDecoder(words)

    def decode(self, counts: Row, amount: int) -> Columns:
        tree = _tree(symbol.huffman.DecoderHuffmanTree, counts.tobytes())
        return np.array([self.decoder.decode_symbol(tree) for _ in range(amount)], dtype=np.int32)


_ENCODERS = {"range": _RangeEncoder, "huffman": _HuffmanEncoder}
_DECODERS = {"range": _RangeDecoder, "huffman": _HuffmanDecoder}
