"""Losses in time, mel bands and STFTs: hand-worked values, outside references, gradients."""

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch
from codecbench.benchmark.losses import LOSSES
from codecbench.benchmark.losses.spectral import MelBank, MelLoss, MultiResolutionSTFT, TimeLoss
from codecbench.datamodules.demo import CORPORA

RATE = 16_000
SMALL = ((64, 40, 10), (32, 32, 16))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def speech(files: list[Path], samples: int) -> torch.Tensor:
    return torch.stack([torch.from_numpy(soundfile.read(file, start=2000, frames=samples)[0]) for file in files])


@pytest.fixture(scope="module")
def demo() -> torch.Tensor:
    """One second each of three speakers of the embedded corpus."""
    return speech(sorted((CORPORA / "demo").glob("*/*.flac"))[:170:60], RATE)


# -- time -------------------------------------------------------------------------------------------------------------


def test_the_time_loss_is_the_mean_squared_error() -> None:
    clean, decoded = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert TimeLoss()(clean, decoded).item() == 2


# -- mel --------------------------------------------------------------------------------------------------------------


def test_a_mel_bank_is_that_of_htk() -> None:
    bank = MelBank(3, RATE, 512).weights
    top = 2595 * math.log10(1 + 8000 / 700)
    edges = [700 * (10 ** (step * top / 4 / 2595) - 1) for step in range(5)]
    for band in range(3):
        low, middle, high = edges[band : band + 3]
        expected = np.interp(np.arange(257) * 31.25, [low, middle, high], [0, 1, 0])
        assert bank[:, band].numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("bands", "frame", "left"), [(16, 128, 16), (32, 128, 31), (64, 128, 57), (128, 512, 127)])
def test_empty_mel_bands_are_left_out(bands: int, frame: int, left: int) -> None:
    assert MelBank(bands, RATE, frame).weights.shape == (frame // 2 + 1, left)


def test_twice_the_signal_is_ln_4_in_every_mel_band() -> None:
    clean = 1000 * noise(2, 2048)  # so loud that 1e-7 is nothing
    assert MelLoss(RATE)(clean, 2 * clean).item() == pytest.approx(math.log(4), rel=1e-6)


def test_the_mel_loss_equals_scipy_on_speech(demo: torch.Tensor) -> None:
    decoded, losses = demo + 0.01 * noise(*demo.shape), []
    powers = []
    for waveform in (demo, decoded):
        _, _, spectra = scipy.signal.stft(
            waveform.numpy(), nperseg=512, boundary=None, padded=True, window="hann", scaling="spectrum"
        )
        powers.append(np.abs(spectra * 256) ** 2 / 512)  # scipy divides by the window's sum
    for bands in (8, 16, 32, 128):
        bank = MelBank(bands, RATE, 512).weights.double().numpy()
        before, after = (np.log(np.swapaxes(power, 1, 2) @ bank + 1e-7) for power in powers)
        losses.append(np.sqrt(np.square(before - after).mean(-1)).mean())
    assert MelLoss(RATE)(demo, decoded).item() == pytest.approx(np.mean(losses), rel=1e-9)


# -- STFT -------------------------------------------------------------------------------------------------------------


def test_twice_the_signal_is_1_and_ln_2() -> None:
    clean = 100 * noise(2, 6000)
    assert MultiResolutionSTFT()(clean, 2 * clean).item() == pytest.approx(1 + math.log(2), rel=1e-4)
    assert MultiResolutionSTFT(phase=True)(clean, -clean).item() == pytest.approx(2)
    assert MultiResolutionSTFT()(clean, -clean).item() == 0


def test_the_stft_loss_equals_scipy_on_speech(demo: torch.Tensor) -> None:
    decoded, expected = demo + 0.01 * noise(*demo.shape), []
    for size, length, hop in ((1024, 600, 120), (2048, 1200, 240), (512, 240, 50)):
        window = np.zeros(size)
        start = (size - length) // 2
        window[start : start + length] = scipy.signal.get_window("hann", length)
        transform = scipy.signal.ShortTimeFFT(window, hop, RATE)
        frames = demo.shape[1] // hop + 1
        clean, coded = (
            np.maximum(np.abs(transform.stft(x.numpy(), p0=0, p1=frames)), math.sqrt(1e-7)) for x in (demo, decoded)
        )
        relative = np.linalg.norm(clean - coded, axis=(1, 2)) / np.linalg.norm(clean, axis=(1, 2))
        expected.append(relative.mean() + np.abs(np.log(clean) - np.log(coded)).mean())
    assert MultiResolutionSTFT()(demo, decoded).item() == pytest.approx(np.mean(expected), rel=1e-9)


# -- all --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_by_name(name: str, demo: torch.Tensor) -> None:
    loss, error = LOSSES[name](RATE), noise(*demo.shape)
    costs = [loss(demo, demo + share * error).item() for share in (0.0, 0.01, 0.1, 1.0)]
    assert costs == sorted(costs) and costs[0] == 0 < costs[2] < costs[3]
    single = loss(demo.float(), (demo + error).float())
    assert single.dtype == torch.float32 and single.item() == pytest.approx(costs[3], rel=1e-3)
    assert not list(loss.parameters()) and not loss.state_dict()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("phase", [False, True])
def test_silence_and_identity_have_finite_gradients(name: str, phase: bool) -> None:
    loss = MultiResolutionSTFT(phase=True) if phase and name == "stft" else LOSSES[name](RATE)
    for clean, start in ((noise(2, 900), noise(2, 900)), (torch.zeros(2, 900), torch.zeros(2, 900))):
        decoded = start.clone().requires_grad_()
        value = loss(clean, decoded)
        value.backward()
        assert value.item() == 0
        assert decoded.grad is not None and decoded.grad.isfinite().all()
    for clean, start in ((torch.zeros(2, 900), noise(2, 900)), (noise(2, 900), torch.zeros(2, 900))):
        decoded = start.to(torch.float32).requires_grad_()
        value = loss(clean.float(), decoded)
        value.backward()
        assert value.isfinite() and decoded.grad is not None and decoded.grad.isfinite().all()


@pytest.mark.parametrize(
    "loss", [TimeLoss(), MelLoss(RATE, 64), MultiResolutionSTFT(SMALL), MultiResolutionSTFT(SMALL, True)]
)
def test_gradients_are_those_of_finite_differences(loss: torch.nn.Module) -> None:
    clean, decoded = noise(2, 100), noise(2, 100, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: loss(clean, y), decoded)
