"""Psychoacoustic model 1 equals its steps written out bin by bin, and its hand-worked values."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from codecbench.benchmark.losses.psychoacoustic import NoiseModulation
from codecbench.benchmark.metrics.hearing import psychoacoustics
from codecbench.benchmark.metrics.hearing.psychoacoustics import PsychoacousticModel, bark, threshold_in_quiet
from codecbench.benchmark.tracks.pictures import masking
from codecbench.datamodules.demo import CORPORA

RATE = 16_000
UNTYPED = pytest.mark.skipif(os.environ.get("CODECBENCH_TYPECHECK") == "1", reason="the type check is quicker")


def sine(bins: int, samples: int = 512) -> torch.Tensor:
    return torch.sin(2 * torch.pi * bins * torch.arange(samples, dtype=torch.float64) / samples)[None]


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


# -- the model, bin by bin --------------------------------------------------------------------------------------------


def by_loops(frame: np.ndarray, rate: int, peak: bool = False) -> tuple[np.ndarray, dict[int, float], dict[int, float]]:
    """Threshold, tonal and noise maskers of one frame, the steps written out."""
    size = len(frame)
    window = np.ones(size) if peak else 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    psd = 90.302 + 10 * np.log10(np.maximum(np.abs(np.fft.rfft(window * frame) / size) ** 2, 1e-30))
    psd = psd - psd.max() + 96 if peak else psd
    hertz = np.arange(size // 2 + 1) * rate / size
    z = 13 * np.arctan(0.00076 * hertz) + 3.5 * np.arctan((hertz / 7500) ** 2)
    khz = np.maximum(hertz, hertz[1]) / 1000
    quiet = 3.64 * khz**-0.8 - 6.5 * np.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
    tonal, taken = {}, set()
    for k in range(3, len(psd)):
        f = hertz[k] * 512 / 44_100
        reach = 2 if f < 63 else 3 if f < 127 else 6 if f <= 250 else len(psd)
        if k + reach >= len(psd) or k < reach or not (psd[k] > psd[k - 1] and psd[k] >= psd[k + 1]):
            continue
        if all(psd[k] >= psd[k + d] + 7 and psd[k] >= psd[k - d] + 7 for d in range(2, reach + 1)):
            tonal[k] = 10 * math.log10(sum(10 ** (psd[k + d] / 10) for d in (-1, 0, 1)))
            taken |= set(range(k - reach, k + reach + 1))
    noise = {}
    for band in range(int(z[-1]) + 1):
        bins = [k for k in range(1, len(psd)) if int(z[k]) == band]
        if any(k not in taken for k in bins):
            power = sum(10 ** (psd[k] / 10) for k in bins if k not in taken)
            noise[round(math.exp(np.mean(np.log(bins))))] = 10 * math.log10(power)
    everyone = [(k, p, True) for k, p in tonal.items()] + [(k, p, False) for k, p in noise.items()]
    heard = [masker for masker in everyone if masker[1] >= quiet[masker[0]]]
    left = [a for a in heard if not any(abs(z[a[0]] - z[b[0]]) < 0.5 and b[1] > a[1] for b in heard)]
    total = 10 ** (quiet / 10)
    for j, level, tone in left:
        for i in range(len(psd)):
            if -3 <= (dz := z[i] - z[j]) < 8:
                offset = -0.275 * z[j] - 6.025 if tone else -0.175 * z[j] - 2.025
                total[i] += 10 ** ((level + offset + spread(dz, level)) / 10)
    return (
        10 * np.log10(total),
        {k: p for k, p, tone in left if tone},
        {k: p for k, p, tone in left if not tone},
    )


def spread(dz: float, level: float) -> float:
    if dz < -1:
        return 17 * dz - 0.4 * level + 11
    if dz < 0:
        return (0.4 * level + 6) * dz
    return -17 * dz if dz < 1 else (0.15 * level - 17) * dz - 0.15 * level


def assert_as_by_loops(waveform: torch.Tensor, model: PsychoacousticModel) -> None:
    masking, frames = model(waveform), model.frames(waveform)
    for item in range(frames.shape[0]):
        for at in range(frames.shape[1]):
            expected = by_loops(frames[item, at].numpy(), model.sample_rate, model.calibration == "peak")
            found = [maskers[item, at] for maskers in (masking.tonal, masking.noise)]
            assert masking.threshold[item, at].numpy() == pytest.approx(expected[0], abs=1e-8)
            for maskers, wanted in zip(found, expected[1:], strict=True):
                there = maskers.isfinite().nonzero()[:, 0].tolist()
                assert {k: maskers[k].item() for k in there} == pytest.approx(wanted, abs=1e-8)


@pytest.mark.parametrize("frame", [128, 256, 512, 1024, 2048])
@pytest.mark.parametrize("calibration", ["level", "peak"])
def test_speech_masks_as_the_loops_say(demo: torch.Tensor, frame: int, calibration: str) -> None:
    assert_as_by_loops(demo[:, 5000:8000], PsychoacousticModel(RATE, frame, frame, calibration))


@pytest.mark.parametrize("rate", [8_000, 24_000, 32_000, 44_100, 48_000])
def test_every_sample_rate_masks_as_the_loops_say(demo: torch.Tensor, rate: int) -> None:
    assert_as_by_loops(demo[:, 5000:8000] + white(demo[:, 5000:8000], 30), PsychoacousticModel(rate))


def test_real_speech_masks_as_the_loops_say(librispeech_root: Path) -> None:
    files = sorted((librispeech_root / "train-clean-100").glob("*/*/*.flac"))[:2000:500]
    waveform = torch.stack([torch.from_numpy(soundfile.read(file, start=RATE, frames=6000)[0]) for file in files])
    assert_as_by_loops(waveform, PsychoacousticModel(RATE))


# -- hand-worked values -----------------------------------------------------------------------------------------------


def test_a_full_scale_sine_and_its_threshold() -> None:
    bins = [16, 24, 32, 40, 64, 128]
    masking = PsychoacousticModel(RATE)(sine(32))
    assert bark(torch.tensor(1000.0)).item() == pytest.approx(8.5105, abs=5e-5)
    assert masking.psd[0, 0, 32].item() == pytest.approx(90.302 - 20 * math.log10(4), abs=1e-9)  # 78.261
    assert masking.tonal[0, 0, 32].item() == pytest.approx(78.2608 + 10 * math.log10(1.5), abs=1e-4)  # 80.022
    assert masking.tonal.isfinite().sum() == 1
    assert not masking.noise.isfinite().any()
    at = masking.threshold[0, 0, bins].tolist()
    assert at == pytest.approx([6.279, 21.151, 71.656, 52.340, 36.701, -3.388], abs=6e-4)
    at = PsychoacousticModel(44_100)(sine(32)).threshold[0, 0, bins].tolist()
    assert at == pytest.approx([2.111, 18.574, 69.844, 51.317, 37.816, 20.603], abs=6e-4)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(44_100, [2.11, 28.11, 85.82, 68.03, 61.00, 51.26]), (RATE, [6.28, 30.65, 87.63, 69.43, 61.29, -3.39])],
)
def test_a_sine_whose_peak_is_set_to_96_db(rate: int, expected: list[float]) -> None:
    masking = PsychoacousticModel(rate, calibration="peak")(0.01 * sine(32))
    assert masking.psd.max().item() == pytest.approx(96)
    assert masking.threshold[0, 0, [16, 24, 32, 40, 64, 128]].tolist() == pytest.approx(expected, abs=6e-3)


def test_two_tones_in_noise() -> None:
    n = torch.arange(512, dtype=torch.float64)
    tones = 0.1 * torch.sin(2 * torch.pi * 1000 * n / RATE) + 0.01 * torch.sin(2 * torch.pi * 3000 * n / RATE)
    clean = tones + 0.003 * ((7919 * n % 1009) / 1009 - 0.5)
    at = PsychoacousticModel(RATE)(clean[None]).threshold[0, 0, [16, 24, 32, 40, 64, 96, 128, 200]].tolist()
    assert at == pytest.approx([6.279, 10.347, 51.654, 30.954, 6.997, 29.724, 6.285, 3.410], abs=6e-4)


def test_the_threshold_in_quiet() -> None:
    assert threshold_in_quiet(torch.tensor([1000.0], dtype=torch.float64)).item() == pytest.approx(
        3.64 - 6.5 * math.exp(-0.6 * 2.3**2) + 0.001, abs=1e-9
    )


def test_two_equal_maskers_raise_the_threshold_by_3_db() -> None:
    tables = psychoacoustics._tables(RATE, 512, torch.float64, torch.device("cpu"))
    beside = 257 + int(
        (tables.centres - 100).abs().argmin()
    )  # a noise masker, and a tonal one made as strong beside it
    at, power = int(tables.bin_of[beside]), []
    for rows in ([at], [beside], [at, beside]):
        levels = torch.tensor(
            [
                80.0 if row == at else 80.0 + (tables.base[at] - tables.base[beside])[at] / np.log(10) * 10
                for row in rows
            ],
            dtype=torch.float64,
        )
        power.append((tables.base[rows] + levels[:, None] * tables.slope[rows]).exp().sum(0)[at])
    assert power[0] == pytest.approx(power[1])
    assert 10 * math.log10(power[2] / power[0]) == pytest.approx(3.0103, abs=1e-4)


def test_of_two_maskers_within_half_a_bark_the_stronger_stays() -> None:
    near = PsychoacousticModel(RATE)(sine(100) + 0.5 * sine(104))  # 125 Hz apart near 3.1 kHz, 0.25 Bark
    assert near.tonal[0, 0].isfinite().nonzero().flatten().tolist() == [100]
    far = PsychoacousticModel(RATE)(sine(100) + 0.5 * sine(120))
    assert far.tonal[0, 0].isfinite().nonzero().flatten().tolist() == [100, 120]


# -- batches ----------------------------------------------------------------------------------------------------------


def test_a_batch_is_masked_as_its_parts_and_float32_as_float64(demo: torch.Tensor) -> None:
    model = PsychoacousticModel(RATE)
    batch = model(demo)
    for item in range(len(demo)):
        for field, alone in zip(batch[:4], model(demo[item : item + 1])[:4], strict=True):
            assert torch.equal(field[item], alone[0]) or torch.allclose(field[item], alone[0], atol=1e-9)
    single = model(demo.float())
    assert single.threshold.dtype == torch.float32
    difference = (single.threshold - batch.threshold).abs()
    assert difference.median() < 1e-4
    assert (difference.amax(-1) > 0.01).double().mean() < 0.01  # a tone that stands out by 7 dB to the last digit


def test_many_frames_go_through_in_parts(demo: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    model = PsychoacousticModel(RATE, 128)
    whole = model(demo).threshold
    monkeypatch.setattr(psychoacoustics, "FRAMES_AT_ONCE", 7)
    assert torch.allclose(model(demo).threshold, whole, atol=1e-9)


@pytest.mark.parametrize("calibration", ["level", "peak"])
def test_silence_masks_nothing(calibration: str) -> None:
    masking = PsychoacousticModel(RATE, calibration=calibration)(torch.zeros(2, 700))
    assert torch.allclose(masking.threshold, masking.quiet.expand_as(masking.threshold), atol=1e-5)
    assert not masking.tonal.isfinite().any() and not masking.noise.isfinite().any()


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (512, 1), (513, 2), (768, 2), (769, 3)])
def test_every_sample_is_in_a_frame(samples: int, frames: int) -> None:
    assert PsychoacousticModel(RATE).frames(torch.ones(2, samples)).shape == (2, frames, 512)


def test_tables_made_without_gradients_serve_training() -> None:
    psychoacoustics._tables.cache_clear()
    loss, clean = NoiseModulation(RATE), 0.1 * sine(32)
    with torch.inference_mode():
        loss(clean, clean)
    decoded = (clean + 0.01 * sine(50)).requires_grad_()
    loss(clean, decoded).backward()
    assert decoded.grad is not None and decoded.grad.any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frame": 511}, "even number"),
        ({"frame": 4}, "at least 16"),
        ({"hop": 0}, "hop=0"),
        ({"hop": 513}, "frame=512"),
        ({"sample_rate": 100}, "Hz"),
        pytest.param({"calibration": "loud"}, "'level' or 'peak'", marks=UNTYPED),
    ],
)
def test_what_cannot_be_is_refused(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PsychoacousticModel(**{"sample_rate": RATE, **options})


# -- the picture ------------------------------------------------------------------------------------------------------


def test_arrays_of_unlike_length_are_not_drawn(tmp_path: Path) -> None:
    line = np.arange(5.0)
    masking(line, line, line + np.nan, line - np.inf, line, line, tmp_path / "mask.png")
    assert (tmp_path / "mask.png").exists()
    with pytest.raises(ValueError, match="one length"):
        masking(line, line, line, line, line[1:], line, tmp_path / "other.png")
