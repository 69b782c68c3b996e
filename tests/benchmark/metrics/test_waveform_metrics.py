"""Every waveform metric equals its hand-worked value and, where there is one, an outside reference on speech."""

import math

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import scipy.signal
import soundfile
import torch
import torchmetrics.functional.audio as reference_metrics
from codecbench.benchmark.metrics import waveform
from codecbench.benchmark.metrics.base import METRICS
from codecbench.benchmark.metrics.waveform import (
    LIMIT,
    log_spectral_distance,
    mel_cepstral_distortion,
    mel_distance,
    peak_snr,
    segmental_snr,
    si_sdr,
    snr,
)
from codecbench.benchmark.metrics.weighted_snr import weighted_snr
from codecbench.datamodules.demo import CORPORA

RATE = 16_000
RATIOS = [snr, si_sdr, segmental_snr, peak_snr, weighted_snr]
DISTANCES = [log_spectral_distance, mel_distance, mel_cepstral_distortion]
MEASURES = [*RATIOS, *DISTANCES]


@pytest.fixture(scope="module", params=["demo", "librispeech"])
def speech(request):
    """Three excerpts of 1.3 s of three speakers at -25 dBFS, float64 "3 20800"."""
    if request.param == "demo":
        files = sorted(CORPORA.glob("demo/*/*.flac"))[::70][:3]
    else:
        root = request.getfixturevalue("librispeech_root")
        files = sorted((root / "train-clean-100").glob("*/*/*.flac"))[:60:20]
    excerpts = torch.stack([torch.from_numpy(soundfile.read(file, start=1600, frames=20_800)[0]) for file in files])
    return 10 ** (-25 / 20) * excerpts / excerpts.std(1, keepdim=True)


def white(like, seed=0):
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noisy(signal, snr_db):
    noise = white(signal)
    gain = (signal.square().sum(1) / noise.square().sum(1) / 10 ** (snr_db / 10)).sqrt()
    return signal + gain[:, None] * noise


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


# -- values -----------------------------------------------------------------------------------------------------------


def test_snr_of_hand_worked_signals():
    assert snr(row(3, 4), row(3, 3)).item() == pytest.approx(10 * math.log10(25))
    assert snr(row(3, 4), row(0, 0)).item() == 0


def test_si_sdr_sees_neither_gain_nor_offset():
    clean, decoded = row(1, -1, 0, 0), row(1, -1, 1, -1)  # the error is as large as the projection
    assert si_sdr(clean, decoded).item() == pytest.approx(0, abs=1e-12)
    assert si_sdr(clean + 5, 3 * decoded - 7).item() == pytest.approx(0, abs=1e-12)
    assert math.isnan(si_sdr(row(0.1, 0.1, 0.1), row(1, 2, 3)).item())


def test_peak_snr_of_a_hand_worked_signal():
    assert peak_snr(row(-4, 0), row(-4, 2)).item() == pytest.approx(10 * math.log10(16 / 2))


def test_segmental_snr_clips_every_frame_and_skips_those_where_the_reference_rests():
    frames = torch.tensor([1.0, 1.0, 1.0, 0.001, 0.0])[:, None].expand(5, 320).double()  # one at -60 dB, one silent
    errors = torch.tensor([0.1, 0.0, 100.0, 0.001, 1.0])[:, None]  # 20 dB, beyond 35 dB, below -10 dB, unheard
    clean = torch.cat([frames.reshape(1, -1), torch.ones(1, 319)], 1)  # what is left is no frame
    decoded = torch.cat([(frames + errors).reshape(1, -1), torch.zeros(1, 319)], 1)
    assert segmental_snr(clean, decoded).item() == pytest.approx((20 + 35 - 10) / 3)
    assert segmental_snr(clean[:, :640], decoded[:, :640], 8000).item() == pytest.approx((20 + 35) / 2)


def test_snr_and_si_sdr_equal_torchmetrics_on_speech(speech):
    decoded = noisy(speech, 7) * 0.8 + 0.01
    assert torch.allclose(snr(speech, decoded), reference_metrics.signal_noise_ratio(decoded, speech))
    expected = reference_metrics.scale_invariant_signal_distortion_ratio(decoded, speech, zero_mean=True)
    assert torch.allclose(si_sdr(speech, decoded), expected)


@pytest.mark.parametrize(
    ("measure", "expected"), [(log_spectral_distance, 20 * math.log10(2)), (mel_distance, math.log10(2))]
)
def test_a_gain_of_two_is_as_far_in_every_bin(measure, expected):
    noise = white(torch.empty(2, RATE)) * 0.1
    assert measure(noise, 2 * noise).tolist() == pytest.approx([expected] * 2)


def test_mel_triangles_add_up_to_one_and_peak_on_the_mel_scale():
    triangles = waveform._triangles(RATE)
    step = 2595 * math.log10(1 + 8000 / 700) / 81
    centres = [700 * (10 ** (step * (band + 1) / 2595) - 1) for band in (0, 79)]
    bins = torch.arange(513) * RATE / 1024
    inside = (bins >= centres[0]) & (bins <= centres[1])
    assert torch.allclose(triangles[:, inside].sum(0), torch.ones((), dtype=torch.float64))
    assert abs(bins[triangles[79].argmax()] - centres[1]) <= RATE / 1024
    assert (triangles.amax(1) > 0.4).all()  # no band falls between two bins


def test_mel_cepstral_distortion_equals_scipys_transform_and_sees_no_gain(speech):
    decoded = noisy(speech, 10)
    powers = [2 * math.log(10) * waveform._log_mels(RATE, each).numpy() for each in (speech, decoded)]
    cepstra = [scipy.fft.dct(each, axis=1)[:, 1:14] / 160 for each in powers]
    expected = 10 / math.log(10) * np.sqrt(2 * ((cepstra[0] - cepstra[1]) ** 2).sum(1)).mean(1)
    assert np.allclose(mel_cepstral_distortion(speech, decoded).numpy(), expected)
    noise = white(speech)
    assert mel_cepstral_distortion(noise, 3 * noise).tolist() == pytest.approx([0] * 3, abs=1e-9)


# -- weighted SNR -----------------------------------------------------------------------------------------------------


def weighted_by_hand(clean, decoded):
    """The formula of weighted_snr's file, frame by frame in SciPy."""
    padded = [np.pad(signal, 320) for signal in (clean, decoded - clean)]
    emphasised = np.pad(scipy.signal.lfilter([1, -0.68], [1], clean), 320)
    sine = np.sin(np.pi * (np.arange(640) + 0.5) / 640)
    energies = np.zeros(2)
    for start in range(0, len(padded[0]) - 639, 320):
        block = emphasised[start : start + 640] * sine**2
        correlation = np.correlate(block, block, "full")[639:656]
        correlation *= np.exp(-0.5 * (2 * np.pi * 60 / RATE * np.arange(17)) ** 2)
        correlation[0] *= 1.0001
        predictor = np.append(1, scipy.linalg.solve_toeplitz(correlation[:16], -correlation[1:]))
        response = scipy.signal.freqz(predictor * 0.92 ** np.arange(17), worN=640, whole=True)[1]
        for i, signal in enumerate(padded):
            energies[i] += (np.abs(response * np.fft.fft(signal[start : start + 640] * sine)) ** 2).sum()
    return 10 * np.log10(energies[0] / energies[1])


def test_weighted_snr_equals_its_formula_computed_frame_by_frame(speech):
    decoded = noisy(speech, 10)
    expected = [weighted_by_hand(*pair) for pair in zip(speech.numpy(), decoded.numpy(), strict=True)]
    assert weighted_snr(speech, decoded).tolist() == pytest.approx(expected, abs=1e-6)


def test_an_error_like_the_signal_itself_has_the_same_snr_with_any_weight(speech):
    assert weighted_snr(speech, 0.9 * speech).tolist() == pytest.approx([20] * 3)


def test_noise_shaped_like_the_speech_is_worth_decibels_over_white_noise_of_equal_snr(speech):
    window = torch.hann_window(640, dtype=torch.float64)
    options = {"n_fft": 640, "hop_length": 320, "window": window}
    spectra = torch.stft(white(speech), **options, return_complex=True)
    envelope = torch.stft(speech, **options, return_complex=True).abs()
    shaped = torch.istft(spectra * envelope, **options, length=speech.shape[1])
    shaped = shaped * ((noisy(speech, 10) - speech).square().sum(1) / shaped.square().sum(1)).sqrt()[:, None]
    assert torch.allclose(snr(speech, speech + shaped), snr(speech, noisy(speech, 10)))
    assert (weighted_snr(speech, speech + shaped) > weighted_snr(speech, noisy(speech, 10)) + 5).all()


def test_digital_silence_inside_speech_weighs_nothing(speech):
    paused = speech.clone()
    paused[:, 8000:16_000] = 0
    assert weighted_snr(paused, 0.9 * paused).tolist() == pytest.approx([20] * 3)


# -- what holds for all -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", MEASURES)
def test_more_noise_scores_worse_and_none_scores_best(measure, speech):
    best = {segmental_snr: 35}.get(measure, LIMIT if measure in RATIOS else 0)
    scores = torch.stack([measure(speech, noisy(speech, db)) for db in (30, 20, 10, 0)])
    falling = scores.diff(dim=0) * (1 if METRICS[measure.__name__].higher_is_better else -1)
    assert (falling < 0).all()
    assert measure(speech, speech).tolist() == [best] * 3


@pytest.mark.parametrize("measure", MEASURES)
def test_an_item_scores_the_same_in_any_batch_and_keeps_its_float_type(measure, speech):
    decoded = noisy(speech, 10)
    together = measure(speech, decoded)
    assert together.tolist() == pytest.approx([measure(speech[i : i + 1], decoded[i : i + 1]).item() for i in range(3)])
    single = measure(speech.float(), decoded.float())
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), together, rtol=1e-5)


@pytest.mark.parametrize("measure", MEASURES)
def test_what_cannot_be_scored_is_nan_and_does_not_touch_its_neighbours(measure, speech):
    clean, decoded = speech.clone(), noisy(speech, 10)
    expected = measure(clean, decoded)[2]
    clean[0], decoded[1, 7] = 0, torch.inf
    scores = measure(clean, decoded)
    assert scores[:2].isnan().all()
    assert scores[2] == pytest.approx(expected.item())
    clean[2, 7] = torch.nan
    assert measure(clean, decoded).isnan().all()
    assert measure(clean[:, :0], decoded[:, :0]).isnan().all()
    assert measure(clean[:0], decoded[:0]).shape == (0,)


@pytest.mark.parametrize("measure", MEASURES)
def test_nothing_in_the_signals_raises(measure, speech):
    for samples in (1, 2, 319, 321):
        for decoded in (speech, 0 * speech, 1e30 * speech, torch.ones_like(speech)):
            assert measure(speech[:, :samples], decoded[:, :samples]).shape == (3,)
    assert measure(speech, torch.zeros_like(speech)).isfinite().all()


@pytest.mark.parametrize("measure", MEASURES)
def test_signals_of_two_shapes_are_refused_by_one_line(measure):
    with pytest.raises(ValueError, match=r"reference \(1, 640\) and decoded \(1, 639\) must have one shape"):
        measure(torch.ones(1, 640), torch.ones(1, 639))
