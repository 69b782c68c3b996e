"""The shape of the project: who imports whom, what is packaged, what is registered."""

import ast
import tomllib
from pathlib import Path

import codecbench
import pytest

ROOT = Path(codecbench.__file__).parent
SOURCE = Path(__file__).parents[1]
MAY_IMPORT = {
    "quantizers": set(),
    "codecs": {"quantizers"},
    "datamodules": set(),
    "leaderboards": set(),
    "benchmark": {"quantizers", "codecs", "datamodules", "leaderboards"},
}


def modules(folder: str) -> list[Path]:
    return [path for path in (ROOT / folder).rglob("*.py") if "corpora" not in path.parts]


def imported(path: Path) -> set[str]:
    """The project's folders that a module imports from."""
    found = set()
    here = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            package = [*here[: len(here) - node.level + 1], *(node.module or "").split(".")]
            found.add(package[0])
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found |= {name.split(".")[1] for name in names if name.startswith("codecbench.")}
    return found & MAY_IMPORT.keys()


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_who_may_import_whom(folder: str) -> None:
    for path in modules(folder):
        assert imported(path) <= MAY_IMPORT[folder] | {folder}, path


def test_the_import_rule_sees_imports(tmp_path: Path) -> None:
    assert "quantizers" in imported(ROOT / "codecs" / "frae.py")
    assert "datamodules" in imported(ROOT / "benchmark" / "metrics" / "stimulation.py")


def test_every_folder_with_modules_is_packaged() -> None:
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())
    folders = {path.parent for folder in MAY_IMPORT for path in modules(folder)}
    names = {"codecbench", *(".".join(("codecbench", *folder.relative_to(ROOT).parts)) for folder in folders)}
    assert set(project["tool"]["setuptools"]["packages"]) == names


def test_no_other_module_lies_at_the_root() -> None:
    assert [path.name for path in SOURCE.glob("*.py")] == ["__init__.py"]


def test_plug_ins_are_found_by_their_files() -> None:
    assert {"identity", "nsvq", "ste_vq", "ema_vq"} <= codecbench.plugins("quantizers").keys()
    assert {"frae"} <= codecbench.plugins("codecs").keys()
    assert {"demo", "librispeech", "folder"} <= codecbench.plugins("datamodules").keys()
    assert not {"base", "checks", "vector"} & codecbench.plugins("quantizers").keys()


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_files_stay_short(folder: str) -> None:
    for path in modules(folder):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 320, path
