"""Codecs with nothing to train: their bytes, their lag, and published behaviour."""

import ctypes.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from codecbench.benchmark.cli.main import main
from codecbench.benchmark.metrics.intelligibility import stoi
from codecbench.benchmark.specs.registry import found, lookup, presets
from codecbench.codecs.classical import amrwb, electrocodec, opus
from codecbench.codecs.classical.amrwb import AMRWB
from codecbench.codecs.classical.base import ClassicalCodec
from codecbench.codecs.classical.checks import run_checks
from codecbench.codecs.classical.electrocodec import Electrocodec
from codecbench.codecs.classical.ffmpeg import decode_packets, encode_packets, sixteen_bit
from codecbench.codecs.classical.g722 import G722
from codecbench.codecs.classical.mp3 import MP3
from codecbench.codecs.classical.opus import Opus
from codecbench.codecs.classical.uncoded import Uncoded
from codecbench.datamodules.base import resample
from codecbench.datamodules.cochlear.ace import AceConfig, ace
from codecbench.datamodules.demo import Demo
from scipy.signal import correlate

RATE = 16_000
LIBRARY = os.environ.get("CODECBENCH_AMRWB") or ctypes.util.find_library("vo-amrwbenc")
NAMES = sorted({*found("classical"), *presets("classical")} - {"amrwb"})


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """14 s of four voices."""
    return np.concatenate([Demo().load(item) for item in Demo().items("test")[::8]])


def coded(codec: ClassicalCodec, signal: np.ndarray, rate: float = RATE) -> tuple[np.ndarray, float]:
    """The decoded signal and the kbit/s of its payload."""
    payload = codec.encode(signal, rate)
    length = signal.shape[-1]
    return codec.decode(payload, length, rate), 8 * len(payload) * rate / length / 1000


def snr(signal: np.ndarray, decoded: np.ndarray) -> float:
    return float(10 * np.log10(np.square(signal).sum() / np.square(signal - decoded).sum()))


# -- the codecs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_one_keeps_the_contract(name: str) -> None:
    cls, options = lookup("codecs", name)
    assert [each for each in run_checks(lambda: cls(**options)) if not each.passed] == []


MEASURED = [  # preset, kbit/s asked; got, SNR, STOI of 21 s of synthetic speech by FFmpeg's own tools, with libopus 1.6
    ("opus-5ms", 16, 16.0, -2.0, 0.780),
    ("opus-5ms", 24, 25.6, 5.4, 0.891),
    ("opus-5ms", 64, 64.0, 21.3, 0.995),
    ("opus-7.5ms", 16, 16.0, 5.6, 0.917),
    ("opus-7.5ms", 32, 32.0, 13.7, 0.980),
    ("opus-7.5ms", 64, 64.0, 23.3, 0.998),
    ("g722", 48, 48.0, 21.3, 0.981),
    ("g722", 64, 64.0, 25.8, 0.998),
    ("mp3", 16, 16.1, 13.4, 0.976),
    ("mp3", 64, 64.4, 23.6, 1.000),
]


@pytest.mark.parametrize(("name", "bitrate", "kbps", "noise", "intelligible"), MEASURED)
def test_rates_and_quality_are_those_of_the_codecs(
    name: str, bitrate: float, kbps: float, noise: float, intelligible: float, speech: np.ndarray
) -> None:
    cls, options = lookup("codecs", name)
    decoded, measured = coded(cls(bitrate, **options), speech)
    assert measured == pytest.approx(kbps, rel=0.003)
    assert snr(speech, decoded) == pytest.approx(noise, abs=1.3)
    pair = (torch.from_numpy(signal)[None] for signal in (speech, decoded))
    assert float(stoi(*pair, RATE)) == pytest.approx(intelligible, abs=0.022)


@pytest.mark.parametrize("rate", [RATE, 44_100])
@pytest.mark.parametrize("codec", [Opus(64.0), Opus(24.0, "voip", 20.0), MP3(64.0)])
def test_nothing_is_late(codec: ClassicalCodec, rate: int, speech: np.ndarray) -> None:
    sound = resample(speech[: 4 * RATE], RATE, rate).astype(np.float32)
    decoded, kbps = coded(codec, sound, rate)
    lag = int(correlate(decoded, sound, method="fft").argmax()) - len(sound) + 1
    assert abs(lag) <= (codec.bitrate == 24) and kbps == pytest.approx(codec.bitrate, rel=0.03)


def test_latencies() -> None:
    milliseconds = {"opus-5ms": 5, "opus-7.5ms": 7.5, "opus-20ms": 26.5, "g722": 1.5, "amrwb": 25.9375}
    for name, expected in milliseconds.items():
        cls, options = lookup("codecs", name)
        assert 1000 * cls(**options).latency_s(RATE) == pytest.approx(expected)
    assert MP3().latency_s(RATE) == pytest.approx((576 + 1105) / RATE)


@pytest.mark.parametrize("length", [101_280, 118_400, 101_281])
def test_opus_packets_are_counted_where_their_end_is_the_signals(length: int) -> None:
    """In floating point one packet more was counted at the first two lengths, and all were cut in the wrong places."""
    signal = np.random.default_rng(0).normal(0, 0.05, length).astype(np.float32)
    codec = Opus(16.0, frame_ms=2.5)
    assert codec.decode(codec.encode(signal, RATE), length, RATE).shape == (length,)


def test_variable_rate_says_how_long_packets_are(speech: np.ndarray) -> None:
    packets = [bytes([n % 251]) * n for n in (1, 251, 252, 255, 256, 1275)]
    framed = b"".join(opus._length(packet) + packet for packet in packets)
    lengths = [b"\x01", b"\xfb", b"\xfc\x00", b"\xff\x00", b"\xfc\x01", b"\xff\xff"]  # RFC 6716, section 3.2.1
    assert [opus._length(packet) for packet in packets] == lengths and opus._delimited(framed) == packets
    variable = Opus(16.0, "voip", 20.0, vbr=True)
    constant = Opus(16.0, "voip", 20.0)
    sound = speech[: 3 * RATE]
    assert coded(variable, sound)[1] != coded(constant, sound)[1] and snr(sound, coded(variable, sound)[0]) > 6


def test_g722_leaves_out_only_what_the_decoder_does_not_look_at(speech: np.ndarray) -> None:
    sound = speech[:RATE]
    whole = encode_packets("g722", np.pad(sixteen_bit(sound), (0, 22)), RATE)
    expected = decode_packets("g722", whole, RATE, {"bits_per_codeword": "6"})[22 : 22 + RATE]
    codec = G722(48.0)
    payload = codec.encode(sound, RATE)
    assert len(payload) == -(-(RATE + 22) // 2 * 6 // 8) and np.array_equal(codec.decode(payload, RATE, RATE), expected)


def test_pcm_and_patterns_are_kept_uncoded(speech: np.ndarray) -> None:
    decoded, kbps = coded(Uncoded(), np.clip(speech, -0.99, 0.99))
    assert np.abs(decoded - np.clip(speech, -0.99, 0.99)).max() <= 0.5 / 32768 + 1e-7 and kbps == 256
    pattern, config = pattern_of(speech[:RATE]), AceConfig()
    kept, kbps = coded(Uncoded(track="cochlear"), pattern, config.frame_rate)
    assert np.array_equal(kept, pattern) and kbps == pytest.approx(22 * 32 * 16 / 18)


# -- AMR-WB ----------------------------------------------------------------------------------------------------------


def test_amrwb_frames_are_packed_without_gaps_and_decode() -> None:
    for mode, bits in enumerate(amrwb.BITS):
        codec = AMRWB(AMRWB.bitrates[mode])
        payload = np.random.default_rng(mode).bytes(8 * bits // 8)  # eight frames of anything are a signal
        packets = amrwb.unpack(payload, mode)
        assert [len(packet) for packet in packets] == 8 * [1 + -(-bits // 8)] and amrwb.pack(packets, mode) == payload
        assert codec.decode(payload, 2000, RATE).shape == (2000,)
        assert codec.bitrate == pytest.approx(bits * 50 / 1000)


STUB = r"""
#include <string.h>
static const int sizes[] = {18, 24, 33, 37, 41, 47, 51, 59, 61};
void *E_IF_init(void) { static int state = 7; return &state; }
int E_IF_encode(void *state, int mode, const short *speech, unsigned char *out, int dtx)
{ if (*(int *)state != 7 || dtx) return -1; out[0] = mode << 3 | 4; memcpy(out + 1, speech, sizes[mode] - 1);
  return sizes[mode]; }
void E_IF_exit(void *state) {}
"""


def test_amrwb_hands_every_frame_to_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's interface with a stand-in behind it, which copies the first samples: it says nothing of quality."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler")
    (tmp_path / "stub.c").write_text(STUB)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "stub.so", tmp_path / "stub.c"], check=True)
    monkeypatch.setenv(amrwb.VARIABLE, str(tmp_path / "stub.so"))
    sound = (np.arange(1, 961) / 32768).astype(np.float32)
    packets = amrwb.unpack(AMRWB(23.85).encode(sound, RATE), 8)
    assert len(packets) == -(-(960 + 95) // 320)
    for number, packet in enumerate(packets[:3]):
        assert packet[0] == 8 << 3 | 4
        assert np.array_equal(np.frombuffer(packet[1:59], "<i2"), np.arange(1, 30) + 320 * number)


@pytest.mark.skipif(LIBRARY is None, reason="libvo-amrwbenc is not installed; set CODECBENCH_AMRWB to its path")
def test_amrwb_by_the_library(speech: np.ndarray) -> None:
    for bitrate, noise, intelligible in ((6.6, 7.3, 0.920), (12.65, 10, 0.971), (23.85, 11.4, 0.988)):
        decoded, kbps = coded(AMRWB(bitrate), speech)
        pair = (torch.from_numpy(signal)[None] for signal in (speech, decoded))
        assert kbps == pytest.approx(bitrate, rel=0.005) and snr(speech, decoded) == pytest.approx(noise, abs=2)
        assert float(stoi(*pair, RATE)) == pytest.approx(intelligible, abs=0.03)


def test_amrwb_without_its_library_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    monkeypatch.delenv(amrwb.VARIABLE, raising=False)
    amrwb._library.cache_clear()
    assert main(["check", "--codec", "amrwb"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "libvo-amrwbenc0" in error and amrwb.VARIABLE in error
    other = ctypes.util.find_library("m") or "libm.so.6"
    for path in ("/nowhere.so", other):
        monkeypatch.setenv(amrwb.VARIABLE, path)
        with pytest.raises(ValueError, match=r"is no libvo-amrwbenc \(.*set CODECBENCH_AMRWB"):
            AMRWB().check(RATE)


# -- Electrocodec ----------------------------------------------------------------------------------------------------


def pattern_of(waveform: np.ndarray, config: AceConfig = AceConfig()) -> np.ndarray:  # noqa: B008
    return ace(torch.from_numpy(waveform)[None], config)[0].numpy()


ELSEWHERE = """
import sys
from codecbench.codecs.classical.electrocodec import Electrocodec
bits, frames = map(int, sys.argv[1:])
sys.stdout.buffer.write(Electrocodec(bits=bits).decode(sys.stdin.buffer.read(), frames, 888.9).tobytes())
"""


@pytest.mark.parametrize("bits", [2, 3])
def test_electrocodec_decodes_in_another_process_to_what_the_encoder_followed(bits: Any, speech: np.ndarray) -> None:
    pattern = pattern_of(speech[: 2 * RATE])
    frames = pattern.shape[1]
    followed = electrocodec.walk(lambda context, meant: meant, bits, frames, pattern.T.tolist())
    payload = Electrocodec(bits=bits).encode(pattern, 888.9)
    command = [sys.executable, "-c", ELSEWHERE, str(bits), str(frames)]
    answer = subprocess.run(command, input=payload, capture_output=True, check=True, timeout=120).stdout
    decoded = np.frombuffer(answer, np.float32).reshape(22, frames)
    assert np.array_equal(decoded, np.array(followed, np.float32).T)
    assert np.array_equal(decoded >= 0, pattern >= 0) and (decoded[decoded < 0] == np.float32(-0.1)).all()
    error = np.abs(decoded - pattern)[pattern >= 0]
    assert np.sqrt(np.square(error).mean()) < {2: 0.06, 3: 0.035}[bits]


def test_electrocodec_by_hand() -> None:
    """One frame, bands 1 and 3 at .56 and .9 after a prediction of .5: .06 is nearest .05, .4 nearest .2."""
    pattern = np.full((22, 1), -0.1, np.float32)
    pattern[0], pattern[2] = 0.56, 0.9
    decoded, _ = coded(Electrocodec(bits=2), pattern, 888.9)
    assert decoded[[0, 2], 0] == pytest.approx([0.55, 0.7])
    counts = electrocodec.Counts(2)
    assert counts.probability(5) == 1 / 2
    for decision in (1, 0, 1):
        counts.add(5, decision)
    assert counts.probability(5) == (2 + 1 / 2) / (3 + 1)  # Krichevsky & Trofimov


FIRST_RESIDUALS = {2: (-0.18, -0.04, 0.04, 0.18), 3: (-0.45, -0.2, -0.08, -0.02, 0.02, 0.08, 0.2, 0.45)}


@pytest.mark.parametrize(("bits", "kbps", "pulses"), [(2, 10.16, 4.38), (3, 12.43, 4.38)])
def test_electrocodec_spends_what_its_model_predicts(
    bits: Any, kbps: float, pulses: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against an ideal coder on other synthetic speech: bits per pulse, for there are more or fewer of them."""
    monkeypatch.setattr(electrocodec, "RESIDUALS", FIRST_RESIDUALS)
    config = AceConfig(gain_db=10, pre_emphasis=False)
    spent = stimulated = 0
    for item in Demo().items("test")[::8]:
        pattern = pattern_of(Demo().load(item), config)
        spent += 8 * len(Electrocodec(bits=bits).encode(pattern, config.frame_rate))
        stimulated += int((pattern >= 0).sum())
    assert spent / stimulated == pytest.approx(1000 * kbps / config.frame_rate / pulses, rel=0.02)


def test_electrocodec_wastes_nothing_on_its_coder(speech: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern, odds = pattern_of(speech[:RATE]), []
    add = electrocodec.Counts.add

    def noted(self: electrocodec.Counts, context: int, decision: int) -> None:
        probability = self.probability(context)
        odds.append(probability if decision else 1 - probability)
        add(self, context, decision)

    monkeypatch.setattr(electrocodec.Counts, "add", noted)
    payload = Electrocodec(bits=3).encode(pattern, 888.9)
    ideal = -np.log2(odds).sum()
    assert 0 <= 8 * len(payload) - ideal < 64
