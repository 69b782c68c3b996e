"""Sound to a file and back by the runs of codecs with nothing to train."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from codecbench.benchmark.cli.main import main
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.runs.coders import ClassicalCoder
from codecbench.benchmark.specs.grid import make_specs
from codecbench.benchmark.specs.plugin import find
from codecbench.benchmark.training.model import SPEC
from codecbench.codecs.classical.amrwb import AMRWB
from codecbench.codecs.files import container as bitstream
from codecbench.codecs.files.container import Header
from codecbench.datamodules.demo import Demo

SPEECH = Demo().items("test")[0].path
CODECS = [
    ("opus-5ms", "speech", 25.6),
    ("opus", "cochlear", 24.0),
    ("g722", "speech", 64.0),
    ("mp3", "speech", 32.0),
    ("electrocodec-2bit", "cochlear", None),
    ("uncoded", "speech", None),
    ("uncoded", "cochlear", None),
]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def make_run(name: str, track: str, bitrate: float | None) -> Path:
    (spec,) = make_specs(codec=name, codec_options={"track": track}, data="demo", bitrate=bitrate)
    Path("run").mkdir()
    (Path("run") / SPEC).write_text(spec.to_yaml())
    return Path("run")


def transcode(*tokens: object) -> int:
    return main([*map(str, tokens), "--run", "run"])


def refused(capsys: pytest.CaptureFixture[str], *tokens: object) -> str:
    """The one line of an error."""
    capsys.readouterr()
    assert transcode(*tokens) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("benchmark: "))
    return line


@pytest.mark.parametrize(("name", "track", "bitrate"), CODECS)
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_sound_keeps_its_length_and_rate(
    name: str, track: str, bitrate: float | None, rate: int, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(name, track, bitrate)
    samples, own = soundfile.read(SPEECH)
    samples = np.interp(np.arange(0, 2, 1 / rate), np.arange(len(samples)) / own, samples)
    soundfile.write("in.wav", np.stack([samples, samples], 1), rate)
    assert transcode("encode", "in.wav", "out.cbs") == 0 and transcode("decode", "out.cbs", "out.wav") == 0
    said, size = capsys.readouterr().out, Path("out.cbs").stat().st_size
    assert f"{8 * size / 2 / 1000:.3f} measured" in said and "2 channels mixed to one" in said
    decoded, again = soundfile.read("out.wav")
    assert again == rate and len(decoded) == len(samples)
    if name not in ("electrocodec-2bit", "uncoded") or track == "speech":  # those of patterns are vocoded
        assert np.corrcoef(decoded, samples)[0, 1] > 0.85
    assert decoded.std() > 0.03


@pytest.mark.parametrize(("name", "track", "bitrate"), CODECS)
def test_what_no_encoder_wrote_is_one_line_or_some_sound(
    name: str, track: str, bitrate: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Payloads of noise under a right checksum, and one that is cut off."""
    make_run(name, track, bitrate)
    (spec,) = make_specs(codec=name, codec_options={"track": track}, data="demo", bitrate=bitrate)
    generator = np.random.default_rng(0)
    for length in (0, 1, 7, 500, 5000):
        noise = generator.integers(0, 256, length, np.uint8).tobytes()
        Path("noise.cbs").write_bytes(bitstream.pack(Header(8_000), noise, ClassicalCoder(spec).mark))
        assert transcode("decode", "noise.cbs", "noise.wav") in (0, 2)
    transcode("encode", SPEECH, "whole.cbs")
    Path("cut.cbs").write_bytes(Path("whole.cbs").read_bytes()[:-20])
    assert "cut.cbs: " in refused(capsys, "decode", "cut.cbs", "cut.wav") and not Path("cut.wav").exists()


def test_a_file_of_another_bitrate_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("opus-5ms", "speech", 16.0)
    transcode("encode", SPEECH, "a.cbs")
    Path("run").rename("other")
    make_run("opus-5ms", "speech", 24.0)
    assert "a.cbs: " in refused(capsys, "decode", "a.cbs", "a.wav")


def test_a_file_of_another_front_end_or_rate_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing in a file says how many frames or samples a second has."""
    marks = set()
    for ace in ({}, {"hop": 32}):
        (spec,) = make_specs(codec="electrocodec-2bit", codec_options={"track": "cochlear"}, data="demo", ace=ace)
        marks.add(ClassicalCoder(spec).mark)
    for level in ({}, {"track": "speech"}):
        (spec,) = make_specs(codec="uncoded", codec_options={"track": "cochlear", **level}, data="demo")
        marks.add(ClassicalCoder(spec).mark)
    assert len(marks) == 4


def test_data_of_no_use_are_refused_before_anything_runs() -> None:
    (spec,) = make_specs(codec="electrocodec-2bit", codec_options={"track": "cochlear"}, data="demo")
    with pytest.raises(UserError, match="patches holds image"):
        ClassicalCoder(replace(spec, data=find("data", "patches")))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("options", {}), ("options", {"track": "foo"}), ("options", {"track": ["speech"]}), ("options", None),
        ("options", {"track": "speech", "colour": 3}), ("name", 3), ("name", ["opus"]),
    ],
)  # fmt: skip
def test_a_spec_that_somebody_spoiled_is_one_line(part: str, value: object, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_run("opus-5ms", "speech", 16.0) / SPEC
    content = yaml.safe_load(path.read_text())
    content["codec"][part] = value
    path.write_text(yaml.safe_dump(content))
    assert refused(capsys, "encode", SPEECH, "a.cbs")


def test_a_bitrate_that_somebody_spoiled_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    path = make_run("opus-5ms", "speech", 16.0) / SPEC
    path.write_text(path.read_text().replace("bitrate: 16.0", "bitrate: abc"))
    assert "its spec.yaml cannot be used" in refused(capsys, "encode", SPEECH, "a.cbs")


def test_what_belongs_to_trained_codecs_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("g722", "speech", 64.0)
    line = refused(capsys, "encode", SPEECH, "a.cbs", "--streams", 1)
    assert line == "benchmark: --streams: g722 has its own bitstream; leave it out"
    assert "--coder: g722 has its own" in refused(capsys, "encode", SPEECH, "a.cbs", "--coder", "huffman")


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    make_run("amrwb", "speech", 12.65)

    def missing(*_: object) -> None:
        raise ValueError("needs libvo-amrwbenc")

    monkeypatch.setattr(AMRWB, "check", missing)
    assert "amrwb: needs libvo-amrwbenc" in refused(capsys, "encode", SPEECH, "a.cbs")
