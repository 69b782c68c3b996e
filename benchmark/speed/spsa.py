"""VSTOI evaluations of SPSA, all variants at once against one by one: `python -m codecbench.benchmark.spsa_speed`.

Speech of `--data`, the folder LibriSpeech/ (else of the built-in demo corpus), in cuts of `--seconds`; a feedback
autoencoder with 64 pairs of perturbations around weights as they start, codebooks fitted. One by one means: load the
variant's parameters, code without gradient, vocode, score against a reference computed once. Both sides run in one
process, in turn, on one thread; all losses are compared in float64 before anything is timed. Printed: the median CPU
time of one evaluation, which is one variant on one item; evaluations per second; and where their time goes.
"""

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ...codecs.frae import FRAE
from ...datamodules.base import SAMPLE_RATE, Corpus
from ...datamodules.cochlear.ace import ace
from ...datamodules.cochlear.vocoder import vocode
from ...datamodules.demo import Demo
from ...datamodules.librispeech import LibriSpeech
from ...quantizers.base import Quantizer
from ..losses.stacked_vstoi import StackedVSTOI
from ..metrics.intelligibility import FEW_ITEMS, Reference
from ..specs.registry import found
from ..specs.stages import SPSA
from ..training.spsa import Ascender

PAIRS = 64
LIMIT = 1e-6  # of the difference between both ways' losses, in float64

HEADER = [
    "quantizer",
    "items",
    "largest difference",
    "one by one ms",
    "at once ms",
    "per second",
    "ratio",
    "loop",
    "vocoder",
    "STOI",
]
WIDTHS = [11, 6, 19, 14, 11, 11, 7, 6, 9, 6]


def cuts(root: str | None, count: int, seconds: float) -> Tensor:
    """The test recordings one after another, as "count N"; SystemExit where they do not last."""
    corpus: Corpus = LibriSpeech(root) if root else Demo()
    samples, rest = round(seconds * SAMPLE_RATE), np.zeros(0, np.float32)
    for item in corpus.items("test"):
        rest = np.concatenate([rest, corpus.load(item)])
        if len(rest) >= count * samples:
            return torch.from_numpy(rest[: count * samples]).view(count, samples)
    sys.exit(f"{count} cuts of {seconds:g} s are asked for; {corpus.title} lasts {len(rest) / SAMPLE_RATE:.0f} s")


@torch.no_grad()
def one_by_one(codec: FRAE, variants: dict[str, Tensor], pattern: Tensor, clean: Tensor) -> Tensor:
    """The mean VSTOI of each variant, the plain way."""
    references = Reference(clean, SAMPLE_RATE)
    parameters = dict(codec.named_parameters())
    kept = {name: value.clone() for name, value in parameters.items()}
    scores = []
    for n in range(len(next(iter(variants.values())))):
        for name, value in parameters.items():
            value.copy_(variants[name][n])
        scores.append(references.stoi(vocode(codec(pattern).signal, clean.shape[1])).mean())
    for name, value in parameters.items():
        value.copy_(kept[name])
    return torch.stack(scores)


def seconds_of(side: Callable[[], object]) -> float:
    """CPU time of one call."""
    begin = time.process_time()
    side()
    return time.process_time() - begin


def _quantizer(name: str, channels: int, share: float) -> Quantizer:
    return found("quantizers")[name](channels)


def _case(name: str, pattern: Tensor) -> tuple[FRAE, dict[str, Tensor]]:
    """A codec with its quantizer fitted, and the 128 variants of an iteration's perturbations."""
    torch.manual_seed(0)
    codec = FRAE(partial(_quantizer, name))
    codec.fit(pattern)
    codec.eval()
    variants: list[dict[str, Tensor]] = []

    def keep(values: dict[str, Tensor]) -> Tensor:
        variants.append(values)
        return torch.zeros(2 * PAIRS)

    Ascender(dict(codec.named_parameters()), SPSA(pairs=PAIRS)).step(keep)
    return codec, variants[0]


def difference(codec: FRAE, variants: dict[str, Tensor], pattern: Tensor, clean: Tensor, limit: float = LIMIT) -> float:
    """The largest between both ways' losses in float64, where rounding flips no code; SystemExit above the limit."""
    codec = copy.deepcopy(codec).double()
    variants = {name: value.double() for name, value in variants.items()}
    pattern, clean = pattern.double(), clean.double()
    at_once = StackedVSTOI(clean, pattern)(codec.stacked(variants, pattern))
    largest = float((at_once - one_by_one(codec, variants, pattern, clean)).abs().max())
    if not largest <= limit:
        sys.exit(f"both ways' losses differ by {largest:.1e}, more than {limit:.0e}")
    return largest


@torch.no_grad()
def main() -> None:
    """Print one line per quantizer and number of items."""
    parser = argparse.ArgumentParser(description="VSTOI evaluations of SPSA, all variants at once against one by one.")
    parser.add_argument("--data", help="the folder LibriSpeech/; the demo corpus unless given")
    parser.add_argument("--quantizer", default="kmeans_vq,identity")
    parser.add_argument("--batch", default="1,4", help="numbers of items in a step")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{PAIRS} pairs, items of {arguments.seconds:g} s")
    print(_row(HEADER))
    batches = [int(batch) for batch in arguments.batch.split(",")]
    speech = cuts(arguments.data, max(batches), arguments.seconds)
    for name in arguments.quantizer.split(","):
        for batch in batches:
            clean = speech[:batch]
            pattern = ace(clean)
            codec, variants = _case(name, pattern)
            largest = difference(codec, variants, pattern, clean)
            print(
                _row([name, str(batch), f"{largest:.1e}", *_timed(codec, variants, pattern, clean, arguments.rounds)])
            )


def _timed(codec: FRAE, variants: dict[str, Tensor], pattern: Tensor, clean: Tensor, rounds: int) -> list[str]:
    objective, signals = StackedVSTOI(clean, pattern), codec.stacked(variants, pattern)
    sides: list[Callable[[], object]] = [
        lambda: one_by_one(codec, variants, pattern, clean),
        lambda: codec.stacked(variants, pattern),
        lambda: [vocode(part, clean.shape[1]) for part in signals.flatten(0, 1).split(FEW_ITEMS)],
        lambda: objective(signals),
    ]
    times = [[1000 * seconds_of(side) / (2 * PAIRS * len(pattern)) for side in sides] for _ in range(rounds)]
    single, loop, vocoder, scoring = (statistics.median(each) for each in zip(*times, strict=True))
    both = loop + scoring
    shares = [f"{part / both:.0%}" for part in (loop, vocoder, scoring - vocoder)]
    return [f"{single:.1f}", f"{both:.2f}", f"{1000 / both:.0f}", f"{single / both:.1f}", *shares]


def _row(cells: list[str]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))


if __name__ == "__main__":
    main()
