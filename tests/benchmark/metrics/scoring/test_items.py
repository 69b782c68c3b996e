"""One item is scored by every metric of its track; functions are called once, signals resampled once a rate."""

import math

import pytest
import torch
from codecbench.benchmark.metrics import base, intelligibility
from codecbench.benchmark.metrics.base import Metric, declared
from codecbench.benchmark.metrics.scoring import items, patterns
from codecbench.benchmark.metrics.scoring.items import score_item
from codecbench.benchmark.metrics.scoring.pool import ScorePool
from codecbench.benchmark.metrics.scoring.waveforms import score_waveform
from codecbench.benchmark.metrics.vector import mse

SUBMIT = ScorePool(1).submit
REFERENCE, DECODED = torch.arange(6.0).view(2, 3), torch.zeros(2, 3)


@pytest.fixture
def declare(monkeypatch):
    """Declares a metric of the vector track that has these changes."""

    def add(name, function, **changes):
        metric = Metric(name, "", False, None, name, function, ("vector",))._replace(**changes)
        monkeypatch.setitem(declared(), name, metric)

    return add


def scores(**signals):
    return score_item("vector", {"reference": REFERENCE, "decoded": DECODED} | signals, SUBMIT)()


def test_a_function_is_handed_the_signals_that_it_names_with_a_batch_axis(declare):
    declare("largest", lambda decoded, reference: (decoded - reference).abs().amax((1, 2)))
    assert scores() == {"mse": pytest.approx(55 / 6), "largest": 5.0}


def test_a_function_of_several_scores_is_called_once(declare):
    calls = []

    def both(reference, decoded):
        calls.append(reference.shape)
        return {"first": reference[0, 0, 1], "second": 7}

    declare("first", both)
    declare("second", both)
    assert scores() == {"mse": pytest.approx(55 / 6), "first": 1.0, "second": 7.0} and calls == [(1, 2, 3)]


def test_a_score_that_nobody_declared_is_an_error_and_never_dropped(declare):
    declare("first", lambda reference, decoded: {"first": 1, "second": 2})
    with pytest.raises(LookupError, match="scores first, second were given where first are declared"):
        scores()


def test_a_declared_score_that_is_not_given_is_an_error(declare):
    def both(reference, decoded):
        return {"first": 1}

    declare("first", both)
    declare("second", both)
    with pytest.raises(LookupError, match="scores first were given where first, second are declared"):
        scores()


def test_what_is_not_offered_is_left_out(declare):
    declare("never", lambda reference, decoded: 1.0, offered=lambda: False)
    assert "never" not in scores()


def test_what_is_apart_goes_through_the_pool_as_numpy_signals(declare):
    from codecbench.benchmark.metrics.scoring.pool import MEASURES

    declare("loudest", lambda reference, decoded: float(reference.max()), apart=True)
    try:
        assert scores()["loudest"] == 5.0
    finally:
        MEASURES.pop("loudest", None)


def test_a_rate_is_resampled_to_once_and_only_where_it_is_needed(declare, monkeypatch):
    asked, resample, seen = [], items.resample, {}
    monkeypatch.setattr(items, "resample", lambda sound, *rates: asked.append(rates) or resample(sound, *rates))

    def heard(name):
        return lambda reference, decoded: float(seen.setdefault(name, reference.shape[1]))

    for name, rate in (("slow", 8_000), ("slower", 8_000), ("same", 16_000), ("any", None)):
        declare(name, heard(name), sample_rate=rate, tracks=("audio",))
    declare("told", lambda reference, decoded, rate: rate, sample_rate=48_000, tracks=("audio",))
    signal = 0.1 * torch.randn(4_000, generator=torch.Generator().manual_seed(0))
    given = score_waveform(signal, signal, 16_000, "audio", SUBMIT)()
    assert seen == {"slow": 2_000, "slower": 2_000, "same": 4_000, "any": 4_000} and given["told"] == 16_000
    assert sorted(asked) == [(16_000, 8_000)] * 2 + [(16_000, 48_000)] * 2  # two signals each; ViSQOL at 48 kHz


def test_intelligibility_is_one_pass_for_each_reference(monkeypatch):
    made = []
    monkeypatch.setattr(intelligibility, "_reference_block", _counted(intelligibility._reference_block, made))
    signal = 0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    score_waveform(signal, signal, 16_000, "speech", SUBMIT)()
    assert len(made) == 3  # STOI and ESTOI; VSTOI decoded; VSTOI uncoded
    made.clear()
    pattern = patterns.ace(signal[None])[0]
    patterns.score_stimulation(signal, pattern, pattern, patterns.AceConfig(), SUBMIT)()
    assert len(made) == 2  # against clean speech: four scores; against the uncoded pattern: two


def _counted(function, calls):
    return lambda *arguments: calls.append(1) or function(*arguments)


def test_signals_of_which_one_is_not_finite_are_scored_nan_at_another_rate_too():
    signal = 0.1 * torch.randn(22_050, generator=torch.Generator().manual_seed(0))
    broken = signal.clone()
    broken[3] = torch.nan
    given = score_waveform(signal, broken, 22_050, "speech", SUBMIT)()
    assert all(math.isnan(given[name]) for name in ("stoi", "snr", "pesq_wb", "visqol", "two_f"))


def test_mean_squared_error_of_vectors_by_hand():
    reference, decoded = torch.tensor([[[1.0, 3.0]], [[0.0, 0.0]]]), torch.tensor([[[0.0, 0.0]], [[2.0, 0.0]]])
    assert mse(reference, decoded).tolist() == [5, 2]


def test_columns_of_items_files_keep_their_order():
    signal = 0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    first = ["stoi", "estoi", "vstoi", "vstoi_uncoded", "dvstoi", "segmental_snr", "weighted_snr"]
    then = ["log_spectral_distance", "mel_distance", "snr", "si_sdr", "peak_snr", "nmr", "two_f", "pesq_wb", "visqol"]
    assert list(score_waveform(signal, signal, 16_000, "speech", SUBMIT)()) == first + then
    assert base.METRICS.keys() >= {*first, *then}
