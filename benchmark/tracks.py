"""What a domain brings to a run: its signals, its training loss, its scores, and what one can listen to or look at."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import soundfile
import torch
from torch import Tensor

from ..datamodules.base import SAMPLE_RATE, Corpus, Item, Split
from ..datamodules.cochlear.ace import BANDS, AceConfig, ace
from ..datamodules.cochlear.patterns import cached_patterns
from ..datamodules.cochlear.vocoder import vocode
from ..leaderboards.plots import electrodogram
from .errors import UserError
from .losses.stimulation import band_selection_loss
from .metrics.stimulation import score_stimulation

Watched = Callable[[Iterable[Any], str], Iterable[Any]]  # a progress bar around what is being worked through


class TestItem(NamedTuple):
    """One test signal as the codec sees it, and the audio that it came from."""

    name: str
    signal: Tensor  # without B
    clean: Tensor  # "N" at 16 kHz
    seconds: float
    samples: int  # length of the source, which the file's header carries


class FrontEnd(ABC):
    """How sound becomes the signal of a domain, and back; it needs no corpus."""

    sample_rate: int = SAMPLE_RATE  # Hz of the sound, unless a file's header names another
    hop: int = 1  # samples of the sound per sample of the signal
    output: str  # what synthesise() makes, in words

    @abstractmethod
    def analyse(self, sound: Tensor) -> Tensor:
        """The signal (without B) of mono sound "N" at its sample rate and level."""

    @abstractmethod
    def synthesise(self, signal: Tensor, samples: int) -> Tensor:
        """`samples` samples of sound from a signal (without B)."""

    @final
    def resampled_length(self, samples: int, rate: int | None = None) -> int:
        """Samples at the front end's rate of a source of `samples` at `rate` Hz (None: the same); integers alone."""
        return -(-samples * self.sample_rate // (rate or self.sample_rate))

    @final
    def signal_length(self, samples: int, rate: int | None = None) -> int:
        """Samples of the signal of a source of `samples` at `rate` Hz (None: the front end's); integers alone."""
        return -(-self.resampled_length(samples, rate) // self.hop)


@final
class CochlearFrontEnd(FrontEnd):
    """Sound to the stimulation pattern by ACE; back by the sine vocoder."""

    output = "the stimulation pattern made audible by sines at the band centres, not the waveform itself"

    def __init__(self, config: AceConfig) -> None:
        self.config, self.hop = config, config.hop

    def analyse(self, sound: Tensor) -> Tensor:
        return ace(sound[None], self.config)[0]

    def synthesise(self, signal: Tensor, samples: int) -> Tensor:
        return vocode(signal[None], samples, self.config)[0]


class Track(ABC):
    """Signals, loss and scores of one domain."""

    name: str
    signal_rate: float  # samples of the codec's signal per second
    leading: tuple[int, ...]  # shape of a signal before its last axis
    typical_length: int  # median length of a training signal, in samples

    @property
    def front_end(self) -> FrontEnd | None:
        """Between sound and signal; None where the signal is the source itself."""
        return None

    @abstractmethod
    def training_batch(self, batch_size: int, length: int, generator: np.random.Generator) -> Tensor:
        """Random crops of the training split, with B."""

    @abstractmethod
    def validation_batch(self) -> Tensor:
        """The same crops of the validation split each time, with B."""

    @abstractmethod
    def signals(self, split: Split, count: int) -> list[Tensor]:
        """At most `count` whole signals of the train or validation split, without B, spread over it."""

    @abstractmethod
    def test_items(self) -> Sequence[Any]:
        """What `load` takes, for every item of the test split."""

    @abstractmethod
    def load(self, item: Any) -> TestItem:
        """One item of the test split."""

    @abstractmethod
    def loss(self, signal: Tensor, decoded: Tensor) -> Tensor:
        """The distortion that training minimises."""

    @abstractmethod
    def score(self, item: TestItem, decoded: Tensor) -> dict[str, float]:
        """Every metric of one decoded item."""

    @abstractmethod
    def show(self, item: TestItem, decoded: Tensor, folder: Path) -> None:
        """Write what one can listen to and look at."""


@final
class CochlearTrack(Track):
    """Stimulation patterns of the ACE front end."""

    name = "cochlear"
    VALIDATION_CROPS, VALIDATION_FRAMES = 64, 400

    def __init__(self, corpus: Corpus, config: AceConfig, alpha: float, watched: Watched | None = None) -> None:
        self.corpus, self.config, self.alpha = corpus, config, alpha
        self.signal_rate, self.leading = config.frame_rate, (BANDS,)
        self.patterns = cached_patterns(corpus, "train", config, progress=watched)
        self.typical_length = int(np.median(self.patterns.lengths))
        self.held_out = cached_patterns(corpus, "validation", config, progress=watched)
        crops = self.held_out.crops(self.VALIDATION_CROPS, self.VALIDATION_FRAMES, np.random.default_rng(0))
        self._validation = torch.from_numpy(crops)

    @property
    def front_end(self) -> CochlearFrontEnd:
        return CochlearFrontEnd(self.config)

    def training_batch(self, batch_size: int, length: int, generator: np.random.Generator) -> Tensor:
        return torch.from_numpy(self.patterns.crops(batch_size, length, generator))

    def validation_batch(self) -> Tensor:
        return self._validation

    def signals(self, split: Split, count: int) -> list[Tensor]:
        patterns = {"train": self.patterns, "validation": self.held_out}[split]
        chosen = np.unique(np.linspace(0, len(patterns) - 1, count).round().astype(int))
        return [torch.from_numpy(np.array(patterns[index])) for index in chosen]

    def test_items(self) -> Sequence[Item]:
        return self.corpus.items("test")

    def load(self, item: Item) -> TestItem:
        clean = torch.from_numpy(self.corpus.load(item))
        return TestItem(item.name, self.front_end.analyse(clean), clean, len(clean) / SAMPLE_RATE, len(clean))

    def loss(self, signal: Tensor, decoded: Tensor) -> Tensor:
        return band_selection_loss(signal, decoded, self.alpha)

    def score(self, item: TestItem, decoded: Tensor) -> dict[str, float]:
        return score_stimulation(item.clean, item.signal, decoded, self.config)

    def show(self, item: TestItem, decoded: Tensor, folder: Path) -> None:
        electrodogram(item.signal.numpy(), decoded.numpy(), self.signal_rate, folder / f"{item.name}.png", item.name)
        samples = len(item.clean)
        uncoded, coded = (vocode(pattern[None], samples, self.config)[0] for pattern in (item.signal, decoded))
        gain = 0.9 / uncoded.abs().max().clamp_min(1e-9)  # one gain for both: their loudness can be compared
        for kind, audio in (("uncoded", uncoded * gain), ("decoded", coded * gain), ("clean", item.clean)):
            soundfile.write(folder / f"{item.name}.{kind}.wav", audio.clamp(-1, 1).numpy(), SAMPLE_RATE)


def front_end_of(domain: str, config: AceConfig) -> FrontEnd:
    """The front end of a codec's domain. UserError where there is none yet."""
    if domain != "stimulation":
        raise UserError(f"no data and metrics for codecs of the domain {domain!r} yet; there are: stimulation")
    return CochlearFrontEnd(config)


def track_of(domain: str, corpus: Corpus, config: AceConfig, alpha: float, watched: Watched | None = None) -> Track:
    """The track of a codec's domain. UserError where there is none yet."""
    front_end_of(domain, config)
    return CochlearTrack(corpus, config, alpha, watched)
