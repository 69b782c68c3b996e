"""What a search over hyper-parameters maximises: one trial from options to a score. Test items have no part in it.

pattern (Hinrichs, Bilsky & Ostermann, VQ FRAE, II-F): 500 steps of Adam on one whole training pattern, 100 iterations
of SPSA on its VSTOI, score: the VSTOI of that pattern decoded. As there, quantizers stay out unless asked for: one
search serves every quantizer, whose codebooks are learned only afterwards, from all patterns.

validation: the training that the options ask for; score: mean VSTOI of validation crops decoded, or for other signals
than stimulation patterns the negative validation loss.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor

from ....codecs.base import Codec
from ....datamodules.base import Split
from ....leaderboards.errors import nearest
from ....quantizers.coding.errors import BitstreamError
from ...errors import UserError
from ...specs.spec import Spec
from ...specs.stages import SPSA, Fit, Gradient, Stage
from ...specs.training import Training
from ...tracks.base import Heard, TestItem, Track, Watched
from ...tracks.choose import domain_of, signal_rate, track_of
from ...tracks.cochlear import CochlearTrack
from ...training.ascent import HELD_OUT, HELD_OUT_SECONDS, VALIDATION
from ...training.job import Job
from ...training.model import asked_bits, make_codec, shared_stages, steady
from ...training.module import check_training
from ...training.staged import train_as_asked
from .aim import Aim, Outcome, PrunedError, Report
from .space import Space, overlay, probes

PATTERN_TRAINING = (  # options of a training that decide on a pattern's score
    "learning_rate",
    "losses",
    "optimizer",
    "gradient_clip",
    "schedule",
    "rise",
    "cooldown",
    "precision",
)


def check_aim(aim: Aim, spec: Spec, space: Space) -> None:
    """UserError where a search would be of no use: an option that cannot change the score, or changes its meaning."""
    domain, rate = domain_of(spec), signal_rate(spec)
    for path, values in probes(space):
        try:
            tried = overlay(spec, values)
            check_training(make_codec(tried, rate), tried.training, rate)
        except UserError as error:
            raise UserError(f"--space: {path}: {error}") from error
    if aim.objective == "pattern":
        if domain != "stimulation":
            raise UserError(f"{spec.codec.name} codes no stimulation patterns; write --objective validation")
        for path in space:
            group, _, option = path.partition(".")
            if group == "quantizer" and not aim.quantized:
                raise UserError(f"--space: {path} changes nothing without quantizers; add --quantized")
            idle = group == "training" and option.partition(".")[0] not in PATTERN_TRAINING
            if idle or group not in ("quantizer", "codec", "training", "spsa"):
                raise UserError(f"--space: {path} changes nothing in a pattern's score; write --objective validation")
        return
    for path in space:
        if domain != "stimulation" and path.startswith("training.losses"):
            raise UserError(f"--space: {path} changes the loss that trials are compared by; leave it out")


def prepare(spec: Spec, aim: Aim, watched: Watched | None = None) -> str:
    """Fill the caches that trials read; returns what is scored, in words. DataError, UserError: it cannot be."""
    spec.data.build().validate()
    track, codec = track_of(spec, watched), make_codec(spec, signal_rate(spec))
    if codec.leading != track.leading:
        raise UserError(
            f"{spec.codec.name} codes signals of {codec.leading} bands, {spec.data.name} has {track.leading}"
        )
    track.prepare()
    if aim.objective == "pattern":
        pattern = one_pattern(track, aim.item)
        how = "with quantizers" if aim.quantized else "without quantizer"
        return f"VSTOI of {pattern.source} ({pattern.typical_length / pattern.signal_rate:.1f} s), decoded {how}"
    if domain_of(spec) != "stimulation":
        return "negative validation loss"
    track.heard("validation", HELD_OUT, HELD_OUT_SECONDS, np.random.default_rng(0))
    return "mean VSTOI of validation crops"


def attempt(spec: Spec, values: Mapping[str, Any], aim: Aim, report: Report) -> Outcome:
    """One trial of a search from `spec`, whatever becomes of it."""
    begin = time.monotonic()
    try:
        score, reason = score_trial(overlay(spec, values), aim, report), ""
        if not np.isfinite(score):
            score, reason = None, "its score is not a number"
    except PrunedError:
        score, reason = None, "pruned"
    except (UserError, BitstreamError) as error:
        score, reason = None, str(error)
    except Exception as error:  # a stranger's plug-in may raise anything; the search goes on
        score, reason = None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return Outcome(score, reason, time.monotonic() - begin)


def score_trial(spec: Spec, aim: Aim, report: Report) -> float:
    """The score of one trial, higher is better. PrunedError where `report` ends it, UserError where it cannot be."""
    with steady(spec.seed), tempfile.TemporaryDirectory(prefix="tune-") as folder:
        track, codec = track_of(spec), make_codec(spec, signal_rate(spec))
        shared = None
        if aim.objective == "pattern":
            track = one_pattern(track, aim.item)
            stages = _pattern_stages(spec.training, aim)
            training, quantized = replace(spec.training, batch_size=1, stages=stages), aim.quantized
        else:
            training, quantized = spec.training, True
            if aim.stages is not None:
                shared = shared_stages(spec, aim.stages, asked_bits(spec, track.signal_rate))
        score = _scorer(codec, track, domain_of(spec))
        reporter = _Reporter(codec, score, report, aim.objective == "validation")
        job = Job(track, training, spec.seed, Path(folder), reporter, bar=False)
        train_as_asked(codec, job, shared)
        for quantizer in codec.quantizers:
            quantizer.bypass = not quantized
        return score()


def one_pattern(track: Track, item: str | None) -> "OnePattern":
    """A training item as the whole of a corpus. UserError: there is none of that name."""
    assert isinstance(track, CochlearTrack), "patterns are checked for before"
    names = track.patterns.names
    if item is not None and item not in names:
        raise UserError(f"--item {item}: no training item is called so{nearest(item, names)}")
    by_length = np.argsort(track.patterns.lengths, kind="stable")
    place = int(by_length[len(names) // 2]) if item is None else names.index(item)
    return OnePattern(track, place)


@final
class OnePattern(Track):
    """One whole training pattern, whatever is asked for; it has no test items."""

    def __init__(self, track: CochlearTrack, place: int) -> None:
        self.track, self.scorer = track, track.scorer
        self.signal_rate, self.leading = track.signal_rate, track.leading
        self.pattern = torch.from_numpy(np.array(track.patterns[place]))[None]
        source = next(item for item in track.corpus.items("train") if item.name == track.patterns.names[place])
        self.source, self.clean = source.name, torch.from_numpy(track.corpus.reference(source))[None]

    @property
    def typical_length(self) -> int:
        return self.pattern.shape[2]

    def training_batch(self, batch_size: int, length: int, generator: np.random.Generator) -> Tensor:
        return self.pattern

    def validation_batch(self) -> Tensor:
        return self.pattern

    def signals(self, split: Split, count: int) -> list[Tensor]:
        return [self.pattern[0]]

    def heard(self, split: Split, count: int, seconds: float, generator: np.random.Generator) -> Heard:
        return Heard(self.pattern, self.clean)

    def intelligibility(self, decoded: Tensor, clean: Tensor) -> Tensor:
        return self.track.intelligibility(decoded, clean)

    def merit_of_variants(self, heard: Heard, limit: float | None) -> Callable[[Tensor], Tensor]:
        return self.track.merit_of_variants(heard, limit)

    def loss(self, signal: Tensor, decoded: Tensor) -> Tensor:
        return self.track.loss(signal, decoded)

    def test_items(self) -> Sequence[Any]:
        return ()

    def load(self, item: Any) -> TestItem:
        raise LookupError("one training pattern has no test items")


def _pattern_stages(training: Training, aim: Aim) -> list[Stage]:
    """The stages of a pattern's trial; SPSA as in the first stage of that kind that the training lists."""
    spsa = next((stage for stage in training.stages or () if isinstance(stage, SPSA)), SPSA())
    return [
        Gradient(steps=aim.adam_steps, quantized=False),
        *([Fit()] if aim.quantized else []),
        replace(spsa, steps=aim.spsa_steps, quantized=aim.quantized),
    ]


def _scorer(codec: Codec, track: Track, domain: str) -> Callable[[], float]:
    """The score of a codec as it stands, in eval mode."""
    heard = None
    if domain == "stimulation":
        heard = track.heard("validation", HELD_OUT, HELD_OUT_SECONDS, np.random.default_rng(0))
    signal = track.validation_batch() if heard is None else heard.pattern

    @torch.no_grad()
    def score() -> float:
        training, device = codec.training, next(codec.parameters(), signal).device
        codec.eval()
        decoded = codec(signal.to(device)).signal.cpu()
        codec.train(training)
        if heard is None:
            return -float(track.loss(signal, decoded))
        return float(track.intelligibility(decoded, heard.clean).nanmean())

    return score


class _Reporter(Logger):
    """Hands on the score at every validation, those of a warm-up left out where quantizers have a part in it."""

    def __init__(self, codec: Codec, score: Callable[[], float], report: Report, quantized: bool) -> None:
        super().__init__()
        self.codec, self.score, self.report, self.quantized = codec, score, report, quantized

    @property
    def name(self) -> str:
        return "tune"

    @property
    def version(self) -> int:
        return 0

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """They are in the study."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        validated = "validation_loss" in metrics or VALIDATION in metrics
        if not validated or (self.quantized and any(q.bypass for q in self.codec.quantizers)):
            return
        score = metrics[VALIDATION] if VALIDATION in metrics else self.score()
        if np.isfinite(score) and self.report(score):
            raise PrunedError
