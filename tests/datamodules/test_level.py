"""The level rule and the conditioning of waveforms, against hand-worked signals."""

import numpy as np
import pytest
from codecbench.datamodules.base import active_level, condition

RATE = 16_000


def tone(seconds: float = 1.0, amplitude: float = 0.1, frequency: float = 1000.0, rate: int = RATE) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def test_a_full_scale_sine_is_at_minus_3_dbfs() -> None:
    assert active_level(tone(amplitude=1), RATE) == pytest.approx(-3.0103, abs=1e-4)


def test_silent_frames_do_not_lower_the_level() -> None:
    assert active_level(np.concatenate([tone(), np.zeros(RATE)]), RATE) == pytest.approx(active_level(tone(), RATE))


@pytest.mark.parametrize(("below", "expected"), [(39.9, 10 * np.log10(0.005 * (1 + 10**-3.99) / 2)), (40.1, -23.0103)])
def test_frames_are_active_within_40_db_of_the_loudest(below: float, expected: float) -> None:
    signal = np.concatenate([tone(), tone(amplitude=0.1 * 10 ** (-below / 20))])
    assert active_level(signal, RATE) == pytest.approx(expected, abs=1e-4)


def test_an_unfinished_last_frame_counts_for_nothing() -> None:
    assert active_level(np.concatenate([tone(), np.ones(319, np.float32)]), RATE) == pytest.approx(-23.0103, abs=1e-4)


def test_conditioning_removes_dc_and_sets_minus_25_dbfs() -> None:
    conditioned = condition(tone() + np.float32(0.3), RATE)
    assert conditioned.dtype == np.float32
    assert abs(conditioned.mean()) < 1e-7
    assert np.sqrt(np.mean(conditioned**2)) == pytest.approx(10 ** (-25 / 20), rel=1e-5)  # 0.056234


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
def test_a_tone_keeps_its_frequency_and_phase_when_resampled(rate: int) -> None:
    conditioned = condition(tone(rate=rate), rate)
    assert len(conditioned) == RATE
    ideal = tone(amplitude=2**0.5 * 10 ** (-25 / 20))
    np.testing.assert_allclose(conditioned[2000:-2000], ideal[2000:-2000], atol=2e-4)


def test_what_16_khz_cannot_carry_does_not_alias() -> None:
    signal = tone(rate=44_100) + tone(frequency=10_000, rate=44_100)
    np.testing.assert_allclose(condition(signal, 44_100)[2000:-2000], condition(tone(), RATE)[2000:-2000], atol=2e-4)


def test_peaks_beyond_full_scale_are_not_clipped() -> None:
    clicks = np.zeros(RATE, np.float32)
    clicks[::3200] = 0.5  # five active frames with an RMS of 0.5 / sqrt(320)
    assert condition(clicks, RATE).max() == pytest.approx(10 ** (-25 / 20) * 320**0.5, rel=0.01)
