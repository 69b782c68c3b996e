"""The demo corpus: what it holds, that it is mostly speech at one level, and that it can be made again."""

import csv
import hashlib
import importlib.util
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import soundfile
from codecbench.datamodules.base import SPLITS, active_level
from codecbench.datamodules.demo import CORPORA, Demo

RATE = 16_000


@pytest.fixture(scope="module")
def demo_rows() -> list[dict[str, str]]:
    with (CORPORA / "demo.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_demo_has_6_2_4_voices_and_144_32_64_utterances() -> None:
    demo = Demo()
    assert [len(demo.items(split)) for split in SPLITS] == [144, 32, 64]
    voices = [{item.speaker for item in demo.items(split)} for split in SPLITS]
    assert [len(part) for part in voices] == [6, 2, 4] and len(set.union(*voices)) == 12
    names = [item.name for split in SPLITS for item in demo.items(split)]
    assert len(set(names)) == 240


def test_demo_items_are_sorted_alike_at_every_call() -> None:
    assert Demo().items("test") == sorted(Demo().items("test"))


def test_demo_sentences_are_6_to_12_words_and_none_is_said_twice(demo_rows: list[dict[str, str]]) -> None:
    sentences = [row["sentence"] for row in demo_rows]
    assert len({sentence.casefold() for sentence in sentences}) == len(sentences) == 240
    assert all(6 <= len(sentence.split()) <= 12 for sentence in sentences)
    assert sentences == (CORPORA / "demo_sentences.txt").read_text(encoding="utf-8").splitlines()


def test_demo_holds_exactly_the_listed_samples_at_one_level(demo_rows: list[dict[str, str]]) -> None:
    for row in demo_rows:
        samples, rate = soundfile.read(CORPORA / "demo" / row["file"], dtype="int16")
        assert rate == RATE and samples.ndim == 1
        assert hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest() == row["sha256"], row["file"]
        assert active_level(samples / 32768, RATE) == pytest.approx(-26, abs=0.1)
        assert np.abs(samples.astype(int)).max() < 32767
    files = [path for path in (CORPORA / "demo").rglob("*") if path.is_file()]
    assert len(files) == 240 and 7e6 < sum(path.stat().st_size for path in files) < 9e6


def test_demo_utterances_are_mostly_speech() -> None:
    demo = Demo()
    for item in demo.items("test"):
        frames = demo.load(item)
        frames = frames[: len(frames) // 320 * 320].reshape(-1, 320)
        active = np.flatnonzero((power := (frames**2).mean(axis=1)) >= power.max() * 1e-4)
        assert len(active) > 0.85 * len(frames)
        assert active[0] <= 5 and active[-1] >= len(frames) - 6  # at most 100 ms at either end


def test_demo_is_valid_and_comes_out_at_minus_25_dbfs() -> None:
    demo = Demo()
    demo.validate()
    waveform = demo.load(demo.items("train")[0])
    assert waveform.dtype == np.float32 and active_level(waveform, RATE) == pytest.approx(-25, abs=1e-3)


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, CORPORA / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def has_espeak() -> bool:
    found = shutil.which("espeak-ng")
    return found is not None and " 1.51 " in subprocess.run([found, "--version"], capture_output=True, text=True).stdout


@pytest.mark.skipif(not has_espeak(), reason="espeak-ng 1.51 is not installed")
def test_demo_is_made_again_bit_by_bit(demo_rows: list[dict[str, str]]) -> None:
    make = script("make_demo")
    voices = {voice.name: voice for voice in make.VOICES}
    for row in demo_rows[::24]:
        samples = make.speak(voices[row["voice"]], row["sentence"])
        assert hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest() == row["sha256"], row["file"]


@pytest.mark.slow
@pytest.mark.skipif(not has_espeak(), reason="espeak-ng 1.51 is not installed")
def test_make_demo_check_finds_all_the_same() -> None:
    done = subprocess.run([sys.executable, CORPORA / "make_demo.py", "--check"], capture_output=True, text=True)
    assert done.stdout == "all 240 utterances are the same\n" and done.returncode == 0
