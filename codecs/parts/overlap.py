"""What codecs of overlapping frames share: cutting and cross-fading, a frame's way to latents and back.

    x "B N" -> frames of 512 samples, 480 new: "B T 512" -> encoder -> "B C T" ... -> decoder -> cross-fade -> x^ "B N"

Frame t begins at sample 480 t, the last one is filled up with zeros: ceil(N / 480) frames. Where two meet, in 32
samples, the weights of the earlier and the later one add up to 1, so that unchanged frames give the signal back. The
first frame, which none precedes, is not faded in. Each frame is coded alone.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Waveform = Float[Tensor, "B N"]
Frames = Float[Tensor, "B T n"]
Latents = Float[Tensor, "B C T"]
Fade = Literal["hann", "half_sine"]

FRAME, OVERLAP = 512, 32  # samples
HOP = FRAME - OVERLAP
AT_ONCE = 128  # frames that go through a network together where no gradient is kept; more only need more memory


class Overlap(nn.Module):
    """Frames of a waveform, and the waveform of frames.

    Args:
        fade: "hann" weights frames once, in join(), by a periodic Hann window's halves; "half_sine" in split() and in
            join(), by a half sine: the weights are its squares.
    """

    weights: Tensor

    def __init__(self, fade: Fade) -> None:
        super().__init__()
        self.twice = fade == "half_sine"
        angles = (torch.arange(OVERLAP, dtype=torch.float64) + (0.5 if self.twice else 0.0)) * (math.pi / 2 / OVERLAP)
        rising, falling = (angles.sin(), angles.cos()) if self.twice else (angles.sin() ** 2, angles.cos() ** 2)
        weights = torch.cat([rising, torch.ones(FRAME - 2 * OVERLAP, dtype=torch.float64), falling])
        self.register_buffer("weights", weights.to(torch.get_default_dtype()), persistent=False)

    def split(self, signal: Waveform) -> Frames:
        """The frames of a signal of at least one sample."""
        count = -(-signal.shape[-1] // HOP)
        filled = nn.functional.pad(signal, (0, count * HOP + OVERLAP - signal.shape[-1]))
        frames = filled.unfold(-1, FRAME, HOP)
        return frames * self._weights(count) if self.twice else frames

    def join(self, frames: Frames, length: int) -> Waveform:
        """The first `length` samples of the cross-faded frames."""
        faded = frames * self._weights(frames.shape[1])
        earlier = nn.functional.pad(faded[:, :-1, HOP:], (0, HOP - OVERLAP, 1, 0))
        return (faded[..., :HOP] + earlier).flatten(1)[:, :length]

    def _weights(self, count: int) -> Tensor:
        first = torch.cat([torch.ones_like(self.weights[:OVERLAP]), self.weights[OVERLAP:]])
        return torch.cat([first[None], self.weights.expand(count - 1, -1)])


class FrameCoder(nn.Module):
    """An encoder and a decoder of single frames, "M 1 512" to "M 1 C" and back."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def analyse(self, frames: Frames) -> Latents:
        """The C latents of every frame, whose time axis they take the place of."""
        return _framewise(self.encoder, frames).transpose(1, 2)

    def synthesise(self, latents: Latents) -> Frames:
        """The frames of their latents."""
        return _framewise(self.decoder, latents.transpose(1, 2))


class SubPixel(nn.Module):
    """Twice the samples from half the channels (Shi et al. 2016): "M 2C L" -> "M C 2L"."""

    def forward(self, values: Tensor) -> Tensor:
        return values.unflatten(1, (-1, 2)).transpose(2, 3).flatten(2)


def convolution(
    before: int, after: int, kernel: int, stride: int = 1, dilation: int = 1, gain: float = 1.0
) -> nn.Conv1d:
    """A convolution that keeps the length (over the stride) and starts with `gain` times the deviation of its input."""
    layer = nn.Conv1d(before, after, kernel, stride, dilation * (kernel // 2), dilation)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(before * kernel))
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def _framewise(network: nn.Module, rows: Tensor) -> Tensor:
    """Every row of "B T n" through a network of "M 1 n"."""
    lined = rows.flatten(0, 1).unsqueeze(1)
    parts = [lined] if torch.is_grad_enabled() else lined.split(AT_ONCE)
    return torch.cat([network(part) for part in parts]).squeeze(1).unflatten(0, rows.shape[:2])
