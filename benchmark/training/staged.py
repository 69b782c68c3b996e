"""Training in the stages of a recipe (stages.py), one after another, each kept when it is done.

What a stage leaves is one file, state and curve, in the run's folder; a killed run goes on with the stage it was in.
Stages before any quantizer came in are the same for every quantizer, so runs of one grid share them: `shared` is the
folder of such states, KEY the digest of all that made them.
"""

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ...codecs.base import Codec
from ...leaderboards.records import write_whole
from ...quantizers.base import Quantizer
from ..errors import UserError
from ..specs.stages import Fit, Gradient, Stage, written
from .ascent import ascend
from .job import Job
from .module import fit, leave_trained, train

FLAT_VSTOI = 0.002
Curve = list[tuple[int, float, bool]]  # step, validation loss, quantized


class Trained(NamedTuple):
    """What came out of a training."""

    codec: Codec
    curve: Curve
    spent: float  # seconds
    stages: list[dict[str, Any]]  # of each: stage, seconds, and the VSTOI of validation items where it ascends that


class Done(NamedTuple):
    """A stage that is over."""

    state: dict[str, Tensor]
    report: dict[str, Any]


def train_as_asked(codec: Codec, job: Job, shared: tuple[Path, Any] | None = None) -> Trained:
    """Train in place, in stages where the options list them; ends on the CPU, in eval mode.

    `shared`: where states are kept that other runs can use, and all but the stages that determines them.
    """
    if job.training.stages is None:
        module = train(codec, job)
        return Trained(codec, module.curve, module.spent, [])
    stages: list[Stage] = [*job.training.stages]
    if not any(stage.quantized for stage in stages):  # then quantizers are fitted at last
        stages.append(Fit())
    if shared is not None:
        shared = shared[0], [shared[1], _initial(codec)]
    curve: Curve = []
    reports: list[dict[str, Any]] = []
    for number, stage in enumerate(stages):
        place = job.folder / f"stage-{number}"
        kept = _kept(place, stages[: number + 1], shared)
        start = sum(earlier.steps for earlier in stages[:number])
        done = next((_read(path) for path in kept if path.exists()), None)
        if done is None:
            joined = any(earlier.quantized for earlier in stages[:number])
            done = _run(codec, job._replace(seed=_seed(job.seed, number), folder=place), stage, joined, start)
            for path in kept:
                _write(path, done)
        codec.load_state_dict(done.state, strict=False)
        curve += [(start + step, loss, flag) for step, loss, flag in done.report["curve"]]
        reports.append({key: value for key, value in done.report.items() if key != "curve"})
    leave_trained(codec)
    return Trained(codec, curve, sum(report["seconds"] for report in reports), reports)


def ascended(reports: list[dict[str, Any]]) -> bool:
    """Whether the last stage that ascends VSTOI had come to rest: its last fifth changed by less than FLAT_VSTOI."""
    curves = [report["vstoi"] for report in reports if "vstoi" in report]
    if not curves or len(curves[-1]) < 4:
        return False
    *_, earlier, _, last = [point[1] for point in curves[-1]]
    return abs(last - earlier) < FLAT_VSTOI


def _run(codec: Codec, job: Job, stage: Stage, joined: bool, earlier: int) -> Done:
    """One stage, from what those of the `earlier` steps left in `codec`."""
    begin, report = time.perf_counter(), {"stage": written(stage), "curve": []}
    if isinstance(stage, Gradient):
        rate = job.training.learning_rate if stage.learning_rate is None else stage.learning_rate
        training = replace(job.training, steps=stage.steps, learning_rate=rate, stages=None)
        mode = "absent" if not stage.quantized else "present" if joined else "join"
        module = train(codec, job._replace(training=training), mode)
        report |= {"curve": module.curve, "seconds": module.spent}
    elif isinstance(stage, Fit):
        codec.train()
        torch.manual_seed(job.seed)
        fit(codec, job.track, job.training, job.seed)
        report["seconds"] = time.perf_counter() - begin
    else:
        ascent = ascend(codec, job, stage, earlier)
        report |= {"vstoi": ascent.curve, "seconds": ascent.seconds}
        report |= {"skipped": ascent.skipped} if ascent.skipped else {}
    fresh = () if joined or stage.quantized else _quantizers_in(codec)  # nothing has been made of them
    state = {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in codec.state_dict().items()
        if not name.startswith(fresh)
    }
    return Done(state, report)


def _initial(codec: Codec) -> str:
    """A digest of the codec's own weights, which a constructor may draw after those of its quantizers."""
    digest, quantizers = hashlib.sha256(), _quantizers_in(codec)
    for name, tensor in codec.state_dict().items():
        if not name.startswith(quantizers):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _quantizers_in(codec: Codec) -> tuple[str, ...]:
    """How the names of their parameters begin."""
    return tuple(f"{name}." for name, module in codec.named_modules() if isinstance(module, Quantizer))


def _seed(seed: int, number: int) -> int:
    """The seed of a stage; the first one's is the run's own."""
    return seed if number == 0 else int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _kept(place: Path, stages: list[Stage], shared: tuple[Path, Any] | None) -> list[Path]:
    """Where a finished stage is kept: in the run's folder and, before quantizers came in, for other runs too."""
    file = place.with_suffix(".safetensors")
    if shared is None or any(stage.quantized for stage in stages):
        return [file]
    folder, made_of = shared
    text = json.dumps([made_of, [written(stage) for stage in stages]], sort_keys=True)
    return [file, folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors"]


def _write(path: Path, done: Done) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, save(done.state, {"report": json.dumps(done.report)}))


def _read(path: Path) -> Done:
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return Done(state, json.loads(file.metadata()["report"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged ({' '.join(str(error).split())[:80]}); delete it and run again") from error
