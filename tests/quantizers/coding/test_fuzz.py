"""Whatever a file holds, a decoder returns a signal or refuses it in one line, in the memory that the file is worth.

Every registered quantizer is fuzzed, and two more: tables that hang on decoded side information, and streams that may
be left out under shared noise.
"""

import subprocess
import sys
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from codecbench.benchmark.specs.registry import found
from codecbench.codecs.base import Codec, Coded
from codecbench.codecs.files.container import Header, fingerprint, pack, unpack
from codecbench.codecs.files.files import decode_payload, encode_file
from codecbench.codecs.frae import FRAE
from codecbench.quantizers.base import TABLE_TOTAL, Codes, Latents, Maker, Noise, Quantizer, Tables, integer_counts
from codecbench.quantizers.coding.entropy import FREE_SYMBOLS, decode_codes, encode_codes, least_bits
from codecbench.quantizers.coding.errors import BitstreamError
from codecbench.quantizers.nsvq import NSVQ
from miniatures import Hyperprior, Layers
from torch import Tensor

FILES = 10_000
CODERS = ("range", "huffman")
CHANNELS = 5
LONGEST = 24  # positions of an honest file
SUBJECTS = {name: cls for name, cls in found("quantizers").items()} | {"hyperprior": Hyperprior, "layers": Layers}
CASES = [(subject, coder) for subject in [*SUBJECTS, "frae"] for coder in CODERS]


class Alone(Codec):
    """A quantizer and nothing else."""

    domain = "vector"

    def __init__(self, make_quantizer: Maker) -> None:
        super().__init__()
        self.quantizer, self.leading = make_quantizer(CHANNELS, 1.0), (CHANNELS,)

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        return (self.quantizer,)

    def forward(self, signal: Tensor) -> Coded:
        quantized = self.quantizer(signal)
        return Coded(quantized.latents, (quantized,))

    def decode(self, codes: Codes, shape: tuple[int, ...]) -> Tensor:
        return self.quantizer.decode(codes, self.quantizer.draw(codes.shape[0], codes.shape[2]))


@cache
def subject(name: str) -> Codec:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "frae":
            codec: Codec = FRAE(lambda channels, share: NSVQ(channels), latent_dim=3, widths=[8], feedback=2)
        else:
            codec = Alone(lambda channels, share: SUBJECTS[name](channels))
        signal = torch.randn(8, *codec.leading, 128)
        codec.train().fit(signal)
        codec.eval().fit_tables(codec.encode(signal))
    return codec


@cache
def honest(name: str, coder: str, folder: Path) -> tuple[bytes, ...]:
    """Files of several lengths."""
    codec, files = subject(name), []
    generator = torch.Generator().manual_seed(1)
    for number, length in enumerate((1, 2, 7, 15, LONGEST)):
        codec.truncate(codec.prefixes[number % len(codec.prefixes)])
        path, rate = folder / "file", 44_100 if number % 2 else None
        signal = torch.randn(*codec.leading, length, generator=generator)
        encode_file(codec, signal, path, coder, rate=rate, seed=number)
        codec.truncate(codec.prefixes[-1])
        files.append(path.read_bytes())
    return tuple(files)


def header_end(data: bytes) -> int:
    """Where the checksum begins."""
    end = 4
    while end < 8 and data[end : end + 1] >= b"\x80":
        end += 1
    flags = data[1] if len(data) > 1 else 0
    return end + 1 + 2 * (flags >> 5 & 1) + (flags >> 6 & 1) + (flags >> 7 & 1)


def sealed(data: bytes, model: bytes) -> bytes:
    """The same file with the checksum put right, if it is long enough to hold one."""
    end = header_end(data)
    if len(data) < end + 4:
        return data
    return data[:end] + zlib.crc32(model + data[:end] + data[end + 4 :]).to_bytes(4, "big") + data[end + 4 :]


def mutated(data: bytes, others: tuple[bytes, ...], rng: np.random.Generator) -> bytes:
    place, amount = int(rng.integers(len(data) + 1)), int(rng.integers(1, 9))
    other = others[rng.integers(len(others))]
    match rng.integers(8):
        case 0:
            flipped = bytearray(data)
            for bit in rng.integers(8 * len(data), size=amount):
                flipped[bit >> 3] ^= 1 << (bit & 7)
            return bytes(flipped)
        case 1:
            return data[:place]
        case 2:
            return data[:place] + rng.bytes(amount) + data[place:]
        case 3:
            return data[:place] + data[place + amount :]
        case 4:
            return data[:place] + other[int(rng.integers(len(other))) :]
        case 5:  # another length, up to the largest that a header holds
            length = int(2 ** rng.uniform(0, 28))
            groups = [length >> shift & 0x7F for shift in (0, 7, 14, 21)]
            return data[:4] + bytes([*(0x80 | group for group in groups[:3]), groups[3]]) + data[5:]
        case 6:
            return data[: header_end(data) + 4] + rng.bytes(int(rng.integers(200)))
        case _:
            return data[: int(rng.integers(5))] + rng.bytes(int(rng.integers(40)))


def outcome(codec: Codec, data: bytes, model: bytes) -> Tensor | None:
    """The decoded signal, or None where the file is refused."""
    try:
        header, payload = unpack(data, model)
        signal = decode_payload(codec, header, payload)
    except BitstreamError as error:
        assert str(error) and "\n" not in str(error)
        return None
    assert signal.shape == (*codec.leading, header.samples) and signal.isfinite().all()
    return signal


@pytest.mark.parametrize(("name", "coder"), CASES)
def test_mutated_files_are_refused_or_decoded(name, coder, tmp_path_factory) -> None:
    codec, rng = subject(name), np.random.default_rng(CASES.index((name, coder)))
    model = fingerprint(codec)
    files = honest(name, coder, tmp_path_factory.getbasetemp())
    strangers = tuple(file for other in CODERS for file in honest(name, other, tmp_path_factory.getbasetemp()))
    for file in files:
        assert outcome(codec, file, model) is not None
    decoded = 0
    for number in range(-(-FILES // len(CASES))):
        file = files[number % len(files)]
        broken = mutated(file, strangers, rng)
        if number % 2:
            decoded += outcome(codec, sealed(broken, model), model) is not None
        elif broken not in strangers:  # splicing may make another honest file
            assert outcome(codec, broken, model) is None
    assert decoded  # or nothing beyond the checksum was reached
    assert len(codec.alphabet) == codec.prefixes[-1]


@pytest.mark.parametrize("name", [*SUBJECTS, "frae"])
def test_codes_that_no_encoder_makes_decode_or_are_refused(name) -> None:
    codec, rng = subject(name), np.random.default_rng(1)
    model, decoded = fingerprint(codec), 0
    for number in range(30):
        length, coder = int(rng.integers(1, 20)), CODERS[number % 2]
        wild = (rng.integers(-1, 2, length) * 2 ** rng.uniform(0, 31, length)).astype(np.int64)
        streams = [
            rng.permutation(wild) if size is None else rng.integers(size, size=length) for size in codec.alphabet
        ]
        payload = encode_codes(codec, torch.from_numpy(np.stack(streams))[None], coder)
        decoded += outcome(codec, pack(Header(length, coder), payload, model), model) is not None
    assert decoded or name == "identity"  # whose codes make NaN sooner or later


def test_the_mutations_add_up() -> None:
    assert len(CASES) * -(-FILES // len(CASES)) >= FILES
    assert header_end(pack(Header(2**28 - 1, "huffman", 44_100, 1, 0), b"", bytes(32))) == 12


# -- lengths that a file cannot hold ----------------------------------------------------------------------------------


class Constant(Quantizer):
    """One symbol, which costs nothing, or two of which one costs next to nothing."""

    def __init__(self, channels: int, symbols: int = 1) -> None:
        super().__init__(channels)
        self.symbols = symbols

    @property
    def alphabet(self) -> tuple[int | None, ...]:
        return (self.symbols,)

    def encode(self, latents: Latents, noise: Noise) -> Codes:
        return torch.zeros(latents.shape[0], 1, latents.shape[2], dtype=torch.int64)

    def decode(self, codes: Codes, noise: Noise) -> Latents:
        return codes.expand(-1, self.channels, -1).float()

    def surrogate(self, latents: Latents, noise: Noise) -> tuple[Latents, Codes]:
        return latents, self.encode(latents, noise)

    def tables(self, known: Codes) -> Tables:
        row = [TABLE_TOTAL] if self.symbols == 1 else [TABLE_TOTAL - 1, 1]
        zeros = torch.zeros(1, 1, known.shape[2], dtype=torch.int64)
        return Tables(torch.tensor([row]), zeros, zeros, False)


SUBJECTS |= {"constant": Constant, "nearly": lambda channels: Constant(channels, 2)}
CRAFTED = """
import resource, sys
sys.path[:0] = sys.argv[1:]
from test_fuzz import *
torch.set_num_threads(1)
codecs = {name: subject(name) for name in "nsvq identity hyperprior layers constant nearly frae".split()}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, codec in codecs.items():
    model, refused = fingerprint(codec), 0
    free = name in ("constant", "nearly")
    for length in (1 << 28) - 1, 1 << 27, 1 << 25, 1 << 23 if free else 1 << 18:
        for coder in CODERS:
            for payload in b"", bytes(40), bytes(range(256)) * 4:
                refused += outcome(codec, pack(Header(length, coder), payload, model), model) is None
    assert refused == 24, (name, refused)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.slow
def test_lengths_that_the_payload_cannot_hold_cost_no_memory() -> None:
    command = [sys.executable, "-c", CRAFTED, str(Path(__file__).parent), str(Path(__file__).parents[2])]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 64  # MiB


@pytest.mark.parametrize("symbols", [1, 2])
def test_symbols_that_cost_nothing_may_be_as_many_as_the_documented_limit(symbols) -> None:
    source = Constant(1, symbols)
    codes = torch.zeros(1, 1, FREE_SYMBOLS, dtype=torch.int64)
    data = encode_codes(source, codes)
    assert len(data) <= 1 and decode_codes(source, data, FREE_SYMBOLS).equal(codes)
    beyond = torch.zeros(1, 1, FREE_SYMBOLS + 1025, dtype=torch.int64)
    with pytest.raises(BitstreamError, match=r"positions in . bytes are too many; cut the signal"):
        encode_codes(source, beyond)
    with pytest.raises(BitstreamError, match="are not the code of"):
        decode_codes(source, data, FREE_SYMBOLS + 1025)


class Rows:
    """A stream of any integer whose row hangs on the stream before it."""

    alphabet = (4, None)

    def tables(self, known: Codes) -> Tables:
        index = known[:, :1] % 2 if known.shape[1] else torch.zeros(1, 1, known.shape[2], dtype=torch.int64)
        rows = [[2**19, 2**18, 2**17, 2**17]] if not known.shape[1] else [[2**18, 2**18, 2**19], [2**10, 2**10, 0]]
        counts = torch.tensor(rows)
        counts[-1, -1] += TABLE_TOTAL - counts[-1].sum()
        return Tables(counts, index, torch.zeros_like(index), bool(known.shape[1]))


def test_the_least_bits_of_a_position_are_those_of_the_most_probable_symbols() -> None:
    assert least_bits(Rows()) == 1 + 2  # the last column is the escape, whose 32 bits nobody can save
    assert least_bits(Rows(), "huffman") == 2
    assert least_bits(Constant(1)) == least_bits(Constant(1), "huffman") == 0
    assert least_bits(Constant(1, 2)) == pytest.approx(1.376e-6, rel=1e-3)


def test_no_honest_payload_falls_below_the_least_bits() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        row = integer_counts(torch.from_numpy(rng.dirichlet(np.full(int(rng.integers(2, 40)), 0.05))))

        class Best:
            alphabet = (len(row),)

            def tables(self, known: Codes, row: Tensor = row) -> Tables:
                zeros = torch.zeros(1, 1, known.shape[2], dtype=torch.int64)
                return Tables(row[None], zeros, zeros, False)

        codes = torch.full((1, 1, int(10 ** rng.uniform(0, 5))), int(row.argmax()))
        for coder in CODERS:
            assert decode_codes(Best(), encode_codes(Best(), codes, coder), codes.shape[2], coder).equal(codes)
