"""A bitstream file comes back as it was written, or is refused in one line."""

import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
from codecbench.benchmark import bitstream
from codecbench.benchmark.errors import BitstreamError, UserError
from codecbench.quantizers.base import Tables, integer_counts
from torch import nn

CODERS = ("range", "huffman")
MODEL = bytes(range(32))
HOP = 18


class Source:
    """Two streams; the second one's table hangs on the first."""

    alphabet = (4, None)
    counts = integer_counts(torch.tensor([[5, 1, 1, 1.0], [1, 2, 9, 0]]))

    def tables(self, known):
        index = known[:, :1] % 2 if known.shape[1] else torch.zeros(1, 1, known.shape[2], dtype=torch.int64)
        return Tables(self.counts, index, torch.zeros_like(index), known.shape[1] == 1)


def positions(samples):
    return -(-samples // HOP)


CODES = torch.stack([torch.arange(20) % 4, torch.arange(20) % 3])[None]
CODES[0, 1, 5] = -70_000  # through the escape
SAMPLES = 19 * HOP + 1


@pytest.fixture(params=CODERS)
def path(request, tmp_path):
    path = tmp_path / "item.cb"
    bitstream.write(path, Source(), CODES, SAMPLES, MODEL, request.param)
    return path


def refusal(path, fingerprint=MODEL):
    with pytest.raises(BitstreamError) as caught:
        bitstream.read(path, Source(), positions, fingerprint)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def sealed(head, payload=b""):
    """A file whose checksum fits."""
    return head + zlib.crc32(head + payload).to_bytes(4, "big") + payload


@pytest.mark.parametrize("coder", CODERS)
def test_header_and_codes_come_back(tmp_path, coder):
    size = bitstream.write(tmp_path / "item.cb", Source(), CODES, SAMPLES, MODEL, coder)
    header, codes = bitstream.read(tmp_path / "item.cb", Source(), positions, MODEL)
    assert header == bitstream.Header(1, coder, MODEL[:4], SAMPLES)
    assert codes.equal(CODES)
    assert size == (tmp_path / "item.cb").stat().st_size


@pytest.mark.parametrize(("samples", "header_bytes"), [(0, 13), (127, 13), (128, 14), (300_000, 15), (2**28 - 1, 16)])
def test_the_header_takes_at_most_16_bytes(tmp_path, samples, header_bytes):
    nothing = torch.zeros(1, 2, 0, dtype=torch.int64)
    assert bitstream.write(tmp_path / "a", Source(), nothing, samples, MODEL, "range") == header_bytes
    assert bitstream.read(tmp_path / "a", Source(), lambda _: 0, MODEL)[0].samples == samples


def test_the_header_of_a_hand_worked_file(tmp_path):
    nothing = torch.zeros(1, 2, 0, dtype=torch.int64)
    bitstream.write(tmp_path / "a", Source(), nothing, 300, MODEL, "huffman")
    head = b"CB\x01\x01\x00\x01\x02\x03\xac\x02"  # 300 = 0b10_0101100
    assert (tmp_path / "a").read_bytes() == head + zlib.crc32(head).to_bytes(4, "big")


def test_a_flip_of_any_bit_is_noticed(path):
    data = path.read_bytes()
    for place in range(len(data)):
        for bit in range(8):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
            refusal(path)


def test_every_truncation_is_noticed(path):
    data = path.read_bytes()
    for end in range(len(data)):
        path.write_bytes(data[:end])
        refusal(path)
    assert "cut short" in refusal(path)


def test_bytes_at_the_end_are_noticed(path):
    path.write_bytes(path.read_bytes() + b"\0")
    assert "checksum" in refusal(path)


def test_another_model_is_named(path):
    assert "another model" in refusal(path, fingerprint=bytes(32))


def test_another_version_is_named(path):
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\x09" + data[3:])
    assert "version 9" in refusal(path)


def test_another_file_is_named(path):
    for data in (b"", b"RIFF....WAVE", b"C\0"):
        path.write_bytes(data)
        assert "not a bitstream" in refusal(path)


def test_an_absurd_length_is_refused_before_anything_is_allocated(path):
    head = b"CB\x01\x00" + MODEL[:4]
    path.write_bytes(sealed(head + b"\xff\xff\xff\xff\x7f"))
    assert "impossible length of 34359738367 samples" in refusal(path)
    path.write_bytes(sealed(head + b"\xff" * 30 + b"\x7f"))
    assert "impossible length" in refusal(path)


def test_a_length_that_does_not_fit_the_codes_is_refused(path):
    head = b"CB\x01\x00" + MODEL[:4] + b"\x7f"
    path.write_bytes(sealed(head, b"\x12" * 50))
    assert "50 bytes are not the code of 8 positions" in refusal(path)


def test_an_unknown_coder_is_refused(path):
    path.write_bytes(sealed(b"CB\x01\x07" + MODEL[:4] + b"\x00"))
    assert "entropy coder" in refusal(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "none.cb")
    assert "directory" in refusal(tmp_path)


def test_an_unwritable_place_is_one_line_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for place in (tmp_path / "none" / "a", tmp_path / "folder", tmp_path / "file" / "a"):
        with pytest.raises(UserError, match=f"^{re.escape(str(place))}: cannot be written.*choose another place$"):
            bitstream.write(place, Source(), CODES, SAMPLES, MODEL, "range")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "file", tmp_path / "folder"]


def test_a_signal_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(BitstreamError, match="at most 268435455 samples"):
        bitstream.write(tmp_path / "a", Source(), CODES, 2**28, MODEL, "range")


def test_a_failure_while_coding_leaves_the_old_file(path):
    before = path.read_bytes()
    with pytest.raises(ValueError, match="outside its table"):
        bitstream.write(path, Source(), CODES + 9, SAMPLES, MODEL, "range")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_another_process_decodes_the_same(tmp_path):
    paths = [str(tmp_path / coder) for coder in CODERS]
    for path, coder in zip(paths, CODERS, strict=True):
        bitstream.write(path, Source(), CODES, SAMPLES, MODEL, coder)
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from codecbench.benchmark import bitstream
from {Path(__file__).stem} import MODEL, Source, positions
print([bitstream.read(path, Source(), positions, MODEL)[1].tolist() for path in {paths}])
"""
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.strip() == str([CODES.tolist()] * 2)


def test_the_fingerprint_is_of_the_state_alone():
    torch.manual_seed(0)
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    before = bitstream.fingerprint(model)
    model(torch.randn(1, 3))
    assert bitstream.fingerprint(model.eval()) == before
    assert bitstream.fingerprint(other) != before
    other.load_state_dict(model.state_dict())
    assert bitstream.fingerprint(other) == before
    assert len(before) == 32


def test_the_fingerprint_sees_values_types_shapes_and_names():
    def module(name, tensor):
        module = nn.Module()
        module.register_buffer(name, tensor)
        return bitstream.fingerprint(module)

    zeros = torch.zeros(2, 3)
    seen = [
        module("a", zeros),
        module("b", zeros),
        module("a", zeros.T),
        module("a", zeros.to(torch.int32)),
        module("a", zeros + 1e-45),
        module("a", torch.zeros(0)),
        module("a", torch.tensor(0.0)),
        module("a", torch.tensor(True)),
        module("a", torch.zeros(2, dtype=torch.bfloat16)),
    ]
    assert len(set(seen)) == len(seen)
    assert module("a", torch.arange(6).reshape(2, 3).T) == module("a", torch.tensor([[0, 3], [1, 4], [2, 5]]))
