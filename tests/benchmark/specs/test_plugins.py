"""Plug-ins are found where they lie, and a stranger's broken one costs a line, not the command."""

import hashlib
import importlib
import sys
from importlib.metadata import EntryPoint

import pytest
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.specs import registry as plugins
from codecbench.quantizers.identity import Identity
from codecbench.quantizers.nsvq import NSVQ

QUANTIZER = '''
"""Rounds."""
from codecbench.quantizers.base import Quantizer

class Rounding(Quantizer):
    alphabet = (None,)
    def __init__(self, channels: int, step: float = 1.0):
        super().__init__(channels)
    def encode(self, latents, noise): ...
    def decode(self, codes, noise): ...
    def surrogate(self, latents, noise): ...
'''


@pytest.fixture(autouse=True)
def fresh_registry(monkeypatch):
    monkeypatch.setattr(plugins, "_handed_in", {kind: {} for kind in plugins.BASES})
    plugins._scan.cache_clear()
    yield
    plugins._scan.cache_clear()


@pytest.fixture
def quantizers_folder(tmp_path, monkeypatch):
    """A folder that counts as quantizers/ too."""
    package = importlib.import_module("codecbench.quantizers")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    yield tmp_path
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(f"codecbench.quantizers.{path.stem}", None)


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def entry_points(monkeypatch, *points):
    def of(group):
        return [EntryPoint(name, value, group) for name, value in points if group == "codecbench.quantizers"]

    monkeypatch.setattr(plugins, "entry_points", of)


def test_the_file_name_is_the_registered_name_and_bases_and_shared_files_are_no_plugins():
    found = plugins.found("quantizers")
    assert found["nsvq"] is NSVQ and found["identity"] is Identity
    assert not {"base", "checks", "vector"} & found.keys()
    assert plugins.origin("quantizers", "nsvq") == "built in"


def test_every_kind_is_found():
    assert "frae" in plugins.found("codecs")
    assert {"demo", "folder", "librispeech"} <= plugins.found("datamodules").keys()


def test_a_new_file_in_the_folder_is_found(quantizers_folder):
    write(quantizers_folder, "rounding.py", QUANTIZER)
    assert plugins.found("quantizers")["rounding"].__name__ == "Rounding"


def test_a_broken_file_is_named_on_stderr_and_hides_no_other(quantizers_folder, capsys):
    write(quantizers_folder, "broken.py", "import no_such_package")
    assert "nsvq" in plugins.found("quantizers")
    assert capsys.readouterr().err == (
        "benchmark: the quantizer 'broken' is left out, it cannot be loaded: "
        "quantizers/broken.py: ModuleNotFoundError: No module named 'no_such_package'\n"
    )
    with pytest.raises(UserError, match=r"the quantizer 'broken' cannot be loaded: .*no_such_package"):
        plugins.lookup("quantizers", "broken")


def test_a_file_with_two_plugins_is_left_out(quantizers_folder, capsys):
    write(quantizers_folder, "pair.py", QUANTIZER + "\nclass Other(Rounding):\n    pass\n")
    assert "pair" not in plugins.found("quantizers")
    assert "it defines Rounding, Other; keep one plug-in per file" in capsys.readouterr().err


def test_an_entry_point_is_found(monkeypatch):
    entry_points(monkeypatch, ("theirs", "codecbench.quantizers.identity:Identity"))
    assert plugins.found("quantizers")["theirs"] is Identity
    assert plugins.origin("quantizers", "theirs") == "codecbench.quantizers.identity:Identity"


def test_what_is_built_in_wins_over_an_entry_point_of_its_name(monkeypatch, capsys):
    entry_points(monkeypatch, ("nsvq", "codecbench.quantizers.identity:Identity"))
    assert plugins.found("quantizers")["nsvq"] is NSVQ
    assert "the quantizer 'nsvq' of codecbench.quantizers.identity:Identity is left out" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["no_such_package:Thing", "pathlib:Path", "codecbench.quantizers.base:Quantizer"])
def test_a_broken_entry_point_hides_no_other(monkeypatch, capsys, value):
    entry_points(monkeypatch, ("theirs", value))
    assert "nsvq" in plugins.found("quantizers") and "theirs" not in plugins.found("quantizers")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_file_from_anywhere_is_registered_under_its_stem(tmp_path):
    path = write(tmp_path, "my_vq.py", QUANTIZER)
    assert plugins.add_file(path) == ("quantizers", "my_vq")
    cls, options = plugins.lookup("quantizers", "my_vq")
    assert cls.__name__ == "Rounding" and options == {}
    assert plugins.origin("quantizers", "my_vq") == str(path)


def test_an_edited_file_has_another_hash(tmp_path):
    path = write(tmp_path, "my_vq.py", QUANTIZER)
    plugins.add_file(path)
    first = plugins.source_hash(plugins.lookup("quantizers", "my_vq")[0])
    assert first == hashlib.sha256(path.read_bytes()).hexdigest()
    write(tmp_path, "my_vq.py", QUANTIZER + "# edited\n")
    plugins.add_file(path)
    assert plugins.source_hash(plugins.lookup("quantizers", "my_vq")[0]) != first


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x = 1", "{path} defines no quantizer, codec or corpus; derive one class from .*Quantizer"),
        ("def f(:", "{path}, line 1: invalid syntax"),
        ("import no_such_package", "{path} cannot be loaded: ModuleNotFoundError: No module named 'no_such_package'"),
        (QUANTIZER + "\nclass Other(Rounding):\n    pass", "{path} defines Rounding, Other; keep one plug-in per file"),
        (
            "from codecbench.quantizers.base import Quantizer\nclass Half(Quantizer):\n    alphabet = (2,)",
            "{path} defines no quantizer, codec or corpus: Half still lacks decode, encode, surrogate",
        ),
    ],
)
def test_a_file_without_one_usable_plugin_costs_one_line(tmp_path, text, line):
    path = write(tmp_path, "mine.py", text)
    with pytest.raises(UserError, match="^" + line.format(path=path)) as caught:
        plugins.add_file(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["absent.py", "folder.py", "notes.txt"])
def test_a_plugin_file_must_be_a_python_file_that_exists(tmp_path, name):
    (tmp_path / "folder.py").mkdir()
    write(tmp_path, "notes.txt", QUANTIZER)
    with pytest.raises(UserError, match=f"--plugin .*{name}: no such Python file"):
        plugins.add_file(tmp_path / name)


@pytest.mark.parametrize("name", ["nsvq.py", "identity.py"])
def test_a_strangers_file_cannot_take_a_name_that_is_built_in(tmp_path, name):
    path = write(tmp_path, name, QUANTIZER)
    with pytest.raises(UserError, match=r"there is a quantizer called '.*' already; choose another name"):
        plugins.add_file(path)


def test_a_preset_is_a_name_too_and_brings_its_options():
    cls, options = plugins.lookup("codecs", "aec")
    assert cls is plugins.found("codecs")["frae"] and options["feedback"] == 0
    options["feedback"] = 7
    assert plugins.lookup("codecs", "aec")[1]["feedback"] == 0  # a copy


@pytest.mark.parametrize(
    ("kind", "name", "start"),
    [
        (
            "quantizers",
            "nsvqq",
            "no quantizer is called 'nsvqq'; did you mean nsvq? There are: dithered_sq, diveq",
        ),
        ("quantizers", "STE-VQ", "no quantizer is called 'STE-VQ'; did you mean ste_vq? There are: "),
        ("quantizers", "xyz", "no quantizer is called 'xyz'. There are: dithered_sq, diveq, ema_vq"),
        ("codecs", "frae-l9-h3-r4", "no codec is called 'frae-l9-h3-r4'; did you mean frae-l"),
        ("datamodules", "librispech", "no corpus is called 'librispech'; did you mean librispeech? There are: cifar10"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_and_the_list(kind, name, start):
    with pytest.raises(UserError) as caught:
        plugins.lookup(kind, name)
    assert str(caught.value).startswith(start)


def test_a_class_from_python_is_registered_under_its_own_name_and_a_known_one_under_its_file():
    class Mine(NSVQ):
        pass

    assert plugins.add_class("quantizers", Mine) == "mine"
    assert plugins.lookup("quantizers", "mine")[0] is Mine
    assert plugins.add_class("quantizers", NSVQ) == "nsvq"


def test_a_class_that_is_no_quantizer_yet_is_told_what_it_lacks():
    with pytest.raises(UserError, match="Path is no quantizer yet: it lacks Quantizer as its base"):
        plugins.add_class("quantizers", type("Path", (), {}))
    with pytest.raises(UserError, match="Half is no quantizer yet: it lacks alphabet, decode, encode, surrogate"):
        plugins.add_class("quantizers", type("Half", (plugins.base("quantizers"),), {}))
