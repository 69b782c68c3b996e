"""Stages that ascend the intelligibility of decoded patterns: VSTOI by its exact gradient, or by SPSA.

Each step takes new crops of training signals, pattern and sound of one stretch of time, and mean VSTOI goes up. On the
way validation crops are scored as a file would be decoded, and the state is kept, so that a killed stage goes on.
"""

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import track as progress_bar
from torch import Tensor

from ..codecs.base import Codec, Coded
from .errors import UserError
from .losses.intelligibility import balanced_vstoi
from .spsa import SPSA, Ascender, deciding_parameters
from .spsa import ascend as climb
from .stages import VSTOI
from .tracks import Heard, Track

MOST_SKIPPED = 20  # steps in a row
KEPT_EVERY = 60.0  # seconds between two checkpoints
VALIDATIONS = 10  # over a stage
HELD_OUT, HELD_OUT_SECONDS = 32, 2.0  # validation crops
FLAT_OUT = 0.7  # share of the steps after which the learning rate falls to 0


class Ascent(NamedTuple):
    """What came out of a stage."""

    curve: list[list[float]]  # step, VSTOI of validation crops decoded, and uncoded
    seconds: float
    skipped: int  # steps


class _Ascender(ABC):
    """One way of climbing."""

    def __init__(self, codec: Codec, track: Track, stage: Any, seed: int) -> None:
        self.codec, self.track, self.stage, self.seed = codec, track, stage, seed
        self.skipped = 0  # steps that moved nothing

    @abstractmethod
    def step(self, k: int, heard: Heard) -> None:
        """Step k of the stage."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What a resumed stage needs beside the codec's own state; plain values and tensors."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of state()."""


class _ByGradient(_Ascender):
    """Adam on the negative of mean VSTOI, plus the codec's own loss and the quantizers'.

    Carried back through the feedback of some two thousand frames, a gradient may overflow: such a step is skipped.
    """

    def __init__(self, codec: Codec, track: Track, stage: VSTOI, seed: int, clip: float) -> None:
        super().__init__(codec, track, stage, seed)
        self.parameters = [p for p in codec.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, lr=stage.learning_rate)
        self.clip, self.in_a_row = clip, 0

    def step(self, k: int, heard: Heard) -> None:
        steps = self.stage.steps
        for group in self.optimizer.param_groups:
            group["lr"] = self.stage.learning_rate * min(1.0, (steps - k) / max(1.0, (1 - FLAT_OUT) * steps))
        coded: Coded = self.codec(heard.pattern)
        merit = self._merit(coded.signal, heard)
        loss = self.stage.distortion * self.track.loss(heard.pattern, coded.signal) - merit.nanmean()
        loss = loss + sum(quantized.loss for quantized in coded.quantized)
        if not torch.isfinite(loss):
            raise UserError(f"the stage vstoi diverged at step {k}; lower its learning_rate")
        self.optimizer.zero_grad()
        loss.backward()
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)):
            self.optimizer.step()
            self.in_a_row = 0
        else:
            self.skipped += 1
            self.in_a_row += 1
            if self.in_a_row > MOST_SKIPPED:
                raise UserError(
                    f"the stage vstoi has no finite gradient at step {k}; lower its learning_rate or seconds"
                )
        self.codec.update(coded, (k + 1) / steps)

    def state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "skipped": self.skipped, "in_a_row": self.in_a_row}

    def restore(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.skipped, self.in_a_row = int(state["skipped"]), int(state["in_a_row"])

    def _merit(self, decoded: Tensor, heard: Heard) -> Tensor:
        """VSTOI "B", balanced where the stage asks for it."""
        scores = self.track.intelligibility(decoded, heard.clean)
        if self.stage.limit is None:
            return scores
        with torch.no_grad():
            uncoded = self.track.intelligibility(heard.pattern, heard.clean)
        return balanced_vstoi(scores, uncoded, self.stage.limit)


class _BySPSA(_Ascender):
    """Perturbations of every parameter that what is decoded depends on, codebooks included."""

    def __init__(self, codec: Codec, track: Track, stage: SPSA, seed: int) -> None:
        super().__init__(codec, track, stage, seed)
        probe = track.heard("train", 1, stage.seconds, np.random.default_rng([seed, stage.steps]))
        _enter(codec, stage.quantized)
        self.spsa = Ascender(deciding_parameters(codec.eval(), probe.pattern), stage, seed)

    def step(self, k: int, heard: Heard) -> None:
        climb(self.spsa, self.codec.eval(), heard.pattern, self.track.merit_of_variants(heard, self.stage.limit))

    def state(self) -> dict[str, Any]:
        return self.spsa.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        self.spsa.load_state_dict(state)


def ascend(
    codec: Codec, track: Track, stage: VSTOI | SPSA, seed: int, place: Path, bar: bool, clip: float = 1.0
) -> Ascent:
    """Run a stage in place, from `place`/last.ckpt on where an earlier call was cut off."""
    if isinstance(stage, VSTOI):
        ascender: _Ascender = _ByGradient(codec, track, stage, seed, clip)
    else:
        ascender = _BySPSA(codec, track, stage, seed)
    place.mkdir(parents=True, exist_ok=True)
    checkpoint = place / "last.ckpt"
    start, spent, curve = _resume(checkpoint, codec, ascender)
    held_out = track.heard("validation", HELD_OUT, HELD_OUT_SECONDS, np.random.default_rng(0))
    begin = kept = time.monotonic()
    every = max(1, stage.steps // VALIDATIONS)
    console = Console(quiet=not bar)
    for k in progress_bar(range(start, stage.steps), stage.kind, console=console, transient=True):
        if k % every == 0:
            curve.append([k, *_heard(codec, track, stage, held_out)])
        _enter(codec, stage.quantized)
        torch.manual_seed(int(np.random.SeedSequence([seed, k]).generate_state(1)[0]))
        ascender.step(k, track.heard("train", stage.batch, stage.seconds, np.random.default_rng([seed, k])))
        if time.monotonic() - kept > KEPT_EVERY:
            kept = time.monotonic()
            _keep(checkpoint, codec, ascender, k + 1, spent + kept - begin, curve)
    curve.append([stage.steps, *_heard(codec, track, stage, held_out)])
    checkpoint.unlink(missing_ok=True)
    return Ascent(curve, spent + time.monotonic() - begin, ascender.skipped)


def _enter(codec: Codec, quantized: bool) -> None:
    codec.train()
    for quantizer in codec.quantizers:
        quantizer.bypass = not quantized


@torch.no_grad()
def _heard(codec: Codec, track: Track, stage: VSTOI | SPSA, held_out: Heard) -> tuple[float, float]:
    """Mean VSTOI of validation crops, decoded and uncoded."""
    _enter(codec, stage.quantized)
    codec.eval()
    decoded = codec(held_out.pattern).signal
    scores = [track.intelligibility(signal, held_out.clean) for signal in (decoded, held_out.pattern)]
    return float(scores[0].nanmean()), float(scores[1].nanmean())


def _keep(path: Path, codec: Codec, ascender: _Ascender, step: int, spent: float, curve: list[list[float]]) -> None:
    content = {"codec": codec.state_dict(), "ascender": ascender.state(), "step": step, "spent": spent, "curve": curve}
    draft = path.with_suffix(".part")
    torch.save(content, draft)
    draft.replace(path)


def _resume(path: Path, codec: Codec, ascender: _Ascender) -> tuple[int, float, list[list[float]]]:
    if not path.exists():
        return 0, 0.0, []
    content = torch.load(path, weights_only=True, map_location="cpu")
    codec.load_state_dict(content["codec"])
    ascender.restore(content["ascender"])
    return int(content["step"]), float(content["spent"]), content["curve"]
