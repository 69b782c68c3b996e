"""Corpora as LightningDataModules: what a Trainer gets, in which order, and on from where."""

import inspect
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from codecbench.benchmark.specs.options import options_of
from codecbench.benchmark.specs.registry import found
from codecbench.datamodules.base import Corpus, Item, Recordings, Split
from codecbench.datamodules.demo import Demo
from codecbench.datamodules.parts.waveforms import cached_waveforms
from codecbench.datamodules.patches import Patches
from codecbench.datamodules.toy import Toy
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor


class Few(Recordings):
    """Three recordings a split; 16 s or so."""

    def items(self, split: Split) -> list[Item]:
        return Demo().items(split)[:3]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))


class Noting(LightningModule):
    """Learns nothing and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[Tensor] = []
        self.validated: list[Tensor] = []

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        self.seen.append(batch.clone())
        return (self.weight * batch).mean()

    def validation_step(self, batch: Tensor, index: int) -> None:
        self.validated.append(batch.clone())

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(*callbacks: Any, **options: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Trainer(
        **quiet | {"num_sanity_val_steps": 0, "enable_checkpointing": bool(callbacks)} | options,
        callbacks=list(callbacks),
    )


def test_recordings_come_as_crops_and_the_test_split_whole() -> None:
    corpus = Few().batches(batch_size=4, crop_seconds=0.25, seed=3)
    train = corpus.train_dataloader()
    waveforms = cached_waveforms(corpus, "train")
    assert len(train) == round(waveforms.lengths.sum() / (4 * 4000))
    for number, batch in enumerate(train):
        assert batch.dtype == torch.float32
        np.testing.assert_array_equal(batch, waveforms.crops(4, 4000, np.random.default_rng([3, number])))
    held_out = [batch.numpy() for batch in corpus.val_dataloader()]
    assert all(batch.shape == (4, 4000) for batch in held_out)
    np.testing.assert_array_equal(held_out, [batch.numpy() for batch in corpus.val_dataloader()])
    whole = list(corpus.test_dataloader())
    for item, waveform in zip(corpus.items("test"), whole, strict=True):
        np.testing.assert_array_equal(waveform[0], corpus.load(item))


@pytest.mark.parametrize(("corpus", "shape"), [(Toy(points=100), (2,)), (Patches(), (3, 32, 32))])
def test_arrays_come_as_they_are(corpus: Any, shape: tuple[int, ...]) -> None:
    corpus.batches(batch_size=16, seed=1)
    train, test = corpus.array("train"), corpus.array("test")
    loader = corpus.train_dataloader()
    assert len(loader) == round(len(train) / 16)
    first = next(iter(loader)).numpy()
    assert first.shape == (16, *shape)
    np.testing.assert_array_equal(first, train[np.random.default_rng([1, 0]).integers(len(train), size=16)])
    np.testing.assert_array_equal(np.concatenate([batch.numpy() for batch in corpus.test_dataloader()]), test)
    validation = np.concatenate([batch.numpy() for batch in corpus.val_dataloader()])
    np.testing.assert_array_equal(validation, corpus.array("validation"))


def test_processes_that_load_change_no_number() -> None:
    alone, beside = (list(Toy(points=64).batches(8, seed=2, workers=count).train_dataloader()) for count in (0, 2))
    assert all(map(torch.equal, alone, beside)) and len(alone) == len(beside) == 8


def test_a_trainer_trains_validates_and_tests_on_it() -> None:
    corpus, module = Few().batches(batch_size=4, crop_seconds=0.5), Noting()
    trainer(max_epochs=1).fit(module, corpus)
    assert len(module.seen) == len(corpus.train_dataloader()) and len(module.validated) == len(corpus.val_dataloader())
    module.validated.clear()
    trainer().test(module, corpus)
    assert [len(batch) for batch in module.validated] == [1, 1, 1]


def test_every_epoch_has_other_batches_and_a_resumed_training_goes_on_where_it_was(tmp_path: Path) -> None:
    def corpus() -> Toy:
        return Toy(points=40).batches(batch_size=8)  # five batches an epoch

    whole = Noting()
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    trainer(keep, max_epochs=3).fit(whole, corpus())
    assert len(whole.seen) == 15 and len({batch.numpy().tobytes() for batch in whole.seen}) == 15
    for done in (3, 5, 7, 10, 14):
        resumed = Noting()
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*not resumable.*")
            again = trainer(max_epochs=3)
            again.fit(resumed, corpus(), ckpt_path=tmp_path / f"step={done}.ckpt", weights_only=True)
        assert len(resumed.seen) == 15 - done
        assert all(map(torch.equal, resumed.seen, whole.seen[done:]))


def test_limited_epochs_and_steps_go_on_too() -> None:
    module, whole = Noting(), list(Toy(points=80).batches(8).train_dataloader())
    trainer(max_epochs=3, limit_train_batches=3).fit(module, Toy(points=80).batches(8))
    assert all(map(torch.equal, module.seen, whole[:9])) and len(module.seen) == 9


@pytest.mark.parametrize("name", found("datamodules"))
def test_every_corpus_is_a_data_module_whose_options_are_its_own(name: str) -> None:
    cls = found("datamodules")[name]
    corpus: Any = cls()
    assert isinstance(corpus, LightningDataModule) and corpus.trainer is None and not corpus._log_hyperparams
    assert corpus.batches(batch_size=3) is corpus and corpus.batch_size == 3
    assert not {"batch_size", "crop_seconds", "crop_seed", "workers", "args", "kwargs"} & options_of("data", cls).keys()
    assert pickle.loads(pickle.dumps(corpus)).batch_size == 3


def test_a_corpus_without_options_takes_none() -> None:
    assert not inspect.signature(Demo).parameters
    with pytest.raises(TypeError):
        Demo("somewhere")  # type: ignore[call-arg]


def test_how_batches_are_made_changes_no_fingerprint() -> None:
    assert Few().batches(2, 0.1, 5).fingerprint() == Few().fingerprint()


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"crop_seconds": 0.0}, {"seed": -1}, {"workers": -1}])
def test_impossible_batches_are_refused(wrong: dict[str, Any]) -> None:
    (name, value) = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name}={value}"):
        Corpus.batches(Demo(), **wrong)
