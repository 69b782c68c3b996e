"""The 2f-model: the ear against direct sums, its variables by hand, and grades of degraded speech in a sane order."""

import math

import numpy as np
import pytest
import scipy.fft
import scipy.signal
import soundfile
import soxr
import torch
from codecbench.benchmark.metrics.hearing import peaq_ear as ear
from codecbench.benchmark.metrics.hearing.peaq_ear import BANDS, CENTRES, EDGES, INTERNAL_NOISE, Modulation
from codecbench.benchmark.metrics.twof import (
    audible_frames,
    average_distorted_block,
    average_modulation_difference,
    mean_mushra_score,
    two_f_model,
)
from codecbench.datamodules.demo import CORPORA

RATE = 16_000


@pytest.fixture(scope="module", params=["demo", "librispeech"])
def speech(request):
    """Two excerpts of 1.3 s of two speakers at -25 dBFS, float64 "2 20800"."""
    if request.param == "demo":
        files = sorted(CORPORA.glob("demo/*/*.flac"))[::100][:2]
    else:
        root = request.getfixturevalue("librispeech_root")
        files = sorted((root / "train-clean-100").glob("*/*/*.flac"))[:40:20]
    excerpts = torch.stack([torch.from_numpy(soundfile.read(file, start=1600, frames=20_800)[0]) for file in files])
    return 10 ** (-25 / 20) * excerpts / excerpts.std(1, keepdim=True)


def noisy(signal, snr_db):
    noise = torch.randn(signal.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return signal + 10 ** (-snr_db / 20) * signal.std(1, keepdim=True) * noise


def low_passed(signal, hertz):
    return torch.from_numpy(
        scipy.signal.sosfiltfilt(scipy.signal.butter(8, hertz, fs=RATE, output="sos"), signal).copy()
    )


def coarse(signal, step):
    """Rounded in the frequency domain, as transform codecs do: 16 ms blocks of a DCT."""
    spectra = scipy.fft.dct(signal.numpy().reshape(2, -1, 260), norm="ortho")
    return torch.from_numpy(scipy.fft.idct(np.round(spectra / step) * step, norm="ortho").reshape(2, -1))


# -- the ear ----------------------------------------------------------------------------------------------------------


def test_bands_are_those_of_the_standards_table():
    assert BANDS == 109
    assert EDGES[:, 0] == pytest.approx([80, 91.708, 103.445], abs=1e-3)
    assert EDGES[:, -1] == pytest.approx([17_385.420, 17_690.045, 18_000], abs=0.1)
    assert INTERNAL_NOISE[np.abs(CENTRES - 1000).argmin()] == pytest.approx(10**0.1456, rel=0.02)


def test_a_full_scale_sine_has_92_db_before_the_outer_ear():
    sine = np.sin(2 * np.pi * 1019.5 / 48_000 * np.arange(2048))
    assert 20 * np.log10(np.abs(np.fft.rfft(sine * ear.WINDOW)).max()) == pytest.approx(92, abs=1e-3)


def test_every_bin_lies_in_the_bands_with_its_whole_width():
    shares = ear._grouping()
    bins = np.arange(1025) * 48_000 / 2048
    assert shares[(bins > 92) & (bins < 17_988)].sum(1) == pytest.approx(1)
    assert shares.sum() == pytest.approx((18_000 - 80) / (48_000 / 2048))


def test_spreading_equals_the_double_sum_over_bands():
    energies = 10 ** np.random.default_rng(0).uniform(0, 9, (1, BANDS))
    spread = np.zeros(BANDS)
    for source, energy in enumerate(energies[0]):
        slope = -24 - 230 / CENTRES[source] + 2 * np.log10(energy)  # dB per Bark
        distances = 0.25 * (np.arange(BANDS) - source)
        shape = 10 ** (np.where(distances < 0, 27 * distances, slope * distances) / 10)
        spread += (energy * shape / shape.sum()) ** 0.4
    assert ear._spread(energies)[0] == pytest.approx(spread**2.5)


def test_silence_excites_as_the_internal_noise_does():
    assert ear.excite(np.zeros((2, 2048)))[1] == pytest.approx(
        ear._spread(INTERNAL_NOISE[None])[0] / ear._spread(np.ones((1, BANDS)))[0]
    )


def test_smearing_decays_by_the_bands_time_constant_and_never_lags_an_onset():
    impulse = np.zeros((4, BANDS))
    impulse[1] = 1.0
    kept = math.exp(-1024 / 48_000 / (0.008 + 100 / CENTRES[10] * 0.022))
    expected = [0, 1, kept * (1 - kept), kept**2 * (1 - kept)]
    assert ear.smear(impulse)[:, 10] == pytest.approx(expected)


def test_modulation_of_a_step_is_that_worked_out_by_hand():
    modulation = ear.modulate(np.full((2, BANDS), 1e5))
    kept = math.exp(-1024 / 48_000 / (0.008 + 100 / CENTRES[3] * 0.042))
    loudness, change = 1e5**0.3, 46.875 * 1e5**0.3  # changes only in the first frame, from rest
    smoothed = [(1 - kept) * loudness, (1 - kept) * (1 + kept) * loudness]
    depth = [(1 - kept) * change / (1 + smoothed[0] / 0.3), kept * (1 - kept) * change / (1 + smoothed[1] / 0.3)]
    assert modulation.loudness[:, 3] == pytest.approx(smoothed)
    assert modulation.depth[:, 3] == pytest.approx(depth)


# -- the variables and the formula ------------------------------------------------------------------------------------


def test_formula_at_its_published_check_value_and_without_distortion():
    assert mean_mushra_score(23.6545, 1.92561) == pytest.approx(50.88503539681812, abs=1e-12)
    assert mean_mushra_score(0.0, 0.0) == pytest.approx(118.5309, abs=1e-4)


def test_modulation_difference_of_hand_worked_patterns():
    depth = np.ones((3, BANDS))
    loud, quiet = 100 * INTERNAL_NOISE**0.3, 100 * INTERNAL_NOISE**0.3 / 3  # weights 1/2 and 1/4
    reference = Modulation(depth, np.stack([quiet, loud, quiet]))
    decoded = Modulation(depth + np.array([[9.0], [0.4], [1.0]]), reference.loudness)  # 20 % and 50 % after the first
    expected = (20 * 0.5 + 50 * 0.25) / 0.75
    assert average_modulation_difference(reference, decoded, 1) == pytest.approx(expected)


def test_distorted_block_of_hand_worked_levels():
    level, error = 60.0, 2.5  # the decoded signal is louder: its own level counts
    s = 5.95072 * (6.39468 / 62.5) ** 1.71332 - 0.198719 + 0.0550197 * 62.5 - 0.00102438 * 62.5**2
    s += 5.05622e-6 * 62.5**3 + 9.01033e-11 * 62.5**4
    reference, decoded = (np.full((3, BANDS), 10 ** (each / 10)) for each in (level, level + error))
    decoded[2] = reference[2]  # a frame without distortion
    assert average_distorted_block(reference, decoded) == pytest.approx(math.log10(BANDS * 2 / s))
    assert average_distorted_block(reference, reference) == 0
    slight = reference.copy()
    slight[:, :] *= 10**0.04  # heard in so many bands, but no whole decibel in any
    assert average_distorted_block(reference, slight) == -0.5


def test_a_signal_begins_and_ends_where_five_samples_add_up_to_200_steps():
    signal = np.zeros(10_000)
    signal[[3000, 7000]] = 201 / 32768
    signal[9000] = 199 / 32768
    assert audible_frames(signal) == (2, 7)
    assert audible_frames(np.full(3, 0.1)) == (0, 1)
    assert audible_frames(signal * 0.5) == audible_frames(signal[:0]) == (0, 0)


# -- the score --------------------------------------------------------------------------------------------------------


def test_identical_speech_is_perfect(speech):
    assert two_f_model(speech, speech.clone(), RATE).tolist() == [100, 100]


@pytest.mark.parametrize(
    "degraded",
    [
        lambda x: [noisy(x, db) for db in (40, 30, 20, 10, 0)],
        lambda x: [low_passed(x, hertz) for hertz in (7000, 5000, 3500, 1500)],
        lambda x: [coarse(x, step) for step in (0.002, 0.01, 0.05, 0.2)],
    ],
    ids=["noise", "low-pass", "transform"],
)
def test_stronger_degradation_is_graded_lower(degraded, speech):
    grades = torch.stack([two_f_model(speech, decoded, RATE) for decoded in degraded(speech)])
    assert (grades.diff(dim=0) < 0).all()
    assert (grades[0] > 60).all() and (grades[-1] < 40).all()


def test_other_rates_are_brought_to_48_khz_by_soxr(speech):
    decoded = noisy(speech, 25)
    upsampled = [
        torch.from_numpy(soxr.resample(each.numpy().T, RATE, 48_000, "HQ").T.copy()) for each in (speech, decoded)
    ]
    expected = two_f_model(upsampled[0], upsampled[1], 48_000)
    assert two_f_model(speech, decoded, RATE).tolist() == pytest.approx(expected.tolist(), abs=0.01)


def test_a_batch_scores_as_its_items_do_and_keeps_its_float_type(speech):
    decoded = noisy(speech, 25).float()
    grades = two_f_model(speech.float(), decoded, RATE)
    assert grades.dtype == torch.float32
    assert grades.tolist() == [
        two_f_model(x[None].float(), y[None], RATE).item() for x, y in zip(speech, decoded, strict=True)
    ]


def test_a_silent_decoder_is_graded_and_a_mad_one_does_not_raise(speech):
    assert (two_f_model(speech, 0 * speech, RATE) < 20).all()
    assert (two_f_model(speech, 1e30 * speech, RATE) < 20).all()


def test_what_cannot_be_scored_is_nan(speech):
    broken = speech.clone()
    broken[:, 5] = torch.inf
    cases = [(speech, broken), (0 * speech, speech), (1e-3 * speech, speech)]  # the last below what begins a signal
    cases += [(speech[:, :samples], speech[:, :samples]) for samples in (0, 1, 2000, 7000)]
    for clean, decoded in cases:
        assert two_f_model(clean, decoded, RATE).isnan().all()
    with pytest.raises(ValueError, match="must have one shape"):
        two_f_model(speech, speech[:, 1:], RATE)
