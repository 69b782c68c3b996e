"""What a domain brings to a run: its signals and their training loss; what scores them and shows them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
from torch import Tensor

from ...datamodules.base import LEVEL, SAMPLE_RATE, Split
from ..errors import UserError
from ..metrics.base import Pending, Submit

Watched = Callable[[Iterable[Any], str], Iterable[Any]]  # a progress bar around what is being worked through


class TestItem(NamedTuple):
    """One test signal as the codec sees it, and the audio that it came from."""

    name: str
    signal: Tensor  # without B
    clean: Tensor  # "N" at the front end's sample rate
    seconds: float
    samples: int  # length of the source, which the file's header carries
    conditions: Mapping[str, str | float] = {}
    sound: Tensor | None = None  # what the signal was analysed from; None: it is the signal


class Heard(NamedTuple):
    """Stretches of signals and the clean speech that they are to sound like."""

    pattern: Tensor  # "B M T"
    clean: Tensor  # "B N" at 16 kHz


def spread(count: int, of: int) -> Sequence[int]:
    """At most `count` different numbers from 0 to of - 1, evenly spread, both ends included."""
    return np.unique(np.linspace(0, of - 1, count).round().astype(int)).tolist()


class FrontEnd(ABC):
    """How sound becomes the signal of a domain, and back; it needs no corpus."""

    sample_rate: int = SAMPLE_RATE  # Hz of the sound, unless a file's header names another
    hop: int = 1  # samples of the sound per sample of the signal
    output: str  # what synthesise() makes, in words
    shortest: float = 0.0  # seconds of sound that there must be
    level: float | None = LEVEL  # dBFS of the sound that codecs are trained on; None: as it was recorded
    keeps_level: bool = False  # what synthesise() makes has the level of the sound

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


class Scorer(ABC):
    """What scores decoded signals of a track, and shows them; it needs no corpus."""

    name: str  # of the track
    notes: tuple[str, ...] = ()  # what every reader of the scores must know

    @abstractmethod
    def score(self, item: TestItem, decoded: Tensor, submit: Submit) -> Pending:
        """Begin to score one decoded item; what is returned waits for what `submit` computes and gives every metric."""

    @abstractmethod
    def show(self, item: TestItem, decoded: Tensor, folder: Path) -> None:
        """Write what one can listen to and look at."""


class Track(ABC):
    """The signals of one domain from one corpus, their loss, and what scores them."""

    scorer: Scorer
    signal_rate: float  # samples of the codec's signal per second
    leading: tuple[int, ...]  # shape of a signal before its last axis

    @property
    @abstractmethod
    def typical_length(self) -> int:
        """Median length of a training signal, in samples."""

    def prepare(self) -> None:
        """Load all that training needs. DataError: it cannot be used."""
        _ = self.typical_length, self.validation_batch()

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

    def heard(self, split: Split, count: int, seconds: float, generator: np.random.Generator) -> Heard:
        """Random crops of whose intelligibility training may make the most. UserError: this track has none."""
        raise self._unheard()

    def intelligibility(self, decoded: Tensor, clean: Tensor) -> Tensor:
        """What listeners understand of decoded signals, "B" in [0, 1], differentiable; see heard()."""
        raise self._unheard()

    def merit_of_variants(self, heard: Heard, limit: float | None) -> Callable[[Tensor], Tensor]:
        """Decoded signals "P B M T" of P variants to the mean intelligibility "P" of each, balanced by a limit."""
        raise self._unheard()

    def _unheard(self) -> UserError:
        return UserError(f"the {self.scorer.name} track has no VSTOI to ascend; leave the stages vstoi and spsa out")

    @abstractmethod
    def test_items(self) -> Sequence[Any]:
        """What `load` takes, for every item of the test split."""

    @abstractmethod
    def load(self, item: Any) -> TestItem:
        """One item of the test split."""

    @abstractmethod
    def loss(self, signal: Tensor, decoded: Tensor) -> Tensor:
        """The distortion that training minimises."""
