"""The command line: what it hands on, and one line with exit code 2 for every mistake of the user's."""

import subprocess
import sys
import types
from pathlib import Path

import pytest
from codecbench.benchmark.cli.main import COMMANDS, main
from codecbench.benchmark.cli.run import options_help
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.specs import registry as plugins
from codecbench.benchmark.specs.options import options_of
from codecbench.datamodules.errors import DataError
from codecbench.leaderboards.errors import RecordError
from codecbench.leaderboards.records import Record, Score, write

CORPUS = """
from codecbench.datamodules.base import Recordings

class Tiny(Recordings):
    def __init__(self, root: str = "here", download: bool = False):
        self.root = root
    def items(self, split):
        return []
"""
BROKEN = """
from codecbench.quantizers.nsvq import NSVQ as Base

class Mine(Base):
    def replace(self, latents, codewords, noise):
        return codewords.detach()
"""


@pytest.fixture(autouse=True)
def fresh_registry(monkeypatch, tmp_path):
    monkeypatch.setattr(plugins, "_handed_in", {kind: {} for kind in plugins.BASES})
    monkeypatch.chdir(tmp_path)
    Path("tiny.py").write_text(CORPUS)


@pytest.fixture
def grid(monkeypatch):
    """What run_grid is handed instead of running."""
    calls = types.SimpleNamespace(raises=None)

    def run_grid(specs, output_dir, force, wandb, console):
        if calls.raises is not None:
            raise calls.raises
        calls.specs, calls.output_dir, calls.force, calls.wandb, calls.console = (
            specs,
            output_dir,
            force,
            wandb,
            console,
        )
        return []

    module = types.ModuleType("codecbench.benchmark.runs.run")
    module.run_grid = run_grid  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "codecbench.benchmark.runs.run", module)
    return calls


def run(*tokens):
    return main(["run", "--plugin", "tiny.py", "--data", "tiny", *tokens])


def line_of(capsys, code=2):
    err = capsys.readouterr().err
    assert err.startswith("benchmark: ") and err.count("\n") == 1 and "Traceback" not in err
    return err.removeprefix("benchmark: ").strip()


# -- run --------------------------------------------------------------------------------------------------------------


def test_run_hands_on_one_spec_by_default(grid):
    assert run() == 0
    (spec,) = grid.specs
    assert (spec.quantizer.name, spec.codec.name, spec.data.name, spec.seed) == ("nsvq", "frae", "tiny", 0)
    assert (grid.output_dir, grid.force, grid.wandb, grid.console.quiet) == (Path("runs"), False, None, False)


def test_run_hands_on_every_option(grid):
    tokens = "--quantizer nsvq --quantizer.codebook_bits 8 --codec frae-l3-h2-r2 --codec.fast false --data.download "
    tokens += "--training.steps 100 --ace.gain_db=30 --bitrate 2.4 --seed 3 --coder huffman --output-dir out --force "
    assert run(*tokens.split(), "--wandb", "--quiet") == 0
    (spec,) = grid.specs
    assert spec.quantizer.options == {"codebook_bits": 8.0} and spec.codec.name == "frae-l3-h2-r2"
    assert spec.codec.options["latent_dim"] == 3 and spec.codec.options["fast"] is False
    assert spec.data.options == {"root": "here", "download": True}
    assert (spec.training.steps, spec.ace.gain_db, spec.bitrate, spec.seed, spec.coder) == (100, 30, 2.4, 3, "huffman")
    assert (grid.output_dir, grid.force, grid.wandb, grid.console.quiet) == (Path("out"), True, "offline", True)


def test_run_makes_a_grid(grid):
    assert (
        run("--quantizer", "nsvq:codebook_bits=8,ste_vq", "--codec", "frae,aec", "--seed", "0:2", "--wandb", "online")
        == 0
    )
    assert len(grid.specs) == 8 and grid.wandb == "online"


def test_printed_settings_run_the_same_spec_again_and_print_nothing_else(grid, capsys):
    assert run("--quantizer.codebook_bits", "7", "--codec", "aec", "--print_config") == 0
    printed = capsys.readouterr()
    assert not hasattr(grid, "specs") and printed.err == ""
    Path("run.yaml").write_text(printed.out)
    assert main(["run", "--plugin", "tiny.py", "--config", "run.yaml"]) == 0
    (again,) = grid.specs
    assert again.to_yaml() == printed.out


def test_run_says_at_once_what_it_waits_for(grid, capsys):
    run()
    assert capsys.readouterr().out.startswith("Loading torch and the plug-ins ...")


def test_quiet_prints_nothing(grid, capsys):
    run("--quiet")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("tokens", "line"),
    [
        ("--quantizer nsvqq", "no quantizer is called 'nsvqq'; did you mean nsvq? There are: "),
        ("--codec fray", "no codec is called 'fray'; did you mean frae? There are: "),
        ("--data demmo", "no corpus is called 'demmo'; did you mean demo? There are: "),
        ("--quantizer.codebok_bits 8", "nsvq has no option 'codebok_bits'; did you mean codebook_bits? It has: "),
        (
            "--quantizer nsvq,identity --quantizer.codebook_bits 8",
            "identity has no option 'codebook_bits'. It has none.",
        ),
        ("--quantizer.codebook_bits many", "nsvq: codebook_bits=many does not fit; it must be float"),
        (
            "--training.stages fit",
            "training: stages=fit does not fit; it must be list[Any] | None, such as '[\"fit\"]'",
        ),
        ("--quantizer.codebook_bits 40", "nsvq: codebook_bits=40.0 must lie between 1 and 16"),
        ("--seed 5:1", "--seed 5:1 is empty; the second number must be above the first"),
        ("--seed one", "--seed one is no seed; write 0 or 0,1 or 0:5 (which leaves 5 out)"),
        ("--bitrate 0", "--bitrate 0 is no bitrate; write a positive number of kbit/s"),
        ("--coder zip", "--coder zip is unknown; write range or huffman"),
        ("--profile qick", "no profile is called 'qick'"),
        ("--config absent.yaml", "absent.yaml: cannot be read (No such file or directory)"),
        ("--plugin absent.py", "--plugin absent.py: no such Python file"),
        ("--quantiser nsvq", "run has no argument '--quantiser'; did you mean --quantizer? See benchmark run --help"),
        ("--trainig.steps 3", "run has no argument '--trainig.steps'; did you mean --training.? See benchmark run"),
        ("--seed", "argument --seed: expected at least one argument (see benchmark run --help)"),
        ("--wandb maybe", "argument --wandb: invalid choice: 'maybe' (choose from 'offline', 'online')"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(grid, capsys, tokens, line):
    assert run(*tokens.split()) == 2
    assert line_of(capsys).startswith(line)
    assert not hasattr(grid, "specs")


@pytest.mark.parametrize("error", [UserError("a line"), DataError("a line"), RecordError("a line")])
def test_the_packages_named_errors_are_the_users(grid, capsys, error):
    grid.raises = error
    assert run() == 2
    assert line_of(capsys) == "a line"


def test_a_folder_that_cannot_be_written_is_the_users(grid, capsys):
    grid.raises = PermissionError(13, "Permission denied", "runs/x")
    assert run() == 2
    assert line_of(capsys) == "runs/x: Permission denied"


@pytest.mark.parametrize("error", [ValueError("ours"), RuntimeError("ours"), FileNotFoundError(2, "ours", "x")])
def test_a_defect_of_ours_traces_back(grid, error):
    grid.raises = error
    with pytest.raises(type(error), match="ours"):
        run()


def interrupted_within_lightning():
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        try:
            sys.exit(1)
        except SystemExit as stop:
            return stop


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), interrupted_within_lightning()])
def test_control_c_says_that_the_same_command_resumes(grid, capsys, stop):
    grid.raises = stop
    assert run() == 130
    assert (
        capsys.readouterr().err.strip()
        == "benchmark: stopped; the same command, without --force, resumes where this one stopped"
    )


# -- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(capsys, command):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert (
        text.startswith(f"usage: benchmark {command}") and f"\n  benchmark {command}" in text[text.index("examples:") :]
    )


def test_help_with_a_name_shows_that_plugins_options(capsys):
    assert main(["run", "--quantizer", "nsvq", "--codec", "aec", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--quantizer.codebook_bits" in text and "--training.steps" in text and "--ace.gain_db" in text
    feedback = text[text.index("--codec.feedback") :]
    assert "default: 0" in feedback[: feedback.index("--codec.bands")]  # the preset's, not the class's


@pytest.mark.parametrize(("part", "kind"), [("quantizer", "quantizers"), ("codec", "codecs"), ("data", "datamodules")])
def test_every_option_of_every_plug_in_is_shown(part, kind):
    for name, cls in plugins.found(kind).items():
        text = options_help({part: name})
        for option in options_of(part, cls):
            assert f"\n  --{part}.{option} " in text, (name, option)


def test_options_are_read_from_signatures_and_docstrings(capsys):
    assert main(["run", "--quantizer", "residual", "--codec", "stft", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "quantizer residual: Stages one after another: --quantizer.stage QUANTIZER what each stage is." in text
    assert "(default: nsvq); its options: --quantizer.stage.OPTION --quantizer.stages STAGES N. (type: int, def" in text
    assert "--codec.skips {true,false}" in text and "(type: list[int] | None, default: null)" in text
    assert "--training.schedule {constant,cosine} (type: Literal['constant', 'cosine'], default: constant)" in text
    assert main(["run", "--quantizer", "identity", "--codec", "opus-5ms", "--help"]) == 0
    text = capsys.readouterr().out
    assert "quantizer identity: no options" in text and "--training.steps STEPS" not in text


def test_without_a_command_the_help_is_shown_and_a_misspelt_one_is_corrected(capsys):
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage: benchmark")
    assert main(["leaderbord"]) == 2
    assert line_of(capsys) == "no command is called 'leaderbord'; did you mean leaderboard? See benchmark --help"


def test_the_console_script_helps():
    script = Path(sys.executable).with_name("benchmark")
    shown = subprocess.run([script, "--help"], check=True, capture_output=True, text=True).stdout
    assert shown.startswith("usage: benchmark") and "leaderboard" in shown
    version = subprocess.run([script, "--version"], check=True, capture_output=True, text=True).stdout
    assert version.startswith("codecbench ")


# -- ls, check, leaderboard, gate -------------------------------------------------------------------------------------


def test_ls_shows_every_topic_or_one(capsys):
    assert main(["ls"]) == 0
    text = capsys.readouterr().out
    for name in ("nsvq", "frae", "aec", "librispeech", "vstoi", "built in"):
        assert name in text
    assert main(["ls", "quantizers"]) == 0
    text = capsys.readouterr().out
    assert "nsvq" in text and "librispeech" not in text


def test_ls_shows_a_strangers_plugin_and_where_it_is_from(capsys):
    assert main(["ls", "data", "--plugin", "tiny.py"]) == 0
    assert "tiny.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tokens", "line"),
    [
        ("ls metric", "ls has no list of 'metric'; did you mean metrics? There are: quantizers, codecs, data, metrics"),
        ("ls --quantizer.x 3", "ls has no argument '--quantizer.x'. See benchmark ls --help"),
        ("check", "one of the arguments --quantizer --codec is required"),
        (
            "check --quantizer nsvq --codec.x 3",
            "check --quantizer takes no --codec.x; its options are --quantizer.OPTION",
        ),
        ("check --quantizer nsvq --training.steps 3", "check has no argument '--training.steps'"),
        ("references refs --codec.x 3", "references has no argument '--codec.x'"),
        ("--helpp", "benchmark has no argument '--helpp'. See benchmark --help"),
        ("mask sound.wav", "the following arguments are required: --plot (see benchmark mask --help)"),
        ("controls nowhere", "nowhere: no run (No such file or directory); name the folder of one"),
        ("controls nowhere --items many", "argument --items: invalid int value: 'many'"),
        ("check --quantizer nsvq,ste_vq", "check takes one quantizer at a time, not nsvq,ste_vq"),
        ("check --quantizer nsvq --quantizer.bit 3", "nsvq has no option 'bit'"),
        ("check --quantizer nsvq --quantizer.codebook_bits 40", "nsvq: codebook_bits=40.0 must lie between 1 and 16"),
        ("leaderboard", "runs: no such file or folder"),
        ("leaderboard --records .", ".: no records there; make some with benchmark run"),
        ("gate", "the following arguments are required: --baseline, --max-drop"),
        ("gate --baseline absent --max-drop vstoi=0.1", "--baseline absent: no such file or folder"),
    ],
)
def test_the_other_commands_complain_in_one_line_too(capsys, tokens, line):
    assert main(tokens.split()) == 2
    assert line_of(capsys).startswith(line)


def test_check_prints_every_check_and_fails_a_plugin_that_breaks_the_contract(capsys):
    Path("mine.py").write_text(BROKEN)
    assert main(["check", "--plugin", "mine.py", "--quantizer", "mine:codebook_bits=2"]) == 1
    text = capsys.readouterr().out
    assert "FAIL" in text and "ok   " in text and "mine: " in text and "checks passed" in text


def test_a_plugin_that_overrides_what_is_final_is_told_what_to_write_instead(capsys):
    Path("mine.py").write_text(BROKEN.replace("replace(self, latents, codewords", "encode(self, latents"))
    assert main(["run", "--plugin", "mine.py", "--quantizer", "mine"]) == 2
    assert "Mine.encode overrides what is final in VectorQuantizer; write codewords() instead" in line_of(capsys)


def test_check_passes_the_control_and_a_codec(capsys):
    assert main(["check", "--quantizer", "identity"]) == 0
    assert main(["check", "--codec", "aec"]) == 0
    assert "FAIL" not in capsys.readouterr().out


def test_leaderboard_is_drawn_from_the_records(capsys, tmp_path):
    record = Record(
        spec={
            "quantizer": {"name": "nsvq", "options": {}},
            "codec": {"name": "frae"},
            "data": {"name": "tiny"},
            "seed": 0,
        },
        hash="0" * 12,
        name="one",
        track="cochlear",
        scores={"vstoi": Score(0.7, 0.6, 0.8, 10, 0, "", True)},
        rate_kbps={"nominal": 5.3, "entropy": 5.0, "measured": 5.2},
    )
    (tmp_path / "runs" / "one").mkdir(parents=True)
    write(record, tmp_path / "runs" / "one" / "record.json")
    assert main(["leaderboard", "--markdown", "board.md"]) == 0
    assert "nsvq" in capsys.readouterr().out
    assert "nsvq" in Path("board.md").read_text() and "|" in Path("board.md").read_text()


def test_gate_hands_on_its_limits_and_returns_its_verdict(monkeypatch, tmp_path):
    seen = {}

    def gate(baseline, limits, output_dir, console):
        seen.update(baseline=baseline, limits=limits, output_dir=output_dir)
        return 1

    module = types.ModuleType("codecbench.benchmark.studies.gate")
    module.gate = gate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "codecbench.benchmark.studies.gate", module)
    tokens = ["gate", "--baseline", str(tmp_path), "--max-drop", "vstoi=0.02", "--max-drop", "estoi=0.03"]
    assert main(tokens) == 1
    assert seen == {"baseline": tmp_path, "limits": ["vstoi=0.02", "estoi=0.03"], "output_dir": Path("runs")}
