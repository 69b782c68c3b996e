"""STOI and ESTOI of whole batches, differentiable, and VSTOI of stimulation patterns.

signal "B N" -> 10 kHz -> frames of 256 samples, those in which the reference is silent left out -> overlap-add
    -> 512-point spectra -> 15 third-octave bands "15 B F" -> segments of 30 frames -> correlations -> their mean

Sources: STOI, Taal et al., 2011; ESTOI, Jensen and Taal, 2016. The resampling filter and the framing are those of the
authors' code, as in pystoi. Deviation: the noise that this adds in ESTOI is left out, so that a score is always the
same and a silent band correlates with nothing.

Letters: B items, N samples, F frames of 256 samples at 10 kHz, J = F - 29 segments.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ...datamodules.cochlear.ace import SAMPLE_RATE, AceConfig, Bands
from ...datamodules.cochlear.vocoder import vocode

RATE = 10_000  # Hz
HOP = 128  # samples; a frame is two hops, a spectrum that of a frame and as many zeros
DYNAMIC_RANGE = 40.0  # dB; frames further below the reference's loudest one are silent
BANDS = 15
LOWEST_CENTRE = 150.0  # Hz
EDGES = tuple(round(LOWEST_CENTRE * 2 ** ((2 * band - 1) / 6) * 4 * HOP / RATE) for band in range(BANDS + 1))  # bins
SEGMENT = 30  # frames, 0.4 s
CLIP = 1 + 10 ** (15 / 20)  # a signal-to-distortion ratio of -15 dB and less counts as -15 dB
EPSILON = 2.0**-52  # keeps pystoi's quotients finite

REJECTION = 60.0  # dB, of the resampling filter
LARGEST_FACTOR = 1000  # of the two by which a signal is resampled; the filter's matrix has twice their product
DOUBT = 1e-3  # dB about the threshold of silence, where resampling in float32 could decide otherwise than in float64
FEW_ITEMS, MANY_ITEMS = 4, 64  # at once: on a CPU what stays in its cache, elsewhere

Waveforms = Float[Tensor, "B N"]
Lengths = Int[Tensor, " B"]
Measure = Callable[[Tensor, Tensor], Tensor]


class Scores(NamedTuple):
    """Both measures of a batch."""

    stoi: Float[Tensor, " B"]
    estoi: Float[Tensor, " B"]


def stoi(
    reference: Waveforms, decoded: Waveforms, rate: int, extended: bool = False, lengths: Lengths | None = None
) -> Float[Tensor, " B"]:
    """STOI, or extended STOI, of signals at `rate` Hz; `lengths`: the samples of each item that count.

    NaN, without a gradient, where a signal is not finite or the reference has less than 31 frames (0.4 s) that are not
    silent; 0 where the decoded signal is silent. ValueError: different shapes, or a rate far from a simple fraction.
    """
    return Reference(reference, rate, lengths).stoi(decoded, extended)


def stoi_pair(reference: Waveforms, decoded: Waveforms, rate: int, lengths: Lengths | None = None) -> Scores:
    """Both measures for little more than the cost of one; as `stoi`."""
    return Reference(reference, rate, lengths).pair(decoded)


def vstoi(
    pattern: Bands,
    clean: Waveforms,
    config: AceConfig = AceConfig(),  # noqa: B008
    extended: bool = False,
) -> Float[Tensor, " B"]:
    """STOI, or extended STOI, of the vocoded patterns against clean speech at 16 kHz (Hinrichs et al., VQ FRAE, II-D).

    The gradient reaches the entries in [0, 1]; a negative one is a silent band. Otherwise as `stoi` and `vocode`.
    """
    return stoi(clean, vocode(pattern, clean.shape[1], config), SAMPLE_RATE, extended)


class _Block(NamedTuple):
    """What is needed of a few references."""

    bands: Tensor  # "15 B F"
    kept: Tensor  # "B F+1": which frames are not silent, in order; beyond `counts` any
    counts: Tensor  # "B"
    usable: Tensor  # "B"
    lengths: Tensor  # "B"


class Reference:
    """The side of the references "B N", computed once for any number of decoded batches; a single one serves any B."""

    def __init__(self, signal: Waveforms, rate: int, lengths: Lengths | None = None) -> None:
        self.rate, self.shape = rate, tuple(signal.shape)
        if lengths is None:
            lengths = torch.full(self.shape[:1], self.shape[1])
        parts = zip(_split(signal), _split(lengths.to(signal.device, torch.int64)), strict=True)
        self._blocks = [_reference_block(part, length, rate) for part, length in parts]

    def stoi(self, decoded: Waveforms, extended: bool = False) -> Float[Tensor, " B"]:
        """STOI or extended STOI of a decoded batch."""
        return self._scores(decoded, [_estoi if extended else _stoi])[0]

    def pair(self, decoded: Waveforms) -> Scores:
        """Both measures of a decoded batch."""
        return Scores(*self._scores(decoded, [_stoi, _estoi]))

    def _scores(self, decoded: Tensor, measures: list[Measure]) -> list[Tensor]:
        if self.shape not in (decoded.shape, (1, decoded.shape[1])):
            raise ValueError(f"decoded {tuple(decoded.shape)} needs a reference of its shape; this one is {self.shape}")
        parts = _split(decoded)
        blocks = self._blocks * len(parts) if self.shape[0] == 1 else self._blocks
        scores = [_block_scores(block, part, self.rate, measures) for block, part in zip(blocks, parts, strict=True)]
        return [torch.cat(score) for score in zip(*scores, strict=True)]


def _split(batch: Tensor) -> tuple[Tensor, ...]:
    return batch.split(FEW_ITEMS if batch.device.type == "cpu" else MANY_ITEMS)


def _reference_block(signal: Tensor, lengths: Tensor, rate: int) -> _Block:
    signal, finite = _within(signal, lengths)
    hops = _hops(signal, rate)
    frames = (_at_10_khz(lengths, rate) - HOP - 1) // HOP  # one that ends with the signal does not count
    levels = _levels(hops, frames)
    above = levels - (levels.amax(1, keepdim=True) - DYNAMIC_RANGE)
    if hops.dtype != torch.float64 and bool((above.abs() < DOUBT).any()):
        levels = _levels(_hops(signal.double(), rate), frames)
    speech = levels.amax(1, keepdim=True) - DYNAMIC_RANGE - levels < 0
    counts = speech.sum(1)
    longest = max(SEGMENT + 1, *counts.tolist())
    kept = (~speech).byte().argsort(dim=1, stable=True)[:, :longest]
    usable = finite & (counts > SEGMENT) & signal.detach().any(1)
    return _Block(_bands(hops, kept), kept, counts, usable, lengths)


def _block_scores(block: _Block, decoded: Tensor, rate: int, measures: list[Measure]) -> list[Tensor]:
    decoded, finite = _within(decoded, block.lengths)
    bands = _bands(_hops(decoded, rate), block.kept.expand(len(decoded), -1))
    last = block.bands.shape[2] - SEGMENT + 1
    x, y = (each.unfold(2, last, 1).contiguous() for each in (block.bands, bands))  # "15 B 30 J"
    segments = block.counts[:, None] - SEGMENT
    counted = torch.arange(last, device=x.device) < segments
    means = [(measure(x, y) * counted).sum(1) / segments[:, 0].clamp(min=1) for measure in measures]
    return [mean.where(block.usable & finite, torch.nan) for mean in means]


def _within(signal: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The signal, zero beyond its length and wherever an item is not finite; which items are."""
    signal = signal.where(torch.arange(signal.shape[1], device=signal.device) < lengths[:, None], 0)
    finite = signal.detach().sum(1).isfinite()
    return signal.where(finite[:, None], 0), finite


# -- 10 kHz -----------------------------------------------------------------------------------------------------------


def _at_10_khz(samples: Any, rate: int) -> Any:
    """So many samples, an int or a tensor, at 10 kHz."""
    return (samples * RATE + rate - 1) // rate


def _hops(signal: Tensor, rate: int) -> Tensor:
    """The signal at 10 kHz as "B F+1 128", at least as long as a segment needs."""
    samples = HOP * max(math.ceil(_at_10_khz(signal.shape[1], rate) / HOP), SEGMENT + 2)
    resampled = F.pad(signal, (0, samples - signal.shape[1])) if rate == RATE else _resample(signal, rate, samples)
    return resampled.unflatten(1, (-1, HOP))


def _resample(signal: Tensor, rate: int, samples: int) -> Tensor:
    """Polyphase filter as one matrix product: each stretch of input adds to its own stretch of output and the next."""
    matrix, before = _polyphase(rate, signal.dtype, signal.device)
    stretch, outputs = len(matrix), matrix.shape[1] // 2
    rows = math.ceil(samples / outputs)
    padded = F.pad(signal, (before, (rows + 1) * stretch - before - signal.shape[1]))
    parts = padded.unflatten(1, (-1, stretch)) @ matrix
    return (parts[:, :-1, :outputs] + parts[:, 1:, outputs:]).flatten(1)[:, :samples]


@functools.cache
def _polyphase(rate: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, int]:
    """The matrix "inputs 2*outputs", and the samples that the filter looks back."""
    up, down = (each // math.gcd(RATE, rate) for each in (RATE, rate))
    if max(up, down) > LARGEST_FACTOR:
        raise ValueError(f"{rate} Hz is no simple fraction of 10 kHz; resample to 16000 Hz first")
    with torch.inference_mode(False):  # or what is cached could not take part in a gradient
        taps = _taps(up, down)
        half = len(taps) // 2
        periods = 2 ** max(0, math.ceil(math.log2(2 * half / (up * down))))  # so many that two stretches hold the taps
        before, inputs, outputs = half // up, periods * down, periods * up
        times = torch.arange(2 * inputs)[:, None] - before
        index = half + torch.arange(outputs) * down - times * up
        matrix = taps[index.clamp(0, 2 * half)].where((index >= 0) & (index <= 2 * half), 0.0)
        return torch.cat(matrix.split(inputs), dim=1).to(device, dtype), before


def _taps(up: int, down: int) -> Tensor:
    """Octave's anti-aliasing filter: a sinc under a Kaiser window, float64, of sum `up`."""
    larger = max(up, down)
    half = math.ceil((REJECTION - 8) * 20 * larger / 28.714)
    window = torch.kaiser_window(2 * half + 1, False, 0.1102 * (REJECTION - 8.7), dtype=torch.float64)
    taps = window * torch.sinc(torch.arange(-half, half + 1, dtype=torch.float64) / larger)
    return up * taps / taps.sum()


# -- frames and bands -------------------------------------------------------------------------------------------------


@functools.cache
def _window(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Hann's, without its zeros."""
    with torch.inference_mode(False):
        angle = torch.arange(1, 2 * HOP + 1, dtype=torch.float64) * (math.pi / (2 * HOP + 1))
        return angle.sin().square().to(device, dtype)


def _levels(hops: Tensor, frames: Tensor) -> Tensor:
    """Level of every windowed frame in dB, in float64; -inf beyond an item's frames."""
    weights = _window(torch.float64, hops.device).square().unflatten(0, (2, HOP))
    halves = hops.detach().double().square() @ weights.T
    levels = 20 * torch.log10((halves[:, :-1, 0] + halves[:, 1:, 1]).sqrt() + EPSILON)
    return levels.masked_fill(torch.arange(levels.shape[1], device=hops.device) >= frames[:, None], -math.inf)


def _bands(hops: Tensor, kept: Tensor) -> Tensor:
    """Magnitudes "15 B F" of the kept frames, windowed, overlapped and added, then framed and windowed again."""
    items = torch.arange(len(kept), device=kept.device)[:, None]
    window = _window(hops.dtype, hops.device)
    joined = hops[items, kept] * window[:HOP]
    joined[:, 1:] += hops[items, kept[:, :-1] + 1] * window[HOP:]
    frames = joined.flatten(1).unfold(1, 2 * HOP, HOP) * window
    spectrum = torch.fft.rfft(F.pad(frames, (0, 2 * HOP)))  # rfft's own padding is several times slower
    power = torch.view_as_real(spectrum[..., EDGES[0] : EDGES[-1]]).square().flatten(2)
    widths = [2 * (high - low) for low, high in itertools.pairwise(EDGES)]
    return _root(torch.stack([band.sum(2) for band in power.split(widths, dim=2)]))


# -- segments x, y "15 B 30 J" to correlations "B J" ------------------------------------------------------------------


def _stoi(x: Tensor, y: Tensor) -> Tensor:
    clipped = torch.minimum(y * (_norm(x) / (_norm(y) + EPSILON)), CLIP * x)
    x, clipped = (each - each.mean(2, keepdim=True) for each in (x, clipped))
    norms = (_norm(x) + EPSILON) * (_norm(clipped) + EPSILON)
    return ((x * clipped).sum(2) / norms[:, :, 0]).mean(0)


def _estoi(x: Tensor, y: Tensor) -> Tensor:
    x, y = (_standardise(_standardise(each, dim=2), dim=0) for each in (x, y))
    return (x * y).sum(0).sum(1) / SEGMENT


def _standardise(segments: Tensor, dim: int) -> Tensor:
    """Mean 0 and norm 1, or 0 with no gradient where all are alike."""
    centred = segments - segments.mean(dim, keepdim=True)
    energy = centred.square().sum(dim, keepdim=True)
    return centred * energy.where(energy > 0, math.inf).rsqrt()


def _norm(segments: Tensor) -> Tensor:
    return _root(segments.square().sum(2, keepdim=True))


def _root(power: Tensor) -> Tensor:
    """The square root, without a gradient where there is nothing."""
    return power.clamp(min=torch.finfo(power.dtype).tiny).sqrt().where(power > 0, 0)
