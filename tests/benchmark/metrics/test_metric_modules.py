"""The torchmetrics classes: means of the functions over all items, missing scores counted apart, states that add up."""

import pickle

import pytest
import soundfile
import torch
import torchmetrics.audio
from codecbench.benchmark.metrics import modules, quality
from codecbench.benchmark.metrics.base import METRICS
from codecbench.benchmark.metrics.modules import (
    ESTOI,
    PESQ,
    PSNR,
    SISDR,
    SNR,
    SSIM,
    STOI,
    VSTOI,
    TwoFModel,
    ViSQOL,
)
from codecbench.benchmark.metrics.scoring import pool
from codecbench.datamodules.cochlear.ace import ace
from codecbench.datamodules.cochlear.vocoder import vocode
from codecbench.datamodules.demo import CORPORA

CLASSES = modules.classes().values()


@pytest.fixture(scope="module")
def speech():
    """Three utterances at -25 dBFS, "3 20800"."""
    files = sorted(CORPORA.glob("demo/*/*.flac"))[::70][:3]
    excerpts = torch.stack([torch.from_numpy(soundfile.read(file, start=1600, frames=20_800)[0]) for file in files])
    return 10 ** (-25 / 20) * excerpts / excerpts.std(1, keepdim=True)


@pytest.fixture(scope="module")
def decoded(speech):
    return speech + 0.01 * torch.randn(speech.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("name", "ours"), [("SignalNoiseRatio", SNR), ("ScaleInvariantSignalNoiseRatio", SISDR)])
def test_batches_give_the_mean_that_torchmetrics_gives(name, ours, speech, decoded):
    theirs, mine = getattr(torchmetrics.audio, name)(), ours()
    for part in (slice(0, 2), slice(2, 3)):
        theirs.update(decoded[part], speech[part])
        mine.update(decoded[part], speech[part])
    assert mine.compute().item() == pytest.approx(theirs.compute().item(), abs=1e-4)
    assert (mine.count, mine.failed) == (3, 0)


@pytest.mark.parametrize(("cls", "score"), [(PESQ, quality.pesq_wb), (ViSQOL, quality.visqol_speech)])
def test_scores_of_libraries_are_taken_item_by_item_with_the_reference_in_its_place(cls, score, speech, decoded):
    metric = cls()
    metric.update(decoded[:2], speech[:2])
    expected = [score(speech[i].numpy(), decoded[i].numpy()) for i in range(2)]
    assert expected[0] != score(decoded[0].numpy(), speech[0].numpy())
    assert metric.compute().item() == pytest.approx(sum(expected) / 2)


@pytest.mark.parametrize(("cls", "extended"), [(STOI, False), (ESTOI, True)])
def test_intelligibility_is_that_of_pystoi(cls, extended, speech, decoded):
    metric = cls()
    metric.update(decoded, speech)
    expected = [pool.stoi(*(each[i].numpy() for each in (speech, decoded)), extended=extended) for i in range(3)]
    assert metric.compute().item() == pytest.approx(sum(expected) / 3, abs=1e-5)


def test_patterns_are_heard_against_clean_speech(speech):
    pattern = ace(speech.float())
    metric = VSTOI()
    metric.update(pattern[:2], speech[:2].float())
    metric.update(pattern[2:], speech[2:].float())
    expected = [pool.stoi(speech[i].numpy(), vocode(pattern[i : i + 1], 20_800)[0].numpy()) for i in range(3)]
    assert metric.compute().item() == pytest.approx(sum(expected) / 3, abs=1e-5)
    with pytest.raises(ValueError, match="do not go together"):
        metric.update(pattern, speech[:2].float())


def test_items_without_a_score_are_counted_and_not_averaged(speech, decoded):
    metric = SNR()
    silent = speech.clone()
    silent[1] = 0
    metric.update(decoded, silent)
    expected = SNR()
    expected.update(decoded[[0, 2]], speech[[0, 2]])
    assert metric.compute() == expected.compute()
    assert (metric.count, metric.failed) == (2, 1)
    metric.reset()
    assert metric.count == metric.failed == 0
    metric.update(decoded, torch.zeros_like(speech))
    assert metric.compute().isnan()


def test_states_of_two_processes_add_up(speech, decoded):
    def gathered(state, group):
        name = next(name for name in ("total", "count", "failed") if getattr(first, name) is state)
        return [state, getattr(second, name)]

    whole, second = SNR(), SNR()
    first = SNR(dist_sync_fn=gathered, distributed_available_fn=lambda: True)
    whole.update(decoded, speech)
    first.update(decoded[:1], speech[:1])
    second.update(decoded[1:], speech[1:])
    assert first.compute().item() == pytest.approx(whole.compute().item())


def test_images_and_one_value_per_batch():
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert SSIM()(images, images).item() == pytest.approx(1)
    assert PSNR()(images, images).item() == 100


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_knows_its_metric_travels_and_refuses_two_shapes(cls):
    matching = [
        metric for metric in METRICS.values() if metric[1:4] == (cls.unit, cls.higher_is_better, cls.sample_rate)
    ]
    assert matching
    metric = pickle.loads(pickle.dumps(cls()))
    with pytest.raises(ValueError, match=r"decoded \(1, 8\) and reference \(1, 9\)"):
        metric.update(torch.zeros(1, 8), torch.zeros(1, 9))
    assert metric.compute().isnan()


def test_attributes_are_those_of_the_table():
    assert len(CLASSES) == 20
    assert (STOI.unit, STOI.higher_is_better, STOI.sample_rate) == ("", True, 16_000)
    assert (TwoFModel.unit, TwoFModel.sample_rate) == ("MMS", 48_000)
    assert (modules.MelDistance.higher_is_better, SNR.sample_rate, SNR.unit) == (False, None, "dB")
