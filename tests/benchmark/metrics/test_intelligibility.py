"""STOI, ESTOI and VSTOI: hand-worked values, pystoi on speech, padding, what has no score, and the gradients."""

import math
from pathlib import Path

import numpy as np
import pystoi
import pytest
import soundfile
import torch
from codecbench.benchmark.metrics import intelligibility
from codecbench.benchmark.metrics.intelligibility import EDGES, Reference, _estoi, _stoi, stoi, stoi_pair, vstoi
from codecbench.datamodules.cochlear.ace import UNSELECTED, AceConfig, ace
from codecbench.datamodules.cochlear.vocoder import vocode
from codecbench.datamodules.demo import Demo
from pystoi.utils import resample_oct

RATE = 16_000
SAME = {torch.float64: 1e-10, torch.float32: 1e-6}


@pytest.fixture(scope="module")
def sentences() -> np.ndarray:
    """Twelve seconds of one of the demo corpus's voices."""
    demo = Demo()
    return np.concatenate([demo.load(item) for item in demo.items("test")[:10]])[: 12 * RATE].astype(np.float64)


@pytest.fixture(scope="module")
def recording(librispeech_root: Path) -> np.ndarray:
    paths = sorted((librispeech_root / "train-clean-100").glob("*/*/*.flac"))
    return soundfile.read(paths[3])[0][: 20 * RATE]


def with_noise(signal: np.ndarray, share: float = 0.5) -> np.ndarray:
    return signal + np.random.default_rng(0).standard_normal(len(signal)) * signal.std() * share


def with_gaps(signal: np.ndarray) -> np.ndarray:
    """A silence of half a second in every two."""
    return np.where(np.arange(len(signal)) % (2 * RATE) < RATE // 2, 0.0, signal)


def batch(*signals: np.ndarray, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.from_numpy(np.stack(signals)).to(dtype)


def pair(signal: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return batch(signal), batch(with_noise(signal))


def agree(signal: np.ndarray, decoded: np.ndarray, dtype: torch.dtype, rate: int = RATE) -> None:
    x, y = batch(signal, dtype=dtype), batch(decoded, dtype=dtype)
    for extended, ours in enumerate(stoi_pair(x, y, rate)):
        assert ours.dtype == dtype
        assert stoi(x, y, rate, bool(extended)).equal(ours)
        expected = pystoi.stoi(x[0].double().numpy(), y[0].double().numpy(), rate, bool(extended))
        assert float(ours) == pytest.approx(expected, abs=SAME[dtype])


# -- hand-worked ------------------------------------------------------------------------------------------------------


def test_the_bands_are_thirds_of_octaves_from_133_6_hz_in_bins_of_19_53_hz() -> None:
    assert EDGES == (7, 9, 11, 14, 17, 22, 27, 34, 43, 55, 69, 87, 109, 138, 174, 219)


def halves(first: float, second: float) -> torch.Tensor:
    """A segment "15 1 30 1" of two levels, the same in every band."""
    return torch.tensor([first] * 15 + [second] * 15, dtype=torch.float64).expand(15, 1, 30)[..., None]


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ((1, 3), (1, 3), 1.0),
        ((1, 3), (10, 30), 1.0),  # the level does not count
        ((1, 3), (3, 1), -1.0),  # 3 stays below 6.62 times 1
        ((0, 2), (2, 0), 0.0),  # all of it clipped: -1 without
        ((1, 2), (0, 0), 0.0),
        ((1, 2), (5, 5), 0.0),
    ],
)
def test_stoi_of_two_levels(x: tuple[float, float], y: tuple[float, float], expected: float) -> None:
    assert float(_stoi(halves(*x), halves(*y))) == pytest.approx(expected, abs=1e-12)


def test_stoi_clips_at_a_distortion_of_minus_15_db() -> None:
    x, y = torch.ones(15, 1, 30, 1, dtype=torch.float64), torch.ones(15, 1, 30, 1, dtype=torch.float64)
    x[:, :, 1], y[:, :, 0] = 6.0, 1e6  # the scaled peak, sqrt(29 + 36), is clipped to 1 + 10^(3/4), beside it 0 is left
    clipped = np.array([1 + 10**0.75] + [0.0] * 29)
    expected = np.corrcoef(clipped, [1.0, 6.0] + [1.0] * 28)[0, 1]
    assert float(_stoi(x, y)) == pytest.approx(expected, abs=1e-4)


def test_estoi_of_bands_that_rise_or_fall_together() -> None:
    """x rises in 5 bands and falls in 10, y in 10 and 5: (1/3 + 1/9) / (1 - 1/9) in every column."""
    shape = torch.randn(30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rise = torch.tensor([1.0] * 15, dtype=torch.float64)
    x_sign, y_sign = rise.clone(), rise.clone()
    x_sign[5:], y_sign[10:] = -1, -1
    x, y = (7 + 2 * (sign[:, None] * shape)[:, None, :, None] for sign in (x_sign, y_sign))
    assert float(_estoi(x, y)) == pytest.approx(0.5, abs=1e-12)
    assert float(_estoi(x, 3 * y)) == pytest.approx(0.5, abs=1e-12)
    assert float(_estoi(x, torch.zeros_like(y))) == 0


# -- against pystoi ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100, 48_000])
def test_the_resampler_is_octaves(rate: int) -> None:
    signal = np.random.default_rng(0).standard_normal(20_011)
    expected = resample_oct(signal, 10_000, rate)
    hops = intelligibility._hops(batch(signal), rate).flatten(1)[0].numpy()
    assert np.abs(hops[: len(expected)] - expected).max() < 1e-12


@pytest.mark.parametrize("dtype", SAME)
@pytest.mark.parametrize("corpus", ["sentences", "recording"])
def test_scores_equal_pystois(corpus: str, dtype: torch.dtype, request: pytest.FixtureRequest) -> None:
    signal = request.getfixturevalue(corpus)
    short = signal[RATE : 4 * RATE]
    agree(signal, with_noise(signal), dtype)
    agree(short, short, dtype)
    agree(short * 1e-4, with_noise(short, 1.0) * 1e-4, dtype)
    gapped = with_gaps(signal)
    agree(gapped, with_noise(gapped), dtype)
    agree(gapped, with_noise(gapped, 1e-6), dtype)
    agree(short[:30_011], with_noise(short[:30_011]), dtype, 10_000)


def test_a_decoded_signal_that_falls_silent_has_pystois_stoi(sentences: np.ndarray) -> None:
    decoded = np.where(np.arange(len(sentences)) < 6 * RATE, sentences, 0.0)
    scores = stoi_pair(batch(sentences), batch(decoded), RATE)
    assert float(scores.stoi) == pytest.approx(pystoi.stoi(sentences, decoded, RATE), abs=1e-10)
    np.random.seed(0)
    assert float(scores.estoi) == pytest.approx(pystoi.stoi(sentences, decoded, RATE, True), abs=0.01)  # its noise


def test_a_frame_at_the_threshold_falls_in_float32_where_it_does_in_float64(sentences, monkeypatch) -> None:
    single = batch(sentences[: 3 * RATE], dtype=torch.float32)
    hops = intelligibility._hops(single.double(), RATE)
    levels = intelligibility._levels(hops, torch.tensor([hops.shape[1] - 2]))[0]
    for level in levels[40:80].tolist():
        for margin in (-1e-9, 1e-9):
            monkeypatch.setattr(intelligibility, "DYNAMIC_RANGE", float(levels.max()) - level + margin)
            found, expected = (Reference(signal, RATE)._blocks[0].counts for signal in (single, single.double()))
            assert found.equal(expected)


# -- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [10_000, 16_000])
def test_items_of_different_lengths_score_as_they_do_alone(rate: int, sentences: np.ndarray) -> None:
    x, y = batch(*sentences.reshape(6, -1)), batch(*with_noise(sentences).reshape(6, -1))
    lengths = torch.tensor([32_000, 31_999, 20_000, 12_345, 20_097, 100])
    for item, length in enumerate(lengths):
        y[item, length:] = math.inf  # what lies beyond does not count
    for measure, found in enumerate(stoi_pair(x, y, rate, lengths)):
        alone = [stoi_pair(x[i : i + 1, :n], y[i : i + 1, :n], rate)[measure] for i, n in enumerate(lengths)]
        assert torch.allclose(found, torch.cat(alone), rtol=0, atol=1e-12, equal_nan=True)
        assert found.isfinite().tolist() == [True] * 5 + [False]


def test_one_reference_serves_many_decoded_signals(sentences: np.ndarray) -> None:
    clean = sentences[: 2 * RATE]
    decoded = batch(*(with_noise(clean, share) for share in (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)))
    once, again = Reference(batch(clean), RATE).pair(decoded), stoi_pair(batch(clean).expand(6, -1), decoded, RATE)
    for found, expected in zip(once, again, strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=1e-12)
        assert found.tolist() == sorted(found.tolist(), reverse=True)


def test_what_cannot_be_scored_is_nan_and_spoils_no_other_gradient(sentences: np.ndarray) -> None:
    x, y = batch(*sentences.reshape(6, -1)), batch(*with_noise(sentences).reshape(6, -1))
    x[0], x[1, 5], y[2, 7], y[3], x[4, 6000:] = 0, math.nan, math.inf, 0, 0
    x.requires_grad_()
    y.requires_grad_()
    for extended in (False, True):
        scores = stoi(x, y, RATE, extended)
        assert scores.isnan().tolist() == [True, True, True, False, True, False] and scores[3] == 0
        gradients = torch.autograd.grad(scores.nansum(), (x, y))
        alone = torch.autograd.grad(stoi(x[5:], y[5:], RATE, extended).sum(), (x, y))
        for gradient, expected in zip(gradients, alone, strict=True):
            assert gradient.isfinite().all() and not gradient[:5].any()
            assert torch.allclose(gradient[5], expected[5], rtol=1e-9, atol=1e-12) and expected[5].any()


def test_nothing_to_score_is_nan() -> None:
    for shape in ((2, 0), (2, 1), (2, 129), (2, 5000)):
        assert stoi(torch.ones(shape), torch.ones(shape), RATE).isnan().all()


def test_signals_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 99\) needs a reference of its shape; this one is \(1, 100\)"):
        Reference(torch.ones(1, 100), RATE).stoi(torch.ones(1, 99))
    with pytest.raises(ValueError, match="needs a reference"):
        Reference(torch.ones(2, 100), RATE).pair(torch.ones(3, 100))
    with pytest.raises(ValueError, match="16001 Hz is no simple fraction"):
        stoi(torch.ones(1, 100), torch.ones(1, 100), 16_001)


# -- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("rate", [10_000, 16_000])
def test_gradients_are_those_of_the_numbers(rate: int, extended: bool, sentences: np.ndarray) -> None:
    x, y = (each[:, :9_000].requires_grad_() for each in pair(sentences[:RATE]))
    assert torch.autograd.gradcheck(lambda x, y: stoi(x, y, rate, extended), (x, y), fast_mode=True)


def test_a_step_up_the_gradient_improves_the_score_by_as_much(sentences: np.ndarray) -> None:
    x, y = pair(sentences[: 3 * RATE])
    y.requires_grad_()
    score = stoi(x, y, RATE)
    (gradient,) = torch.autograd.grad(score.sum(), y)
    step = 1e-5 * gradient / gradient.square().sum()
    assert float((stoi(x, y + step, RATE) - score).detach()) == pytest.approx(1e-5, rel=1e-2)


def test_a_score_under_inference_mode_leaves_later_gradients_alone(sentences: np.ndarray) -> None:
    intelligibility._polyphase.cache_clear()
    intelligibility._window.cache_clear()
    x, y = pair(sentences[:RATE])
    with torch.inference_mode():
        stoi(x, y, RATE)
    stoi(x, y.requires_grad_(), RATE).sum().backward()
    assert y.grad is not None and y.grad.any()


# -- VSTOI ------------------------------------------------------------------------------------------------------------


def test_vstoi_is_pystois_stoi_of_the_vocoded_patterns(sentences: np.ndarray) -> None:
    clean, config = batch(*sentences[: 6 * RATE].reshape(2, -1), dtype=torch.float32), AceConfig()
    pattern = ace(clean, config)
    for extended in (False, True):
        scores = vstoi(pattern, clean, config, extended)
        vocoded = vocode(pattern, clean.shape[1], config)
        pairs = torch.stack([clean, vocoded], dim=1).double().numpy()
        expected = [pystoi.stoi(first, second, RATE, extended) for first, second in pairs]
        assert scores.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("extended", [False, True])
def test_the_gradient_of_vstoi_reaches_the_stimulated_bands_alone(extended: bool, sentences: np.ndarray) -> None:
    clean, config = batch(sentences[: RATE // 2], sentences[RATE : 3 * RATE // 2]), AceConfig(hop=64)
    pattern = ace(clean, config)
    pattern = pattern.where(pattern < 0, pattern.clamp(0.01, 0.99)).requires_grad_()
    (gradient,) = torch.autograd.grad(vstoi(pattern, clean, config, extended).sum(), pattern)
    assert not gradient[pattern < 0].any() and (gradient[pattern >= 0] != 0).double().mean() > 0.9  # not at the end
    stimulated = pattern.detach()[pattern >= 0].requires_grad_()

    def score(levels: torch.Tensor) -> torch.Tensor:
        return vstoi(pattern.detach().masked_scatter(pattern >= 0, levels), clean, config, extended)

    assert torch.autograd.gradcheck(score, (stimulated,), fast_mode=True)


def test_a_silent_pattern_scores_nothing_and_has_no_gradient(sentences: np.ndarray) -> None:
    clean = batch(sentences[:RATE])
    pattern = torch.full_like(ace(clean), UNSELECTED).requires_grad_()
    for score in (vstoi(pattern, clean), vstoi(pattern, clean, extended=True)):
        (gradient,) = torch.autograd.grad(score.sum(), pattern)
        assert score.tolist() == [0] and not gradient.any()
