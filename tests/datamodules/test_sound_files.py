"""Waveform codecs on sounds that nobody trained them on: scraps, silence, other rates; the right length comes back."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from codecbench.benchmark.cli.main import main
from codecbench.benchmark.specs.grid import make_specs
from codecbench.benchmark.tracks.choose import signal_rate
from codecbench.benchmark.training.model import MODEL, SPEC, load_model, make_codec
from codecbench.codecs.files.files import decode_file
from codecbench.datamodules.base import active_level
from codecbench.datamodules.demo import Demo
from safetensors.torch import save_file

RATE = 16_000
LONGER = 10_000  # samples of speech
TOO_SHORT, SILENT = "too short to have a level, coded as it is", "silent (below -80 dBFS), coded as it is"


def speech() -> np.ndarray:
    demo = Demo()
    return demo.load(demo.items("test")[0])[RATE : RATE + LONGER]


def make_run(folder: Path, **choices: Any) -> Path:
    """A run's folder with a model whose tables were fitted to speech, but which was not trained."""
    (spec,) = make_specs("fsq", **choices)
    codec = make_codec(spec, signal_rate(spec)).eval()
    codec.fit_tables(codec.encode(torch.from_numpy(speech())[None]))
    folder.mkdir()
    (folder / SPEC).write_text(spec.to_yaml())
    save_file({name: tensor.contiguous() for name, tensor in codec.state_dict().items()}, folder / MODEL)
    return folder


@pytest.fixture(scope="module", params=["nac-small", "seanet-small", "stft-small"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run", codec=request.param)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def there(model: Path, sound: np.ndarray, rate: int = RATE) -> int:
    soundfile.write("in.wav", sound, rate, subtype="FLOAT")
    return main(["encode", "in.wav", "a.cbs", "--run", str(model)])


def back(model: Path) -> tuple[np.ndarray, int]:
    assert main(["decode", "a.cbs", "back.wav", "--run", str(model)]) == 0
    return soundfile.read("back.wav")


@pytest.mark.parametrize(
    ("sound", "rate", "said"),
    [
        (speech()[:1], RATE, TOO_SHORT),
        (speech()[:319], RATE, TOO_SHORT),
        (speech()[:7], 44_100, f"resampled to 16000 Hz, {TOO_SHORT}"),
        (speech()[:321], RATE, "set to -25.0 dBFS"),
        (np.zeros(1001), RATE, SILENT),
        (np.full(999, 0.25), RATE, SILENT),
        (np.stack([speech(), speech()[::-1]], 1), RATE, "2 channels mixed to one"),
        (speech(), 44_100, "mono, resampled to 16000 Hz, "),
        (speech(), 8_000, "mono, resampled to 16000 Hz, "),
        (30 * speech(), RATE, "set to -25.0 dBFS"),
    ],
)
def test_any_sound_comes_back_in_its_length_and_rate(model, sound, rate, said, capsys) -> None:
    assert there(model, sound, rate) == 0
    assert said in capsys.readouterr().out
    decoded, decoded_rate = back(model)
    assert decoded.shape == (len(sound),) and decoded_rate == rate and bool(np.isfinite(decoded).all())


@pytest.mark.parametrize(
    ("sound", "rate", "line"),
    [
        (np.where(np.arange(LONGER) == 7, np.nan, speech()), RATE, "in.wav: holds NaN or infinite samples"),
        (np.where(np.arange(LONGER) == 7, -np.inf, speech()), RATE, "in.wav: holds NaN or infinite samples"),
        (speech()[:0], RATE, "in.wav: holds no samples"),
        (speech(), 3_000, "in.wav: its sample rate of 3000 Hz is not between 4000 and 768000"),
    ],
)
def test_what_cannot_be_coded_is_one_line(model, sound, rate, line, capsys) -> None:
    assert there(model, sound, rate) == 2
    assert capsys.readouterr().err == f"benchmark: {line}\n" and not Path("a.cbs").exists()


@pytest.mark.parametrize("gain", [0.0, 1.0])
def test_a_waveform_is_not_levelled_once_it_is_decoded(model, gain) -> None:
    assert there(model, gain * speech()) == 0
    _, expected = decode_file(load_model(model), Path("a.cbs"))
    np.testing.assert_allclose(back(model)[0], expected, rtol=0, atol=2**-15)  # silence would be raised to speech


def test_music_is_coded_at_the_level_it_has(tmp_path: Path, capsys) -> None:
    for split in ("train", "validation", "test"):
        (tmp_path / "music" / split).mkdir(parents=True)
        shutil.copy(Demo().items("test")[0].path, tmp_path / "music" / split)
    options = {"root": str(tmp_path / "music"), "sample_rate": 44_100}
    run = make_run(tmp_path / "run", codec="seanet-small", data="music", data_options=options)
    quiet = 0.1 * speech()
    assert there(run, quiet) == 0
    assert f"{active_level(quiet - quiet.mean(), RATE):.1f} dBFS, coded as it is" in capsys.readouterr().out
