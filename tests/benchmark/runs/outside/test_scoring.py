"""What another codec decoded is scored as a run is: pairs by name, length and delay checked, bytes counted."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from codecbench.benchmark.cli.main import main
from codecbench.datamodules.demo import Demo
from codecbench.datamodules.errors import DataError
from codecbench.leaderboards import records
from codecbench.leaderboards.rows import rows

RATE, DELAY = 16_000, 95  # samples, the delay of AMR-WB at 16 kHz


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("references") / "all"
    assert main(["references", str(folder)]) == 0
    return folder


@pytest.fixture
def references(everything: Path, tmp_path: Path) -> Path:
    """Two test sentences, as `benchmark references` writes them."""
    folder = tmp_path / "references"
    folder.mkdir()
    manifest = json.loads((everything / "references.json").read_text())
    manifest["files"] = dict(list(manifest["files"].items())[:2])
    for item in manifest["files"]:
        shutil.copy(everything / f"{item}.wav", folder)
    (folder / "references.json").write_text(json.dumps(manifest))
    return folder


def decoded_from(references: Path, folder: Path, change) -> Path:
    """A folder of 16-bit files that `change` makes of the references; Vorbis streams beside them."""
    folder.mkdir(exist_ok=True)
    for path in references.glob("*.wav"):
        waveform, rate = soundfile.read(path)
        with np.errstate(all="ignore"):
            soundfile.write(folder / path.name, change(np.clip(waveform, -1, 1)), rate)
    return folder


def vorbis(references: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in references.glob("*.wav"):
        waveform, rate = soundfile.read(path)
        soundfile.write(folder / f"{path.stem}.ogg", waveform, rate, format="OGG", subtype="VORBIS")
    return folder


def score(tmp_path: Path, references: Path, decoded: Path, *options: str) -> int:
    paths = ["--reference", str(references), "--decoded", str(decoded), "--output-dir", str(tmp_path / "runs")]
    return main(["score", *paths, *options])


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("benchmark: "), lines
    return lines[0]


def test_a_real_codec_gets_a_record_like_a_runs(references: Path, tmp_path: Path, capsys) -> None:
    coded = vorbis(references, tmp_path / "vorbis")
    assert score(tmp_path, references, coded, "--bitstreams", str(coded), "--name", "vorbis") == 2
    assert "no bitstream" in complaint(capsys)  # the decoded files are not their own bitstreams
    streams = tmp_path / "streams"
    shutil.copytree(coded, streams)
    assert score(tmp_path, references, coded, "--bitstreams", str(streams), "--name", "vorbis") == 0
    assert "estoi" in capsys.readouterr().out.lower()
    (record,) = records.find(tmp_path / "runs")
    size = sum(path.stat().st_size for path in streams.iterdir())
    seconds = sum(soundfile.info(path).duration for path in references.glob("*.wav"))
    assert record.track == "speech" and record.rate_kbps["measured"] == pytest.approx(8 * size / seconds / 1000)
    assert 0.9 < record.scores["estoi"].mean < 1 and 3 < record.scores["pesq_wb"].mean < 4.6
    assert record.spec["data"] == {"name": "demo", "options": {}}
    assert record.spec["data_fingerprint"] == Demo().fingerprint()
    (row,) = rows([record])
    assert (row.quantizer, row.codec, row.data) == ("vorbis", "outside", "demo")
    items = records.read_items(tmp_path / "runs" / record.name / "items.csv")
    assert len(items) == 2 and len(list((tmp_path / "runs" / record.name / "examples").glob("*.decoded.wav"))) == 2


def test_references_scored_against_themselves_are_perfect_without_a_rate(references: Path, tmp_path: Path) -> None:
    decoded = decoded_from(references, tmp_path / "same", lambda x: x)
    assert score(tmp_path, references, decoded) == 0
    (record,) = records.find(tmp_path / "runs")
    assert record.scores["stoi"].mean == pytest.approx(1, abs=1e-3) and record.scores["snr"].mean > 50
    assert record.rate_kbps["measured"] is None and record.notes == []
    assert record.spec["quantizer"]["name"] == "same"


def test_on_the_cochlear_track_it_goes_through_the_front_end(references: Path, tmp_path: Path) -> None:
    decoded = decoded_from(references, tmp_path / "same", lambda x: x)
    assert score(tmp_path, references, decoded, "--track", "cochlear") == 0
    (record,) = records.find(tmp_path / "runs")
    assert record.track == "cochlear" and record.scores["dvstoi"].mean == pytest.approx(0, abs=2e-3)
    assert any("vocoded" in note for note in record.notes)


def test_noisy_references_are_none_for_intelligibility(tmp_path: Path, capsys) -> None:
    scenes = ["--data.utterances_per_speaker", "1", "--data.noises", "[Bus]", "--data.scenarios", "[Anechoic]"]
    assert main(["references", str(tmp_path / "scenes"), "--data", "scenes", *scenes]) == 0
    decoded = decoded_from(tmp_path / "scenes", tmp_path / "decoded", lambda waveform: waveform)
    assert score(tmp_path, tmp_path / "scenes", decoded, "--track", "cochlear") == 2
    assert "holds noisy speech, VSTOI needs the clean one" in complaint(capsys)


def test_a_delay_is_refused_or_taken_out_but_never_passed_over(references: Path, tmp_path: Path, capsys) -> None:
    late = decoded_from(references, tmp_path / "late", lambda x: np.pad(x, (DELAY, 0)))
    assert score(tmp_path, references, late) == 2
    assert f"{DELAY} samples (5.9 ms) late; add --align" in complaint(capsys)
    assert score(tmp_path, references, late, "--align") == 0
    (record,) = records.find(tmp_path / "runs")
    assert record.scores["snr"].mean > 50
    assert any(f"a delay of {DELAY} samples" in note for note in record.notes)
    early = decoded_from(references, tmp_path / "early", lambda x: x[DELAY:])
    assert score(tmp_path, references, early) == 2
    assert "early" in complaint(capsys)


def test_frames_too_many_are_cut_and_said_seconds_are_refused(references: Path, tmp_path: Path, capsys) -> None:
    padded = decoded_from(references, tmp_path / "padded", lambda x: np.pad(x, (0, 320)))
    assert score(tmp_path, references, padded) == 0
    (record,) = records.find(tmp_path / "runs")
    assert record.scores["snr"].mean > 50 and any("2 of 2 decoded files were cut" in note for note in record.notes)
    capsys.readouterr()
    assert score(tmp_path, references, decoded_from(references, tmp_path / "half", lambda x: x[: len(x) // 2])) == 2
    assert "at most 0.1 s more or less" in complaint(capsys)


def test_another_sample_rate_is_resampled(references: Path, tmp_path: Path) -> None:
    fast = tmp_path / "fast"
    fast.mkdir()
    for path in references.glob("*.wav"):
        waveform, rate = soundfile.read(path)
        import soxr

        soundfile.write(fast / path.name, soxr.resample(waveform, rate, 48_000), 48_000)
    assert score(tmp_path, references, fast) == 0
    (record,) = records.find(tmp_path / "runs")
    assert record.scores["stoi"].mean > 0.99 and record.scores["snr"].mean > 25


def test_silence_is_scored_and_does_not_end_the_rest(references: Path, tmp_path: Path) -> None:
    decoded = decoded_from(references, tmp_path / "quiet", lambda x: x)
    first = sorted(decoded.iterdir())[0]
    waveform, rate = soundfile.read(first)
    soundfile.write(first, 0 * waveform, rate)
    assert score(tmp_path, references, decoded) == 0
    (record,) = records.find(tmp_path / "runs")
    assert record.scores["stoi"].n == 2 and 0.4 < record.scores["stoi"].mean < 0.6
    assert all(entry.n + entry.failed == 2 for entry in record.scores.values())


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda folder: sorted(folder.iterdir())[0].unlink(), "no decoded file for 1 item"),
        (
            lambda folder: (folder / "more.wav").write_bytes(sorted(folder.iterdir())[0].read_bytes()),
            "no reference for",
        ),
        (lambda folder: sorted(folder.iterdir())[0].write_bytes(b"RIFF"), "not readable as audio"),
        (lambda folder: sorted(folder.iterdir())[0].write_bytes(b""), "not readable as audio"),
        (lambda folder: soundfile.write(sorted(folder.iterdir())[0], np.full(9, np.nan), 16000, "FLOAT"), "NaN"),
    ],
)
def test_files_that_do_not_fit_are_one_line(references: Path, tmp_path: Path, capsys, spoil, line: str) -> None:
    decoded = decoded_from(references, tmp_path / "decoded", lambda x: x)
    spoil(decoded)
    assert score(tmp_path, references, decoded) == 2
    assert line in complaint(capsys)
    assert not (tmp_path / "runs").exists()


def test_folders_that_do_not_fit_are_one_line(references: Path, tmp_path: Path, capsys) -> None:
    assert score(tmp_path, references, tmp_path / "nowhere") == 2
    assert "no such folder" in complaint(capsys)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert score(tmp_path, empty, references) == 2
    assert "holds no .wav" in complaint(capsys)
    assert main(["references", str(references)]) == 2
    assert "is not empty" in complaint(capsys)
    assert main(["references", "--data", "toy", str(tmp_path / "new")]) == 2
    assert "holds no recordings" in complaint(capsys)


def test_references_that_were_changed_are_noticed(references: Path, tmp_path: Path, capsys) -> None:
    decoded = decoded_from(references, tmp_path / "decoded", lambda x: x)
    first = sorted(references.glob("*.wav"))[0]
    waveform, rate = soundfile.read(first)
    soundfile.write(first, 0.5 * waveform, rate, subtype="FLOAT")
    assert score(tmp_path, references, decoded) == 2
    assert "is not what was written" in complaint(capsys)


def test_a_folder_without_a_manifest_is_known_by_its_contents(references: Path, tmp_path: Path) -> None:
    (references / "references.json").unlink()
    decoded = decoded_from(references, tmp_path / "decoded", lambda x: 0.9 * x)
    assert score(tmp_path, references, decoded) == 0
    assert score(tmp_path, references, decoded, "--name", "again") == 0
    first, second = records.find(tmp_path / "runs")
    assert first.spec["data"]["name"] == "references" and first.hash != second.hash
    assert first.spec["data_fingerprint"] == second.spec["data_fingerprint"] != Demo().fingerprint()


def test_written_references_are_what_a_codec_is_handed(references: Path) -> None:
    item = next(item for item in Demo().items("test") if (references / f"{item.name}.wav").exists())
    waveform, rate = soundfile.read(references / f"{item.name}.wav", dtype="float32")
    assert rate == RATE and np.array_equal(waveform, Demo().load(item))
    with pytest.raises(DataError):
        Demo().load(item._replace(path=references / "nothing.wav"))


@pytest.mark.parametrize(
    ("samples", "rate", "line"),
    [(100, 16_000, "at least 0.5 s are needed"), (600, 1_000, "sample rate of 1000 Hz"), (1, 3, "sample rate of 3 Hz")],
)
@pytest.mark.parametrize("track", ["speech", "cochlear"])
def test_references_that_no_metric_can_take_are_one_line(
    tmp_path: Path, capsys, samples: int, rate: int, line: str, track: str
) -> None:
    references, decoded = (tmp_path / name for name in ("references", "decoded"))
    for folder in (references, decoded):
        folder.mkdir()
        soundfile.write(folder / "a.wav", np.full(samples, 0.1), rate)
    assert score(tmp_path, references, decoded, "--track", track) == 2
    assert line in complaint(capsys)
    assert not (tmp_path / "runs").exists()


def test_one_folder_is_not_two(references: Path, tmp_path: Path, capsys) -> None:
    decoded = decoded_from(references, tmp_path / "decoded", lambda x: x)
    assert score(tmp_path, references, tmp_path / "decoded" / ".." / "references") == 2
    assert "--decoded" in (line := complaint(capsys)) and "is the folder of the references" in line
    assert score(tmp_path, references, decoded, "--bitstreams", str(references)) == 2
    assert "--bitstreams" in complaint(capsys)
    assert not (tmp_path / "runs").exists()


def test_an_empty_bitstream_is_no_bitstream(references: Path, tmp_path: Path, capsys) -> None:
    decoded = decoded_from(references, tmp_path / "decoded", lambda x: x)
    streams = vorbis(references, tmp_path / "streams")
    next(streams.iterdir()).write_bytes(b"")
    assert score(tmp_path, references, decoded, "--bitstreams", str(streams)) == 2
    assert "an empty bitstream for 1 item" in complaint(capsys)


def test_two_references_of_one_name_are_refused_and_not_dropped(references: Path, tmp_path: Path, capsys) -> None:
    (references / "references.json").unlink()
    decoded = decoded_from(references, tmp_path / "decoded", lambda x: x)
    first = sorted(references.glob("*.wav"))[0]
    waveform, rate = soundfile.read(first)
    soundfile.write(first.with_suffix(".flac"), waveform[::-1], rate)
    assert score(tmp_path, references, decoded) == 2
    assert "have one name" in complaint(capsys)


def test_references_that_nobody_wrote_do_not_pass_for_the_corpus(references: Path, tmp_path: Path, capsys) -> None:
    shutil.copy(sorted(references.glob("*.wav"))[0], references / "more.wav")
    decoded = decoded_from(references, tmp_path / "decoded", lambda x: x)
    assert score(tmp_path, references, decoded) == 2
    assert "benchmark references did not write 1 item(s): more" in complaint(capsys)
    (references / "references.json").write_text('{"data": {}, "data_fingerprint": "", "kind": "", "files": {}}')
    assert score(tmp_path, references, decoded) == 2
    assert "write the references anew" in complaint(capsys)


@pytest.mark.parametrize("name", ["  ", "two\nlines"])
def test_a_name_is_one_line(references: Path, tmp_path: Path, capsys, name: str) -> None:
    assert score(tmp_path, references, tmp_path, "--name", name) == 2
    assert "one line of printable characters" in complaint(capsys)


def test_what_happened_to_the_decoded_files_is_said(references: Path, tmp_path: Path) -> None:
    odd = decoded_from(references, tmp_path / ("long" * 50), lambda x: np.pad(x, (9, 0))[: len(x)])
    first = sorted(odd.iterdir())[0]
    waveform, rate = soundfile.read(first)
    soundfile.write(first, 1e30 * np.roll(waveform, len(waveform) // 2)[::2], rate // 2, subtype="FLOAT")
    assert score(tmp_path, references, odd) == 0
    (record,) = records.find(tmp_path / "runs")
    assert any("1 of 2 decoded files were resampled from 8000 to 16000 Hz" in note for note in record.notes)
    assert any("1 of 2 decoded files are up to 9 samples at 16000 Hz late" in note for note in record.notes)
    assert any("1 of 2 decoded files are unlike their references" in note for note in record.notes)


def test_references_that_cannot_all_be_written_leave_none(tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        (tmp_path / "corpus" / split).mkdir(parents=True)
        soundfile.write(tmp_path / "corpus" / split / f"{split}.wav", 0.1 * rng.standard_normal(RATE), RATE)
    (tmp_path / "corpus" / "test" / "z.wav").write_bytes(b"RIFF")
    request = ["references", "--data", "folder", "--data.root", str(tmp_path / "corpus"), str(tmp_path / "out")]
    assert main(request) == 2
    assert "z.wav: not readable as audio" in complaint(capsys)
    assert not list((tmp_path / "out").iterdir())
    (tmp_path / "corpus" / "test" / "z.wav").unlink()
    assert main(request) == 0
    assert len(list((tmp_path / "out").glob("*.wav"))) == 1
