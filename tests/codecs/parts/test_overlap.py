"""Frames that overlap: what comes back unchanged, and how two frames meet."""

import math

import pytest
import torch
from codecbench.codecs.parts.overlap import HOP, Overlap, SubPixel, convolution
from codecbench.datamodules.demo import Demo

FADES = ["hann", "half_sine"]


@pytest.mark.parametrize("fade", FADES)
@pytest.mark.parametrize("length", [1, 31, 32, 33, 479, 480, 481, 511, 512, 513, 961, 4800])
def test_unchanged_frames_give_the_signal_back(fade: str, length: int) -> None:
    overlap = Overlap(fade)
    signal = torch.randn(2, length, generator=torch.Generator().manual_seed(length))
    frames = overlap.split(signal)
    assert frames.shape == (2, math.ceil(length / 480), 512)
    torch.testing.assert_close(overlap.join(frames, length), signal, rtol=0, atol=1e-6)


@pytest.mark.parametrize("fade", FADES)
def test_speech_comes_back_within_its_last_bit(fade: str) -> None:
    overlap, demo = Overlap(fade), Demo()
    speech = torch.from_numpy(demo.load(demo.items("test")[0]))[None]
    back = overlap.join(overlap.split(speech), speech.shape[-1])
    assert float((back - speech).abs().max()) <= 2**-23 and back.shape == speech.shape


def test_the_hann_fade_weights_frames_once_by_a_periodic_window() -> None:
    overlap = Overlap("hann")
    signal = torch.ones(1, 961)
    assert torch.equal(overlap.split(signal)[0, 1, :481], torch.ones(481))
    second = torch.stack([torch.zeros(512), torch.ones(512), torch.zeros(512)])[None]
    joined = overlap.join(second, 1440)[0]
    periodic = torch.hann_window(64, periodic=True)
    torch.testing.assert_close(joined[480:512], periodic[:32], rtol=0, atol=1e-6)
    torch.testing.assert_close(joined[960:992], periodic[32:], rtol=0, atol=1e-6)
    assert float(joined[488]) == pytest.approx(0.5 * (1 - math.cos(math.pi / 4)), abs=1e-6)  # by hand: 8 of 64
    assert torch.equal(joined[512:960], torch.ones(448)) and not joined[:480].any() and not joined[992:].any()


def test_the_half_sine_weights_frames_before_and_after() -> None:
    overlap = Overlap("half_sine")
    frames = overlap.split(torch.ones(1, 961))[0]
    assert torch.equal(frames[0, :480], torch.ones(480))  # nothing comes before the first frame
    assert float(frames[1, 0]) == pytest.approx(math.sin(math.pi / 128), abs=1e-6)
    assert float(frames[0, 480]) == pytest.approx(math.cos(math.pi / 128), abs=1e-6)
    torch.testing.assert_close(frames[0, 480:].square() + frames[1, :32].square(), torch.ones(32))


def test_a_frame_reaches_no_further_than_its_samples() -> None:
    overlap = Overlap("hann")
    frames = torch.randn(1, 4, 512, generator=torch.Generator().manual_seed(0))
    before, after = (overlap.join(frames.index_fill(1, torch.tensor(2), value), 4 * HOP)[0] for value in (0.0, 1.0))
    moved = (before != after).nonzero().flatten()
    assert (int(moved.min()), int(moved.max())) == (2 * HOP + 1, 3 * HOP + 31)  # the first weight of a fade is 0


def test_sub_pixels_interleave_neighbouring_channels() -> None:
    values = torch.tensor([[[1.0, 2.0], [10.0, 20.0], [3.0, 4.0], [30.0, 40.0]]])
    assert SubPixel()(values).tolist() == [[[1.0, 10.0, 2.0, 20.0], [3.0, 30.0, 4.0, 40.0]]]


def test_a_convolution_starts_with_the_gain_asked_for() -> None:
    torch.manual_seed(0)
    layer = convolution(32, 48, 9, dilation=4, gain=0.5)
    out = layer(torch.randn(4, 32, 1000)).detach()
    assert out.shape == (4, 48, 1000) and float(out[..., 16:-16].std()) == pytest.approx(0.5, rel=0.05)
    assert convolution(2, 3, 9, stride=2)(torch.zeros(1, 2, 512)).shape == (1, 3, 256)
