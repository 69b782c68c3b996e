"""The plug-ins that CONTRIBUTING shows are whole, and hold the contract."""

import re
from pathlib import Path

import pytest
import torch
from codecbench.benchmark.cli.main import main
from codecbench.benchmark.specs import registry as plugins
from codecbench.quantizers.diveq import DiVeQ

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = {match[1]: match[2] for match in re.finditer(r"```python\n# (\w+\.py)\n(.*?)```", TEXT, re.DOTALL)}


@pytest.fixture(autouse=True)
def no_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_handed_in", {kind: {} for kind in plugins.BASES})


@pytest.mark.parametrize("name", ["grid.py", "my_diveq.py"])
def test_it_passes_every_check(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    assert main(["check", "--plugin", str(tmp_path / name), "--quantizer", Path(name).stem]) == 0, capsys.readouterr()


def test_the_worked_example_is_the_built_in_method(tmp_path: Path) -> None:
    (tmp_path / "my_diveq.py").write_text(FILES["my_diveq.py"], encoding="utf-8")
    plugins.add_file(tmp_path / "my_diveq.py")
    mine, built_in = plugins.lookup("quantizers", "my_diveq")[0](3, 4.0).train(), DiVeQ(3, 4.0).train()
    mine.load_state_dict(built_in.state_dict())
    latents, noise = torch.randn(2, 3, 20), torch.randn(2, 3, 20)
    for ours, theirs in zip(mine.surrogate(latents, noise), built_in.surrogate(latents, noise), strict=True):
        assert torch.allclose(ours, theirs)
