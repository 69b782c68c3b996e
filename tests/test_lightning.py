"""The examples of docs/lightning.md run as they stand, and do what the page says."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from codecbench.benchmark.cli.main import main
from codecbench.benchmark.specs import registry
from codecbench.datamodules.demo import Demo
from codecbench.leaderboards import records
from codecbench.quantizers.coding.entropy import decode_codes, encode_codes
from codecbench.quantizers.nsvq import NSVQ
from lightning import LightningModule, Trainer

PAGE = (Path(__file__).parents[1] / "docs" / "lightning.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
MODEL, DATA, CODEC = EXAMPLES
COMMANDS = [line for block in re.findall(r"```\n(benchmark .*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, a cache and a registry that nobody else sees."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "_handed_in", {kind: {} for kind in registry.BASES})


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Trainer, LightningModule]]:
    """The trainers of a script, and what they trained."""
    kept: list[tuple[Trainer, LightningModule]] = []
    fit = Trainer.fit

    def kept_fit(trainer: Trainer, module: LightningModule, data: Any) -> None:
        fit(trainer, module, data)
        kept.append((trainer, module))

    monkeypatch.setattr(Trainer, "fit", kept_fit)
    return kept


@pytest.mark.parametrize("example", EXAMPLES)
def test_no_example_has_more_than_fifteen_lines(example: str) -> None:
    assert len([line for line in example.splitlines() if line.strip()]) <= 15


def test_the_quantizer_of_the_first_example_is_trained_and_codes_bytes(trained: list[Any]) -> None:
    torch.manual_seed(0)
    exec(compile(MODEL, "docs/lightning.md", "exec"), {"__name__": "page"})
    ((trainer, module),) = trained
    assert trainer.global_step == 40
    quantizer = module.quantizer.eval()
    assert isinstance(quantizer, NSVQ) and not quantizer.bypass
    assert int(quantizer.batches) + int(quantizer.replacements) > 0 and quantizer.codebook.std() > 1 / quantizer.size
    codes = quantizer(module.encoder(torch.randn(1, 100, 64)).mT).codes
    data = encode_codes(quantizer, codes)
    assert torch.equal(decode_codes(quantizer, data, 100), codes)
    assert len(quantizer.table_counts) == quantizer.size == 64


def test_the_second_example_trains_on_the_corpus(trained: list[Any]) -> None:
    torch.manual_seed(0)
    exec(compile(DATA, "docs/lightning.md", "exec"), {"__name__": "page"})
    ((trainer, module),) = trained
    corpus = trainer.datamodule
    assert isinstance(corpus, Demo) and trainer.global_step == 20
    assert next(iter(corpus.train_dataloader())).shape == (8, 8000)
    assert float(trainer.callback_metrics.get("loss", 0)) >= 0 and torch.isfinite(module.filter.weight).all()


def test_the_codec_of_the_third_example_passes_its_checks_and_is_scored(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "my_codec.py").write_text(CODEC, encoding="utf-8")
    for split, count in (("train", 3), ("validation", 1), ("test", 1)):
        for number, item in enumerate(Demo().items(split)[::16][:count]):
            place = tmp_path / "voices" / split / f"{split}{number}"
            place.mkdir(parents=True)
            shutil.copy(item.path, place)
    check, run = (shlex.split(line)[1:] for line in COMMANDS)
    assert main(check) == 0, capsys.readouterr().out
    assert main(run) == 0, capsys.readouterr().err
    (record,) = records.find(tmp_path / "runs")
    assert record.spec["codec"]["name"] == "my_codec" and record.spec["training"]["steps"] == 20
    assert record.rate_kbps["measured"] > 0.2 and record.scores["stoi"].n == 1
