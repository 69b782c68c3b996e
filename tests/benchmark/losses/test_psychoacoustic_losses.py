"""Losses and the noise-to-mask ratio, built on psychoacoustic model 1: hand-worked values, equations, gradients."""

import itertools
import math

import numpy as np
import pytest
import soundfile
import torch
from codecbench.benchmark.losses import LOSSES
from codecbench.benchmark.losses.psychoacoustic import LogNoiseToMask, NoiseModulation, PriorityWeighting
from codecbench.benchmark.metrics.hearing.psychoacoustics import PsychoacousticModel, bark
from codecbench.benchmark.metrics.noise_to_mask import FLOOR, noise_to_mask_ratio
from codecbench.datamodules.demo import CORPORA
from torch.nn import functional as F

RATE = 16_000
MASKED = [PriorityWeighting, NoiseModulation, LogNoiseToMask]


def sine(bins: int, samples: int = 512) -> torch.Tensor:
    return torch.sin(2 * torch.pi * bins * torch.arange(samples, dtype=torch.float64) / samples)[None]


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two tones in noise, and the same with more noise: 512 samples that any language computes alike."""
    n = torch.arange(512, dtype=torch.float64)
    tones = 0.1 * torch.sin(2 * torch.pi * 1000 * n / RATE) + 0.01 * torch.sin(2 * torch.pi * 3000 * n / RATE)
    clean = tones + 0.003 * ((7919 * n % 1009) / 1009 - 0.5)
    return clean[None], (clean + 0.002 * ((6101 * n % 997) / 997 - 0.5))[None]


@pytest.fixture(scope="module")
def demo() -> torch.Tensor:
    """One second each of three speakers of the embedded corpus, at about -25 dBFS."""
    files = sorted((CORPORA / "demo").glob("*/*.flac"))[:170:60]
    excerpts = [soundfile.read(file, start=2000, frames=RATE, always_2d=True)[0][:, 0] for file in files]
    return torch.stack([torch.from_numpy(0.056 * excerpt / excerpt.std()) for excerpt in excerpts])


def white(like: torch.Tensor, snr_db: float) -> torch.Tensor:
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(0), dtype=like.dtype)
    scale = like.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)
    return noise * scale * 10 ** (-snr_db / 20)


# -- losses -----------------------------------------------------------------------------------------------------------


def test_noise_modulation_and_logarithmic_ratio_of_two_tones_in_noise(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert NoiseModulation(RATE)(*pair).item() == pytest.approx(2.33176, abs=1e-5)
    assert LogNoiseToMask(RATE)(*pair).item() == pytest.approx(1.6055, abs=5e-5)


def test_losses_equal_their_equations_by_loops(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    clean, decoded = (waveform[0].numpy() for waveform in pair)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    power = [10**9.0302 * np.abs(np.fft.rfft(window * x) / 512) ** 2 for x in (clean, decoded - clean)]
    mask = 10 ** (PsychoacousticModel(RATE)(pair[0]).threshold[0, 0].numpy() / 10)
    spectra = [np.abs(np.fft.rfft(x)) for x in (clean, decoded)]
    weighted = np.log10(power[0] / mask + 1) * (spectra[0] - spectra[1]) ** 2
    assert PriorityWeighting(RATE)(*pair).item() == pytest.approx(weighted.sum(), rel=1e-9)
    assert NoiseModulation(RATE)(*pair).item() == pytest.approx(max(power[1] / mask - 1), rel=1e-9)


def test_the_local_ratio_is_the_mean_over_seven_subframes(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    local = LOSSES["local_noise_to_mask"](RATE)
    parts = [[waveform[:, start : start + 128] for waveform in pair] for start in range(0, 512 - 64, 64)]
    assert len(parts) == 7
    assert local(*pair).item() == pytest.approx(np.mean([local(*part).item() for part in parts]), rel=1e-9)


def test_a_bin_as_strong_as_its_mask_has_the_weight_log10_2() -> None:
    loss = PriorityWeighting(RATE)
    clean, decoded = 0.1 * sine(32), 0.09 * sine(32)
    masking = loss.model(clean)
    equal = masking._replace(threshold=masking.psd)
    assert loss(clean, decoded, equal).item() == pytest.approx(math.log10(2) * (0.01 * 256) ** 2, rel=1e-9)


def test_error_and_mask_share_the_calibration(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    louder = [10 * waveform for waveform in pair]
    for make in (NoiseModulation, LogNoiseToMask):
        loss = make(RATE, calibration="peak")
        quiet = loss.model(pair[0]).quiet.max()
        assert quiet < 96 and loss(*louder).item() == pytest.approx(loss(*pair).item(), rel=1e-9)
        assert make(RATE)(*louder).item() != pytest.approx(make(RATE)(*pair).item(), rel=1e-3)


@pytest.mark.parametrize("make", MASKED)
@pytest.mark.parametrize("calibration", ["level", "peak"])
def test_identical_signals_and_silence_cost_nothing_and_have_finite_gradients(make: type, calibration: str) -> None:
    loss = make(RATE, calibration=calibration)
    for clean in (0.1 * sine(32, 1000), torch.zeros(1, 1000)):
        decoded = clean.clone().requires_grad_()
        value = loss(clean, decoded)
        value.backward()
        assert value.item() == 0
        assert decoded.grad is not None and decoded.grad.isfinite().all()
    decoded = sine(20, 1000).requires_grad_()
    value = loss(torch.zeros(1, 1000, dtype=torch.float64), decoded)
    value.backward()
    assert value.isfinite() and decoded.grad is not None and decoded.grad.isfinite().all()


@pytest.mark.parametrize("make", MASKED)
def test_gradients_are_those_of_finite_differences(make: type, pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = make(RATE, frame=64)
    clean, decoded = (waveform[:, :100] for waveform in pair)
    scale = 1e3 if make is PriorityWeighting else 1
    assert torch.autograd.gradcheck(lambda y: scale * loss(clean, y), decoded.clone().requires_grad_())


@pytest.mark.parametrize("make", MASKED)
def test_a_masking_computed_before_changes_nothing_and_more_noise_costs_more(make: type, demo: torch.Tensor) -> None:
    loss = make(RATE)
    masking = loss.model(demo)
    costs = [loss(demo, demo + white(demo, snr), masking).item() for snr in (40, 20, 0)]
    assert costs[0] < costs[1] < costs[2]
    assert costs[1] == loss(demo, demo + white(demo, 20)).item()


# -- noise-to-mask ratio ----------------------------------------------------------------------------------------------


def shaped(clean: torch.Tensor) -> torch.Tensor:
    """Noise as the clean signal's masking threshold is, frame by frame, as powerful as the white noise of 20 dB."""
    white_noise = white(clean, 20)
    model = PsychoacousticModel(RATE)
    window = torch.hann_window(512, dtype=clean.dtype).sqrt()
    spectra = torch.fft.rfft(model.frames(F.pad(white_noise, (256, 256))) * window)
    gains = 10 ** (model(F.pad(clean, (256, 256))).threshold / 20)
    frames = torch.fft.irfft(spectra * gains) * window
    noise = F.fold(frames.transpose(1, 2), (1, (frames.shape[1] + 1) * 256), (1, 512), stride=(1, 256))[
        :, 0, 0, 256 : 256 + clean.shape[1]
    ]
    return noise * white_noise.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)


def test_the_ratio_rises_with_the_noise_decibel_for_decibel(demo: torch.Tensor) -> None:
    ratios = [noise_to_mask_ratio(demo, demo + white(demo, snr), RATE) for snr in (60, 40, 20, 0)]
    for softer, louder in itertools.pairwise(ratios):
        assert (louder - softer).tolist() == pytest.approx([20] * len(demo), abs=1e-6)


def test_noise_under_the_mask_has_a_lower_ratio_than_white_noise(demo: torch.Tensor) -> None:
    gains = noise_to_mask_ratio(demo, demo + white(demo, 20), RATE) - noise_to_mask_ratio(
        demo, demo + shaped(demo), RATE
    )
    assert (gains > 5).all()


def test_the_ratio_of_a_sine_in_silence_of_its_own() -> None:
    clean, error = 0.1 * sine(32), 1e-3 * sine(36)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    mask = 10 ** (PsychoacousticModel(RATE)(clean).threshold[0, 0].numpy() / 10)
    power = 10**9.0302 * np.abs(np.fft.rfft(error[0].numpy() * window) / 512) ** 2
    z = bark(torch.arange(257) * 31.25).floor().numpy()
    bands = [[k for k in range(1, 257) if z[k] == band] for band in range(22)]
    expected = 10 * math.log10(np.mean([power[band].sum() / mask[band].mean() for band in bands]))
    assert noise_to_mask_ratio(clean, clean + error, RATE).item() == pytest.approx(expected, abs=1e-6)


def test_silent_frames_are_left_out(demo: torch.Tensor) -> None:
    clean = F.pad(demo[:, : 512 * 20], (0, 5120))
    with_pause = noise_to_mask_ratio(clean, clean + white(clean, 20), RATE)
    frames = 39 + 1  # the last of them half in the pause
    without = noise_to_mask_ratio(
        clean[:, : 256 * (frames + 1)], (clean + white(clean, 20))[:, : 256 * (frames + 1)], RATE
    )
    assert with_pause.tolist() == pytest.approx(without.tolist(), abs=1e-9)


def test_where_the_ratio_has_no_value_and_its_floor(demo: torch.Tensor) -> None:
    assert noise_to_mask_ratio(demo, demo, RATE).tolist() == [FLOOR] * len(demo)
    damaged = demo.clone()
    damaged[1, 5] = torch.inf
    assert noise_to_mask_ratio(demo, damaged, RATE).isnan().tolist() == [False, True, False]
    assert noise_to_mask_ratio(demo, demo[:, :-1], RATE).isnan().all()
    assert noise_to_mask_ratio(torch.zeros(2, 600), torch.ones(2, 600), RATE).isnan().all()
    assert noise_to_mask_ratio(demo[:, :0], demo[:, :0], RATE).isnan().all()
