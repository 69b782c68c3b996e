"""Shared by all tests: real data where it is at hand, and type-checked shapes when CODECBENCH_TYPECHECK=1."""

import os
import sys
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # tiny models: a second thread costs more than it brings, beside a busy process far more

if os.environ.get("CODECBENCH_TYPECHECK") == "1":
    from jaxtyping import install_import_hook

    install_import_hook("codecbench", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

DRAWN = (  # where runs draw: module, function, and which of its arguments is the file
    ("codecbench.benchmark.tracks.cochlear", "electrodogram", 3),
    ("codecbench.benchmark.tracks.waveform", "spectrograms", 3),
    ("codecbench.benchmark.training.model", "training_curve", 2),
)


def _real_data(name: str) -> Path:
    root = Path(os.environ.get("CODECBENCH_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / name
    if not root.is_dir():
        pytest.skip(f"{name} is not at hand; set CODECBENCH_TEST_DATA to the folder that holds it")
    return root


@pytest.fixture(scope="session")
def librispeech_root() -> Path:
    """The folder LibriSpeech/, in the corpus's own layout."""
    return _real_data("LibriSpeech")


@pytest.fixture(scope="session")
def hrtf_root() -> Path:
    """A folder of SOFA files, searched to any depth."""
    return _real_data("hrtf")


@pytest.fixture(scope="session")
def noise_root() -> Path:
    """The background noises of the Google Speech Commands, one file each."""
    return _real_data("noise_speech_commands")


@pytest.fixture(autouse=True)
def drawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs leave empty files in the place of pictures, each of which takes a second; tests marked `pictures` draw."""
    if request.node.get_closest_marker("pictures") is None:
        for module, name, place in DRAWN:
            if module in sys.modules:
                monkeypatch.setattr(sys.modules[module], name, lambda *given, place=place: Path(given[place]).touch())
