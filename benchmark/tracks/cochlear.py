"""The cochlear track: stimulation patterns of the ACE front end, made audible by a sine vocoder."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
import soundfile
import torch
from torch import Tensor

from ...datamodules.base import FRAME_SECONDS, SAMPLE_RATE, Item, Recordings, Split
from ...datamodules.cochlear.ace import BANDS, AceConfig, ace
from ...datamodules.cochlear.patterns import PatternSet, cached_patterns
from ...datamodules.cochlear.vocoder import vocode
from ...datamodules.parts.references import cached_references
from ...datamodules.parts.waveforms import WaveformSet
from ..losses.stacked_vstoi import StackedVSTOI
from ..losses.stimulation import band_selection_loss
from ..metrics.base import Pending, Submit
from ..metrics.intelligibility import vstoi
from ..metrics.scoring.patterns import score_stimulation
from .base import FrontEnd, Heard, Scorer, TestItem, Track, Watched, spread
from .pictures import electrodogram


@final
class CochlearFrontEnd(FrontEnd):
    """Sound to the stimulation pattern by ACE; back by the sine vocoder."""

    output = "the stimulation pattern made audible by sines at the band centres, not the waveform itself"
    shortest = FRAME_SECONDS

    def __init__(self, config: AceConfig) -> None:
        self.config, self.hop = config, config.hop

    def analyse(self, sound: Tensor) -> Tensor:
        return ace(sound[None], self.config)[0]

    def synthesise(self, signal: Tensor, samples: int) -> Tensor:
        return vocode(signal[None], samples, self.config)[0]


@final
class CochlearScorer(Scorer):
    """Patterns of one front end, and what the sine vocoder makes of them."""

    name = "cochlear"
    notes = ("pesq_wb and visqol compare vocoded audio: diagnostics outside their validated use, not ranked",)

    def __init__(self, config: AceConfig) -> None:
        self.config = config

    def score(self, item: TestItem, decoded: Tensor, submit: Submit) -> Pending:
        return score_stimulation(item.clean, item.signal, decoded, self.config, submit)

    def show(self, item: TestItem, decoded: Tensor, folder: Path) -> None:
        """An electrodogram, and what both patterns and the clean signal sound like."""
        electrodogram(
            item.signal.numpy(), decoded.numpy(), self.config.frame_rate, folder / f"{item.name}.png", item.name
        )
        samples = len(item.clean)
        uncoded, coded = (vocode(pattern[None], samples, self.config)[0] for pattern in (item.signal, decoded))
        gain = 0.9 / uncoded.abs().max().clamp_min(1e-9)  # one gain for both: their loudness can be compared
        for kind, audio in (("uncoded", uncoded * gain), ("decoded", coded * gain), ("clean", item.clean)):
            soundfile.write(folder / f"{item.name}.{kind}.wav", audio.clamp(-1, 1).numpy(), SAMPLE_RATE)


@final
class CochlearTrack(Track):
    """Stimulation patterns of the ACE front end."""

    VALIDATION_CROPS, VALIDATION_FRAMES = 64, 400

    def __init__(self, corpus: Recordings, config: AceConfig, alpha: float, watched: Watched | None = None) -> None:
        self.corpus, self.config, self.alpha, self.watched = corpus, config, alpha, watched
        self.scorer = CochlearScorer(config)
        self._references: dict[str, WaveformSet] = {}
        self.signal_rate, self.leading = config.frame_rate, (BANDS,)

    @cached_property
    def patterns(self) -> PatternSet:
        """Of the train split."""
        return cached_patterns(self.corpus, "train", self.config, progress=self.watched)

    @cached_property
    def held_out(self) -> PatternSet:
        """Of the validation split."""
        return cached_patterns(self.corpus, "validation", self.config, progress=self.watched)

    @property
    def typical_length(self) -> int:
        return int(np.median(self.patterns.lengths))

    @cached_property
    def _validation(self) -> Tensor:
        crops = self.held_out.crops(self.VALIDATION_CROPS, self.VALIDATION_FRAMES, np.random.default_rng(0))
        return torch.from_numpy(crops)

    @property
    def front_end(self) -> CochlearFrontEnd:
        return CochlearFrontEnd(self.config)

    def training_batch(self, batch_size: int, length: int, generator: np.random.Generator) -> Tensor:
        return torch.from_numpy(self.patterns.crops(batch_size, length, generator))

    def validation_batch(self) -> Tensor:
        return self._validation

    def signals(self, split: Split, count: int) -> list[Tensor]:
        patterns = self._patterns(split)
        return [torch.from_numpy(np.array(patterns[index])) for index in spread(count, len(patterns))]

    def heard(self, split: Split, count: int, seconds: float, generator: np.random.Generator) -> Heard:
        if split not in self._references:
            self._references[split] = cached_references(self.corpus, split, progress=self.watched)
        patterns, references = self._patterns(split), self._references[split]
        frames, hop = round(seconds * self.signal_rate), self.config.hop
        places = patterns.places(count, frames, generator)
        clean = references.cut([(item, first * hop) for item, first in places], frames * hop)
        return Heard(torch.from_numpy(patterns.cut(places, frames)), torch.from_numpy(clean))

    def intelligibility(self, decoded: Tensor, clean: Tensor) -> Tensor:
        return vstoi(decoded, clean, self.config)

    def merit_of_variants(self, heard: Heard, limit: float | None) -> StackedVSTOI:
        return StackedVSTOI(heard.clean, heard.pattern, self.config, limit)

    def _patterns(self, split: Split) -> PatternSet:
        return {"train": self.patterns, "validation": self.held_out}[split]

    def test_items(self) -> Sequence[Item]:
        return self.corpus.items("test")

    def load(self, item: Item) -> TestItem:
        sound, clean = (torch.from_numpy(load(item)) for load in (self.corpus.load, self.corpus.reference))
        pattern, length = self.front_end.analyse(sound), len(sound)
        return TestItem(item.name, pattern, clean, length / SAMPLE_RATE, length, self.corpus.conditions(item), sound)

    def loss(self, signal: Tensor, decoded: Tensor) -> Tensor:
        return band_selection_loss(signal, decoded, self.alpha)
