"""LibriSpeech: who is in which split, and where it is looked for."""

import importlib.util
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from codecbench.datamodules import librispeech
from codecbench.datamodules.base import SPLITS, active_level, read_audio
from codecbench.datamodules.demo import CORPORA
from codecbench.datamodules.errors import DataError
from codecbench.datamodules.librispeech import LibriSpeech

SUBSET = "train-clean-100"
SPEAKERS = [speaker for part in librispeech._listed_speakers().values() for speaker in part]


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        call()
    message = str(caught.value)
    assert message.isprintable(), "one line"
    return message


def flac() -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, 0.1 * np.sin(np.arange(8000) / 3), 16_000, format="FLAC")
    return stream.getvalue()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LibriSpeech/ with two chapters of one utterance a speaker."""
    home, sound = tmp_path_factory.mktemp("corpus") / "LibriSpeech", flac()
    for speaker in SPEAKERS:
        for chapter in ("7", "8"):
            (home / SUBSET / speaker / chapter).mkdir(parents=True)
            (home / SUBSET / speaker / chapter / f"{speaker}-{chapter}-0000.flac").write_bytes(sound)
    (home / "LICENSE.TXT").write_text("CC BY 4.0")
    return home


def test_171_20_60_speakers_and_none_in_two_splits(tree: Path) -> None:
    corpus = LibriSpeech(str(tree))
    speakers = [{item.speaker for item in corpus.items(split)} for split in SPLITS]
    assert [len(part) for part in speakers] == [171, 20, 60]
    assert len(set.union(*speakers)) == 251
    assert [len(corpus.items(split)) for split in SPLITS] == [171, 20, 60]
    assert all(corpus.items(split) == sorted(corpus.items(split)) for split in SPLITS)


@pytest.mark.parametrize(("count", "expected"), [(1, 60), (2, 120), (None, 120)])
def test_utterances_per_speaker_are_the_first_ones(count: int | None, expected: int, tree: Path) -> None:
    items = LibriSpeech(str(tree), utterances_per_speaker=count).items("test")
    assert len(items) == expected
    assert {f"{item.speaker}-7-0000" for item in items} <= {item.name for item in items}


@pytest.mark.parametrize("below", ["..", ".", SUBSET])
def test_three_roots_mean_the_same(below: str, tree: Path) -> None:
    corpus = LibriSpeech(str(tree / below))
    corpus.validate()
    assert corpus.fingerprint() == LibriSpeech(str(tree)).fingerprint()


def test_what_is_missing_is_told(tree: Path, tmp_path: Path) -> None:
    assert "--data.root DIR" in refusal(lambda: LibriSpeech().items("train"))
    message = refusal(lambda: LibriSpeech(str(tmp_path)).items("train"))
    assert str(tmp_path) in message and "--data.root DIR" in message and "--data.download" in message
    assert "File name too long" in refusal(lambda: LibriSpeech("x" * 999).items("train"))
    assert "utterances_per_speaker=0" in refusal(lambda: LibriSpeech(str(tree), utterances_per_speaker=0))
    shutil.copytree(tree, tmp_path / "LibriSpeech")
    gone = librispeech._listed_speakers()["test"][:4]
    for speaker in gone:
        shutil.rmtree(tmp_path / "LibriSpeech" / SUBSET / speaker)
    message = refusal(lambda: LibriSpeech(str(tmp_path)).items("test"))
    assert f"lacks 4 speakers of {SUBSET} ({', '.join(gone[:3])}, ...); unpack" in message


def test_a_changed_list_of_speakers_is_refused(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "list.json"
    changed.write_text(librispeech.LIST.read_text(encoding="utf-8").replace('"26",', "", 1), encoding="utf-8")
    monkeypatch.setattr(librispeech, "LIST", changed)
    assert "the list of speakers was changed" in refusal(lambda: LibriSpeech(str(tree)).items("train"))


# -- the real corpus -------------------------------------------------------------------------------------------------


def test_the_list_follows_its_rule_and_balances_the_sexes(librispeech_root: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_split", CORPORA / "make_librispeech_split.py")
    assert spec and spec.loader
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    table = (librispeech_root / "SPEAKERS.TXT").read_text(encoding="utf-8")
    listed = librispeech._listed_speakers()
    assert make.split_speakers(table) == listed
    fields = [line.split("|") for line in table.splitlines() if not line.startswith(";")]
    sex = {entry[0].strip(): entry[1].strip() for entry in fields}
    women = {split: sum(sex[speaker] == "F" for speaker in listed[split]) for split in SPLITS}
    assert women == {"train": 85, "validation": 10, "test": 30}


def test_the_real_files_are_valid_and_their_dc_is_removed(librispeech_root: Path) -> None:
    corpus = LibriSpeech(str(librispeech_root))
    items = {item.name: item for split in SPLITS for item in corpus.items(split)}
    assert len(items) == 251
    offset = items.get("445-123857-0000")
    if offset is None:
        pytest.skip("the corpus at hand starts with another utterance of speaker 445")
    assert read_audio(offset.path)[0].mean() == pytest.approx(-0.257, abs=1e-3)
    waveform = corpus.load(offset)
    assert abs(waveform.mean()) < 1e-6
    assert active_level(waveform, 16_000) == pytest.approx(-25, abs=1e-3)
