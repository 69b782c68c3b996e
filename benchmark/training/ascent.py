"""Stages that ascend the intelligibility of decoded patterns: VSTOI by its exact gradient, or by SPSA.

Each step takes new crops of training signals, pattern and sound of one stretch of time, and mean VSTOI goes up. On the
way validation crops are scored as a file would be decoded, and the state is kept, so that a killed stage goes on.
Crops that hold too little speech to have a VSTOI, and gradients that overflow, move nothing: such steps are counted.
"""

import io
import math
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import track as progress_bar
from torch import Tensor

from ...codecs.base import Codec, Coded
from ...leaderboards.records import write_whole
from ..errors import UserError
from ..losses.intelligibility import balanced_vstoi
from ..specs.stages import SPSA, VSTOI
from ..tracks.base import Heard, Track
from .job import Job
from .spsa import Climber, climb, deciding_parameters

MOST_SKIPPED = 20  # steps in a row
KEPT_EVERY = 60.0  # seconds between two checkpoints
VALIDATIONS = 10  # over a stage, and one at its end
HELD_OUT, HELD_OUT_SECONDS = 32, 2.0  # validation crops
VALIDATION = "validation_vstoi"  # to a logger
REMEDIES = {VSTOI.kind: "lower its learning_rate", SPSA.kind: "raise its stability"}
FLAT_OUT = 0.7  # share of the steps after which the learning rate falls to 0


class Ascent(NamedTuple):
    """What came out of a stage."""

    curve: list[list[float]]  # step, VSTOI of validation crops decoded, and uncoded
    seconds: float
    skipped: int  # steps


@dataclass
class _Progress:
    """How far a stage has come."""

    step: int = 0  # the next one
    spent: float = 0.0  # seconds, up to the last checkpoint
    skipped: int = 0
    in_a_row: int = 0
    curve: list[list[float]] = field(default_factory=list)

    def count(self, moved: bool, kind: str) -> None:
        """A step is over. UserError where too many in a row came to nothing."""
        self.step += 1
        self.skipped += not moved
        self.in_a_row = 0 if moved else self.in_a_row + 1
        if self.in_a_row > MOST_SKIPPED:
            raise _of_no_use(kind, self.in_a_row, self.step - 1)


class _Ascender(ABC):
    """One way of climbing."""

    engine: torch.optim.Optimizer | Climber  # whose state a resumed stage needs beside the codec's own

    def __init__(self, codec: Codec, track: Track, stage: Any) -> None:
        self.codec, self.track, self.stage = codec, track, stage

    @abstractmethod
    def step(self, k: int, heard: Heard) -> bool:
        """Step k of the stage; whether anything moved."""


class _ByGradient(_Ascender):
    """Adam on the negative of mean VSTOI, plus the codec's own loss and the quantizers'.

    Carried back through the feedback of some two thousand frames, a gradient may overflow.
    """

    def __init__(self, codec: Codec, track: Track, stage: VSTOI, clip: float) -> None:
        super().__init__(codec, track, stage)
        self.parameters = [p for p in codec.parameters() if p.requires_grad]
        self.engine = self.optimizer = torch.optim.Adam(self.parameters, lr=stage.learning_rate)
        self.clip = clip

    def step(self, k: int, heard: Heard) -> bool:
        steps = self.stage.steps
        for group in self.optimizer.param_groups:
            group["lr"] = self.stage.learning_rate * min(1.0, (steps - k) / max(1.0, (1 - FLAT_OUT) * steps))
        coded: Coded = self.codec(heard.pattern)
        merit = self._merit(coded.signal, heard)
        if not coded.signal.isfinite().all():
            raise _diverged(self.stage.kind, k)
        if merit.isnan().all():
            return False
        loss = self.stage.distortion * self.track.loss(heard.pattern, coded.signal) - merit.nanmean()
        loss = loss + sum(quantized.loss for quantized in coded.quantized)
        if not torch.isfinite(loss):
            raise _diverged(self.stage.kind, k)
        self.optimizer.zero_grad()
        loss.backward()
        moved = bool(torch.isfinite(torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)))
        if moved:
            self.optimizer.step()
            self.codec.update(coded, (k + 1) / steps)
        return moved

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
        super().__init__(codec, track, stage)
        probe = track.heard("train", 1, stage.seconds, np.random.default_rng([seed, stage.steps]))
        _enter(codec, stage.quantized)
        self.engine = self.climber = Climber(deciding_parameters(codec.eval(), probe.pattern), stage, seed)

    def step(self, k: int, heard: Heard) -> bool:
        merit = self.track.merit_of_variants(heard, self.stage.limit)
        return math.isfinite(climb(self.climber, self.codec.eval(), heard.pattern, merit).value)


def ascend(codec: Codec, job: Job, stage: VSTOI | SPSA, earlier: int = 0) -> Ascent:
    """Run a stage in place, from last.ckpt in the job's folder on where an earlier call was cut off.

    `earlier`: steps of the stages before it, which are added to those told to a logger.
    """
    track, seed = job.track, job.seed
    ascender: _Ascender
    if isinstance(stage, VSTOI):
        ascender = _ByGradient(codec, track, stage, job.training.gradient_clip)
    else:
        ascender = _BySPSA(codec, track, stage, seed)
    job.folder.mkdir(parents=True, exist_ok=True)
    checkpoint = job.folder / "last.ckpt"
    progress = _resume(checkpoint, codec, ascender)
    held_out = track.heard("validation", HELD_OUT, HELD_OUT_SECONDS, np.random.default_rng(0))
    kept = time.monotonic()
    due = {round(number * stage.steps / VALIDATIONS) for number in range(VALIDATIONS)}

    def validate(k: int) -> None:
        progress.curve.append([k, *_heard(codec, track, stage, held_out)])
        if math.isnan(progress.curve[-1][1]) and not math.isnan(progress.curve[-1][2]):
            raise _diverged(stage.kind, k)
        if job.logger:
            job.logger.log_metrics({VALIDATION: progress.curve[-1][1]}, earlier + k)

    console = Console(quiet=not job.bar)
    for k in progress_bar(range(progress.step, stage.steps), stage.kind, console=console, transient=True):
        if k in due:
            validate(k)
        _enter(codec, stage.quantized)
        torch.manual_seed(int(np.random.SeedSequence([seed, k]).generate_state(1)[0]))
        heard = track.heard("train", stage.batch, stage.seconds, np.random.default_rng([seed, k]))
        progress.count(ascender.step(k, heard), stage.kind)
        if time.monotonic() - kept > KEPT_EVERY:
            _keep(checkpoint, codec, ascender, progress, time.monotonic() - kept)
            kept = time.monotonic()
    validate(stage.steps)
    if progress.skipped == stage.steps:
        raise _of_no_use(stage.kind, stage.steps, stage.steps - 1)
    checkpoint.unlink(missing_ok=True)
    return Ascent(progress.curve, progress.spent + time.monotonic() - kept, progress.skipped)


def _diverged(kind: str, step: int) -> UserError:
    return UserError(f"the stage {kind} diverged, as was seen at step {step}; {REMEDIES[kind]}")


def _of_no_use(kind: str, steps: int, last: int) -> UserError:
    return UserError(
        f"{steps} steps in a row of the stage {kind} came to nothing, the last at {last}; {REMEDIES[kind]}, or give "
        "crops of more seconds, which hold 0.4 s of speech"
    )


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


def _keep(path: Path, codec: Codec, ascender: _Ascender, progress: _Progress, seconds: float) -> None:
    progress.spent += seconds
    content = io.BytesIO()
    state = {"codec": codec.state_dict(), "ascender": ascender.engine.state_dict(), "progress": asdict(progress)}
    torch.save(state, content)
    write_whole(path, content.getvalue())


def _resume(path: Path, codec: Codec, ascender: _Ascender) -> _Progress:
    if not path.exists():
        return _Progress()
    content = torch.load(path, weights_only=True, map_location="cpu")
    codec.load_state_dict(content["codec"])
    ascender.engine.load_state_dict(content["ascender"])
    return _Progress(**content["progress"])
