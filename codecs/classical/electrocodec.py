"""Electrocodec-style, reconstructed: stimulation patterns by DPCM of magnitudes and arithmetic coding.

pattern -> which bands (flags under contexts) and how much (DPCM with 4 or 8 residuals) -> range coder -> bytes

What its authors state: "a combination of DPCM and arithmetic coding to code the current magnitudes and the
band-selection", without latency, at 2 or 3 bits a magnitude. Contexts and residuals are not published: those here are a
reconstruction, so its rates and scores are no measurement of the original.

A frame at a time, bands from 1 to 22. A flag's context: the band a frame ago, its lower neighbour now, its upper
neighbour a frame ago, and its group of four bands. A residual's context: whether the band was stimulated a frame ago,
and its last residual. Every probability comes from integer counts of the decisions so far in the same context
(Krichevsky & Trofimov 1981: half a count to begin with), so the decoder has the same, bit for bit.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Literal, final

import constriction
import numpy as np

from .base import ClassicalCodec, Signal, TrackName

# a compiled module without stubs
model: Any = constriction.stream.model  # pyright: ignore[reportAttributeAccessIssue]
queue: Any = constriction.stream.queue  # pyright: ignore[reportAttributeAccessIssue]

BANDS, UNSELECTED = 22, -0.1  # what a pattern holds where a band is not stimulated
FIRST = 0.5  # what a band is predicted to be before it was ever stimulated
GROUP = 4  # neighbouring bands that share the counts of their flags
GROUPS = -(-BANDS // GROUP)
RESIDUALS = {  # by Lloyd's method in the closed loop, on patterns of LibriSpeech's train split; made symmetric
    2: (-0.2, -0.05, 0.05, 0.2),
    3: (-0.313, -0.177, -0.09, -0.027, 0.027, 0.09, 0.177, 0.313),
}
Decide = Callable[[int, int], int]  # a context and what is meant (of use to the encoder alone) -> what is said


@final
class Electrocodec(ClassicalCodec):
    """Bands and magnitudes, frame by frame, without delay.

    Args:
        bits: of a residual, 2 or 3.
        track: the cochlear one.
    """

    paper = "after Hinrichs et al., EMBC 2019, and JASA 149(2), 2021, doi:10.1121/10.0003571"
    domains = ("stimulation",)
    notes = ("Electrocodec-style: a reconstruction from what its authors state, not their codec",)
    presets: ClassVar[dict[str, dict[str, Any]]] = {"electrocodec-2bit": {"bits": 2}, "electrocodec-3bit": {"bits": 3}}

    def __init__(self, bitrate: float | None = None, bits: Literal[2, 3] = 3, track: TrackName | None = None) -> None:
        super().__init__(bitrate, track)
        self.bits = bits

    def encode(self, signal: Signal, rate: float) -> bytes:
        counts, decisions, odds = Counts(self.bits), [], []

        def decide(context: int, meant: int) -> int:
            odds.append(counts.probability(context))
            decisions.append(meant)
            counts.add(context, meant)
            return meant

        walk(decide, self.bits, signal.shape[-1], signal.T.tolist())
        coder = queue.RangeEncoder()
        coder.encode(np.array(decisions, np.int32), model.Bernoulli(perfect=False), np.array(odds))
        return coder.get_compressed().astype(">u4").tobytes()

    def decode(self, payload: bytes, length: int, rate: float) -> Signal:
        counts = Counts(self.bits)
        coder = queue.RangeDecoder(np.frombuffer(payload, ">u4").astype(np.uint32))

        def decide(context: int, _: int) -> int:
            decision = coder.decode(model.Bernoulli(counts.probability(context), perfect=False))
            counts.add(context, decision)
            return decision

        frames = walk(decide, self.bits, length, None)
        return np.array(frames, np.float32).reshape(length, BANDS).T.copy()

    def latency_s(self, rate: float) -> float:
        return 0.0


class Counts:
    """Decisions for 1, and all, in every context, doubled and with a half of each to begin with: whole numbers."""

    def __init__(self, bits: int) -> None:
        size = flag_contexts() + residual_contexts(bits)
        self.ones, self.all = [1] * size, [2] * size

    def probability(self, context: int) -> float:
        """Of a 1; the quotient of two integers, correctly rounded on every machine."""
        return self.ones[context] / self.all[context]

    def add(self, context: int, decision: int) -> None:
        """Count a decision."""
        self.ones[context] += 2 * decision
        self.all[context] += 2


def flag_contexts() -> int:
    """Contexts of a flag, numbered before those of residuals."""
    return 8 * GROUPS


def residual_contexts(bits: int) -> int:
    """Contexts of a residual's binary decisions: whether stimulated before, last residual or none, node of the tree."""
    return 2 * (2**bits + 1) * 2**bits


def walk(decide: Decide, bits: int, length: int, pattern: list[list[float]] | None) -> list[list[float]]:
    """Both sides' way through the frames: every decision in turn, and the decoded frames.

    The encoder says what it means by its `pattern`; the decoder has none.
    """
    table, last = RESIDUALS[bits], [2**bits] * BANDS
    predicted, before = [FIRST] * BANDS, [0] * (BANDS + 1)
    frames = []
    for t in range(length):
        wanted = pattern[t] if pattern is not None else None
        flags = [0] * (BANDS + 1)
        for band in range(BANDS):
            context = 8 * (band // GROUP) + 4 * before[band] + 2 * (flags[band - 1] if band else 0) + before[band + 1]
            flags[band] = decide(context, int(wanted is not None and wanted[band] >= 0))
        frame = [UNSELECTED] * BANDS
        for band in range(BANDS):
            if flags[band]:
                meant = _nearest(table, wanted[band] - predicted[band]) if wanted is not None else 0
                index = _residual(decide, bits, before[band] * (2**bits + 1) + last[band], meant)
                frame[band] = predicted[band] = min(1.0, max(0.0, predicted[band] + table[index]))
                last[band] = index
        frames.append(frame)
        before = flags
    return frames


def _residual(decide: Decide, bits: int, context: int, meant: int) -> int:
    """An index by binary decisions, the highest bit first, each under the ones before it."""
    first, node = flag_contexts() + context * 2**bits, 1
    for place in reversed(range(bits)):
        node = 2 * node + decide(first + node, meant >> place & 1)
    return node - 2**bits


def _nearest(table: tuple[float, ...], residual: float) -> int:
    return min(range(len(table)), key=lambda index: abs(table[index] - residual))
