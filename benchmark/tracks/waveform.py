"""The tracks of waveforms: speech at 16 kHz, and audio at the rate of a music corpus."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from ...datamodules.base import Item, Recordings, Split
from ...datamodules.parts.waveforms import WaveformSet, cached_waveforms
from ..losses import LOSSES
from ..metrics.base import Pending, Submit
from ..metrics.nomad import offered
from ..metrics.scoring.waveforms import score_waveform
from .base import FrontEnd, Scorer, TestItem, Track, Watched, spread
from .pictures import spectrograms

VALIDATION_CROPS, VALIDATION_SECONDS = 16, 1.0


@final
class WaveformFrontEnd(FrontEnd):
    """The signal is the sound itself."""

    output = "the decoded waveform"
    keeps_level = True

    def __init__(self, sample_rate: int, level: float | None) -> None:
        self.sample_rate, self.level = sample_rate, level

    def analyse(self, sound: Tensor) -> Tensor:
        return sound

    def synthesise(self, signal: Tensor, samples: int) -> Tensor:
        return nn.functional.pad(signal[:samples], (0, samples - min(samples, signal.shape[-1])))


@final
class WaveformScorer(Scorer):
    """Waveforms at one rate; `name` is that of the track, "speech" or "audio"."""

    def __init__(self, sample_rate: int, name: str) -> None:
        self.sample_rate, self.name = sample_rate, name

    def score(self, item: TestItem, decoded: Tensor, submit: Submit) -> Pending:
        return score_waveform(item.clean, decoded, self.sample_rate, self.name, submit)

    def show(self, item: TestItem, decoded: Tensor, folder: Path) -> None:
        """Spectrograms, and both signals to listen to, with one gain for both where one of them would clip."""
        spectrograms(item.clean.numpy(), decoded.numpy(), self.sample_rate, folder / f"{item.name}.png", item.name)
        gain = min(1.0, 0.99 / max(float(item.clean.abs().max()), float(decoded.abs().max()), 1e-9))
        for kind, audio in (("decoded", decoded), ("clean", item.clean)):
            soundfile.write(folder / f"{item.name}.{kind}.wav", (audio * gain).numpy(), self.sample_rate)


@final
class WaveformTrack(Track):
    """Mono waveforms of a corpus of recordings.

    `losses` are the weights of the training loss by name of its terms, see benchmark/losses; None where nothing is
    trained.
    """

    leading = ()

    def __init__(self, corpus: Recordings, losses: Mapping[str, float] | None, watched: Watched | None = None) -> None:
        offered()  # weights that are not there are missed before training, not after it
        self.corpus, self.sample_rate, self.signal_rate = corpus, corpus.sample_rate, float(corpus.sample_rate)
        self.watched = watched
        self.scorer = WaveformScorer(corpus.sample_rate, "speech" if corpus.kind == "speech" else "audio")
        self._weights = dict(losses or {})
        self._terms = nn.ModuleDict({name: LOSSES[name](corpus.sample_rate) for name in self._weights})

    @cached_property
    def waveforms(self) -> WaveformSet:
        """Of the train split."""
        return cached_waveforms(self.corpus, "train", progress=self.watched)

    @cached_property
    def held_out(self) -> WaveformSet:
        """Of the validation split."""
        return cached_waveforms(self.corpus, "validation", progress=self.watched)

    @property
    def typical_length(self) -> int:
        return int(np.median(self.waveforms.lengths))

    @cached_property
    def _validation(self) -> Tensor:
        length = round(VALIDATION_SECONDS * self.sample_rate)
        return torch.from_numpy(self.held_out.crops(VALIDATION_CROPS, length, np.random.default_rng(0)))

    @property
    def front_end(self) -> WaveformFrontEnd:
        return WaveformFrontEnd(self.sample_rate, self.corpus.level)

    def training_batch(self, batch_size: int, length: int, generator: np.random.Generator) -> Tensor:
        return torch.from_numpy(self.waveforms.crops(batch_size, length, generator))

    def validation_batch(self) -> Tensor:
        return self._validation

    def signals(self, split: Split, count: int) -> list[Tensor]:
        waveforms = {"train": self.waveforms, "validation": self.held_out}[split]
        return [torch.from_numpy(np.array(waveforms[index])) for index in spread(count, len(waveforms))]

    def test_items(self) -> Sequence[Item]:
        return self.corpus.items("test")

    def load(self, item: Item) -> TestItem:
        clean, conditions = torch.from_numpy(self.corpus.load(item)), self.corpus.conditions(item)
        return TestItem(item.name, clean, clean, len(clean) / self.sample_rate, len(clean), conditions)

    def loss(self, signal: Tensor, decoded: Tensor) -> Tensor:
        terms = self._terms.to(signal.device)
        return torch.stack([weight * terms[name](signal, decoded) for name, weight in self._weights.items()]).sum()
