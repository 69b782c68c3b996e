"""Codes survive the entropy coder exactly, at the cost that their tables promise."""

import math
import time

import numpy as np
import pytest
import torch
from codecbench.quantizers.base import TABLE_TOTAL, Tables, integer_counts
from codecbench.quantizers.coding import entropy as entropy_coding
from codecbench.quantizers.coding.entropy import decode_codes, encode_codes, huffman_lengths, information
from codecbench.quantizers.coding.errors import BitstreamError

CODERS = ("range", "huffman")


class Static:
    """One table row for each stream, of any length; None = escape."""

    def __init__(self, *rows, alphabet=None, shift=0):
        self.rows = [torch.as_tensor(row) for row in rows]
        self.alphabet = alphabet or tuple(len(row) for row in self.rows)
        self.shift = shift

    def tables(self, known):
        stream = known.shape[1]
        index = torch.zeros(1, 1, known.shape[2], dtype=torch.int64)
        escape = self.alphabet[stream] is None
        return Tables(self.rows[stream][None], index, torch.full_like(index, self.shift), escape)

    def sample(self, positions, seed=0):
        generator = torch.Generator().manual_seed(seed)
        streams = [torch.multinomial(row.double(), positions, True, generator=generator) for row in self.rows]
        return torch.stack(streams)[None] + self.shift


class MeanScale:
    """A side stream first; then three streams of any integer whose row and shift hang on it, as in a hyperprior."""

    alphabet = (8, None, None, None)

    def __init__(self):
        steps = torch.arange(-20, 21)
        rows = [torch.cat([torch.exp(-0.5 * (steps / (0.5 + row)) ** 2), torch.tensor([1e-4])]) for row in range(4)]
        self.counts = integer_counts(torch.stack(rows))

    def tables(self, known):
        if known.shape[1] == 0:
            index = torch.zeros(1, 1, known.shape[2], dtype=torch.int64)
            return Tables(integer_counts(torch.ones(1, 8)), index, index, False)
        index = (known[:, :1] % 4 + torch.arange(3)[:, None]) % 4
        return Tables(self.counts, index, 5 * known[:, :1].expand(-1, 3, -1) - 20, True)

    def sample(self, positions, seed=0):
        generator = torch.Generator().manual_seed(seed)
        side = torch.randint(8, (1, 1, positions), generator=generator)
        main = 5 * side + torch.randn(1, 3, positions, generator=generator).mul(2).round().long()
        return torch.cat([side, main], dim=1)


class ManyRows:
    """Streams whose symbols each have one of very many rows, as under a Gaussian of any mean and scale."""

    def __init__(self, rows=1024, columns=200, streams=16):
        self.alphabet = (None,) * streams
        generator = np.random.default_rng(0)
        scales, fractions = 0.2 * 1.05 ** np.arange(rows // 16), np.arange(16) / 16
        offsets = np.arange(columns - 1) - columns // 2 - fractions[:, None]
        masses = np.exp(-0.5 * (offsets / scales[:, None, None]) ** 2).reshape(rows, -1)
        self.counts = integer_counts(torch.from_numpy(np.pad(masses, ((0, 0), (0, 1)), constant_values=1e-6)))
        self.index = torch.from_numpy(generator.integers(rows, size=(1, streams, 5000)))

    def tables(self, known):
        index = self.index[:, :, : known.shape[2]]
        return Tables(self.counts, index, torch.full_like(index, -100), True)

    def sample(self, positions, seed=0):
        index = self.index[:, :, :positions]
        uniform = torch.rand(index.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        columns = torch.searchsorted(
            self.counts.cumsum(1)[index], (uniform * TABLE_TOTAL).long()[..., None], right=True
        )
        return columns[..., 0].clamp(max=self.counts.shape[1] - 2) - 100


def random_row(size, seed):
    return integer_counts(torch.from_numpy(np.random.default_rng(seed).dirichlet(np.full(size, 0.3))))


def entropy_of(rows):
    probabilities = rows.double() / TABLE_TOTAL
    return -(probabilities * probabilities.log2()).sum(-1)


def entropy(row):
    return float(entropy_of(row))


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("seed", range(20))
def test_random_codes_under_random_tables_come_back(coder, seed):
    rng = np.random.default_rng(seed)
    source = Static(*(random_row(int(size), seed + 1) for size in rng.integers(1, 300, 4)))
    codes = source.sample(int(rng.integers(1, 400)), seed)
    data = encode_codes(source, codes, coder)
    assert decode_codes(source, data, codes.shape[2], coder).equal(codes)


@pytest.mark.parametrize("coder", CODERS)
def test_tables_that_depend_on_streams_known_already(coder):
    source = MeanScale()
    codes = source.sample(500)
    data = encode_codes(source, codes, coder)
    assert decode_codes(source, data, 500, coder).equal(codes)
    assert 8 * len(data) < 500 * (3 + 3 * 4.6)  # the main streams span 90 integers, 6.5 bits, without the side stream


@pytest.mark.parametrize("coder", CODERS)
def test_a_thousand_rows_cost_what_they_promise(coder):
    source = ManyRows()
    codes = source.sample(500)
    data = encode_codes(source, codes, coder)
    assert decode_codes(source, data, 500, coder).equal(codes)
    ideal = information(source, codes)
    entropies = entropy_of(source.counts)[source.index[0, :, :500]].sum()
    assert ideal == pytest.approx(float(entropies), rel=0.02)
    if coder == "range":
        assert abs(8 * len(data) - ideal) < 0.005 * ideal + 40
    else:
        lengths = np.stack([huffman_lengths(row) for row in source.counts.numpy()])
        means = (source.counts.numpy() * lengths).sum(1) / TABLE_TOTAL
        assert (means < entropy_of(source.counts).numpy() + 1).all()
        columns = codes[0].numpy() + 100
        bits = lengths[source.index[0, :, :500].numpy(), columns].sum()
        assert len(data) == -(-bits // 8)


def test_huffman_trees_are_built_once():
    source = ManyRows()
    for _ in range(2):
        codes = source.sample(200)
        decode_codes(source, encode_codes(source, codes, "huffman"), 200, "huffman")
        built = entropy_coding._tree.cache_info().misses
    again = source.sample(200, seed=1)
    decode_codes(source, encode_codes(source, again, "huffman"), 200, "huffman")
    assert entropy_coding._tree.cache_info().misses == built


@pytest.mark.parametrize("coder", CODERS)
def test_wild_integers_take_the_escape(coder):
    source, codes = MeanScale(), MeanScale().sample(40)
    wild = torch.tensor([-(2**31), 2**31 - 1, 1000, -1000, 61, -21])
    codes[0, 1, 7:13], codes[0, 3, 0] = wild, 99_999
    assert decode_codes(source, encode_codes(source, codes, coder), 40, coder).equal(codes)


@pytest.mark.parametrize("coder", CODERS)
def test_a_table_that_is_all_escape(coder):
    source = Static([TABLE_TOTAL], alphabet=(None,))
    codes = torch.tensor([[[0, -1, 2**31 - 1]]])
    data = encode_codes(source, codes, coder)
    assert information(source, codes) == 96
    assert 12 <= len(data) <= 13
    assert decode_codes(source, data, 3, coder).equal(codes)


@pytest.mark.parametrize("coder", CODERS)
def test_the_only_symbol_of_a_table_costs_nothing(coder):
    source = Static([TABLE_TOTAL], [TABLE_TOTAL], alphabet=(5, 5), shift=4)
    codes = torch.full((1, 2, 1000), 4)
    assert encode_codes(source, codes, coder) == b""
    assert decode_codes(source, b"", 1000, coder).equal(codes)
    assert information(source, codes) == 0


@pytest.mark.parametrize("coder", CODERS)
def test_no_positions_make_no_bytes(coder):
    for source, streams in ((MeanScale(), 4), (Static(random_row(5, 0)), 1)):
        codes = torch.zeros(1, streams, 0, dtype=torch.int64)
        assert encode_codes(source, codes, coder) == b""
        assert decode_codes(source, b"", 0, coder).shape == (1, streams, 0)


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("size", [2, 65_536])
def test_the_smallest_and_the_largest_alphabet(coder, size):
    source = Static(integer_counts(torch.arange(1, size + 1)))
    codes = torch.tensor([[[0, size - 1, size // 2, 0]]])
    assert decode_codes(source, encode_codes(source, codes, coder), 4, coder).equal(codes)


def test_information_of_hand_worked_codes():
    quarters = Static([TABLE_TOTAL // 2, TABLE_TOTAL // 4, TABLE_TOTAL // 4], alphabet=(None,))
    codes = torch.tensor([[[0, 1, 0, -7]]])  # 1 + 2 + 1 bits, then an escape: 2 + 32
    assert information(quarters, codes) == 38
    assert len(encode_codes(quarters, codes, "huffman")) == math.ceil(38 / 8)


@pytest.mark.parametrize("positions", [1, 30, 3000, 30_000])
def test_the_range_coder_stays_within_half_a_percent_and_40_bits(positions):
    for seed, source in enumerate(
        (Static(random_row(64, 1)), Static(random_row(3, 2), random_row(4000, 3)), MeanScale())
    ):
        codes = source.sample(positions, seed)
        ideal = information(source, codes)
        # below the ideal where rare symbols abound: at 24 bits the library gives each of them one unit more
        assert 0.995 * ideal - 16 <= 8 * len(encode_codes(source, codes)) <= 1.005 * ideal + 40


def test_short_messages_end_within_a_byte_or_two():
    source = Static(random_row(64, 5))
    excess = []
    for seed in range(300):
        codes = source.sample(50, seed)
        data = encode_codes(source, codes)
        assert decode_codes(source, data, 50).equal(codes)
        excess.append(8 * len(data) - information(source, codes))
    assert np.mean(excess) < 8


def test_huffman_lengths_of_hand_worked_counts():
    assert huffman_lengths(np.array([4, 2, 1, 1]) << 17).tolist() == [1, 2, 3, 3]
    assert huffman_lengths(np.array([TABLE_TOTAL])).tolist() == [0]


@pytest.mark.parametrize("size", [2, 3, 64, 1000])
def test_the_mean_huffman_length_is_within_a_bit_of_the_entropy(size):
    row = random_row(size, size)
    lengths = huffman_lengths(row.numpy())
    mean = float((row.numpy() * lengths).sum()) / TABLE_TOTAL
    assert entropy(row) - 1e-9 <= mean < entropy(row) + 1
    assert (2.0**-lengths).sum() == 1  # Kraft: the code is complete


def test_a_huffman_payload_is_as_long_as_its_codewords():
    source = Static(random_row(50, 1))
    codes = source.sample(999)
    bits = huffman_lengths(source.rows[0].numpy())[codes.numpy().ravel()].sum()
    assert len(encode_codes(source, codes, "huffman")) == math.ceil(bits / 8)


@pytest.mark.parametrize("coder", CODERS)
def test_shortened_and_lengthened_data_are_refused(coder):
    source = MeanScale()
    data = encode_codes(source, source.sample(30), coder)
    wrong = [data[:end] for end in range(len(data))] + [data + b"\0", data + b"\1" * 8]
    for each in wrong:
        with pytest.raises(BitstreamError):
            decode_codes(source, each, 30, coder)


@pytest.mark.parametrize("coder", CODERS)
def test_random_data_decode_or_are_refused_but_never_panic(coder):
    rng = np.random.default_rng(0)
    for length in range(60):
        try:
            codes = decode_codes(MeanScale(), rng.bytes(length), 10, coder)
        except BitstreamError as error:
            assert "\n" not in str(error)
        else:
            assert codes.shape == (1, 4, 10)


@pytest.mark.parametrize("coder", CODERS)
def test_a_symbol_outside_a_closed_alphabet_is_refused(coder):
    """An escape, or a table with columns to spare, would let it in."""
    wide = Static(random_row(9, 0), alphabet=(9,))
    narrow = Static(random_row(9, 0), alphabet=(8,))
    data = encode_codes(wide, torch.tensor([[[1, 8, 2]]]), coder)
    assert decode_codes(wide, data, 3, coder).tolist() == [[[1, 8, 2]]]
    with pytest.raises(BitstreamError, match="are not the code of 3 positions"):
        decode_codes(narrow, data, 3, coder)


@pytest.mark.parametrize("coder", CODERS)
def test_a_model_that_trips_over_decoded_symbols_refuses_the_file(coder):
    class Brittle(MeanScale):
        def tables(self, known):
            if known.shape[1] and int(known.max()) > 6:
                raise IndexError("no row\nfor this")
            return super().tables(known)

    codes = MeanScale().sample(40)
    codes[0, 0, 3] = 7
    with pytest.raises(BitstreamError, match=r"^the data cannot be decoded \(no row for this\); [^\n]*$"):
        decode_codes(Brittle(), encode_codes(MeanScale(), codes, coder), 40, coder)


def test_a_code_outside_its_table_is_named():
    with pytest.raises(ValueError, match="code 9 is outside its table of 5 symbols"):
        encode_codes(Static(random_row(5, 0)), torch.tensor([[[0, 9]]]))
    with pytest.raises(ValueError, match="does not fit the 32 bits"):
        encode_codes(MeanScale(), torch.tensor([[[0], [2**31], [0], [0]]]))


def test_a_hundred_thousand_symbols_take_well_under_a_tenth_of_a_second():
    source = Static(random_row(256, 0))
    codes = source.sample(100_000)
    times = []
    for _ in range(3):
        begin = time.process_time()
        data = encode_codes(source, codes)
        middle = time.process_time()
        decode_codes(source, data, 100_000)
        times.append((middle - begin, time.process_time() - middle))
    assert np.min(times, axis=0).max() < 0.1
