"""ACE against the published constants of NMT and CCi-MOBILE, hand-worked tones and a plain loop in numpy."""

import math
import os

import numpy as np
import pytest
import torch
from codecbench.datamodules.cochlear.ace import (
    BAND_BINS,
    BANDS,
    FRAMES_AT_ONCE,
    POWER_GAINS,
    UNSELECTED,
    VECTOR_GAINS,
    AceConfig,
    ace,
    emphasise,
    envelopes,
    inverse,
    select,
    select_and_compress,
    statistics,
)
from scipy.signal import lfilter

UNTYPED = pytest.mark.skipif(os.environ.get("CODECBENCH_TYPECHECK") == "1", reason="the type check is quicker")
PLAIN = AceConfig(gain_db=0.0, pre_emphasis=False)
FIRST_BINS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 22, 25, 29, 33, 38, 43, 49, 56, 64)


def noise(samples: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, samples, generator=generator, dtype=torch.float64) * 0.05


def tone(frequency: float, samples: int = 18 * 30) -> torch.Tensor:
    return torch.sin(2 * math.pi * frequency * torch.arange(samples, dtype=torch.float64) / 16_000)[None]


def column(values: list[float]) -> torch.Tensor:
    """One frame in which band 22 takes the values, one per batch entry, and the others are silent."""
    frame = torch.zeros(len(values), BANDS, 1, dtype=torch.float64)
    frame[:, -1, 0] = torch.tensor(values, dtype=torch.float64)
    return frame


def reference_ace(waveform: np.ndarray, config: AceConfig) -> np.ndarray:
    """ACE of one waveform, frame by frame and band by band."""
    hop, frames = config.hop, math.ceil(len(waveform) / config.hop)
    x = np.concatenate([waveform, np.zeros(frames * hop - len(waveform))])
    if config.pre_emphasis:
        x = lfilter([0.5859 * 0.5006, -0.5859 * 0.5006], [1, -0.0012], x)
    x = np.concatenate([np.zeros(128), x * 10 ** (config.gain_db / 20)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(128) / 128)
    pattern = np.full((BANDS, frames), UNSELECTED)
    for i in range(frames):
        spectrum = np.fft.fft(window * x[(i + 1) * hop : (i + 1) * hop + 128])
        envelope = np.zeros(BANDS)
        for m in range(BANDS):
            k = np.arange(FIRST_BINS[m], FIRST_BINS[m + 1])
            power = {1: 1024.0, 2: 1475.5967003}.get(len(k), 1536.0)
            vector = {1: 32, 2: 54.324887, 3: 64, 4: 65.189864, 5: 64.534313, 6: 64.729603, 7: 64.63048, 8: 64.684416}
            if config.envelope == "power":
                envelope[m] = np.sqrt(np.sum(np.abs(spectrum[k]) ** 2) / power)
            else:
                envelope[m] = np.abs(np.sum(spectrum[k] * (-1.0) ** k)) / vector[len(k)]
        for m in sorted(range(BANDS), key=lambda m: (envelope[m], m))[-config.maxima :]:
            if envelope[m] >= config.base_level:
                level = (envelope[m] - config.base_level) / (config.saturation_level - config.base_level)
                pattern[m, i] = np.log(1 + config.rho * min(level, 1)) / np.log(1 + config.rho)
    return pattern


def test_the_62_bins_are_split_as_in_the_nucleus_toolbox():
    assert len(BAND_BINS) == BANDS and sum(BAND_BINS) == 62
    assert tuple(np.cumsum((2, *BAND_BINS))) == FIRST_BINS


def test_the_real_frame_rate_is_888_9():
    assert AceConfig().frame_rate == pytest.approx(888.888889)
    assert AceConfig(hop=16).frame_rate == 1000


@pytest.mark.parametrize(
    ("base", "saturation", "rho"),
    [
        (4 / 256, 150 / 256, 416.20634758743034),
        (0.0156, 0.5859, 415.99481698),  # rounded levels, often quoted
        (0.01, 1.0, 340.8338167924),  # NMT 5
    ],
)
def test_rho_is_that_of_the_published_levels(base: float, saturation: float, rho: float):
    assert AceConfig(base_level=base, saturation_level=saturation).rho == pytest.approx(rho, rel=1e-10)


def test_the_loudness_growth_function_has_its_published_values():
    levels = [0.02, 0.05, 0.1, 0.2, 150 / 256 / math.sqrt(10), 0.3, 0.5, 4 / 256, 150 / 256, 2.0]
    values = [0.237566, 0.540544, 0.685559, 0.813675, 0.8, 0.885063, 0.973001, 0.0, 1.0, 1.0]
    pattern = select_and_compress(column(levels))
    assert pattern[:, -1, 0].tolist() == pytest.approx(values, abs=1e-6)
    assert (pattern[:, :-1] == UNSELECTED).all()  # seven of them are selected, but silent


def test_a_band_just_below_the_base_level_is_not_stimulated():
    pattern = select_and_compress(column([4 / 256, math.nextafter(4 / 256, 0)]))
    assert pattern[0, -1, 0] == 0 and pattern[1, -1, 0] == UNSELECTED


def test_the_inverse_has_its_published_values_and_clamps():
    values = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, -1e-9, UNSELECTED]
    expected = [0.015625, 0.020448, 0.042243, 0.140748, 0.5859375, 0.5859375, 0.0, 0.0]
    assert inverse(column(values))[:, -1, 0].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compressed_envelopes_stay_in_range_and_come_back(dtype: torch.dtype):
    levels = torch.linspace(4 / 256, 150 / 256, 22 * 999, dtype=dtype).reshape(1, 22, 999)
    every_band = AceConfig(maxima=22)
    pattern = select_and_compress(levels, every_band)
    assert pattern.dtype == dtype and pattern.min() >= 0 and pattern.max() <= 1
    assert torch.allclose(inverse(pattern, every_band), levels, rtol=2e-6 if dtype == torch.float32 else 1e-13)


def test_of_equal_bands_the_lowest_are_rejected_first():
    equal = torch.full((1, BANDS, 3), 0.1)
    assert select(equal)[0, :, 0].nonzero().flatten().tolist() == list(range(14, 22))  # bands 15 to 22
    equal[0, 2, 1] = 0.2  # band 3 leads frame 1, so band 15 goes
    assert select(equal)[0, :, 1].nonzero().flatten().tolist() == [2, *range(15, 22)]


def test_the_gains_are_the_windows_own_responses():
    n = np.arange(128)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / 128)

    def response(bins: np.ndarray) -> np.ndarray:
        return np.exp(-2j * np.pi * np.outer(bins, n) / 128) @ window / 2

    on, half, one = np.abs(response(np.array([0, 0.5, 1]))) ** 2
    assert POWER_GAINS[1] ** 2 == pytest.approx(on) == pytest.approx(1024)
    assert POWER_GAINS[2] ** 2 == pytest.approx(2 * half, rel=1e-10) == pytest.approx(1475.59670)
    for bins in range(3, 9):
        assert POWER_GAINS[bins] ** 2 == pytest.approx(on + 2 * one) == pytest.approx(1536)
    grid = np.arange(-16, 16, 1 / 16)  # NMT's
    for bins, gain in VECTOR_GAINS.items():
        summed = sum((-1) ** k * response(grid - k) for k in range(bins))
        assert gain == pytest.approx(np.abs(summed).max(), rel=2e-9)


@pytest.mark.parametrize("envelope", ["power", "vector"])
@pytest.mark.parametrize(
    ("frequency", "expected"),
    [(250, {1: 1, 2: 0.5}), (1000, {6: 0.5, 7: 1, 8: 0.5}), (5000, {18: 0, 19: 1, 20: 0}), (5125, {19: 1})],
)
def test_a_full_scale_tone_gives_1_in_its_band_and_half_in_the_next(envelope, frequency, expected):
    config = AceConfig(gain_db=0.0, pre_emphasis=False, envelope=envelope)
    last = envelopes(tone(frequency), config)[0, :, -1]
    gain = 64 / VECTOR_GAINS[5] if envelope == "vector" and 19 in expected else 1  # .992: its peak is between bins
    for band, value in expected.items():
        assert last[band - 1] == pytest.approx(value * gain, abs=1e-7)
    assert last[[band for band in range(BANDS) if band + 1 not in expected]].max() < 1e-12


def test_2000_hz_lies_at_the_edge_of_two_bands_of_two_bins():
    last = envelopes(tone(2000), PLAIN)[0, :, -1]
    assert (
        last[11]
        == pytest.approx(32 / math.sqrt(1475.5967) * math.sqrt(1.25), abs=1e-7)
        == pytest.approx(0.9314, abs=5e-5)
    )
    assert last[12] == pytest.approx(16 / math.sqrt(1475.5967), abs=1e-7) == pytest.approx(0.4165, abs=5e-5)


def test_512_samples_end_in_a_frame_with_10_zeros():
    of = {frequency: envelopes(tone(frequency, 512), PLAIN)[0, :, -1] for frequency in (250, 1000, 2000, 5000)}
    assert of[1000][5:8].tolist() == pytest.approx([0.503, 0.997, 0.503], abs=1e-3)
    assert of[2000][11:13].tolist() == pytest.approx([0.9303, 0.4187], abs=1e-3)
    assert of[5000][18] == pytest.approx(1, abs=5e-3)
    assert of[250][:2].tolist() == pytest.approx([1, 0.5], abs=5e-3)


def test_pre_emphasis_is_the_recursion():
    x = noise(5000, batch=2)
    expected = lfilter([0.5859 * 0.5006, -0.5859 * 0.5006], [1, -0.0012], x.numpy())
    assert np.abs(emphasise(x).numpy() - expected).max() < 1e-15


@pytest.mark.parametrize(
    "config",
    [
        AceConfig(),
        AceConfig(envelope="vector", maxima=12, hop=16),
        AceConfig(gain_db=10.0, pre_emphasis=False, hop=128, maxima=1),
        AceConfig(base_level=0.01, saturation_level=1.0, maxima=22, hop=7),
    ],
)
def test_patterns_equal_those_of_a_plain_loop(config: AceConfig):
    x = noise(1000) * torch.linspace(0, 2, 1000)  # from silence to saturation
    pattern = ace(x, config)[0].numpy()
    expected = reference_ace(x[0].numpy(), config)
    assert pattern.shape == expected.shape == (BANDS, math.ceil(1000 / config.hop))
    assert np.abs(pattern - expected).max() < 1e-7
    assert ((pattern >= 0).sum(axis=0) <= config.maxima).all() and (pattern > 0.1).any()


def test_a_frame_ends_with_its_own_hop_and_hears_nothing_later():
    x = noise(900)
    before = ace(x)
    for frame in (0, 7, 20):
        last = frame * 18 + 17
        later = x.clone()
        later[:, last + 1 :] = noise(900, seed=1)[:, last + 1 :]
        assert torch.equal(ace(later)[..., : frame + 1], before[..., : frame + 1])
        own = x.clone()
        own[:, last - 8] += 1
        assert not torch.equal(ace(own)[..., frame], before[..., frame])


def test_a_frame_hears_128_samples_and_the_first_ones_hear_silence():
    impulse = torch.zeros(1, 900, dtype=torch.float64)
    impulse[0, 300] = 1
    heard = (envelopes(impulse, PLAIN) > 1e-9)[0, 0].nonzero().flatten().tolist()
    assert heard == [i for i in range(50) if i * 18 + 17 - 127 < 300 <= i * 18 + 17]  # the window is 0 at its first
    assert (ace(torch.zeros(1, 100)) == UNSELECTED).all()


def test_silence_after_the_end_changes_nothing():
    x = noise(500)
    longer = torch.nn.functional.pad(x, (0, 300))
    assert torch.equal(ace(longer)[..., : math.ceil(500 / 18)], ace(x))


def test_a_batch_equals_one_by_one():
    x = noise(2000, batch=5)
    assert torch.equal(ace(x), torch.cat([ace(row[None]) for row in x]))


def test_long_recordings_go_through_in_parts_without_a_seam():
    x = noise((FRAMES_AT_ONCE + 20) * 18)
    tail = (FRAMES_AT_ONCE - 20) * 18
    assert torch.allclose(ace(x)[..., FRAMES_AT_ONCE - 10 :], ace(x[:, tail:])[..., 10:], rtol=0, atol=1e-12)


def test_float32_follows_float64():
    x = noise(4000)
    single = envelopes(x.float())
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), envelopes(x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("envelope", ["power", "vector"])
def test_the_gradient_reaches_the_waveform(envelope):
    config = AceConfig(envelope=envelope, hop=64)
    assert torch.autograd.gradcheck(lambda x: envelopes(x, config), noise(100).requires_grad_())
    silence = torch.zeros(1, 100, requires_grad=True)
    ace(silence).sum().backward()
    envelopes(silence).sum().backward()
    assert silence.grad is not None and torch.isfinite(silence.grad).all()


def test_the_gradient_reaches_the_pattern():
    pattern = torch.rand(1, BANDS, 3, dtype=torch.float64) * 0.9 + 0.05
    assert torch.autograd.gradcheck(inverse, pattern.requires_grad_())


def test_statistics_count_the_selected_bands():
    config = AceConfig(gain_db=0.0, pre_emphasis=False, maxima=2)
    found = statistics(tone(5000, 18 * 400), config)  # one band at 1, the other selected one silent
    assert found.below_base == pytest.approx(0.5, abs=0.02)
    assert found.saturated == pytest.approx(0.5, abs=0.02)
    assert found.active_bands == pytest.approx(1, abs=0.02)
    x = noise(3000)
    assert statistics(x).active_bands == pytest.approx(float((ace(x) >= 0).sum() / ace(x).shape[-1]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gain_db": math.nan}, "gain_db=nan"),
        pytest.param({"envelope": "sum"}, "write 'power' or 'vector'", marks=UNTYPED),
        ({"maxima": 0}, "maxima=0 must be a whole number from 1 to 22"),
        ({"maxima": 23}, "from 1 to 22"),
        ({"hop": 129}, "from 1 to 128"),
        pytest.param({"hop": 17.5}, "hop=17.5 must be a whole number", marks=UNTYPED),
        ({"base_level": 0.0}, "base_level=0.0"),
        ({"base_level": 0.3}, "at least 10 dB below"),
        ({"saturation_level": math.inf}, "saturation_level=inf"),
        ({"q": 5.0}, "q=5.0 must lie between 8.1 and"),
        ({"q": 80.0}, "q=80.0"),
    ],
)
def test_a_wrong_parameter_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        AceConfig(**wrong)


def test_an_empty_waveform_is_refused():
    with pytest.raises(ValueError, match="without samples"):
        envelopes(torch.zeros(1, 0))
