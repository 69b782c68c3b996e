"""The picture of what a frame of a sound masks."""

from pathlib import Path

import pytest
from codecbench.benchmark.cli.main import main
from codecbench.datamodules.demo import CORPORA


def test_a_frame_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = sorted((CORPORA / "demo").glob("*/*.flac"))[0]
    assert main(["mask", str(source), "--at", "0.5", "--plot", str(tmp_path / "mask.png")]) == 0
    assert "512 samples from 0.5 s" in capsys.readouterr().out
    assert (tmp_path / "mask.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--at", "1e6"], "name a time within it"),
        (["--at", "nan"], "name a time within it"),
        (["--frame", "7"], "even number"),
        (["--frame", "100000"], "at most 8192 samples"),
        (["--plot", "/nowhere/mask.png"], "cannot be written"),
    ],
)
def test_a_users_mistake_is_one_line(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = sorted((CORPORA / "demo").glob("*/*.flac"))[0]
    assert main(["mask", str(source), "--plot", "mask.png", *options]) == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1


def test_a_missing_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mask", "nowhere.wav", "--plot", "mask.png"]) == 2
    assert capsys.readouterr().err == "benchmark: nowhere.wav: no such file\n"
