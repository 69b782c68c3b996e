"""Every metric equals its outside reference on real speech, its hand-worked value, or is NaN where it is undefined."""

import math

import numpy as np
import pytest
import soundfile
import torch
from codecbench.benchmark.metrics.base import METRICS
from codecbench.benchmark.metrics.codes import (
    codebook_use,
    dead_codewords,
    empirical_entropy,
    perplexity,
    used_fraction,
)
from codecbench.benchmark.metrics.quality import pesq_wb, visqol_speech
from codecbench.benchmark.metrics.scoring.patterns import (
    active_bands,
    band_selection_error,
    pattern_rmse,
    score_stimulation,
)
from codecbench.benchmark.metrics.scoring.pool import ScorePool, stoi
from codecbench.datamodules.cochlear.ace import UNSELECTED, AceConfig, ace
from codecbench.datamodules.cochlear.vocoder import vocode

SAMPLE_RATE = 16_000
MEASURES = {
    "stoi": stoi,
    "estoi": lambda reference, decoded: stoi(reference, decoded, extended=True),
    "pesq_wb": pesq_wb,
    "visqol": visqol_speech,
}

AT_ONCE = ScorePool(1).submit


@pytest.fixture(scope="module")
def speech(librispeech_root):
    """Three excerpts of 2.5 s of three speakers, at -25 dBFS."""
    files = sorted((librispeech_root / "train-clean-100").glob("*/*/*.flac"))[:60:20]
    excerpts = [soundfile.read(file, start=SAMPLE_RATE, frames=40_000)[0] for file in files]
    return [10 ** (-25 / 20) * (excerpt - excerpt.mean()) / excerpt.std() for excerpt in excerpts]


def noisy(signal, snr_db=5.0):
    noise = np.random.default_rng(0).standard_normal(len(signal))
    return signal + noise * signal.std() * 10 ** (-snr_db / 20)


# -- audio ------------------------------------------------------------------------------------------------------------


def test_stoi_and_estoi_equal_pystoi(speech):
    from pystoi import stoi as pystoi

    for signal in speech:
        for rate in (SAMPLE_RATE, 10_000):
            for extended in (False, True):
                expected = pystoi(signal, noisy(signal), rate, extended)
                assert stoi(signal, noisy(signal), rate, extended) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("name", MEASURES)
def test_more_noise_scores_lower_and_none_scores_best(name, speech):
    scores = [MEASURES[name](speech[0], noisy(speech[0], snr)) for snr in (300, 20, 5)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx({"stoi": 1, "estoi": 1, "pesq_wb": 4.644, "visqol": 5}[name], abs=1e-3)


def test_stoi_takes_views_that_cannot_be_written(speech):
    signal = speech[0][::-1]
    signal.flags.writeable = False
    assert stoi(signal, signal) == pytest.approx(1)


@pytest.mark.parametrize("name, floor", [("stoi", 0.0), ("estoi", 0.0), ("pesq_wb", 1.0), ("visqol", 1.0)])
def test_a_decoder_that_is_silent_gets_the_floor_not_a_missing_score(name, floor, speech):
    assert MEASURES[name](speech[0], np.zeros_like(speech[0])) == floor
    assert math.isnan(MEASURES[name](np.zeros_like(speech[0]), speech[0]))


@pytest.mark.parametrize("name", MEASURES)
def test_what_cannot_be_scored_is_nan(name, speech):
    measure, signal = MEASURES[name], speech[0]
    broken, endless = signal.copy(), signal.copy()
    broken[7], endless[7] = np.nan, np.inf
    for decoded in (broken, endless, signal[:-1], signal[None], np.zeros(0)):
        assert math.isnan(measure(signal, decoded))
        assert math.isnan(measure(decoded, signal))
    for samples in (0, 1, 1600):
        assert math.isnan(measure(signal[:samples], signal[:samples]))


def test_stoi_below_its_thirty_frames_is_nan_not_pystois_constant(speech):
    from pystoi import stoi as pystoi

    short = speech[0][:5000]
    with pytest.warns(RuntimeWarning, match="Not enough"):
        assert pystoi(short, short, SAMPLE_RATE) == 1e-5
    assert math.isnan(stoi(short, short))


# -- stimulation patterns ---------------------------------------------------------------------------------------------


def pattern_of(*columns):
    """A pattern whose lowest bands are given frame by frame and whose other bands are not stimulated."""
    pattern = torch.full((22, len(columns)), UNSELECTED)
    for frame, values in enumerate(columns):
        pattern[: len(values), frame] = torch.tensor(values)
    return pattern


def test_band_selection_error_of_hand_worked_patterns():
    reference = pattern_of([0.5, 0.0, -0.1], [0.2, -0.1, -0.1])
    decoded = pattern_of([0.1, -0.1, -0.1], [0.2, 0.0, 0.9])  # one lost, two invented of 44
    assert band_selection_error(reference, reference) == 0
    assert band_selection_error(reference, decoded) == pytest.approx(3 / 44)


def test_pattern_rmse_counts_the_stimulated_bands_of_the_reference_alone():
    reference = pattern_of([0.5, 0.0], [0.3])
    decoded = pattern_of([0.2, -0.1, 1.0], [0.3, 0.7])  # errors 0.3, 0.1, 0
    assert pattern_rmse(reference, decoded) == pytest.approx(math.sqrt(0.10 / 3))


def test_active_bands_of_a_hand_worked_pattern():
    assert active_bands(pattern_of([0.5, 0.0, -0.1], [0.2])) == 1.5


def test_pattern_metrics_that_are_undefined_are_nan():
    silent, loud = pattern_of([], []), pattern_of([0.5], [0.5])
    assert math.isnan(pattern_rmse(silent, loud))
    for measure in (pattern_rmse, band_selection_error):
        assert math.isnan(measure(loud, loud * torch.nan))
        assert math.isnan(measure(loud, loud[:, :1]))
        assert math.isnan(measure(loud[:, :0], loud[:, :0]))


def test_score_stimulation_compares_each_score_with_its_own_reference(speech):
    config = AceConfig()
    clean = torch.from_numpy(speech[0]).float()
    pattern = ace(clean[None], config)[0]
    decoded = torch.where(pattern >= 0, (pattern * 4).round() / 4, pattern)
    decoded[:3] = UNSELECTED
    scores = score_stimulation(clean, pattern, decoded, config, AT_ONCE)()
    uncoded, coded = (vocode(each[None], len(clean), config)[0].numpy() for each in (pattern, decoded))
    peak = np.abs(uncoded).max()
    assert len(scores) == 12 and scores.keys() <= METRICS.keys()
    expected = {
        "vstoi": stoi(speech[0], coded),
        "vstoi_uncoded": stoi(speech[0], uncoded),
        "dvstoi": stoi(speech[0], coded) - stoi(speech[0], uncoded),
        "vestoi": stoi(speech[0], coded, extended=True),
        "stoi": stoi(uncoded, coded),
        "estoi": stoi(uncoded, coded, extended=True),
        "pesq_wb": pesq_wb(uncoded, coded),
        "visqol": visqol_speech(uncoded / peak, coded / peak),
        "band_selection_error": band_selection_error(pattern, decoded),
        "pattern_rmse": pattern_rmse(pattern, decoded),
        "active_bands": float((decoded >= 0).double().sum(0).mean()),
        "active_bands_uncoded": float((pattern >= 0).double().sum(0).mean()),
    }
    assert scores == pytest.approx(expected, abs=1e-5)
    assert scores["dvstoi"] < -0.01
    assert 0.6 < scores["vstoi_uncoded"] < 0.95


def test_an_uncoded_pattern_scored_against_itself_is_perfect(speech):
    clean = torch.from_numpy(speech[1]).float()
    pattern = ace(clean[None])[0]
    scores = score_stimulation(clean, pattern, pattern.clone(), AceConfig(), AT_ONCE)()
    assert scores["dvstoi"] == scores["band_selection_error"] == scores["pattern_rmse"] == 0
    assert scores["stoi"] == pytest.approx(1) == scores["estoi"]
    assert scores["visqol"] == pytest.approx(5)


def test_score_stimulation_never_raises(speech):
    clean = torch.from_numpy(speech[0][:8000]).float()
    pattern = ace(clean[None])[0]
    silent, broken = torch.full_like(pattern, UNSELECTED), torch.full_like(pattern, torch.nan)
    cases = [(clean, pattern, bad) for bad in (silent, broken, pattern[:, :0])]
    cases += [(clean * 0, silent, silent), (clean[:0], pattern[:, :0], pattern[:, :0]), (clean, broken, pattern)]
    for case in cases:
        scores = score_stimulation(*case, AceConfig(), AT_ONCE)()
        assert len(scores) == 12 and scores.keys() <= METRICS.keys()
        assert math.isnan(scores["stoi"])


# -- codes ------------------------------------------------------------------------------------------------------------


def test_use_of_a_hand_worked_stream():
    symbols = torch.tensor([0, 0, 0, 0, 1, 1, 5, 5])  # 1/2, 1/4, 1/4
    assert empirical_entropy(symbols) == 1.5
    assert perplexity(symbols) == pytest.approx(2**1.5)
    assert dead_codewords(symbols, 8) == 5
    assert used_fraction(symbols, 8) == 3 / 8


def test_use_of_the_extremes():
    assert perplexity(torch.full((9,), 3)) == 1
    assert perplexity(torch.arange(64).repeat(3)) == pytest.approx(64)
    nothing = torch.zeros(0, dtype=torch.int64)
    assert math.isnan(perplexity(nothing))
    assert dead_codewords(nothing, 4) == 4


def test_nothing_is_dead_or_used_up_in_an_open_alphabet():
    symbols = torch.tensor([-7, 100_000])
    assert math.isnan(dead_codewords(symbols, None))
    assert math.isnan(used_fraction(symbols, None))
    assert empirical_entropy(symbols) == 1


def test_codebook_use_is_by_stream():
    codes = torch.tensor([[[0, 1, 0, 1], [2, 2, 2, 2]]])
    assert codebook_use(codes, (2, 4)) == {
        "entropy": [1.0, 0.0],
        "perplexity": [2.0, 1.0],
        "dead": [0.0, 3.0],
        "used_fraction": [1.0, 0.25],
    }


def test_every_metric_is_declared_under_its_own_name():
    assert all(name == metric.name for name, metric in METRICS.items())
    assert [name for name, metric in METRICS.items() if not metric.higher_is_better] == [
        "nomad",
        "nmr",
        "log_spectral_distance",
        "mel_distance",
        "mel_cepstral_distortion",
        "band_selection_error",
        "pattern_rmse",
        "active_bands",
        "active_bands_uncoded",
        "mse",
    ]
