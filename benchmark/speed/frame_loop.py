"""The frame loop's speed: hand-written backward against autograd, `python -m codecbench.benchmark.speed`.

Both sides run in one process, interleaved, on one thread; outputs and gradients are compared before anything is timed.
The median of the rounds is printed: forward and backward of one training step.
"""

import argparse
import statistics
import time
from functools import partial

import torch

from ...codecs.frae import FRAE
from ...codecs.parts.feedback import UNSELECTED
from ...quantizers.base import Quantizer
from ..specs.registry import found

SHAPES = ((1, 200), (16, 200), (64, 100), (128, 100))  # batch, frames


def step_seconds(codec: FRAE, pattern: torch.Tensor, fast: bool) -> float:
    """Wall time of one forward and backward pass."""
    codec.fast = fast
    begin = time.perf_counter()
    coded = codec(pattern)
    (coded.signal.square().mean() + coded.quantized[0].loss).backward()
    return time.perf_counter() - begin


def worst_difference(codec: FRAE, pattern: torch.Tensor) -> float:
    """Largest difference of outputs and gradients between the two ways, in float64."""
    sides = []
    for fast in (True, False):
        torch.manual_seed(0)
        codec.zero_grad()
        codec.fast = fast
        coded = codec(pattern)
        (coded.signal.square().mean() + coded.quantized[0].loss).backward()
        sides.append([coded.signal.detach(), *(p.grad for p in codec.parameters() if p.grad is not None)])
    return max(float((a - b).abs().max()) for a, b in zip(*sides, strict=True))


def _quantizer(name: str, channels: int, share: float) -> Quantizer:
    return found("quantizers")[name](channels)


def main() -> None:
    """Print one line per quantizer and shape."""
    parser = argparse.ArgumentParser(description="The frame loop: hand-written backward against autograd.")
    parser.add_argument("--quantizer", default="identity,ste_vq,ema_vq,nsvq")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'quantizer':10} {'batch x frames':>14} {'autograd ms':>12} {'fast ms':>9} {'ratio':>6} {'difference':>11}")
    for name in arguments.quantizer.split(","):
        for batch, frames in SHAPES:
            codec = FRAE(partial(_quantizer, name)).train()
            pattern = torch.where(torch.rand(batch, 22, frames) < 0.8, UNSELECTED, torch.rand(batch, 22, frames))
            difference = worst_difference(codec.double(), pattern.double())
            codec.float()
            times: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(arguments.rounds):
                for fast in (True, False):
                    times[fast].append(step_seconds(codec, pattern, fast))
            slow, quick = (1000 * statistics.median(times[fast]) for fast in (False, True))
            shape = f"{batch} x {frames}"
            print(f"{name:10} {shape:>14} {slow:12.1f} {quick:9.1f} {slow / quick:6.2f} {difference:11.1e}", flush=True)


if __name__ == "__main__":
    main()
