"""The tracks of waveforms: speech at 16 kHz, and audio at the rate of a music corpus."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from ...datamodules.base import Item, Recordings, Split
from ...datamodules.parts.waveforms import cached_waveforms
from ..errors import UserError
from ..losses import LOSSES
from ..metrics.nomad import offered
from ..metrics.scoring.pool import Pending, ScorePool
from ..metrics.scoring.waveforms import score_waveform
from .base import FrontEnd, TestItem, Track, Watched
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
class WaveformTrack(Track):
    """Mono waveforms of a corpus of recordings.

    `losses` are the weights of the training loss by name of its terms, see benchmark/losses.
    """

    leading = ()

    def __init__(self, corpus: Recordings, losses: Mapping[str, float] | None, watched: Watched | None = None) -> None:
        if not losses:
            raise UserError(f"the codec names no training loss; add --training.losses.NAME WEIGHT: {', '.join(LOSSES)}")
        offered()  # weights that are not there are missed before training, not after it
        self.name = "speech" if corpus.kind == "speech" else "audio"
        self.corpus, self.sample_rate, self.signal_rate = corpus, corpus.sample_rate, float(corpus.sample_rate)
        self.waveforms = cached_waveforms(corpus, "train", progress=watched)
        self.held_out = cached_waveforms(corpus, "validation", progress=watched)
        self.typical_length = int(np.median(self.waveforms.lengths))
        length = round(VALIDATION_SECONDS * corpus.sample_rate)
        crops = self.held_out.crops(VALIDATION_CROPS, length, np.random.default_rng(0))
        self._validation = torch.from_numpy(crops)
        self._weights = dict(losses)
        self._terms = nn.ModuleDict({name: LOSSES[name](corpus.sample_rate) for name in losses})

    @property
    def front_end(self) -> WaveformFrontEnd:
        return WaveformFrontEnd(self.sample_rate, self.corpus.level)

    def training_batch(self, batch_size: int, length: int, generator: np.random.Generator) -> Tensor:
        return torch.from_numpy(self.waveforms.crops(batch_size, length, generator))

    def validation_batch(self) -> Tensor:
        return self._validation

    def signals(self, split: Split, count: int) -> list[Tensor]:
        waveforms = {"train": self.waveforms, "validation": self.held_out}[split]
        chosen = np.unique(np.linspace(0, len(waveforms) - 1, count).round().astype(int))
        return [torch.from_numpy(np.array(waveforms[index])) for index in chosen]

    def test_items(self) -> Sequence[Item]:
        return self.corpus.items("test")

    def load(self, item: Item) -> TestItem:
        clean = torch.from_numpy(self.corpus.load(item))
        return TestItem(
            item.name, clean, clean, len(clean) / self.sample_rate, len(clean), self.corpus.conditions(item)
        )

    def loss(self, signal: Tensor, decoded: Tensor) -> Tensor:
        terms = self._terms.to(signal.device)
        return torch.stack([weight * terms[name](signal, decoded) for name, weight in self._weights.items()]).sum()

    def score(self, item: TestItem, decoded: Tensor, pool: ScorePool) -> Pending:
        return score_waveform(item.clean, decoded, self.sample_rate, self.name, pool.submit)

    def show(self, item: TestItem, decoded: Tensor, folder: Path) -> None:
        show_waveform(item, decoded, self.sample_rate, folder)


def show_waveform(item: TestItem, decoded: Tensor, sample_rate: int, folder: Path) -> None:
    """Spectrograms, and both signals to listen to, with one gain for both where one of them would clip."""
    spectrograms(item.clean.numpy(), decoded.numpy(), sample_rate, folder / f"{item.name}.png", item.name)
    gain = min(1.0, 0.99 / max(float(item.clean.abs().max()), float(decoded.abs().max()), 1e-9))
    for kind, audio in (("decoded", decoded), ("clean", item.clean)):
        soundfile.write(folder / f"{item.name}.{kind}.wav", (audio * gain).numpy(), sample_rate)
