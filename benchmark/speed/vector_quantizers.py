"""Training steps against those of vector-quantize-pytorch.

Needs the library (`pip install "codecbench[test]"`), and Linux for the memory. Both sides have the same codebooks, the
same decay, smoothing, commitment losses and replacement of idle codewords, each in its own memory layout. Codes,
values, losses and updated codebooks are compared before anything is timed. The median of the rounds is printed: CPU
time of forward, backward and the codebook's own update. Peak memory is that of a step in a fresh process, above what
the process holds before it.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...leaderboards.errors import nearest
from ...quantizers.base import Nested, Quantized, Quantizer
from ...quantizers.ema_vq import EMAVQ
from ...quantizers.residual import Residual
from ..errors import UserError
from .harness import SidesDifferError, Table, in_turn

DECAY, SMOOTHING, COMMITMENT, REPLACEMENT = 0.99, 1e-5, 0.25, 0.01
DIMENSION = 64
SAME = 0.999  # share of the codes: in float32 a near tie falls either way
PROGRESS = 0.0  # of the training: use is counted at every step, and no replacement falls due, on neither side


@dataclass(frozen=True)
class Case:
    """One shape; `stages` is 0 for one codebook alone."""

    name: str
    batch: int
    positions: int
    codewords: int
    stages: int
    rounds: int


CASES = {
    "ema": Case("EMA-VQ", 16, 100, 1024, 0, 25),
    "residual": Case("residual, 8 EMA-VQ", 16, 100, 1024, 8, 15),
    "large": Case("EMA-VQ, large", 64, 1024, 4096, 0, 3),
}

PEER_OPTIONS = dict(
    decay=DECAY,
    eps=SMOOTHING,
    commitment_weight=COMMITMENT,
    threshold_ema_dead_code=REPLACEMENT,
    rotation_trick=False,  # straight-through
)
OUR_OPTIONS = dict(decay=DECAY, smoothing=SMOOTHING, commitment=COMMITMENT, replacement=REPLACEMENT)

COLUMNS = {
    "case": 18,
    "vectors x codewords": 21,
    "same codes": 12,
    "library ms": 12,
    "ours ms": 9,
    "ratio": 7,
    "library MB": 12,
    "ours MB": 9,
}


class Result(NamedTuple):
    """What both sides can be compared by."""

    codes: Tensor  # "N S"
    values: Tensor  # "N C"
    loss: Tensor
    codebooks: Tensor  # "S K C", after the step


class Side(NamedTuple):
    """A training step, and what came of the last one."""

    step: Callable[[], Any]
    result: Callable[[Any], Result]


def codebooks(case: Case) -> Tensor:
    """Normal codewords, of stages that get smaller as rests do."""
    stages = max(1, case.stages)
    scales = 0.8 ** torch.arange(stages)
    return scales[:, None, None] * torch.randn(stages, case.codewords, DIMENSION)


def ours(case: Case, latents: Tensor, start: Tensor) -> Side:
    """Latents "B C T"."""
    stage = Nested(EMAVQ, {"codebook_bits": float(torch.tensor(case.codewords).log2()), **OUR_OPTIONS})
    quantizer: Quantizer = Residual(DIMENSION, stage, case.stages) if case.stages else stage(DIMENSION)
    quantizer.train()
    parts: Any = quantizer.active_parts() if isinstance(quantizer, Residual) else [quantizer]
    for part, codewords in zip(parts, start, strict=True):
        part.place(codewords)
    latents = latents.detach().requires_grad_()

    def step() -> Quantized:
        latents.grad = None
        quantized = quantizer(latents)
        (quantized.latents.square().mean() + quantized.loss).backward()
        quantizer.update(quantized.source, quantized.codes, PROGRESS)
        return quantized

    def result(quantized: Quantized) -> Result:
        codes, values = (part.detach().transpose(1, 2).flatten(0, 1) for part in (quantized.codes, quantized.latents))
        return Result(codes, values, quantized.loss.detach(), _stacked(parts, "codebook"))

    return Side(step, result)


def library(case: Case, latents: Tensor, start: Tensor) -> Side:
    """The same latents as "B T C"."""
    residual, alone = _peer()
    options: dict[str, Any] = dict(dim=DIMENSION, codebook_size=case.codewords, **PEER_OPTIONS)
    quantizer = residual(num_quantizers=case.stages, **options) if case.stages else alone(**options)
    quantizer.train()
    layers: Any = quantizer.layers if case.stages else [quantizer]
    parts = [layer._codebook for layer in layers]
    for part, codewords in zip(parts, start, strict=True):
        part.embed.copy_(codewords[None])
        part.embed_avg.copy_(codewords[None])
        part.cluster_size.fill_(1.0)
    latents = latents.detach().transpose(1, 2).contiguous().requires_grad_()

    def step() -> tuple[Tensor, Tensor, Tensor]:
        latents.grad = None
        quantized, codes, losses = quantizer(latents)
        (quantized.square().mean() + losses.sum()).backward()
        return quantized, codes, losses

    def result(returned: tuple[Tensor, Tensor, Tensor]) -> Result:
        values, codes, losses = returned
        codes = codes.reshape(-1, max(1, case.stages))
        return Result(codes, values.detach().flatten(0, 1), losses.detach().sum(), _stacked(parts, "embed"))

    return Side(step, result)


def _peer() -> tuple[Any, Any]:
    try:
        from vector_quantize_pytorch import ResidualVQ, VectorQuantize
    except ImportError:
        raise UserError("vector-quantize-pytorch is not installed; pip install vector-quantize-pytorch") from None
    return ResidualVQ, VectorQuantize


def _stacked(parts: Any, name: str) -> Tensor:
    return torch.stack([getattr(part, name).detach().reshape(-1, DIMENSION) for part in parts])


SIDES: dict[str, Callable[[Case, Tensor, Tensor], Side]] = {"library": library, "ours": ours}


def inputs(case: Case) -> tuple[Tensor, Tensor]:
    """Latents "B C T" and codebooks, the same at every call."""
    torch.manual_seed(0)
    return torch.randn(case.batch, DIMENSION, case.positions), codebooks(case)


def compare(case: Case, sides: dict[str, Side]) -> float:
    """Share of the codes that agree in the first step. SidesDifferError: codes, values, losses or codebooks differ."""
    first, second = (side.result(side.step()) for side in sides.values())
    same = (first.codes == second.codes).all(1)
    touched = torch.zeros(first.codebooks.shape[:2], dtype=torch.bool)  # by codes that do not agree
    for codes in (first.codes[~same], second.codes[~same]):
        touched[torch.arange(len(touched)), codes] = True
    agreement = float(same.double().mean())
    pairs = {
        "values": (first.values[same], second.values[same]),
        "loss": (first.loss, second.loss),
        "codebooks": (first.codebooks[~touched], second.codebooks[~touched]),
    }
    differing = [name for name, pair in pairs.items() if not torch.allclose(*pair, rtol=1e-4, atol=1e-5)]
    if agreement < SAME or differing:
        named = ", ".join(differing) or "them"
        raise SidesDifferError(f"{case.name}: {agreement:.3%} of the codes agree; the sides differ in {named}")
    return agreement


def peak_megabytes(name: str, side: str) -> float:
    """Peak memory of one step above what the process holds before it; to be called in a fresh process."""
    torch.set_num_threads(1)
    case = CASES[name]
    small = Case(case.name, 1, 2, case.codewords, case.stages, 1)
    SIDES[side](small, *inputs(small)).step()  # what is loaded at first use
    step = SIDES[side](case, *inputs(case)).step
    base = _resident("VmRSS")
    _forget_peak()
    step()
    return _resident("VmHWM") - base


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measure(case: Sequence[str], rounds: int | None) -> None:
    """Print the options, then one line per case."""
    for name in case:
        if name not in CASES:
            raise UserError(f"no case is called {name!r}{nearest(name, CASES)} There are: {', '.join(CASES)}")
    _peer()
    print(f"library: vector-quantize-pytorch {version('vector-quantize-pytorch')} {_named(PEER_OPTIONS)}")
    print(f"ours:    {_named(OUR_OPTIONS)}")
    table = Table(COLUMNS)
    for name, shape in ((name, CASES[name]) for name in case):
        sides = {side: make(shape, *inputs(shape)) for side, make in SIDES.items()}
        agreement, steps = compare(shape, sides), {name: side.step for name, side in sides.items()}
        peer, quick = (1000 * median(spent) for spent in in_turn(steps, rounds or shape.rounds).values())
        peaks = [f"{_in_fresh_process(name, side):.0f}" for side in SIDES]
        size = f"{shape.batch * shape.positions} x {shape.codewords}"
        cells = f"{agreement:.3%}", f"{peer:.1f}", f"{quick:.2f}", f"{peer / quick:.1f}"
        table.line(shape.name, size, *cells, *peaks)


def _in_fresh_process(name: str, side: str) -> float:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(peak_megabytes, name, side).result()


def _named(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())
