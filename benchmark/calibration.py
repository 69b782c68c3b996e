"""The bitrate that was asked for, measured: short pilot trainings find the bits per position that deliver it.

A quantizer is configured in bits per position (`for_rate`), a run is asked for in kbit/s of real files, and what lies
between, the entropy of the codes, is known only after training. So a pilot is trained on a share of the steps, its rate
measured on whole validation signals, and the bits corrected, until a pilot comes within PRECISE of what was asked; the
run itself then trains in full, and again with corrected bits where it misses by more than ACCEPTED. Test items have no
part in it. The search is kept in the run's folder, so that an interrupted run goes on where it stopped.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from ..codecs.base import Codec
from ..leaderboards.records import write_whole
from .entropy_coding import information
from .spec import Training
from .tracks import Track

SEARCH = "rate.json"
PILOT_SHARE, LEAST_STEPS = 0.25, 100  # of the steps of the run itself
PILOTS, TRAININGS = 3, 3  # at most so many of each
PRECISE, ACCEPTED = 0.025, 0.03  # relative errors of the measured rate
SIGNALS = 24  # validation signals that a rate is measured on
HEADER_BITS = 88  # of a file of some seconds
FLUSH_BITS = 8  # the range coder's last byte, on average and generously
SLOPES = 0.5, 2.0  # of log rate over log bits, between two trainings


class Trial(NamedTuple):
    """One training and what its files would spend."""

    bits: float  # per latent position, asked of for_rate()
    steps: int
    kbps: float  # on validation signals


class RateSearch:
    """The trials of one run; `wanted` is in kbit/s, `first` the bits per position where it starts."""

    def __init__(self, folder: Path, wanted: float, first: float, training: Training) -> None:
        self.file, self.wanted, self.first, self.training = folder / SEARCH, wanted, first, training
        self.trials = read_search(folder)

    def pilot(self) -> Training:
        """The training of a pilot."""
        steps = min(self.training.steps, max(LEAST_STEPS, round(PILOT_SHARE * self.training.steps)))
        return replace(self.training, steps=steps, validate_every=steps)

    def trainings(self) -> Iterator[tuple[int, float, Training]]:
        """Number, bits and training of every trial still to be made, each to be note()d before the next.

        Where all are made, the last one again: its checkpoint is complete.
        """
        made = len(self.trials)
        pilot = self.pilot()
        piloting = pilot != self.training and self._count(self.training) == 0
        while piloting and self._count(pilot) < PILOTS and not self._met(pilot, PRECISE):
            yield len(self.trials), self.bits(), pilot
        while self._count(self.training) < TRAININGS and not self._met(self.training, ACCEPTED):
            yield len(self.trials), self.bits(), self.training
        if made == len(self.trials):
            yield made - 1, self.trials[-1].bits, self.training

    def note(self, bits: float, training: Training, kbps: float) -> None:
        """Keep a trial, in the run's folder too."""
        trial = Trial(bits, training.steps, kbps)
        if not self.trials or self.trials[-1][:2] != trial[:2]:
            self.trials.append(trial)
        write_whole(self.file, json.dumps([trial._asdict() for trial in self.trials], indent=1))

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
        return last.bits * min(max(step, 0.5), 2.0)

    def _count(self, training: Training) -> int:
        return sum(trial.steps == training.steps for trial in self.trials)

    def _met(self, training: Training, tolerance: float) -> bool:
        made = [trial for trial in self.trials if trial.steps == training.steps]
        return bool(made) and abs(made[-1].kbps / self.wanted - 1) <= tolerance


def read_search(folder: Path) -> list[Trial]:
    """The trials of a run so far; none where its rate was not searched."""
    try:
        return [Trial(**trial) for trial in json.loads((folder / SEARCH).read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []


@torch.no_grad()
def held_out_rate(codec: Codec, track: Track) -> float:
    """kbit/s that files of whole validation signals take, headers included."""
    bits, seconds = 0.0, 0.0
    for signal in track.validation_signals(SIGNALS):
        codes = codec.encode(signal[None])
        bits += information(codec, codes) + FLUSH_BITS + HEADER_BITS
        seconds += signal.shape[-1] / track.signal_rate
    return bits / seconds / 1000
