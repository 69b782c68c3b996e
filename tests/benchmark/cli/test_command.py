"""What commands share: dotted options, and that nothing slow is loaded for help."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from codecbench.benchmark.cli.command import SPEC_GROUPS as GROUPS
from codecbench.benchmark.cli.command import split_dotted
from codecbench.benchmark.cli.main import COMMANDS
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


def test_what_was_listed_is_kept_until_a_file_changes(tmp_path: Path) -> None:
    load = "import sys; from codecbench.benchmark.cli.main import main; "
    code = load + "main(['ls', 'codecs']); print('torch' in sys.modules)"
    environment = os.environ | {"CODECBENCH_CACHE": str(tmp_path), "COLUMNS": "100"}

    def listed() -> list[str]:
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return run.stdout.splitlines()

    *first, loaded = listed()
    *second, loaded_again = listed()
    assert first == second and "frae" in "\n".join(first) and (loaded, loaded_again) == ("True", "False")
    (kept,) = tmp_path.iterdir()
    kept.write_text("{")
    assert listed() == [*first, "True"]
