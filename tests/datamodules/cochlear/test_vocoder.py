"""The vocoder against a plain loop in numpy, hand-worked sines and, where it is at hand, real speech."""

import math
from pathlib import Path

import numpy as np
import pystoi
import pytest
import soundfile
import torch
from codecbench.datamodules.cochlear.ace import BANDS, UNSELECTED, AceConfig, ace, statistics
from codecbench.datamodules.cochlear.vocoder import CENTRE_FREQUENCIES, vocode

CENTRES = (
    *(250, 375, 500, 625, 750, 875, 1000, 1125, 1250, 1437.5, 1687.5, 1937.5, 2187.5, 2500, 2875, 3312.5),
    *(3812.5, 4375, 5000, 5687.5, 6500, 7437.5),
)


def reference_vocode(pattern: np.ndarray, samples: int, hop: int) -> np.ndarray:
    """The vocoder of one pattern at the default levels, band by band."""
    rho = 416.20634758743034
    envelope = 4 / 256 + 146 / 256 * ((1 + rho) ** np.clip(pattern, 0, 1) - 1) / rho
    envelope[pattern < 0] = 0
    n = np.arange(samples)
    centres = (np.arange(pattern.shape[1]) + 1) * hop - 64
    waveform = np.zeros(samples)
    for band, frequency in zip(envelope, CENTRES, strict=True):
        waveform += np.interp(n, centres, band) * np.sin(2 * np.pi * frequency * (n + 1) / 16_000)
    return waveform


def random_pattern(frames: int, batch: int = 1) -> torch.Tensor:
    pattern = torch.rand(batch, BANDS, frames, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return pattern.where(pattern > 0.6, UNSELECTED)


def silent(frames: int) -> torch.Tensor:
    return torch.full((1, BANDS, frames), UNSELECTED, dtype=torch.float64)


def speech(root: Path, count: int) -> list[np.ndarray]:
    """A few seconds each of several speakers, without DC, at -25 dBFS."""
    clips = []
    for path in sorted(root.glob("train-clean-100/*/*/*.flac"))[::20][:count]:
        clip = soundfile.read(path, frames=6 * 16_000)[0]
        clip -= clip.mean()
        clips.append(clip * 10 ** (-25 / 20) / np.sqrt(np.mean(clip**2)))
    return clips


def test_the_sines_lie_in_the_middle_of_the_bands():
    assert CENTRE_FREQUENCIES == CENTRES


@pytest.mark.parametrize("band", [0, 9, 21])
def test_one_steady_band_is_one_sine_of_its_amplitude(band: int):
    pattern = silent(100)
    pattern[:, band] = 0.75  # 0.140748 by the inverse loudness growth function
    n = torch.arange(1, 1801, dtype=torch.float64)
    expected = 0.140748 * torch.sin(2 * math.pi * CENTRES[band] * n / 16_000)
    assert torch.allclose(vocode(pattern, 1800)[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("hop", "samples"), [(18, 900), (18, 901), (16, 880), (1, 300), (64, 1000), (65, 999), (128, 1000)]
)
def test_the_waveform_equals_that_of_a_plain_loop(hop: int, samples: int):
    pattern = random_pattern(math.ceil(samples / hop), batch=2)
    waveform = vocode(pattern, samples, AceConfig(hop=hop))
    assert waveform.shape == (2, samples)
    for found, row in zip(waveform, pattern, strict=True):
        assert np.abs(found.numpy() - reference_vocode(row.numpy(), samples, hop)).max() < 1e-10


def test_the_envelope_is_held_before_the_first_and_after_the_last_centre():
    pattern = silent(4)
    pattern[:, 6, 0] = pattern[:, 18, 3] = 1.0  # 1000 Hz first, 5000 Hz last
    n = torch.arange(1, 513, dtype=torch.float64)
    waveform = vocode(pattern, 512, AceConfig(hop=128))[0]  # centres 64, 192, 320, 448
    first, last = (0.5859375 * torch.sin(2 * math.pi * f * n / 16_000) for f in (1000, 5000))
    assert torch.allclose(waveform[:64], first[:64]) and torch.allclose(waveform[448:], last[448:])
    assert torch.allclose(waveform[128], first[128] / 2)  # half way to silence


def test_float32_follows_float64_however_long():
    pattern = random_pattern(20_000)
    single = vocode(pattern.float(), 360_000)
    assert single.dtype == torch.float32
    assert (single.double() - vocode(pattern, 360_000)).abs().max() < 2e-5


def test_the_gradient_reaches_the_pattern():
    pattern = torch.rand(1, BANDS, 3, dtype=torch.float64) * 0.9 + 0.05
    config = AceConfig(hop=16)
    assert torch.autograd.gradcheck(lambda p: vocode(p, 40, config), pattern.requires_grad_())
    unselected = silent(3).requires_grad_()
    vocode(unselected, 40, config).sum().backward()
    assert unselected.grad is not None and not unselected.grad.any()


def test_a_pattern_without_frames_is_refused():
    with pytest.raises(ValueError, match="without frames"):
        vocode(silent(0), 10)


def test_audio_and_its_resynthesis_are_aligned():
    n = torch.arange(16_000, dtype=torch.float64)
    beat = 0.5 + 0.5 * torch.sin(2 * math.pi * (4 * n / 16_000 + (n / 16_000) ** 2 * 6))  # 4 to 16 Hz
    waveform = beat * torch.sin(2 * math.pi * 1000 * n / 16_000)
    config = AceConfig(gain_db=-6.0, pre_emphasis=False)
    decoded = vocode(ace(waveform[None], config), 16_000, config)[0]
    smooth = torch.ones(1, 1, 161, dtype=torch.float64)
    power = torch.nn.functional.conv1d(torch.stack([waveform, decoded]).square()[:, None], smooth)[:, 0]
    original, resynthesised = power - power.mean(dim=1, keepdim=True)
    correlation = {lag: float(original @ resynthesised.roll(-lag)) for lag in range(-40, 41)}
    assert max(correlation, key=lambda lag: correlation[lag]) == 0


def test_vstoi_of_real_speech_is_that_of_a_plain_loop(librispeech_root: Path):
    for clip in speech(librispeech_root, 2):
        pattern = ace(torch.from_numpy(clip)[None])
        ours = pystoi.stoi(clip, vocode(pattern.float(), len(clip))[0].numpy(), 16_000)
        plain = pystoi.stoi(clip, reference_vocode(pattern[0].numpy(), len(clip), hop=18), 16_000)
        assert ours == pytest.approx(plain, abs=1e-5)


def test_real_speech_at_minus_25_dbfs_stays_intelligible_and_does_not_saturate(librispeech_root: Path):
    vstoi, active, saturated = [], [], []
    for clip in speech(librispeech_root, 8):
        waveform = torch.from_numpy(clip)[None].float()
        vstoi.append(pystoi.stoi(clip, vocode(ace(waveform), len(clip))[0].numpy(), 16_000))
        active.append(statistics(waveform).active_bands)
        saturated.append(statistics(waveform).saturated)
    assert 0.74 < np.mean(vstoi) < 0.86  # 0.80 over 42 speakers
    assert 3.0 < np.mean(active) < 4.4  # 3.7 over 42 speakers
    assert np.mean(saturated) < 0.02
