"""What commands share: dotted options, and that nothing slow is loaded for help."""

import subprocess
import sys
from pathlib import Path

import pytest
from codecbench.benchmark.cli.command import SPEC_GROUPS as GROUPS
from codecbench.benchmark.cli.command import split_dotted
from codecbench.benchmark.cli.main import COMMANDS, main
from codecbench.benchmark.specs import options

SLOW = ("torch", "lightning", "jsonargparse", "rich", "yaml", "numpy")


def test_dotted_options_are_taken_out_of_a_command_line() -> None:
    words = "run --quantizer nsvq --quantizer.codebook-bits 8 --ace.gain_db=-3 --data.download --training.x -1 --force"
    rest, taken = split_dotted(words.split(), GROUPS)
    assert rest == ["run", "--quantizer", "nsvq", "--force"]
    assert taken == {
        "quantizer": {"codebook_bits": "8"},
        "ace": {"gain_db": "-3"},
        "data": {"download": "true"},
        "training": {"x": "-1"},
    }


def test_a_name_may_be_written_as_an_option() -> None:
    assert split_dotted(["--codec.name", "aec"], GROUPS) == (["--codec=aec"], {})


def test_groups_that_a_command_does_not_take_stay_in_its_line() -> None:
    assert split_dotted(["--codec.bands", "8", "--data.root=x"], ("data",)) == (
        ["--codec.bands", "8"],
        {"data": {"root": "x"}},
    )
    assert GROUPS == options.GROUPS


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS), ["speed"], ["rum"]])
def test_help_loads_nothing_slow(words: list[str]) -> None:
    code = f"import sys; from codecbench.benchmark.cli.main import main; main({words})\n"
    code += f"print([name for name in {SLOW} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_what_was_listed_is_kept_until_a_file_changes(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
    assert main(["ls", "codecs"]) == 0
    first = capsys.readouterr().out
    load = "import sys; from codecbench.benchmark.cli.main import main; "
    code = load + "main(['ls', 'codecs']); sys.exit('torch' in sys.modules)"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert again.stdout.split() == first.split() and "frae" in first
    (kept,) = tmp_path.iterdir()
    kept.write_text("{")
    assert main(["ls", "codecs"]) == 0 and capsys.readouterr().out == first
