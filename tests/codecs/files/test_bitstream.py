"""A bitstream file comes back as it was written, or is refused in one line."""

import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
from codecbench.codecs.files import container as bitstream
from codecbench.codecs.files.container import Header
from codecbench.quantizers.base import Tables, integer_counts
from codecbench.quantizers.coding.entropy import decode_codes, encode_codes
from codecbench.quantizers.coding.errors import BitstreamError
from torch import nn

CODERS = ("range", "huffman")
MODEL = bytes(range(32))
OTHER_MODEL = MODEL[:2] + bytes(30)  # the same 2 bytes in the header
FULL = Header(2**28 - 1, "huffman", 44_100, 7, 3)


class Source:
    """Two streams; the second one's table hangs on the first."""

    alphabet = (4, None)
    counts = integer_counts(torch.tensor([[5, 1, 1, 1.0], [1, 2, 9, 0]]))

    def tables(self, known):
        index = known[:, :1] % 2 if known.shape[1] else torch.zeros(1, 1, known.shape[2], dtype=torch.int64)
        return Tables(self.counts, index, torch.zeros_like(index), known.shape[1] == 1)


CODES = torch.stack([torch.arange(20) % 4, torch.arange(20) % 3])[None]
CODES[0, 1, 5] = -70_000  # through the escape


@pytest.fixture(params=CODERS)
def path(request, tmp_path):
    path = tmp_path / "item.cbs"
    payload = encode_codes(Source(), CODES, request.param)
    bitstream.write(path, bitstream.pack(Header(343, request.param), payload, MODEL))
    return path


def refusal(path, fingerprint=MODEL):
    with pytest.raises(BitstreamError) as caught:
        bitstream.read(path, fingerprint)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def sealed(head, payload=b"", fingerprint=MODEL):
    """A file whose checksum fits."""
    return head + zlib.crc32(fingerprint + head + payload).to_bytes(4, "big") + payload


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (Header(0), 9),
        (Header(127), 9),
        (Header(128), 10),
        (Header(48_000), 11),  # 3 s at 16 kHz
        (Header(2_097_152), 12),
        (Header(48_000, seed=255), 12),
        (Header(48_000, "huffman", 48_000), 13),
        (Header(48_000, prefix=0), 12),
        (FULL, 16),
    ],
)
def test_every_header_comes_back_in_at_most_16_bytes(header, size):
    data = bitstream.pack(header, b"payload", MODEL)
    assert bitstream.unpack(data, MODEL) == (header, b"payload")
    assert header.size == len(data) - 7 == size <= bitstream.LONGEST_HEADER


def test_the_header_of_hand_worked_files():
    head = b"\xcb\x02\x00\x01\xac\x02"  # 300 = 0b10_0101100
    assert bitstream.pack(Header(300), b"", MODEL) == sealed(head)
    head = b"\xcb\xf2\x00\x01\x05" + b"\xac\x44" + b"\x09" + b"\x02"  # 44100 = 0xAC44
    assert bitstream.pack(Header(5, "huffman", 44_100, 9, 2), b"\x55", MODEL) == sealed(head, b"\x55")


@pytest.mark.parametrize(
    ("rate", "code"),
    [(4_000, 4_000), (22_050, 22_050), (65_535, 65_535), (88_200, 441), (192_000, 960), (768_000, 3_840)],
)
def test_sample_rates_take_two_bytes(rate, code):
    data = bitstream.pack(Header(1, rate=rate), b"", MODEL)
    assert data[5:7] == code.to_bytes(2, "big")
    assert bitstream.unpack(data, MODEL)[0].rate == rate


@pytest.mark.parametrize("rate", [0, 3_999, 65_536, 88_201, 768_200])
def test_a_sample_rate_that_has_no_code_is_refused(rate):
    with pytest.raises(BitstreamError, match=f"cannot name {rate} Hz .* resample the signal$"):
        bitstream.pack(Header(1, rate=rate), b"", MODEL)


@pytest.mark.parametrize("code", [0, 15, 327, 3_841, 3_999])
def test_an_impossible_sample_rate_is_refused(tmp_path, code):
    (tmp_path / "a").write_bytes(sealed(b"\xcb\x22\x00\x01\x05" + code.to_bytes(2, "big")))
    assert f"impossible sample rate (code {code})" in refusal(tmp_path / "a")


@pytest.mark.parametrize("header", [Header(1, seed=256), Header(1, prefix=256), Header(1, seed=-1)])
def test_a_seed_or_prefix_that_does_not_fit_its_byte_is_refused(header):
    with pytest.raises(BitstreamError, match="does not fit the one byte"):
        bitstream.pack(header, b"", MODEL)


def test_codes_come_back_from_the_file(path):
    header, payload = bitstream.read(path, MODEL)
    assert decode_codes(Source(), payload, 20, header.coder).equal(CODES)
    assert path.stat().st_size == header.size + len(payload)


def test_a_flip_of_any_bit_is_noticed(path):
    data = path.read_bytes()
    for place in range(len(data)):
        for bit in range(8):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
            refusal(path)


@pytest.mark.parametrize("header", [Header(343), FULL])
def test_every_truncation_is_noticed(tmp_path, header):
    data, path = bitstream.pack(header, b"payload", MODEL), tmp_path / "a"
    for end in range(len(data)):
        path.write_bytes(data[:end])
        assert ("cut short" if end else "not a bitstream") in refusal(path)


def test_bytes_at_the_end_are_noticed(path):
    path.write_bytes(path.read_bytes() + b"\0")
    assert "checksum" in refusal(path)


def test_another_model_is_named(path):
    assert "another model" in refusal(path, fingerprint=bytes(32))


def test_another_model_whose_first_two_bytes_agree_is_refused_by_the_checksum(path):
    assert "another model" in refusal(path, fingerprint=OTHER_MODEL)


def test_another_version_is_named(path):
    data = path.read_bytes()
    path.write_bytes(data[:1] + b"\x09" + data[2:])
    assert "version 9, this program reads 2" in refusal(path)


def test_another_file_is_named(path):
    for data in (b"", b"RIFF....WAVE", b"CB\x01\x00"):
        path.write_bytes(data)
        assert "not a bitstream" in refusal(path)


def test_an_absurd_length_is_refused(path):
    path.write_bytes(sealed(b"\xcb\x02" + MODEL[:2] + b"\xff\xff\xff\xff"))
    assert "a length of more than 268435455 samples" in refusal(path)


def test_what_cannot_be_read_is_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "none.cbs")
    assert "is no file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is no file" in refusal(tmp_path / "pipe")


def test_hostile_names_make_one_printable_line(tmp_path):
    for name in ("new\nline", "\x1b[31mred", "x" * 300, "nul\0", "bad\udcff"):
        for action in (lambda path: bitstream.read(path, MODEL), lambda path: bitstream.write(path / "a", b"")):
            with pytest.raises(BitstreamError) as caught:
                action(tmp_path / name)
            assert str(caught.value).isprintable()


def test_a_name_of_the_greatest_length_can_be_written(tmp_path):
    bitstream.write(tmp_path / ("x" * 255), b"data")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"data"]


def test_an_unwritable_place_is_one_line_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for place in (tmp_path / "none" / "a", tmp_path / "folder", tmp_path / "file" / "a"):
        with pytest.raises(BitstreamError, match=f"^{re.escape(str(place))}: [^\n]*; choose another place$"):
            bitstream.write(place, b"data")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "file", tmp_path / "folder"]


def test_a_device_is_not_replaced_by_a_file():
    with pytest.raises(BitstreamError, match=r"^/dev/null: is no file to write to"):
        bitstream.write("/dev/null", b"data")
    assert Path("/dev/null").is_char_device()


def test_a_failure_while_writing_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BitstreamError, match="No space left"):
        bitstream.write(path, b"something else")
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_a_signal_that_is_too_long_is_refused():
    with pytest.raises(BitstreamError, match="at most 268435455 samples"):
        bitstream.pack(Header(2**28), b"", MODEL)


def test_another_process_decodes_the_same(tmp_path):
    paths = [str(tmp_path / coder) for coder in CODERS]
    for path, coder in zip(paths, CODERS, strict=True):
        bitstream.write(path, bitstream.pack(Header(20, coder), encode_codes(Source(), CODES, coder), MODEL))
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from codecbench.codecs.files import container as bitstream
from codecbench.quantizers.coding.entropy import decode_codes
from {Path(__file__).stem} import MODEL, Source
for path in {paths}:
    header, payload = bitstream.read(path, MODEL)
    print(decode_codes(Source(), payload, header.samples, header.coder).tolist())
"""
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output == f"{CODES.tolist()}\n" * 2


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
