"""Sound to a bitstream and back: every rate and length, and one line with exit code 2 for every mistake."""

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from codecbench.benchmark.cli.main import main
from codecbench.benchmark.specs import registry as plugins
from codecbench.benchmark.specs.grid import make_specs
from codecbench.benchmark.tracks.choose import signal_rate
from codecbench.benchmark.tracks.cochlear import CochlearFrontEnd
from codecbench.benchmark.training.model import MODEL, SPEC, load_model, make_codec
from codecbench.codecs.files.container import fingerprint, pack, read, unpack
from codecbench.codecs.files.files import decode_file, decode_payload, encode_file
from codecbench.codecs.frae import FRAE
from codecbench.datamodules.base import LEVEL, active_level
from codecbench.datamodules.cochlear.ace import AceConfig, ace
from codecbench.datamodules.demo import Demo
from codecbench.leaderboards import records
from codecbench.quantizers.coding.errors import BitstreamError
from codecbench.quantizers.nsvq import NSVQ
from miniatures import Layers
from safetensors.torch import save_file
from torch import Tensor

SMALL = "frae-l3-h2-r1"
SPEECH = Demo().items("test")[0].path
PLUGIN = """\"\"\"Two layers of rounding.\"\"\"
import torch
from torch import Tensor
from codecbench.quantizers.base import Codes, Latents, Noise, Quantizer

"""


@pytest.fixture(autouse=True)
def fresh_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plugins, "_handed_in", {kind: {} for kind in plugins.BASES})
    monkeypatch.chdir(tmp_path)


def patterns(count: int = 4) -> Tensor:
    corpus = Demo()
    return torch.cat(
        [ace(torch.from_numpy(corpus.load(item))[None, :16_000]) for item in corpus.items("train")[:count]]
    )


def make_run(folder: Path, **choices: object) -> Path:
    """A run's folder with a model that was fitted to speech, but not trained."""
    (spec,) = make_specs(**{"quantizer": "nsvq", "codec": SMALL, "data": "demo", **choices})
    codec = make_codec(spec, signal_rate(spec)).train()
    codec.fit(patterns())
    codec.eval().fit_tables(codec.encode(patterns()))
    folder.mkdir()
    (folder / SPEC).write_text(spec.to_yaml())
    save_file({name: tensor.contiguous() for name, tensor in codec.state_dict().items()}, folder / MODEL)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of a whole run, and its data."""
    root = tmp_path_factory.mktemp("trained")
    for split in ("train", "validation", "test"):
        for item in Demo().items(split)[:2]:
            (root / "speech" / split / item.speaker).mkdir(parents=True, exist_ok=True)
            shutil.copy(item.path, root / "speech" / split / item.speaker)
    options = ["--codec", "frae-l3-h2-r2", "--data", "folder", "--data.root", str(root / "speech"), "--quiet"]
    options += ["--training.steps", "40", "--training.validate_every", "20", "--training.batch_size", "4"]
    before = os.environ.get("CODECBENCH_CACHE")
    os.environ["CODECBENCH_CACHE"] = str(root / "cache")
    try:
        assert main(["run", *options, "--output-dir", str(root / "runs")]) == 0
    finally:
        os.environ.pop("CODECBENCH_CACHE") if before is None else os.environ.update(CODECBENCH_CACHE=before)
    (record,) = records.find(root / "runs")
    return root / "runs" / record.name, root / "speech"


def tone(samples: int, rate: int, channels: int = 1) -> np.ndarray:
    """A tone that swells; the second channel is another one."""
    time = np.arange(samples)[:, None] / rate
    return 0.1 * np.sin(2 * np.pi * (440 + 200 * np.arange(channels)) * time) * np.minimum(1, 5 * time)


def refusal(capsys: pytest.CaptureFixture[str], *tokens: object) -> str:
    """The one line of a command that must fail and leave no file behind."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    assert main([str(token) for token in tokens]) == 2
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before
    error = capsys.readouterr().err
    assert error.startswith("benchmark: ") and error.count("\n") == 1 and "Traceback" not in error
    assert error.rstrip("\n").isprintable()
    return error


# -- lengths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hop", [1, 17, 18, 128])
def test_the_header_s_length_gives_the_number_of_frames(hop: int) -> None:
    front_end = CochlearFrontEnd(AceConfig(hop=hop))
    for samples in (*range(1, 40), 127, 128, 129, 1000):
        assert front_end.signal_length(samples) == ace(torch.zeros(1, samples), AceConfig(hop=hop)).shape[2]


def test_lengths_at_other_rates_are_integers_rounded_up() -> None:
    front_end = CochlearFrontEnd(AceConfig(hop=18))
    assert front_end.resampled_length(44_101, 44_100) == 16_001  # 16000.36
    assert front_end.resampled_length(2**28 - 1, 44_100) == -(-(2**28 - 1) * 160 // 441)
    assert front_end.signal_length(44_101, 44_100) == 889  # 16001 / 18 = 888.9
    assert front_end.signal_length(0, 44_100) == 0


# -- the operating point and the seed that a file names ---------------------------------------------------------------


def layered() -> FRAE:
    torch.manual_seed(0)
    codec = FRAE(lambda channels, share: Layers(channels), latent_dim=3, widths=[8], feedback=2).eval()
    codec.fit_tables(codec.encode(patterns(1)))
    return codec


def test_a_file_of_fewer_streams_decodes_with_a_codec_at_any_operating_point(tmp_path: Path) -> None:
    encoder, decoder, signal = layered(), layered(), patterns(1)[0]
    sizes = []
    for streams in encoder.prefixes:
        encoder.truncate(streams)
        codes, expected = encode_file(encoder, signal, tmp_path / "a", "range", seed=5)
        for point in decoder.prefixes:
            decoder.truncate(point)
            decoder.set_dither_seed(9)
            header, decoded = decode_file(decoder, tmp_path / "a")
            assert torch.equal(decoded, expected)
            assert len(decoder.alphabet) == point and decoder.quantizer.dither_seed == 9
        assert codes.shape[1] == streams == len(encoder.alphabet)
        assert header.prefix == (0 if streams == 3 else None) and header.seed == 5
        sizes.append((tmp_path / "a").stat().st_size)
    assert sizes[0] < 0.7 * sizes[1]


def test_the_seed_in_the_header_is_that_of_the_noise(tmp_path: Path) -> None:
    codec, signal = layered(), patterns(1)[0]
    first, expected = encode_file(codec, signal, tmp_path / "a", "range", seed=1)
    second, _ = encode_file(codec, signal, tmp_path / "b", "range", seed=2)
    assert not torch.equal(first, second) and codec.quantizer.dither_seed == 0
    header, payload = read(tmp_path / "a", fingerprint(codec))
    other = decode_payload(codec, header._replace(seed=2), payload)
    assert not torch.equal(other, expected) and torch.equal(decode_payload(codec, header, payload), expected)


def test_a_codec_without_shared_noise_spends_no_byte_on_a_seed(tmp_path: Path) -> None:
    codec = FRAE(lambda channels, share: NSVQ(channels)).eval()
    encode_file(codec, patterns(1)[0], tmp_path / "a", "range", seed=5)
    assert decode_file(codec, tmp_path / "a")[0].seed == 0


def test_an_operating_point_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    codec = layered()
    encode_file(codec, patterns(1)[0], tmp_path / "a", "range")
    header, payload = read(tmp_path / "a", fingerprint(codec))
    (tmp_path / "a").write_bytes(pack(header._replace(prefix=2), payload, fingerprint(codec)))
    with pytest.raises(BitstreamError, match=r"a: of 2 numbers of streams it names no\. 2"):
        decode_file(codec, tmp_path / "a")


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_are_refused(tmp_path: Path, broken: float) -> None:
    codec = FRAE(lambda channels, share: NSVQ(channels)).eval()
    with torch.no_grad():
        codec.encoder[-1].bias[2] = broken
    with pytest.raises(BitstreamError, match=r"a: the codec makes NaN or infinity of this signal"):
        encode_file(codec, patterns(1)[0], tmp_path / "a", "range")
    assert not list(tmp_path.iterdir())


# -- encode and decode ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "channels", "samples", "suffix"),
    [
        (16_000, 1, 12_345, "wav"),
        (8_000, 2, 4_001, "flac"),
        (11_025, 1, 5_512, "wav"),
        (22_050, 1, 11_026, "ogg"),
        (44_100, 2, 44_099, "flac"),
        (48_000, 6, 24_001, "wav"),
        (65_535, 1, 10_007, "wav"),
        (96_000, 1, 50_021, "aiff"),
        (192_000, 2, 100_003, "wav"),
        (16_000, 1, 320, "wav"),
    ],
)
def test_length_and_rate_come_back_to_the_sample(model, capsys, rate, channels, samples, suffix) -> None:
    soundfile.write(f"in.{suffix}", tone(samples, rate, channels), rate)
    assert main(["encode", f"in.{suffix}", "a.cbs", "--run", str(model)]) == 0
    out = capsys.readouterr().out
    assert f"{samples} samples at {rate} Hz, " + ("mono" if channels == 1 else f"{channels} channels mixed") in out
    for target in ("back.wav", "back.flac"):
        assert main(["decode", "a.cbs", target, "--run", str(model)]) == 0
        info = soundfile.info(target)
        assert (info.frames, info.samplerate, info.channels) == (samples, rate, 1)
    header, _ = unpack(Path("a.cbs").read_bytes(), fingerprint(load_model(model)))
    assert header.samples == samples and header.rate == (None if rate == 16_000 else rate) and header.size <= 16


def test_the_rates_printed_are_those_of_the_file(model, capsys) -> None:
    assert main(["encode", str(SPEECH), "a.cbs", "--run", str(model)]) == 0
    printed = capsys.readouterr().out.partition("kbit/s: ")[2].split(", ")
    rates = {name: float(value) for value, name in (part.split() for part in printed)}
    codec = load_model(model)
    header, payload = read("a.cbs", fingerprint(codec))
    seconds = soundfile.info(SPEECH).frames / 16_000
    assert rates["measured"] == pytest.approx(8 * Path("a.cbs").stat().st_size / seconds / 1000, abs=1e-3)
    assert rates["payload"] == pytest.approx(8 * len(payload) / seconds / 1000, abs=1e-3)
    assert rates["nominal"] == pytest.approx(6 * -(-header.samples // 18) / seconds / 1000, abs=1e-3)
    assert rates["entropy"] * 0.995 < rates["payload"] < rates["entropy"] * 1.005 + 0.04 / seconds


def test_decode_says_that_it_is_the_vocoded_pattern_and_at_which_level(model, capsys) -> None:
    main(["encode", str(SPEECH), "a.cbs", "--run", str(model)])
    main(["decode", "a.cbs", "back.wav", "--run", str(model)])
    out = capsys.readouterr().out
    assert "-25.0 dBFS: the stimulation pattern made audible by sines" in out and "not the waveform itself" in out
    sound, rate = soundfile.read("back.wav")
    assert active_level(sound, rate) == pytest.approx(LEVEL, abs=0.05)


@pytest.mark.parametrize("gain", [3e-3, 1.0, 100.0])
def test_neither_level_nor_offset_of_the_source_changes_its_codes(model, gain) -> None:
    sound, rate = soundfile.read(SPEECH)
    soundfile.write("in.wav", gain * (sound + 0.1), rate, subtype="DOUBLE")
    files = []
    for source in (SPEECH, "in.wav"):
        assert main(["encode", str(source), "a.cbs", "--run", str(model)]) == 0
        files.append(decode_file(load_model(model), Path("a.cbs"), CochlearFrontEnd(AceConfig()).signal_length)[1])
    assert ((files[0] - files[1]).abs() > 1e-3).float().mean() < 0.01


def test_silence_is_coded_and_decodes_without_a_warning(model, capsys) -> None:
    soundfile.write("in.wav", np.zeros(16_000), 16_000)
    assert main(["encode", "in.wav", "a.cbs", "--run", str(model)]) == 0
    assert "silent (below -80 dBFS), coded as it is" in capsys.readouterr().out
    assert main(["decode", "a.cbs", "back.wav", "--run", str(model)]) == 0
    assert soundfile.info("back.wav").frames == 16_000


def test_a_run_encodes_a_test_file_to_the_bitstream_that_it_was_scored_by(trained) -> None:
    run, speech = trained
    bitstreams = sorted((run / "bitstreams").iterdir())
    assert len(bitstreams) == 2
    for bitstream in bitstreams:
        (source,) = (path for path in (speech / "test").rglob("*.flac") if path.stem in bitstream.stem)
        assert main(["encode", str(source), "a.cbs", "--run", str(run)]) == 0
        assert Path("a.cbs").read_bytes() == bitstream.read_bytes()


def test_a_run_records_payload_and_measured_rate_with_the_header_counted(trained) -> None:
    run, _ = trained
    model = fingerprint(load_model(run))
    for row in records.read_items(run / "items.csv"):
        header, payload = read(run / "bitstreams" / f"{row['item']}.cbs", model)
        assert row["bytes"] == header.size + len(payload) and header.samples == round(16_000 * row["seconds"])
        assert row["payload_kbps"] == pytest.approx(8 * len(payload) / row["seconds"] / 1000)
        assert row["measured_kbps"] == pytest.approx(8 * row["bytes"] / row["seconds"] / 1000)
        assert row["payload_kbps"] < 1.005 * row["entropy_kbps"] + 0.04 / row["seconds"]


ELSEWHERE = """
import sys, torch
from codecbench.benchmark.cli.main import main
source, run, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
for coder in ("range", "huffman"):
    assert main(["encode", source, f"{threads}.{coder}.cbs", "--run", run, "--coder", coder]) == 0
    assert main(["decode", f"here.{coder}.cbs", f"{threads}.{coder}.wav", "--run", run]) == 0
"""


@pytest.mark.slow
def test_another_process_encodes_and_decodes_the_same_on_one_and_two_threads(trained) -> None:
    run, speech = trained
    source = str(next((speech / "test").rglob("*.flac")))
    for coder in ("range", "huffman"):
        assert main(["encode", source, f"here.{coder}.cbs", "--run", str(run), "--coder", coder]) == 0
        assert main(["decode", f"here.{coder}.cbs", f"here.{coder}.wav", "--run", str(run)]) == 0
    for threads in ("1", "2"):
        subprocess.run([sys.executable, "-c", ELSEWHERE, source, str(run), threads], check=True, capture_output=True)
        for end in ("range.cbs", "range.wav", "huffman.cbs", "huffman.wav"):
            assert Path(f"{threads}.{end}").read_bytes() == Path(f"here.{end}").read_bytes()


def test_streams_and_the_plugin_of_a_stranger(tmp_path, capsys) -> None:
    Path("layers.py").write_text(PLUGIN + inspect.getsource(Layers))
    plugins.add_file(Path("layers.py"))
    run = make_run(tmp_path / "run", quantizer="layers")
    shared = ["--run", str(run), "--plugin", "layers.py"]
    sizes = []
    for streams in (["--streams", "3"], ["--streams", "6"], []):
        assert main(["encode", str(SPEECH), "a.cbs", *streams, *shared]) == 0
        assert main(["decode", "a.cbs", "back.wav", *shared]) == 0
        sizes.append(Path("a.cbs").stat().st_size)
    assert sizes[0] < sizes[1] == sizes[2]
    assert "positions, 3 code(s) each" in capsys.readouterr().out
    assert "--streams: 4 streams do not decode on their own; possible: 3, 6" in refusal(
        capsys, "encode", SPEECH, "b.cbs", "--streams", 4, *shared
    )


@pytest.mark.parametrize(
    "name", ["-dash.wav", "new\nline.wav", "[bold]x.wav", "a b'\"$.wav", "语音.wav", "bad\udcff.wav"]
)
def test_hostile_names_are_just_names(model, capsys, name) -> None:
    soundfile.write("in.wav", tone(8_000, 16_000), 16_000)
    Path("in.wav").rename(name)
    assert main(["encode", "--run", str(model), "--", name, f"{name}.cbs"]) == 0
    assert main(["decode", "--run", str(model), "--", f"{name}.cbs", f"back-{name}"]) == 0
    assert soundfile.info(os.fsencode(f"back-{name}")).frames == 8_000
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7 and all(line.isprintable() for line in lines)
    assert "another model" in refusal(capsys, "decode", "--run", other_model(model), "--", f"{name}.cbs", "x.wav")


def other_model(model: Path) -> Path:
    """A run whose model is another one."""
    place = model.parent / "other"
    if not place.exists():
        make_run(place, seed=1)
    return place


# -- mistakes ---------------------------------------------------------------------------------------------------------


def unusable_sounds() -> None:
    sound = tone(8_000, 16_000)
    Path("empty.wav").touch()
    Path("text.wav").write_text("no sound at all")
    Path("corrupt.flac").write_bytes(b"fLaC" + bytes(200))
    soundfile.write("none.wav", sound[:0], 16_000)
    soundfile.write("one.wav", sound[:1], 16_000)
    soundfile.write("short.wav", sound[:319], 16_000)
    soundfile.write("slow.wav", sound, 3_999)
    soundfile.write("odd.wav", sound, 65_537)
    soundfile.write("nan.wav", np.where(np.arange(8_000)[:, None] == 99, np.nan, sound), 16_000, subtype="FLOAT")
    soundfile.write("inf.wav", np.where(np.arange(8_000)[:, None] == 99, np.inf, sound), 16_000, subtype="FLOAT")
    soundfile.write("cut.flac", tone(80_000, 16_000), 16_000)
    Path("cut.flac").write_bytes(Path("cut.flac").read_bytes()[:5_000])
    Path("folder.wav").mkdir()
    os.mkfifo("pipe.wav")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("absent.wav", "absent.wav: no such file"),
        ("empty.wav", "empty.wav: not readable as audio"),
        ("text.wav", "text.wav: not readable as audio"),
        ("corrupt.flac", "corrupt.flac: "),
        ("none.wav", "none.wav: holds no samples"),
        ("one.wav", "one.wav: only 1 samples long; at least 320 are needed"),
        ("short.wav", "short.wav: only 319 samples long"),
        ("slow.wav", "slow.wav: its sample rate of 3999 Hz is not between 4000 and 768000"),
        ("odd.wav", "odd.wav: a bitstream cannot name 65537 Hz"),
        ("nan.wav", "nan.wav: holds NaN or infinite samples"),
        ("inf.wav", "inf.wav: holds NaN or infinite samples"),
        ("cut.flac", "cut.flac: "),
        ("folder.wav", "folder.wav: no such file"),
        ("pipe.wav", "pipe.wav: no such file"),
        ("nul\0.wav", "nul\\x00.wav: no such file"),
        ("x" * 300, "cannot be opened (File name too long)"),
    ],
)
def test_unusable_sound_is_one_line(model, capsys, name, line) -> None:
    unusable_sounds()
    Path("old.cbs").write_bytes(b"old")
    assert line in refusal(capsys, "encode", name, "a.cbs", "--run", model)
    refusal(capsys, "encode", name, "old.cbs", "--run", model)


def test_a_sound_that_is_too_long_for_the_header_is_one_line(model, capsys, monkeypatch) -> None:
    monkeypatch.setattr("codecbench.codecs.files.container.MAX_SAMPLES", 10_000)
    assert "a bitstream holds at most 10000 samples" in refusal(capsys, "encode", SPEECH, "a.cbs", "--run", model)


@pytest.mark.parametrize("command", [("encode", SPEECH, "a.cbs"), ("decode", "in.cbs", "a.wav")])
@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (shutil.rmtree, "run: holds no spec.yaml; name the folder of a finished run"),
        (lambda run: (run / MODEL).unlink(), "run: holds no model.safetensors"),
        (lambda run: (run / MODEL).write_bytes(b"no model"), "run: holds no model of this spec"),
        (lambda run: (run / SPEC).unlink(), "run: holds no spec.yaml"),
        (lambda run: (run / SPEC).write_text("a: 1"), "run: its spec.yaml cannot be used (not a spec"),
        (lambda run: (run / SPEC).write_bytes(b"\xff\xfe\x00"), "run: its spec.yaml cannot be used ("),
    ],
)
def test_a_folder_that_is_no_run_is_one_line(model, capsys, command, spoil, line) -> None:
    main(["encode", str(SPEECH), "in.cbs", "--run", str(model)])
    shutil.copytree(model, "run")
    spoil(Path("run"))
    assert line in refusal(capsys, *command, "--run", "run")


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (("encode", SPEECH, "none/a.cbs"), "none/a.cbs: cannot be written (No such file or directory)"),
        (("encode", SPEECH, "folder"), "folder: is no file to write to"),
        (("encode", SPEECH, "nul\0"), "nul\\x00: cannot be written"),
        (("encode", SPEECH, "/dev/null"), "/dev/null: is no file to write to"),
        (("encode", "in.wav", "in.wav"), "in.wav: would replace what is read; name another file"),
        (("encode", "in.wav", "./folder/../in.wav"), "would replace what is read"),
        (("encode", "in.wav", "link.wav"), "link.wav: would replace what is read"),
        (("encode", "in.wav", "hard.wav"), "hard.wav: would replace what is read"),
        (("encode", SPEECH, "a.cbs", "--streams", "2"), "--streams: 2 streams do not decode on their own; possible: 1"),
        (("encode", SPEECH, "a.cbs", "--streams", "0"), "--streams: 0 streams do not decode on their own"),
        (("encode", SPEECH, "a.cbs", "--streams", "x"), "argument --streams: invalid int value: 'x'"),
        (("encode", SPEECH, "a.cbs", "--coder", "zip"), "argument --coder: invalid choice: 'zip'"),
        (("encode", SPEECH), "the following arguments are required: BITSTREAM"),
        (("encode", SPEECH, "a.cbs", "--quantizer.x", "3"), "encode has no argument '--quantizer.x'"),
        (("decode", "in.cbs", "none/a.wav"), "none/a.wav: cannot be written"),
        (("decode", "in.cbs", "a.mp3"), "a.mp3: name a file that keeps every sample: .wav, .flac, .aiff, .aif"),
        (("decode", "in.cbs", "a"), "a: name a file that keeps every sample"),
        (("decode", "absent.cbs", "a.wav"), "absent.cbs: cannot be read (No such file or directory)"),
        (("decode", "folder", "a.wav"), "folder: is no file"),
        (("decode", "in.wav", "a.wav"), "in.wav: not a bitstream of this program"),
        (("decode", "in.wav", "in.wav"), "in.wav: would replace what is read"),
        (("decode", "cut.cbs", "a.wav"), "cut.cbs: damaged, cut short, or of another model"),
        (("decode", "none.cbs", "a.wav"), "none.cbs: holds no samples"),
        (("decode", "fast.cbs", "a.flac"), "a.flac: FLAC cannot hold 768000 Hz; write .wav"),
    ],
)
def test_every_other_mistake_is_one_line(model, capsys, command, line) -> None:
    soundfile.write("in.wav", tone(8_000, 16_000), 16_000)
    Path("link.wav").symlink_to("in.wav")
    Path("hard.wav").hardlink_to("in.wav")
    Path("folder").mkdir()
    soundfile.write("fast.wav", tone(80_000, 768_000), 768_000)
    main(["encode", "fast.wav", "fast.cbs", "--run", str(model)])
    main(["encode", str(SPEECH), "in.cbs", "--run", str(model)])
    Path("cut.cbs").write_bytes(Path("in.cbs").read_bytes()[:-1])
    codec = load_model(model)
    header, _ = read("in.cbs", fingerprint(codec))
    Path("none.cbs").write_bytes(pack(header._replace(samples=0), b"", fingerprint(codec)))
    assert line in refusal(capsys, *command, "--run", model)


def test_a_failure_while_the_sound_is_written_leaves_the_old_file(model, monkeypatch, capsys) -> None:
    main(["encode", str(SPEECH), "in.cbs", "--run", str(model)])
    Path("back.wav").write_bytes(b"old")

    def full(self: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert "No space left on device" in refusal(capsys, "decode", "in.cbs", "back.wav", "--run", model)
    assert Path("back.wav").read_bytes() == b"old"


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_help_has_examples(command, capsys) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"benchmark {command} speech." in out and "--run DIR" in out
