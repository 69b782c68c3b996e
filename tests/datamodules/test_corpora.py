"""Published corpora in their own layouts, made of real speech: splits, names, what is missing; and music."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from codecbench.benchmark.cli.ls import _filled, listings
from codecbench.benchmark.cli.run import options_help
from codecbench.benchmark.specs.registry import found
from codecbench.datamodules.base import SPLITS, Recordings, active_level
from codecbench.datamodules.demo import Demo
from codecbench.datamodules.errors import DataError
from codecbench.datamodules.libritts import LibriTTS
from codecbench.datamodules.ljspeech import LJSpeech
from codecbench.datamodules.music import Music, is_lossy
from codecbench.datamodules.parts.tree import shared_out
from codecbench.datamodules.timit import TIMIT
from codecbench.datamodules.vctk import VCTK
from rich.console import Console

VOICES = [Demo().load(item) for item in Demo().items("test")[:3]]


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        call()
    message = str(caught.value)
    assert message.isprintable(), "one line"
    return message


def spoken(path: Path, number: int = 0, rate: int = 16_000, form: str | None = None) -> Path:
    """A sentence of the demo corpus at another rate, a little louder for every number so that no two are the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    waveform = soxr.resample(VOICES[number % 3][:12_000], 16_000, rate) * (0.2 + 0.001 * number)
    soundfile.write(path, waveform, rate, format=form or path.suffix[1:].upper(), subtype="PCM_16")
    return path


def speakers(corpus: Recordings) -> dict[str, set[str]]:
    return {split: {item.speaker for item in corpus.items(split)} for split in SPLITS}


def names(corpus: Recordings) -> list[str]:
    return sorted(item.name for split in SPLITS for item in corpus.items(split))


def assert_usable(corpus: Recordings, shared_voice: bool = False) -> None:
    """Valid, sorted, names unique, no speaker in two splits, every waveform at 16 kHz and -25 dBFS."""
    corpus.validate()
    assert len(set(names(corpus))) == len(names(corpus))
    for split in SPLITS:
        items = corpus.items(split)
        assert items == sorted(items) != []
        waveform = corpus.load(items[0])
        assert len(waveform) == pytest.approx(12_000, abs=2) and active_level(waveform, 16_000) == pytest.approx(-25)
    people = speakers(corpus)
    assert shared_voice or sum(map(len, people.values())) == len(set.union(*people.values()))


# -- VCTK -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def vctk(tmp_path: Path) -> Path:
    """Ten speakers of two sentences, one of them without the second microphone."""
    home = tmp_path / "VCTK-Corpus-0.92"
    for speaker in [*(f"p{number}" for number in range(225, 234)), "s5"]:
        for sentence in (1, 2):
            for mic in (1, 2) if speaker != "p230" else (1,):
                name = f"wav48_silence_trimmed/{speaker}/{speaker}_{sentence:03}_mic{mic}.flac"
                spoken(home / name, sentence + 2 * mic + len(speaker), 48_000)
    (home / "wav48_silence_trimmed/log.txt").write_text("")
    (home / "wav48_silence_trimmed/p225/p225_002\n_mic1.flac").write_text("a hostile name")
    return home


def test_vctk_has_one_microphone_and_whole_speakers_in_each_split(vctk: Path) -> None:
    corpus = VCTK(str(vctk.parent))
    assert_usable(corpus)
    assert [len(part) for part in speakers(corpus).values()] == [7, 1, 2]
    assert len(names(corpus)) == 20 and all(name.endswith("_mic1") for name in names(corpus))
    second = VCTK(str(vctk), mic=2, utterances_per_speaker=1)
    assert_usable(second)
    assert len(names(second)) == 9 and "p230_001_mic2" not in names(second) and "s5_001_mic2" in names(second)
    assert VCTK(str(vctk / "wav48_silence_trimmed")).fingerprint() == corpus.fingerprint() != second.fingerprint()


def test_the_older_vctk_has_one_microphone(tmp_path: Path) -> None:
    for number in range(225, 229):
        spoken(tmp_path / f"VCTK-Corpus/wav48/p{number}/p{number}_001.wav", number, 48_000)
    corpus = VCTK(str(tmp_path))
    assert_usable(corpus)
    assert names(corpus) == ["p225_001", "p226_001", "p227_001", "p228_001"]


def test_what_vctk_lacks_is_told(vctk: Path) -> None:
    for path in vctk.rglob("*_mic2.flac"):
        path.unlink()
    assert "no recordings of microphone 2; pass --data.mic 1" in refusal(lambda: VCTK(str(vctk), mic=2).items("test"))
    assert "utterances_per_speaker=0" in refusal(lambda: VCTK(str(vctk), utterances_per_speaker=0).items("test"))
    for path in list((vctk / "wav48_silence_trimmed").glob("p22[5-9]")) + list(vctk.rglob("p23[1-3]")):
        shutil.rmtree(path)
    assert "holds 2 speakers; three splits need at least 3" in refusal(lambda: VCTK(str(vctk)).items("test"))


# -- LibriTTS ---------------------------------------------------------------------------------------------------------


def libritts(root: Path, *subsets: str) -> Path:
    for first, subset in enumerate(subsets):
        for speaker in range(100 * first, 100 * first + 4):
            for sentence in range(2):
                name = f"{speaker}/7/{speaker}_7_000000_00000{sentence}"
                spoken(root / "LibriTTS" / subset / f"{name}.wav", speaker + sentence, 24_000)
                (root / "LibriTTS" / subset / f"{name}.normalized.txt").write_text("text")
    return root


def test_libritts_keeps_its_own_splits(tmp_path: Path) -> None:
    corpus = LibriTTS(str(libritts(tmp_path, "train-clean-100", "train-other-500", "dev-clean", "test-other")))
    assert_usable(corpus)
    assert [len(corpus.items(split)) for split in SPLITS] == [16, 8, 8]
    assert speakers(corpus)["test"] == {"300", "301", "302", "303"}
    assert len(names(LibriTTS(str(tmp_path / "LibriTTS"), utterances_per_speaker=1))) == 16


def test_libritts_with_train_alone_shares_its_speakers_out(tmp_path: Path) -> None:
    corpus = LibriTTS(str(libritts(tmp_path, "train-clean-100")))
    assert_usable(corpus)
    assert [len(part) for part in speakers(corpus).values()] == [2, 1, 1]
    below = LibriTTS(str(tmp_path / "LibriTTS/train-clean-100"))
    assert below.fingerprint() == corpus.fingerprint()


def test_libritts_with_a_split_missing_is_refused(tmp_path: Path) -> None:
    message = refusal(lambda: LibriTTS(str(libritts(tmp_path, "train-clean-100", "test-clean"))).items("test"))
    assert "has test-clean, train-clean-100 but no dev-*; unpack one of these as well" in message


# -- LJ Speech --------------------------------------------------------------------------------------------------------


def test_ljspeech_with_three_chapters_keeps_chapters_whole(tmp_path: Path) -> None:
    for chapter in range(1, 11):
        for sentence in (1, 2):
            spoken(tmp_path / f"LJSpeech-1.1/wavs/LJ{chapter:03}-{sentence:04}.wav", chapter + sentence, 22_050)
    corpus = LJSpeech(str(tmp_path))
    assert_usable(corpus, shared_voice=True)
    chapters = [{item.name[:5] for item in corpus.items(split)} for split in SPLITS]
    assert [len(part) for part in chapters] == [7, 1, 2] and len(set.union(*chapters)) == 10
    assert corpus.notes() == ["one speaker: train, validation and test hear the same voice"]


def test_ljspeech_with_fewer_chapters_shares_utterances_out(tmp_path: Path) -> None:
    for sentence in range(1, 11):
        spoken(tmp_path / f"wavs/LJ001-{sentence:04}.flac", sentence, 22_050)
    assert_usable(LJSpeech(str(tmp_path)), shared_voice=True)
    assert [len(LJSpeech(str(tmp_path / "wavs")).items(split)) for split in SPLITS] == [7, 1, 2]
    for path in list((tmp_path / "wavs").iterdir())[2:]:
        path.unlink()
    assert "holds 2 utterances" in refusal(lambda: LJSpeech(str(tmp_path)).items("test"))


def test_the_real_ljspeech_is_valid(ljspeech_root: Path) -> None:
    corpus = LJSpeech(str(ljspeech_root.parent))
    corpus.validate()
    assert len(names(corpus)) >= 32 and speakers(corpus) == {split: {"LJ"} for split in SPLITS}


@pytest.fixture(scope="session")
def ljspeech_root(librispeech_root: Path) -> Path:
    root = librispeech_root.parent / "LJSpeech-1.1"
    if not root.is_dir():
        pytest.skip("LJSpeech-1.1 is not at hand; set CODECBENCH_TEST_DATA to the folder that holds it")
    return root


# -- TIMIT ------------------------------------------------------------------------------------------------------------


def timit(root: Path, case: Callable[[str], str]) -> Path:
    """Five speakers for TRAIN, two for TEST, NIST SPHERE files of four sentences."""
    for number, speaker in enumerate(["FCJF0", "MDAB0", "FAKS0", "MWBT0", "FELC0", "MDAC0", "FDAW0"]):
        for sentence in ("SA1", "SI1027", "SX37", "SX127"):
            folder = "TEST" if number > 4 else "TRAIN"
            path = root / case(f"TIMIT/{folder}/DR{1 + number % 2}/{speaker}/{sentence}.WAV")
            spoken(path, number, form="NIST")
            path.with_suffix(case(".PHN")).write_text("0 1 h#")
    return root


@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_timit_reads_sphere_files_in_its_own_splits(case: Callable[[str], str], tmp_path: Path) -> None:
    corpus = TIMIT(str(timit(tmp_path, case)))
    assert next((tmp_path / case("TIMIT")).rglob(case("SX37.WAV"))).read_bytes()[:7] == b"NIST_1A"
    assert_usable(corpus)
    assert [len(part) for part in speakers(corpus).values()] == [4, 1, 2]
    assert speakers(corpus)["test"] == {"MDAC0", "FDAW0"} and len(names(corpus)) == 21
    assert "FCJF0-SX37" in names(corpus) and not any("-SA" in name for name in names(corpus))
    assert len(names(TIMIT(str(tmp_path / case("TIMIT")), sa=True))) == 28


def test_both_cases_of_timit_are_the_same_corpus(tmp_path: Path) -> None:
    upper, lower = timit(tmp_path / "a", str.upper), timit(tmp_path / "b", str.lower)
    assert TIMIT(str(upper)).fingerprint() == TIMIT(str(lower)).fingerprint()


def test_what_timit_lacks_is_told(tmp_path: Path) -> None:
    assert "sold at https://catalog.ldc" in refusal(lambda: TIMIT(str(tmp_path)).items("test"))
    shutil.rmtree(timit(tmp_path, str.upper) / "TIMIT/TEST")
    assert "has TRAIN but no recordings in TEST" in refusal(lambda: TIMIT(str(tmp_path)).items("test"))


# -- music ------------------------------------------------------------------------------------------------------------


def played(path: Path, number: int = 0, rate: int = 44_100, **options: Any) -> Path:
    """One second of a chord, stereo, with a DC offset."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(rate) / rate
    chord = sum(0.1 * np.sin(2 * np.pi * (220 + 10 * number) * ratio * time) for ratio in (1, 1.25, 1.5))
    soundfile.write(path, np.stack([chord + 0.05, 0.5 * chord + 0.05], axis=1), rate, **options)
    return path


def test_music_is_mono_at_its_own_level_and_rate(tmp_path: Path) -> None:
    for number in range(4):
        played(tmp_path / f"{number}.flac", number, 48_000)
    corpus = Music(str(tmp_path))
    corpus.validate()
    waveform = corpus.load(corpus.items("test")[0])
    assert len(waveform) == 44_100 and waveform.mean() == pytest.approx(0, abs=1e-5)
    assert np.sqrt(np.mean(waveform**2)) == pytest.approx(0.75 * 0.1 * np.sqrt(1.5), rel=1e-3)  # the mean of 1 and 0.5
    assert len(Music(str(tmp_path), sample_rate=32_000).load(corpus.items("test")[0])) == 32_000


def test_peaks_of_music_end_at_one(tmp_path: Path) -> None:
    for number in range(3):
        square = np.sign(np.sin(2 * np.pi * 441 * np.arange(48_000) / 48_000 + number))
        soundfile.write(tmp_path / f"{number}.wav", square, 48_000, subtype="FLOAT")
    corpus = Music(str(tmp_path))
    assert np.abs(corpus.load(corpus.items("train")[0])).max() == pytest.approx(1, abs=1e-6)


def test_lossy_music_never_comes_into_test(tmp_path: Path) -> None:
    for number in range(10):
        played(tmp_path / f"{number}.{'ogg' if number % 2 else 'wav'}", number)
    played(tmp_path / "mixed/a.flac", 11)
    played(tmp_path / "mixed/b.mp3", 12)
    corpus = Music(str(tmp_path))
    corpus.validate()
    assert [len(corpus.items(split)) for split in SPLITS] == [9, 1, 2]
    assert all(item.path.suffix == ".wav" for item in corpus.items("test"))
    assert corpus.notes() == ["6 of 12 files come from a lossy coder; they are kept out of test"]
    assert [item.speaker for item in corpus.items("train") if item.name.startswith("mixed")] == ["mixed"] * 2


def test_a_lossy_file_in_the_users_own_test_folder_goes_to_train(tmp_path: Path) -> None:
    for place in ("train/1.wav", "dev/2.wav", "test/3.wav", "test/4.ogg"):
        played(tmp_path / place, int(Path(place).stem))
    assert [item.name for item in Music(str(tmp_path)).items("train")] == ["test__4", "train__1"]
    (tmp_path / "test/3.wav").unlink()
    assert "no lossless music is left for test" in refusal(lambda: Music(str(tmp_path)).items("test"))


def test_the_coder_is_read_from_the_file_not_from_its_name(tmp_path: Path) -> None:
    assert is_lossy(played(tmp_path / "a.wav", format="OGG", subtype="VORBIS"))
    assert is_lossy(played(tmp_path / "b.wav", subtype="MS_ADPCM")) and is_lossy(played(tmp_path / "c.mp3"))
    assert is_lossy(played(tmp_path / "d.opus", rate=48_000, format="OGG", subtype="OPUS"))
    assert not is_lossy(played(tmp_path / "e.mp3", format="FLAC"))
    assert not is_lossy(played(tmp_path / "f.wav", subtype="PCM_24"))
    (tmp_path / "g.m4a").write_bytes(b"what libsndfile does not read")
    (tmp_path / "h.wav").write_bytes(b"no audio")
    assert is_lossy(tmp_path / "g.m4a") and not is_lossy(tmp_path / "h.wav")


def test_music_that_cannot_be_read_is_named_or_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        played(tmp_path / f"{number}.wav", number)
    (tmp_path / "song.m4a").write_bytes(b"what libsndfile does not read")
    assert "song.m4a: not readable as audio" in refusal(Music(str(tmp_path)).validate)
    assert len(names(Music(str(tmp_path), skip_bad=True))) == 3 and "song.m4a" in caplog.text
    (tmp_path / "empty").mkdir()
    assert "holds no file of music (.wav, .flac" in refusal(lambda: Music(str(tmp_path / "empty")).items("test"))
    assert "music needs --data.root DIR" in refusal(lambda: Music().items("test"))


def test_real_music_is_valid_and_what_is_lossy_is_seen(librispeech_root: Path) -> None:
    home = librispeech_root.parent
    if not (home / "music_sonicpi_samples").is_dir() or not (home / "music_librosa").is_dir():
        pytest.skip("music is not at hand; set CODECBENCH_TEST_DATA to the folder that holds it")
    corpus = Music(str(home / "music_sonicpi_samples/samples"))
    assert [len(corpus.items(split)) for split in SPLITS] == [15, 2, 4] and corpus.notes() == []
    assert "no lossless music" in refusal(lambda: Music(str(home / "music_librosa/audio")).items("test"))


# -- all --------------------------------------------------------------------------------------------------------------


def test_speakers_are_shared_out_by_their_names_alone(tmp_path: Path) -> None:
    many = shared_out(tmp_path, [f"s{number}" for number in range(100)])
    assert [list(many.values()).count(split) for split in SPLITS] == [70, 10, 20]
    assert shared_out(tmp_path, ["a", "b", "c", "a"]) == shared_out(tmp_path, ["c", "b", "a"])
    only = shared_out(tmp_path, ["a", "b", "c"], testable={"b"})
    assert only["b"] == "test" and sorted(only.values()) == ["test", "train", "validation"]


@pytest.mark.parametrize("name", found("datamodules"))
def test_every_corpus_says_what_it_is(name: str) -> None:
    cls = found("datamodules")[name]
    for field in ("title", "licence", "citation", "revision", "url"):
        assert isinstance(getattr(cls, field), str), field
    assert cls.title and cls.licence and cls.kind in ("speech", "music", "image", "vector")
    for text in filter(None, (cls.citation, cls.licence, cls.url)):
        assert text in options_help({"data": name})


def test_the_table_of_corpora_fits_into_100_columns() -> None:
    console = Console(width=100, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(*map(_filled, listings("data")))
    lines = {line.split()[0]: line for line in capture.get().splitlines() if line[:1].isalpha()}
    assert "CC BY 4.0" in lines["vctk"] and " 44 " in lines["vctk"] and "LDC User Agreement" in lines["timit"]
    assert "image" in lines["cifar10"] and "built in" in lines["toy"]


def test_clipped_recordings_are_usable_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(1, 4):
        spoken(tmp_path / f"wavs/LJ00{number}-0001.wav", number, 22_050)
    loud = np.clip(10 * VOICES[0], -1, 1)
    soundfile.write(tmp_path / "wavs/LJ004-0001.wav", loud, 16_000)
    LJSpeech(str(tmp_path)).validate()
    assert [record.getMessage() for record in caplog.records] == [
        f"1 of 4 files are clipped: {tmp_path}/wavs/LJ004-0001.wav"
    ]
