"""The bitrate that was asked for, measured: short pilot trainings find the bits per position that deliver it.

A quantizer is configured in bits per position (`for_rate`), a run is asked for in kbit/s of real files, and what lies
between, the entropy of the codes, is known only after training. So a pilot is trained on a share of the steps, its
rate measured on whole signals, and the bits corrected, until a pilot comes within PRECISE of what was asked; the run
itself then trains in full, and again with corrected bits where it misses by more than ACCEPTED. The signals are half
from validation, half from training: a few voices differ more in rate than known ones from new ones. Test items have no
part in it. The search is kept in the run's folder, so that an interrupted run goes on where it stopped.

A method that steers its rate comes near it by itself, but what it steers is the rate of noisy codes in the feedback of
a codec, not that of the codes of a file. So it has no pilots; where the trained model misses by less than TRIMMED, its
steps are widened or narrowed a little, once, until the signals take what was asked (`trim`).
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...codecs.base import Codec
from ...leaderboards.records import write_whole
from ...quantizers.base import Codes, Quantizer
from ...quantizers.coding.entropy import Coder, encode_codes
from ..errors import UserError
from ..specs.plugin import Plugin
from ..specs.stages import shortened
from ..specs.training import Training
from ..tracks.base import Track

SEARCH = "rate.json"
PILOT_SHARE, LEAST_STEPS = 0.25, 100  # of the steps of the run itself
PILOTS, TRAININGS = 3, 3  # at most so many of each
PRECISE, ACCEPTED = 0.025, 0.03  # relative errors of the measured rate
SIGNALS = 16  # of validation and of training each that a rate is measured on
HEADER_BITS = 88  # of a file of some seconds
SLOPES = 0.5, 2.0  # of log rate over log bits, between two trainings
TRIMMED, TRIMS, EXACT = 0.2, 6, 0.003  # up to which relative error steps are trimmed, how often, and how precisely
WIDEST = 0.3  # ln of the widening, either way
REACH = [0, *(sign * percent for percent in range(1, 26) for sign in (1, -1))]  # percent from the asked bits


class Trial(NamedTuple):
    """One training and what its files would spend."""

    bits: float  # per latent position, asked of for_rate()
    steps: int
    kbps: float  # measured, on signals that are not test items
    seconds: float  # of training
    widened: float = 0.0  # ln of the factor that the trained steps were widened by


class RateSearch:
    """The trials of one run.

    Args:
        folder: of the run.
        wanted: measured kbit/s.
        first: bits per position where the search starts.
        training: of the run itself.
        options: what a number of bits per position comes to for the method; None where it is refused.
        steered: the method learns its rate, so there are no pilots.
    """

    def __init__(
        self,
        folder: Path,
        wanted: float,
        first: float,
        training: Training,
        options: Callable[[float], Any],
        steered: bool = False,
    ) -> None:
        self.file, self.wanted, self.first = folder / SEARCH, wanted, first
        self.training, self.options, self.steered = training, options, steered
        self.trials = read_search(folder)

    def pilot(self) -> Training:
        """The training of a pilot."""
        steps = min(self.training.steps, max(LEAST_STEPS, round(PILOT_SHARE * self.training.steps)))
        stages = self.training.stages and shortened(self.training.stages, PILOT_SHARE)
        return replace(self.training, steps=steps, validate_every=steps, stages=stages)

    def trainings(self) -> Iterator[tuple[int, float, Training]]:
        """Number, bits and training of every trial still to be made, each to be note()d before the next.

        The last one is the full training that came nearest: made before, its checkpoint is complete.
        """
        pilot, last = self.pilot(), None
        stages = [(self.training, TRAININGS, ACCEPTED)]
        if pilot.steps < self.training.steps and not self._made(self.training) and not self.steered:
            stages.insert(0, (pilot, PILOTS, PRECISE))
        for training, most, tolerance in stages:
            while len(made := self._made(training)) < most and not (made and self._miss(made[-1]) <= tolerance):
                bits = self.bits()
                if any(self.options(trial.bits) == self.options(bits) for trial in made):
                    break
                last = Trial(bits, training.steps, 0.0, 0.0)
                yield len(self.trials), bits, training
        best = min(self._made(self.training), key=self._miss)
        if last is None or last[:2] != best[:2]:
            yield [trial[:2] for trial in self.trials].index(best[:2]), best.bits, self.training

    def note(self, bits: float, training: Training, kbps: float, seconds: float, widened: float = 0.0) -> None:
        """Keep a trial, in the run's folder too; one made before becomes the last."""
        trial = Trial(bits, training.steps, kbps, seconds, widened)
        before = [other for other in self.trials if other[:2] == trial[:2]]
        if not before:
            self.trials.append(trial)
        elif self.trials[-1] != before[0]:
            self.trials.append(before[0]._replace(seconds=0.0))
        write_whole(self.file, json.dumps([kept._asdict() for kept in self.trials], indent=1))

    def bits(self) -> float:
        """Bits per position of the next trial: along the line through the last two in logarithms."""
        if not self.trials:
            return self.first
        *before, last = self.trials
        slope = 1.0
        if before and not math.isclose(before[-1].bits, last.bits, rel_tol=1e-3):
            rise = math.log(max(last.kbps, 1e-9) / max(before[-1].kbps, 1e-9))
            slope = min(max(rise / math.log(last.bits / before[-1].bits), SLOPES[0]), SLOPES[1])
        step = (self.wanted / max(last.kbps, 1e-9)) ** (1 / slope)
        proposal = last.bits * min(max(step, 0.5), 2.0)
        return last.bits if self.options(proposal) is None else proposal

    def _made(self, training: Training) -> list[Trial]:
        return [trial for trial in self.trials if trial.steps == training.steps]

    def _miss(self, trial: Trial) -> float:
        return abs(trial.kbps / self.wanted - 1)


def read_search(folder: Path) -> list[Trial]:
    """The trials of a run so far; none where its rate was not searched. UserError: the file is damaged."""
    file = folder / SEARCH
    try:
        return [Trial(**trial) for trial in json.loads(file.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: damaged ({' '.join(str(error).split())[:80]}); run it anew with --force") from error


@torch.no_grad()
def expected_rate(codec: Codec, track: Track, coder: Coder) -> float:
    """kbit/s that files of whole signals take, headers included."""
    signals = [signal for split in ("validation", "train") for signal in track.signals(split, SIGNALS)]
    bits = sum(8 * len(encode_codes(codec, codes, coder)) + HEADER_BITS for codes in _codes(codec, signals))
    return bits / sum(signal.shape[-1] for signal in signals) * track.signal_rate / 1000


def _codes(codec: Codec, signals: list[Tensor]) -> Iterator[Codes]:
    """The codes of signals of different lengths; all at once where what follows changes nothing before."""
    if not codec.causal:
        yield from (codec.encode(signal[None]) for signal in signals)
        return
    longest = max(signal.shape[-1] for signal in signals)
    padded = torch.stack([nn.functional.pad(signal, (0, longest - signal.shape[-1])) for signal in signals])
    for codes, signal in zip(codec.encode(padded), signals, strict=True):
        yield codes[None, :, : codec.positions(tuple(signal.shape))]


def trim(codec: Codec, wanted: float, measured: Callable[[], float]) -> tuple[float, float]:
    """Widen the trained steps of a codec until `measured` kbit/s, tables refitted, are those wanted.

    Returns the rate reached and ln of the widening, 0 where no step is learned or the rate is too far off.
    """
    tried = [(measured(), 0.0)]
    learned = any(quantizer.rate_is_learned for quantizer in codec.quantizers)
    if not learned or abs(tried[0][0] / wanted - 1) > TRIMMED:
        return tried[0]
    amount = math.log(tried[0][0] / wanted)  # a first guess; from then on along the last two
    while abs(tried[-1][0] / wanted - 1) > EXACT and len(tried) < TRIMS:
        amount = min(max(amount, -WIDEST), WIDEST)
        tried.append((_widened(codec, amount - tried[-1][1], measured), amount))
        (before, start), (now, end) = tried[-2:]
        if now == before or start == end:
            break
        amount = end + (wanted - now) * (end - start) / (now - before)
    best = min(tried, key=lambda attempt: abs(attempt[0] / wanted - 1))
    if best is not tried[-1]:
        _widened(codec, best[1] - tried[-1][1], measured)
    return best


def _widened(codec: Codec, amount: float, measured: Callable[[], float]) -> float:
    for quantizer in codec.quantizers:
        quantizer.coarsen(amount)
    return measured()


def options_for(quantizer: Plugin[Quantizer], channels: int, bits: float) -> dict[str, Any]:
    """The options that spend about `bits`: where a method has steps of rate, those of the nearest step.

    UserError: the method has no rate so low or so high; options that were given fix the rate already.
    """
    fixed = quantizer.arguments
    learned = any(getattr(cls, "rate_is_learned", False) for _, cls in quantizer.classes)
    steering = ["target_bits", "rate_weight"] if learned else []
    fixing = sorted(option for option in quantizer.options if option.rpartition(".")[2] in steering)
    if fixing:
        raise _twice(fixing)
    sides: dict[int, dict[str, Any]] = {}  # nearest to what was asked: there, above and below
    refusal = ValueError(f"cannot spend {bits:g} bit per position")
    for percent in REACH:
        side = (percent > 0) - (percent < 0)
        if 0 in sides or side in sides:
            continue
        try:
            sides[side] = quantizer.cls.for_rate(channels, bits * (1 + percent / 100), **fixed)
        except ValueError as error:
            refusal = error if percent == 0 else refusal
    if 0 not in sides and len(sides) < 2:  # not a step between two rates, but beyond the last one
        raise UserError(f"--bitrate asks {quantizer.name} for {bits:.4g} bit per position: {refusal}") from refusal
    chosen = next(iter(sides.values()))
    fixing = sorted(chosen.keys() & quantizer.options.keys())
    if fixing or not chosen:
        raise _twice(fixing or list(quantizer.options))
    return {**quantizer.options, **chosen}


def codec_for(codec: Plugin[Codec], bits: float | None) -> Plugin[Codec]:
    """A codec, told `bits` per position where it shares them out. UserError: it was told others."""
    option = codec.declared("rate_option")
    if bits is None or option is None:
        return codec
    if codec.options.get(option) is not None:
        raise _twice([option], "codec")
    return codec.having({**codec.options, option: bits})


def _twice(fixing: list[str], part: str = "quantizer") -> UserError:
    options = ", ".join(f"--{part}.{option}" for option in fixing)
    return UserError(f"--bitrate and {options} both fix the rate; leave one of them out")
