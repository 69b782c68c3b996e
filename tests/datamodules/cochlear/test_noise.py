"""Noises: the network of ITU-T G.227 by its published losses, the surrogates by their spectra, seams of recordings."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from codecbench.datamodules.base import read_audio
from codecbench.datamodules.cochlear.noise import SURROGATES, WITH_VOICES, extended, g227_loss, synthetic_noise
from codecbench.datamodules.cochlear.noise_files import NoiseFiles
from codecbench.datamodules.demo import Demo
from codecbench.datamodules.errors import DataError
from scipy.signal import welch

SECOND = 16_000
VOICES = [Demo().load(item) for item in Demo().items("train")[::12]]


def noise(name: str, seconds: int = 12, seed: int = 0) -> np.ndarray:
    return synthetic_noise(name, seconds * SECOND, np.random.default_rng(seed), VOICES)


def spectrum(sound: np.ndarray, *frequencies: int) -> np.ndarray:
    """Power in dB around each frequency in Hz, within a sixth of an octave to either side."""
    at, power = welch(sound, SECOND, nperseg=2048)
    return np.array([10 * np.log10(power[(at > f / 1.12) & (at < f * 1.12)].mean()) for f in frequencies])


def test_the_losses_of_g227() -> None:
    """At 0 Hz 18400 / 400; at 1 kHz |-61200 + 13230j| / |-3600 + 35910j| = 1.7349; the others as published."""
    assert g227_loss(np.array([0.0, 1000])) == pytest.approx([20 * np.log10(46), 20 * np.log10(1.7349)], abs=1e-3)
    published = {50: 20.02, 100: 14.27, 200: 8.73, 300: 5.92, 400: 4.36, 500: 3.56, 600: 3.26, 800: 3.64, 1000: 4.79,
                 1200: 6.32, 1500: 8.92, 2000: 13.35, 2500: 17.47, 3000: 21.18, 3400: 23.86, 4000: 27.47,
                 5000: 32.57, 6000: 36.80, 8000: 43.45}  # fmt: skip
    assert g227_loss(np.array([*published], float)) == pytest.approx([*published.values()], abs=0.0051)


def test_ccitt_noise_has_that_spectrum() -> None:
    frequencies = [200, 300, 400, 600, 800, 1200, 1500, 2500, 4000, 6000]
    level = spectrum(noise("CCITT", 60), *frequencies) + g227_loss(np.array(frequencies, float))
    assert np.ptp(level) < 0.5


@pytest.mark.parametrize("name", SURROGATES)
def test_every_noise_has_unit_power_no_dc_and_follows_from_its_seed(name: str) -> None:
    sound = noise(name, 3)
    assert sound.shape == (3 * SECOND,) and np.isfinite(sound).all()
    assert np.mean(np.square(sound)) == pytest.approx(1) and abs(sound.mean()) < 0.02
    assert np.array_equal(sound, noise(name, 3)) and not np.array_equal(sound, noise(name, 3, seed=1))
    assert abs(np.corrcoef(sound, noise(name, 3, seed=1))[0, 1]) < 0.5


def test_the_surrogates_sound_as_they_are_described() -> None:
    bus, office, restaurant = (noise(name) for name in ("Bus", "Office", "BFR"))
    low, middle, high = spectrum(bus, 200, 800, 6000)
    assert low - middle == pytest.approx(12, abs=2), "6 dB an octave down"
    assert middle > high > spectrum(noise("CCITT"), 6000)[0], "and white noise below"
    pink = spectrum(synthetic_noise("Office", 60 * SECOND, np.random.default_rng(0), VOICES), 60, 4000)
    assert pink[0] - pink[1] == pytest.approx(10 * np.log10(4000 / 60), abs=4)
    assert spectrum(office, 200)[0] > spectrum(office, 150)[0], "the fan"
    voices = spectrum(np.concatenate(VOICES), 250, 500, 1000, 2000)
    ratio = spectrum(restaurant, 250, 500, 1000, 2000) - voices
    assert np.ptp(ratio) < 5, "the spectrum of its voices"
    clatter = [synthetic_noise("BFR", 12 * SECOND, np.random.default_rng(0), [tone]) for tone in [_tone(300)]]
    assert spectrum(clatter[0], 4000)[0] > spectrum(clatter[0], 1200)[0] + 20, "bursts of 2 to 6 kHz"


def _tone(frequency: float) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(SECOND) / SECOND)


def test_babble_is_made_of_the_voices_it_is_given() -> None:
    assert {"BFR", "Office"} == WITH_VOICES
    first, second = (synthetic_noise("BFR", SECOND, np.random.default_rng(0), [_tone(f)]) for f in (300, 700))
    assert spectrum(first, 300)[0] > spectrum(second, 300)[0] + 30
    assert spectrum(first, 700)[0] < spectrum(second, 700)[0] - 30


# -- recordings -------------------------------------------------------------------------------------------------------


def test_a_short_recording_is_repeated_without_a_seam() -> None:
    generator = np.random.default_rng(0)
    recording = generator.standard_normal(2 * SECOND) + 3
    period = 2 * SECOND - 800  # 50 ms are faded
    long = extended(recording, 5 * SECOND, 0)
    assert np.array_equal(long[800:period], recording[800:period]), "as it was recorded"
    assert np.array_equal(long[:period], long[period : 2 * period]), "and again"
    assert np.array_equal(extended(recording, 100, 2 * SECOND - 1), long[799:899]), "from any place"
    smooth = extended(np.sin(np.arange(2 * SECOND) / 1000), 5 * SECOND, 0)
    assert np.abs(np.diff(smooth)).max() < 3e-3, "no click"
    faded = np.concatenate([extended(generator.standard_normal(1600), 1500, 0)[:800] for _ in range(100)])
    assert np.mean(np.square(faded)) == pytest.approx(1, rel=0.05), "at equal power"


def test_files_are_called_as_their_noise(tmp_path: Path) -> None:
    for name in ("bus", "sub/kitchen"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * noise("Bus", 2), SECOND)
    files = NoiseFiles(str(tmp_path))
    assert files.paths == {"Bus": tmp_path / "bus.wav", "kitchen": tmp_path / "sub/kitchen.wav"}
    assert len(files.recording("kitchen")) == 2 * SECOND
    assert len(files.excerpt("Bus", "train", 5 * SECOND, np.random.default_rng(0))) == 5 * SECOND
    assert NoiseFiles().paths == {}


def test_what_cannot_serve_as_noise_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no noise"):
        _ = NoiseFiles(str(tmp_path)).paths
    for name, sound in (("short", np.ones(15_000)), ("silent", np.zeros(SECOND)), ("a/rain", np.ones(SECOND))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / f"{name}.wav", sound, SECOND)
    with pytest.raises(DataError, match=r"short\.wav: only 0\.94 s long; noise needs 1 s"):
        NoiseFiles(str(tmp_path)).recording("short")
    with pytest.raises(DataError, match=r"silent\.wav: silent"):
        NoiseFiles(str(tmp_path)).recording("silent")
    gap = 0.1 * noise("Bus", 3) * (np.abs(np.arange(3 * SECOND) / SECOND - 1.5) > 0.4)
    soundfile.write(tmp_path / "gap.wav", gap, SECOND, subtype="FLOAT")
    soundfile.write(tmp_path / "ends.wav", np.roll(gap, SECOND * 3 // 2), SECOND, subtype="FLOAT")
    pauses = 0.1 * noise("Bus", 3) * (np.arange(3 * SECOND) % SECOND > 6400)
    soundfile.write(tmp_path / "pauses.wav", pauses, SECOND, subtype="FLOAT")
    assert len(NoiseFiles(str(tmp_path)).recording("pauses")) == 3 * SECOND
    with pytest.raises(DataError, match=r"gap\.wav: silent for 0\.80 s from 1\.10 s on; cut that out"):
        NoiseFiles(str(tmp_path)).recording("gap")
    with pytest.raises(
        DataError, match=r"ends\.wav: silent for 0\.80 s from 2\.60 s on, over 3\.00 s back to 0\.00 s; cut"
    ):
        NoiseFiles(str(tmp_path)).recording("ends")
    soundfile.write(tmp_path / "rain.wav", np.ones(SECOND), SECOND)
    with pytest.raises(DataError, match="is noise 'rain' as well; keep one"):
        _ = NoiseFiles(str(tmp_path)).paths


def test_long_recordings_are_divided_among_the_splits(tmp_path: Path) -> None:
    sound = 0.1 * np.random.default_rng(0).standard_normal(60 * SECOND)
    soundfile.write(tmp_path / "rain.wav", sound, SECOND, subtype="FLOAT")
    soundfile.write(tmp_path / "drip.wav", sound[:-1], SECOND, subtype="FLOAT")
    files = NoiseFiles(str(tmp_path))
    parts = [files.part("rain", split) for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [36 * SECOND, 12 * SECOND, 12 * SECOND]
    assert np.array_equal(np.concatenate(parts), files.recording("rain")), "no sample is heard in two splits"
    assert files.apart("rain")
    assert not files.apart("drip")
    assert all(len(files.part("drip", split)) == len(sound) - 1 for split in ("train", "validation", "test"))
    heard = files.excerpt("rain", "test", SECOND, np.random.default_rng(1))
    known = np.lib.stride_tricks.sliding_window_view(parts[2], 400)
    assert np.abs(known - heard[4000:4400].astype(np.float32)).max(1).min() < 1e-6, "of the last part"
    sound[40 * SECOND : 48 * SECOND] = 0
    soundfile.write(tmp_path / "rain.wav", sound, SECOND, subtype="FLOAT")
    with pytest.raises(DataError, match=r"rain\.wav: silent for 8\.00 s from 40\.00 s on"):
        NoiseFiles(str(tmp_path)).recording("rain")


def test_real_noises_are_read(noise_root: Path) -> None:
    files = NoiseFiles(str(noise_root))
    assert "running_tap" in files.paths
    for name, path in files.paths.items():
        sound, rate = read_audio(path)
        assert len(files.recording(name)) == pytest.approx(len(sound) * SECOND / rate, abs=1)
        assert np.isfinite(files.excerpt(name, "test", 3 * SECOND, np.random.default_rng(0))).all()
