"""The sine vocoder: a stimulation pattern made audible, so that intelligibility measures can score it.

pattern "B 22 T" -> inverse LGF -> envelopes, interpolated linearly -> times sines at the band centres -> sum -> "B N"

Source: NMT (audio resynthesis); VSTOI (Hinrichs et al., VQ FRAE, section II-D) is STOI of the result against the clean
input. Boundary rule: before the first and after the last frame centre the envelope is held.
"""

import math

import torch
from torch import Tensor

from .ace import BAND_BINS, BLOCK, FIRST_BIN, SAMPLE_RATE, AceConfig, Bands, Waveform, inverse

HALF_BIN = SAMPLE_RATE / BLOCK / 2  # Hz; every band centre is a multiple of it
PERIOD = 2 * BLOCK  # samples after which all the sines repeat
HARMONICS = tuple(2 * (FIRST_BIN + sum(BAND_BINS[:band])) + bins - 1 for band, bins in enumerate(BAND_BINS))
CENTRE_FREQUENCIES = tuple(HALF_BIN * harmonic for harmonic in HARMONICS)  # Hz, 250 ... 7437.5


def vocode(pattern: Bands, samples: int, config: AceConfig = AceConfig()) -> Waveform:  # noqa: B008
    """Resynthesise `samples` samples at 16 kHz; the sines start together, sin(2 pi f n / 16000) for n = 1, 2, ...

    Frame i belongs to its centre, sample (i+1)*hop - 64. ValueError if the pattern has no frames.
    """
    if pattern.shape[-1] == 0:
        raise ValueError("a pattern without frames cannot be made audible")
    hop = config.hop
    frames = torch.arange(-1, math.ceil((samples + BLOCK // 2) / hop), device=pattern.device)
    envelopes = inverse(pattern, config)[..., frames.clamp(0, pattern.shape[-1] - 1)]  # held at both ends
    # sin(a + b) = sin(a) cos(b) + cos(a) sin(b): a up to the frame's centre, b around it, so that one matrix product
    # does it all. The triangle over the offsets is the linear interpolation.
    centres = (frames + 1) * hop - BLOCK // 2
    offsets = torch.arange(-hop, hop, device=pattern.device)
    sine, cosine = _carriers(centres + 1, pattern)
    offset_sine, offset_cosine = _carriers(offsets, pattern)
    triangle = 1 - offsets.abs().to(pattern.dtype) / hop
    weights = torch.cat([envelopes * sine, envelopes * cosine], dim=1)
    pulses = weights.transpose(1, 2) @ (torch.cat([offset_cosine, offset_sine]) * triangle)
    waveform = (pulses[:, :-1, hop:] + pulses[:, 1:, :hop]).flatten(1)  # starts at the first centre, sample -64
    return waveform[:, BLOCK // 2 : BLOCK // 2 + samples]


def _carriers(times: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Sine and cosine of every band at whole samples, exact however late."""
    harmonics = torch.tensor(HARMONICS, device=times.device)
    phase = (harmonics[:, None] * times % PERIOD).double() * (2 * math.pi / PERIOD)
    return phase.sin().to(like.dtype), phase.cos().to(like.dtype)
