"""Test items through real files: coded, decoded by a fresh model, compared, scored. The only loop that does it.

item -> encode -> file -> decode -> the track's signal -> score, in other processes while the next ones are coded
"""

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ..metrics.scoring.pool import score_pool
from ..tracks.base import Scorer, TestItem, Watched

SHOWN = 3  # items, spread over the test set, whose decoded audio and pictures are kept
EXAMPLES = "examples"

Seconds = dict[str, float]  # encode, decode, score, audio


class Coding(NamedTuple):
    """What became of an item."""

    decoded: Tensor  # the track's signal, without B
    row: dict[str, Any]  # bytes and rates


class Subject(ABC):
    """What is evaluated: whatever makes decoded signals of items."""

    sources: Sequence[Any]  # what load() takes, one an item

    @abstractmethod
    def load(self, source: Any) -> TestItem:
        """An item."""

    @abstractmethod
    def code(self, item: TestItem, folder: Path, seconds: Seconds) -> Coding:
        """What the item that was loaded last decodes to; files go below `folder`."""


class Evaluation(NamedTuple):
    """What came out on the test set."""

    rows: list[dict[str, Any]]  # one per item: name, conditions, seconds, bytes, rates, scores
    seconds: Seconds


@contextlib.contextmanager
def timed(seconds: Seconds, what: str) -> Iterator[None]:
    """Add the seconds that something takes."""
    begin = time.perf_counter()
    yield
    seconds[what] += time.perf_counter() - begin


def evaluate(subject: Subject, scorer: Scorer, folder: Path, watched: Watched) -> Evaluation:
    """Code and score every item; some are kept below `folder`, to look at and listen to."""
    shown = folder / EXAMPLES
    shown.mkdir(exist_ok=True)
    seconds: Seconds = {"encode": 0.0, "decode": 0.0, "score": 0.0, "audio": 0.0}
    rows, pending, sources = [], [], subject.sources
    examples = spread(len(sources))
    with score_pool(len(sources)) as pool:
        for number, source in enumerate(watched(sources, "encode, decode, score")):
            item = subject.load(source)
            decoded, row = subject.code(item, folder, seconds)
            with timed(seconds, "score"):
                pending.append(scorer.score(item, decoded, pool.submit))
            if number in examples:
                scorer.show(item, decoded, shown)
            seconds["audio"] += item.seconds
            rows.append({"item": item.name, **item.conditions, "seconds": item.seconds, **row})
        with timed(seconds, "score"):
            scores = [wait() for wait in pending]
    return Evaluation([row | found for row, found in zip(rows, scores, strict=True)], seconds)


def spread(count: int) -> set[int]:
    """SHOWN of so many items, the first and the last among them."""
    return {round(number * (count - 1) / (SHOWN - 1)) for number in range(SHOWN)}
