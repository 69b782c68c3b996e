"""FreqCodec: the STFT as a picture, coded by a SEANet of two-dimensional convolutions (Du et al. 2023).

    x -> STFT -> log |S|, cos, sin -> conv 3 -> [residual unit -> ELU -> strided conv] x 4 -> ELU -> conv 7 -> y -> Q
    Q -> conv 7 -> [ELU -> transposed conv -> residual unit] x 4 -> ELU -> conv 3 -> a, b, c
      -> S^ = softplus(a) (b + i c) -> inverse STFT -> x^
    residual unit: conv 1 (v) + conv 1 (ELU (conv 3 (ELU (v)))), half as wide inside

16 kHz, FFT and Hann window of 512 samples, hop 160: 257 bins, 100 frames/s. Every stride divides the bins by 4, 256 to
1 (the encoder's strides leave the last bin out, the decoder adds one), and doubles the channels; the second one also
halves the frames: 50 positions/s. Strided convolutions have kernels of two strides. Everything is centred in time, so
the codec is not causal. It is the baseline of Brendel et al. 2024, at the size they compare with: the authors' M6 of
0.52 M parameters and 340 MMAC/s.
Public are these two numbers, and that M6 groups its convolutions; the transform, magnitude and phase at both ends, the
strides and the residual units are those of the authors' recipe for a larger model. Guessed, so that both numbers are
met within 1 %: 16 channels before the first stride (that recipe: 32), 64 latents (128), first and last convolutions of
3 x 3 taps (7 x 7), groups of 16 outputs in all two-dimensional convolutions between them, and no LSTM, for theirs would
have more parameters than all of M6.
Deviations: no group normalisation, whose statistics of the whole signal would make every output depend on every input;
zeros, not reflections, around the picture; N / 160 frames, in the middle of their hops. Weights start so that variances
are kept, residual branches at a fifth of that beside the identity; inputs vary by about 1 for speech, and outputs start
at its scale. Losses compare magnitudes and, less, samples, as the authors' do, but in this suite's terms and without
discriminators unless asked for. In short runs magnitudes alone are learnt: ESTOI rises, the waveform does not agree.
"""

import math
from typing import Any, ClassVar, final

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from ..quantizers.base import Codes, Latents, Maker, Quantizer
from .base import Codec, Coded

FFT, HOP = 512, 160  # samples
BINS = FFT // 2 + 1
MARGIN = (FFT - HOP) // 2  # samples that the first frame begins before the signal
STRIDES = ((4, 1), (4, 2), (4, 1), (4, 1))  # of bins and frames
FLOOR = 1e-6  # of |S|, as the authors'
LOG_MEAN, LOG_DEVIATION = -6.6, 1.65  # of log |S| of speech, about
LEVEL = 0.02  # RMS of S of speech, about
ELU_GAIN = 1.245  # 1 / RMS of the ELU of a standard normal variable
BRANCH = 0.2  # how strong a residual branch starts

Picture = Float[Tensor, "B C K F"]  # channels, bins, frames
Filtered = Float[Tensor, "B D L G"]  # the same of other sizes
Pair = tuple[int, int]


class Spectrogram(nn.Module):
    """Waveform "B N", N a multiple of the hop, to complex spectra "B 257 N/160" and back.

    Divided by the window's norm: white noise has |S| of about its standard deviation. The inverse is the least-squares
    one (Griffin & Lim 1984).
    """

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        window = torch.hann_window(FFT, dtype=torch.float64)
        self.norm = math.sqrt(float(window.square().sum()))
        self.register_buffer("window", window.float(), persistent=False)

    def forward(self, signal: Float[Tensor, "B N"]) -> Complex[Tensor, "B 257 F"]:
        frames = nn.functional.pad(signal, (MARGIN, MARGIN)).unfold(-1, FFT, HOP)
        return torch.fft.rfft(frames * (self.window / self.norm)).transpose(1, 2)

    def inverse(self, spectra: Complex[Tensor, "B 257 F"]) -> Float[Tensor, "B N"]:
        """The signal."""
        frames = torch.fft.irfft(spectra.transpose(1, 2), FFT) * (self.window * self.norm)
        weights = self.window.square().expand(1, frames.shape[1], FFT)
        return _overlap_add(frames) / _overlap_add(weights)


def _overlap_add(frames: Float[Tensor, "B F 512"]) -> Float[Tensor, "B N"]:
    samples = frames.shape[1] * HOP
    whole = nn.functional.fold(frames.transpose(1, 2), (1, samples + 2 * MARGIN), (1, FFT), stride=(1, HOP))
    return whole[:, 0, 0, MARGIN : MARGIN + samples]


class Conv(nn.Module):
    """Convolution over bins and frames with kernel - stride zeros around them, half before and half behind.

    Where that is odd one more before. Started so that the output's RMS is `gain` times the input's.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: Pair, stride: Pair = (1, 1), groups: int = 1, gain: float = ELU_GAIN
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups)
        self.low, self.high = _halves(kernel[0] - stride[0])
        self.before, self.after = _halves(kernel[1] - stride[1])
        _start(self.conv, gain / math.sqrt(inputs // groups * math.prod(kernel)))

    def forward(self, values: Picture) -> Filtered:
        return self.conv(nn.functional.pad(values, (self.before, self.after, self.low, self.high)))


class TransposedConv(nn.Module):
    """Transposed convolution of kernel 2 S and stride S, S bins and frames cut off, but for `extra` bins at the top."""

    def __init__(self, inputs: int, outputs: int, stride: Pair, groups: int, extra: int = 0) -> None:
        super().__init__()
        self.stride, self.extra = stride, extra
        self.conv = nn.ConvTranspose2d(inputs, outputs, (2 * stride[0], 2 * stride[1]), stride, groups=groups)
        (self.low, _), (self.before, self.after) = map(_halves, stride)
        _start(self.conv, ELU_GAIN / math.sqrt(4 * inputs // groups))  # four taps for every output

    def forward(self, values: Picture) -> Filtered:
        bins, frames = (step * size for step, size in zip(self.stride, values.shape[2:], strict=True))
        whole = self.conv(values)[:, :, self.low :, self.before :]
        return whole[:, :, : bins + self.extra, :frames]


class ResidualUnit(nn.Module):
    """A weak branch beside a convolution that starts as the identity."""

    def __init__(self, channels: int, group: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.skip = nn.Conv2d(channels, channels, 1, groups=_groups(channels, channels, group))
        self.branch = nn.Sequential(
            nn.ELU(),
            Conv(channels, inner, (3, 3), groups=_groups(channels, inner, group)),
            nn.ELU(),
            Conv(inner, channels, (1, 1), groups=_groups(inner, channels, group), gain=BRANCH * ELU_GAIN),
        )
        _start(self.skip, 0.0)
        nn.init.dirac_(self.skip.weight, self.skip.groups)

    def forward(self, values: Picture) -> Picture:
        return self.skip(values) + self.branch(values)


@final
class FreqCodec(Codec):
    """Speech "B N" at 16 kHz.

    Args:
        make_quantizer: (channels, share of the rate) -> Quantizer.
        base: channels before the first stride.
        latent_dim: width of the latents.
        group: outputs of a group of the grouped convolutions, where the channels can be divided so.
    """

    paper = "Du et al. 2023, arXiv:2309.07405; Brendel et al. 2024, arXiv:2405.08417, section V"
    domain = "waveform"
    stride = HOP * math.prod(step for _, step in STRIDES)
    default_bitrate = 6.0
    presets: ClassVar[dict[str, dict[str, Any]]] = {"freqcodec-small": {"base": 8, "latent_dim": 32}}
    training_options: ClassVar[dict[str, Any]] = {
        "losses": {"stft": 1.0, "relative_time": 0.5},
        "optimizer": "adamw",
        "learning_rate": 3e-3,
        "batch_size": 4,
        "crop_seconds": 1.0,
    }

    def __init__(self, make_quantizer: Maker, base: int = 16, latent_dim: int = 64, group: int = 16) -> None:
        super().__init__()
        if min(base, latent_dim, group) < 1:
            raise ValueError(f"base={base}, latent_dim={latent_dim} and group={group} must be positive")
        self.spectrogram = Spectrogram()
        widths = [base << level for level in range(len(STRIDES) + 1)]
        levels = list(zip(STRIDES, widths, widths[1:], strict=False))
        down = [
            layer
            for stride, inner, outer in levels
            for layer in (
                ResidualUnit(inner, group),
                nn.ELU(),
                Conv(inner, outer, (2 * stride[0], 2 * stride[1]), stride, _groups(inner, outer, group)),
            )
        ]
        up = [
            layer
            for stride, inner, outer in reversed(levels)
            for layer in (
                nn.ELU(),
                TransposedConv(outer, inner, stride, _groups(outer, inner, group), extra=int(inner == base)),
                ResidualUnit(inner, group),
            )
        ]
        top = widths[-1]
        self.encoder = nn.Sequential(Conv(3, base, (3, 3), gain=1.0), *down, nn.ELU(), Conv(top, latent_dim, (1, 7)))
        self.quantizer = make_quantizer(latent_dim, 1.0)
        self.decoder = nn.Sequential(Conv(latent_dim, top, (1, 7), gain=1.0), *up, nn.ELU(), Conv(base, 3, (3, 3)))
        self.lookahead = _lookahead([*self.encoder.modules(), *self.decoder.modules()])

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        return (self.quantizer,)

    def forward(self, signal: Tensor) -> Coded:
        samples = signal.shape[-1]
        padded = nn.functional.pad(signal, (0, -samples % self.stride))
        quantized = self.quantizer(self.analyse(padded))
        return Coded(self.synthesise(quantized.latents)[..., :samples], (quantized,))

    @torch.no_grad()
    def decode(self, codes: Codes, shape: tuple[int, ...]) -> Tensor:
        latents = self.quantizer.decode(codes, self.quantizer.draw(codes.shape[0], codes.shape[2]))
        return self.synthesise(latents)[..., : shape[-1]]

    def analyse(self, signal: Float[Tensor, "B N"]) -> Latents:
        """Latents of whole positions."""
        spectra = self.spectrogram(signal)
        magnitudes = spectra.abs().clamp_min(FLOOR)
        levels = (magnitudes.log() - LOG_MEAN) / LOG_DEVIATION
        phases = spectra / magnitudes
        return self.encoder(torch.stack([levels, phases.real, phases.imag], 1)).squeeze(2)

    def synthesise(self, latents: Latents) -> Float[Tensor, "B N"]:
        """320 samples a position."""
        decoded = self.decoder(latents[:, :, None])
        exact = decoded.float() if decoded.dtype == torch.bfloat16 else decoded  # there are no complex numbers of these
        levels, real, imaginary = exact.unbind(1)
        magnitudes = LEVEL * nn.functional.softplus(levels)
        return self.spectrogram.inverse(torch.complex(magnitudes * real, magnitudes * imaginary))


def _halves(count: int) -> Pair:
    return count - count // 2, count // 2


def _groups(inputs: int, outputs: int, group: int) -> int:
    return math.gcd(inputs, outputs, max(1, outputs // group))


def _start(conv: Any, deviation: float) -> None:
    nn.init.normal_(conv.weight, std=deviation)
    nn.init.zeros_(conv.bias)


def _lookahead(layers: list[nn.Module]) -> int:
    """The most samples of the input that an output sample waits for beyond itself; a window begins with a 0."""

    def latest(sample: int) -> int:
        frame = (sample + MARGIN - 1) // HOP
        for layer in reversed(layers):
            if isinstance(layer, TransposedConv):
                frame = (frame + layer.before) // layer.stride[1]
            elif isinstance(layer, Conv):
                frame = (frame + 1) * layer.conv.stride[1] - 1 + layer.after
        return frame * HOP - MARGIN + FFT - 1

    return max(latest(sample) - sample for sample in range(HOP * 2))
