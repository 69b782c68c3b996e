"""VSTOI evaluations of SPSA, all variants at once against one by one.

Speech in cuts of some seconds; a feedback autoencoder with 64 pairs of perturbations around weights as they start,
codebooks fitted. One by one means: load the variant's parameters, code without gradient, vocode, score against a
reference computed once. All losses are compared in float64 before anything is timed. Printed: the median CPU time of
one evaluation, which is one variant on one item; evaluations per second; and where their time goes.
"""

import copy
from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor

from ...codecs.frae import FRAE
from ...datamodules.base import SAMPLE_RATE
from ...datamodules.cochlear.ace import ace
from ...datamodules.cochlear.vocoder import vocode
from ..losses.stacked_vstoi import StackedVSTOI
from ..metrics.intelligibility import FEW_ITEMS, Reference
from ..specs.stages import SPSA
from ..training.spsa import Climber
from .harness import Sides, Table, cuts, in_turn, quantizers, within

PAIRS = 64
LIMIT = 1e-6  # of the difference between both ways' losses, in float64
TIMES = {"one by one ms": 14, "at once ms": 11, "per second": 11, "ratio": 7, "loop": 6, "vocoder": 9, "STOI": 6}
COLUMNS = {"quantizer": 11, "items": 6, "largest difference": 19, **TIMES}


@torch.no_grad()
def measure(data: str | None, quantizer: Sequence[str], batch: Sequence[int], seconds: float, rounds: int) -> None:
    """Print one line per quantizer and number of items."""
    speech = cuts(data, max(batch), seconds)
    print(f"{PAIRS} pairs, items of {seconds:g} s")
    table = Table(COLUMNS)
    for name in quantizer:
        for items in batch:
            clean = speech[:items]
            pattern = ace(clean)
            codec, variants = case(name, pattern)
            largest = difference(codec, variants, pattern, clean)
            table.line(name, str(items), f"{largest:.1e}", *_timed(codec, variants, pattern, clean, rounds))


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


def case(name: str, pattern: Tensor) -> tuple[FRAE, dict[str, Tensor]]:
    """A codec with its quantizer fitted, and the 128 variants of an iteration's perturbations."""
    torch.manual_seed(0)
    codec = FRAE(quantizers(name))
    codec.fit(pattern)
    codec.eval()
    variants: list[dict[str, Tensor]] = []

    def keep(values: dict[str, Tensor]) -> Tensor:
        variants.append(values)
        return torch.zeros(2 * PAIRS)

    Climber(dict(codec.named_parameters()), SPSA(pairs=PAIRS)).step(keep)
    return codec, variants[0]


def difference(codec: FRAE, variants: dict[str, Tensor], pattern: Tensor, clean: Tensor, limit: float = LIMIT) -> float:
    """The largest of both ways' losses in float64, where rounding flips no code; SidesDifferError above the limit."""
    codec = copy.deepcopy(codec).double()
    variants = {name: value.double() for name, value in variants.items()}
    pattern, clean = pattern.double(), clean.double()
    at_once = StackedVSTOI(clean, pattern)(codec.stacked(variants, pattern))
    largest = float((at_once - one_by_one(codec, variants, pattern, clean)).abs().max())
    return within(largest, limit, "both ways' losses differ")


def _timed(codec: FRAE, variants: dict[str, Tensor], pattern: Tensor, clean: Tensor, rounds: int) -> list[str]:
    objective, signals = StackedVSTOI(clean, pattern), codec.stacked(variants, pattern)
    sides: Sides = {
        "one by one": lambda: one_by_one(codec, variants, pattern, clean),
        "loop": lambda: codec.stacked(variants, pattern),
        "vocoder": lambda: [vocode(part, clean.shape[1]) for part in signals.flatten(0, 1).split(FEW_ITEMS)],
        "score": lambda: objective(signals),
    }
    evaluations = 2 * PAIRS * len(pattern)
    single, loop, vocoder, score = (1000 * median(spent) / evaluations for spent in in_turn(sides, rounds).values())
    both = loop + score
    shares = [f"{part / both:.0%}" for part in (loop, vocoder, score - vocoder)]
    return [f"{single:.1f}", f"{both:.2f}", f"{1000 / both:.0f}", f"{single / both:.1f}", *shares]
