"""STFT with compressed magnitudes, frame by frame: |S|^alpha e^{j angle S} (Brendel et al. 2024, eqs. 29 and 30)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .streaming import Memory, continued

WINDOW, HOP, FFT = 320, 160, 512  # samples
BINS = FFT // 2 + 1
LINEAR_BELOW = 1e-3  # |S| of white noise at -60 dBFS
LAST_WEIGHT = 0.25  # least squared window that a sample with one frame only is divided by


class CompressedSTFT(nn.Module):
    """Waveform "B N" to real over imaginary parts "B 514 F" and back; F = N / 160, the first frame half silence.

    Frame n is Hann-windowed samples 160 (n - 1) to 160 (n + 1), padded by zeros to 512; S is divided by the window's
    norm, so that white noise has |S| of about its standard deviation. Synthesis windows once more and divides by the
    sum of squared windows, the least-squares inverse (Griffin & Lim 1984); the paper says "symmetric" only.
    Deviation: |S| < 1e-3 is scaled linearly. The powers alone have an infinite slope at 0 on the way in and a slope of
    0 on the way back, where no gradient would leave silence; the inverse stays exact.
    """

    window: Tensor
    synthesis_window: Tensor
    last: Tensor

    def __init__(self, alpha: float) -> None:
        super().__init__()
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha={alpha} must be above 0 and at most 1")
        self.alpha = alpha
        window = torch.hann_window(WINDOW, dtype=torch.float64)
        squares = window.square().view(2, HOP)
        total = squares.sum(0)
        self.register_buffer("window", window.float(), persistent=False)
        self.register_buffer("synthesis_window", (window / total.repeat(2)).float(), persistent=False)
        self.register_buffer("last", (total / squares[1].clamp_min(LAST_WEIGHT)).float(), persistent=False)
        self.norm = math.sqrt(float(window.square().sum()))

    def analyse(self, signal: Float[Tensor, "B N"], memory: Memory) -> Float[Tensor, "B 514 F"]:
        """Compressed spectra of a piece of whole hops."""
        frames = continued(self, signal, HOP, memory).unfold(-1, WINDOW, HOP) * (self.window / self.norm)
        parts = torch.view_as_real(torch.fft.rfft(frames, FFT))  # "B F 257 2"
        power = parts.square().sum(-1, keepdim=True).clamp_min(LINEAR_BELOW**2)
        return (parts * power ** ((self.alpha - 1) / 2)).permute(0, 3, 2, 1).flatten(1, 2)

    def synthesise(self, spectra: Float[Tensor, "B 514 F"], memory: Memory) -> Float[Tensor, "B N"]:
        """160 F samples, behind the frames by one hop."""
        exact = spectra.float() if spectra.dtype == torch.bfloat16 else spectra  # there are no complex numbers of these
        parts = exact.unflatten(1, (2, BINS)).permute(0, 3, 2, 1)
        power = parts.square().sum(-1, keepdim=True).clamp_min(LINEAR_BELOW ** (2 * self.alpha))
        parts = parts * (self.norm * power ** ((1 / self.alpha - 1) / 2))
        frames = torch.fft.irfft(torch.view_as_complex(parts.contiguous()), FFT)[..., :WINDOW]
        first, second = (frames * self.synthesis_window).split(HOP, -1)  # "B F 160" each
        before = memory.get(self)
        before = torch.zeros_like(second[:, :1]) if before is None else before
        memory[self] = second[:, -1:]
        return (first + torch.cat([before, second[:, :-1]], 1)).flatten(1)

    def finish(self, memory: Memory) -> Float[Tensor, "B 160"]:
        """The hop that no frame follows: exact where its window is above 1/2, then fading out over 6.7 ms."""
        return memory[self][:, 0] * self.last
