"""The shape of the project: who imports whom, what is packaged, what is registered, how large rooms are."""

import ast
import re
import tomllib
from functools import cache
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
FLOORS = (
    "errors",
    "metrics",
    "losses",
    "specs",
    "tracks",
    "training",
    "runs",
    "studies",
    "cli",
)  # of benchmark, upwards
APART = {"speed": "cli/speed"}  # a room, and the only file that loads it
PLUG_INS = {"quantizers", "codecs", "datamodules"}  # folders that grow by a file a plug-in
MOST_ENTRIES, LONGEST_CHAIN, LONGEST_FILE = 14, 10, 320


def modules(folder: str) -> list[Path]:
    return [path for path in (ROOT / folder).rglob("*.py") if "corpora" not in path.parts]


def folders() -> list[Path]:
    return sorted({path.parent for folder in MAY_IMPORT for path in modules(folder)})


@cache
def imported(path: Path, deferred: bool = True) -> set[Path]:
    """The project's files that a module imports; without `deferred` those at its top level alone."""
    found, tree = set(), ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if deferred else tree.body:
        if not isinstance(node, ast.ImportFrom) or (not node.level and not (node.module or "").startswith(ROOT.name)):
            continue
        base = path.parents[node.level - 1] if node.level else ROOT.parent
        place = base.joinpath(*(node.module or "").split(".")) if node.module else base
        for name in (alias.name for alias in node.names):
            for file in (place / f"{name}.py", place.with_suffix(".py"), place / "__init__.py"):
                if file.is_file():
                    found.add(file)
                    break
    return found - {path}


def room(path: Path) -> tuple[str, ...]:
    """Folders and name below the root: ("benchmark", "runs", "run")."""
    return path.relative_to(ROOT).with_suffix("").parts


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_who_may_import_whom(folder: str) -> None:
    for path in modules(folder):
        assert {room(other)[0] for other in imported(path)} <= MAY_IMPORT[folder] | {folder}, path


def test_imports_inside_benchmark_run_downwards() -> None:
    upward = [
        f"{'/'.join(room(path))} imports {'/'.join(room(other))}"
        for path in modules("benchmark")
        if len(room(path)) > 1 and room(path)[1] in FLOORS
        for other in imported(path)
        if room(other)[0] == "benchmark" and room(other)[1] not in ("__init__", *APART)
        if FLOORS.index(room(other)[1]) > FLOORS.index(room(path)[1])
    ]
    assert upward == []


def test_every_room_of_benchmark_has_its_floor() -> None:
    assert {room(path)[1] for path in modules("benchmark")} == {*FLOORS, *APART, "__init__"}


def test_nobody_imports_what_stands_apart() -> None:
    for apart, user in APART.items():
        users = {
            "/".join(room(path)[1:])
            for path in modules("benchmark")
            for other in imported(path)
            if room(other)[:2] == ("benchmark", apart) and room(path)[1] != apart
        }
        assert users == {user}


def test_there_is_no_circle_and_no_long_chain() -> None:
    chains: dict[Path, int] = {}

    def chain(path: Path, above: tuple[Path, ...] = ()) -> int:
        """Files of benchmark on the longest way down from this one."""
        assert path not in above, f"a circle: {[room(each) for each in above[above.index(path) :]]}"
        if path not in chains:
            chains[path] = (room(path)[0] == "benchmark") + max(
                (chain(other, (*above, path)) for other in imported(path)), default=0
            )
        return chains[path]

    longest = max((chain(path), room(path)) for folder in MAY_IMPORT for path in modules(folder))
    assert longest[0] <= LONGEST_CHAIN, longest


def test_the_import_rule_sees_imports() -> None:
    assert ROOT / "quantizers" / "base.py" in imported(ROOT / "codecs" / "frae.py")
    assert ROOT / "leaderboards" / "records.py" in imported(ROOT / "benchmark" / "runs" / "run.py")
    assert ROOT / "quantizers" / "base.py" in imported(ROOT / "quantizers" / "parts" / "vector.py")


def test_no_room_is_crowded() -> None:
    for folder in folders():
        if folder.relative_to(ROOT).as_posix() not in PLUG_INS:
            entries = [path for path in folder.iterdir() if path.name not in ("__init__.py", "__pycache__")]
            assert len(entries) <= MOST_ENTRIES, folder


def test_tests_mirror_the_folders() -> None:
    for path in (SOURCE / "tests").rglob("test_*.py"):
        place = path.parent.relative_to(SOURCE / "tests")
        assert place == Path() or (ROOT / place) in folders(), path


def test_every_folder_with_modules_is_packaged() -> None:
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())
    names = {"codecbench", *(".".join(("codecbench", *folder.relative_to(ROOT).parts)) for folder in folders())}
    assert set(project["tool"]["setuptools"]["packages"]) == names


def test_no_other_module_lies_at_the_root() -> None:
    assert [path.name for path in SOURCE.glob("*.py")] == ["__init__.py"]


def test_plug_ins_are_found_by_their_files() -> None:
    assert {"identity", "nsvq", "ste_vq", "ema_vq"} <= codecbench.plugins("quantizers").keys()
    assert {"frae"} <= codecbench.plugins("codecs").keys()
    assert {"demo", "librispeech", "folder"} <= codecbench.plugins("datamodules").keys()
    assert not {"base", "checks", "vector"} & codecbench.plugins("quantizers").keys()


def test_the_map_names_every_room_and_only_what_exists() -> None:
    text = (SOURCE / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w./])[\w./-]+(?:/|\.(?:py|md|yaml))(?!\w)", text))
    assert [name for name in sorted(named) if not (SOURCE / name).exists()] == []
    assert {f"{folder}/" for folder in MAY_IMPORT if folder != "benchmark"} <= named
    assert {f"benchmark/{place}/" for place in (*FLOORS, *APART) if place != "errors"} <= named
    assert " < ".join(FLOORS) in text


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_files_stay_short(folder: str) -> None:
    for path in modules(folder):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE, path
