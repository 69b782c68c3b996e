"""The frame loop's speed: hand-written backward against autograd.

Outputs and gradients are compared in float64 before anything is timed. The median of the rounds is printed: wall time
of forward and backward of one training step.
"""

import time
from collections.abc import Sequence
from functools import partial
from statistics import median

import torch

from ...codecs.frae import FRAE
from ...codecs.parts.feedback import UNSELECTED
from .harness import Table, in_turn, quantizers

SHAPES = ((1, 200), (16, 200), (64, 100), (128, 100))  # batch, frames
COLUMNS = {"quantizer": 12, "batch x frames": 16, "autograd ms": 13, "fast ms": 10, "ratio": 7, "difference": 12}


def step(codec: FRAE, pattern: torch.Tensor, fast: bool) -> torch.Tensor:
    """One forward and backward pass; gives the output."""
    codec.fast = fast
    coded = codec(pattern)
    (coded.signal.square().mean() + coded.quantized[0].loss).backward()
    return coded.signal.detach()


def worst_difference(codec: FRAE, pattern: torch.Tensor) -> float:
    """Largest difference of outputs and gradients between the two ways, in float64."""
    sides = []
    for fast in (True, False):
        torch.manual_seed(0)
        codec.zero_grad()
        signal = step(codec, pattern, fast)
        sides.append([signal, *(p.grad for p in codec.parameters() if p.grad is not None)])
    return max(float((a - b).abs().max()) for a, b in zip(*sides, strict=True))


def measure(quantizer: Sequence[str], rounds: int) -> None:
    """Print one line per quantizer and shape."""
    table = Table(COLUMNS)
    for name in quantizer:
        for batch, frames in SHAPES:
            codec = FRAE(quantizers(name)).train()
            pattern = torch.where(torch.rand(batch, 22, frames) < 0.8, UNSELECTED, torch.rand(batch, 22, frames))
            difference = worst_difference(codec.double(), pattern.double())
            codec.float()
            sides = {f"{fast}": partial(step, codec, pattern, fast) for fast in (False, True)}
            slow, quick = (1000 * median(spent) for spent in in_turn(sides, rounds, time.perf_counter).values())
            cells = f"{slow:.1f}", f"{quick:.1f}", f"{slow / quick:.2f}", f"{difference:.1e}"
            table.line(name, f"{batch} x {frames}", *cells)
