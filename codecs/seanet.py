"""SEANet: the convolutional encoder and decoder of SoundStream and EnCodec (Defossez et al. 2022, arXiv:2210.13438).

    x -> conv 7 -> [residual unit -> ELU -> conv 2 S, stride S] for S in 2, 4, 5, 8 -> LSTM -> ELU -> conv 7 -> y -> Q
    Q -> conv 7 -> LSTM -> [ELU -> transposed conv 2 S -> residual unit] for S in 8, 5, 4, 2 -> ELU -> conv 7 -> x^
    residual unit: v + conv 1 (ELU (conv 3 (ELU v))), half as wide inside

Channels start at 32 and double with every stride; 128 latents, one position per 320 samples (50/s at 16 kHz). Causal,
as EnCodec's streamable model: all padding lies before the signal, a position is known when its 320 samples are (319 of
look-ahead), and an output needs no later position. Otherwise the padding is split evenly and reflects the signal.
Sizes are those of the authors' release where the paper leaves them open: kernels 3 and 1 in the residual unit (the
paper: two of 3), two LSTM layers added to their input.
Deviations: the skip of a residual unit is the identity, as the paper says, where the release has a convolution; zeros,
not reflections, before a causal signal: what is reflected has not arrived yet. Started so that variances are kept, and
residual branches at a fifth of that; the waveform is scaled so that speech at -25 dBFS enters with an RMS of 1.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ..quantizers.base import Codes, Latents, Maker, Quantizer
from .base import Codec, Coded
from .parts.streaming import CausalConv, CausalTransposedConv, Frames, Memory, Streamer

STRIDES = (2, 4, 5, 8)
HOP = math.prod(STRIDES)
GAIN = 10 ** (25 / 20)  # of the waveform on its way in, and its inverse on the way out
ELU_GAIN = 1.245  # 1 / RMS of the ELU of a standard normal variable
BRANCH = 0.2  # how strong a residual branch starts


class CentredConv(nn.Module):
    """Convolution with kernel - stride frames of padding, half on each side (one more before where that is odd)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride)
        self.after = (kernel - stride) // 2
        self.before = kernel - stride - self.after

    def forward(self, values: Frames, memory: Memory) -> Frames:
        mode = "reflect" if values.shape[-1] > self.before else "replicate"  # too short to be reflected
        return self.conv(nn.functional.pad(values, (self.before, self.after), mode))


class CentredTransposedConv(nn.Module):
    """Transposed convolution of kernel 2 S and stride S, S frames cut off: half at each end."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride)
        self.after = stride // 2
        self.before = stride - self.after

    def forward(self, values: Frames, memory: Memory) -> Frames:
        return self.conv(values)[..., self.before : -self.after]


class LSTM(nn.Module):
    """Layers of LSTM forward in time, added to their input."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, layers, batch_first=True)

    def forward(self, values: Frames, memory: Memory) -> Frames:
        before = memory.get(self)
        out, after = self.lstm(values.transpose(1, 2), None if before is None else (before[0], before[1]))
        memory[self] = torch.stack(after)
        return values + out.transpose(1, 2)


class ELU(nn.Module):
    """Exponential linear unit."""

    def forward(self, values: Frames, memory: Memory) -> Frames:
        return nn.functional.elu(values)


class Chain(nn.Module):
    """Layers one after another; residual: their output is added to the input."""

    def __init__(self, *layers: nn.Module, residual: bool = False) -> None:
        super().__init__()
        self.layers, self.residual = nn.ModuleList(layers), residual

    def forward(self, values: Frames, memory: Memory) -> Frames:
        out = values
        for layer in self.layers:
            out = layer(out, memory)
        return values + out if self.residual else out


class Layers:
    """Makes the layers of one kind of codec, started with variances kept."""

    def __init__(self, causal: bool, norm: bool) -> None:
        self.causal, self.norm = causal, norm

    def conv(self, inputs: int, outputs: int, kernel: int, stride: int = 1, gain: float = ELU_GAIN) -> nn.Module:
        """A convolution; `gain` is that of its output's RMS over that of its input."""
        make = CausalConv if self.causal else CentredConv
        return self._started(make(inputs, outputs, kernel, stride), gain / math.sqrt(inputs * kernel))

    def transposed(self, inputs: int, outputs: int, stride: int) -> nn.Module:
        """A transposed convolution: two taps for every output."""
        make: Callable[..., Any] = CausalTransposedConv if self.causal else CentredTransposedConv
        return self._started(make(inputs, outputs, stride), ELU_GAIN / math.sqrt(2 * inputs), 1)

    def residual(self, channels: int) -> Chain:
        """A residual unit."""
        inner = max(1, channels // 2)
        last = self.conv(inner, channels, 1, gain=BRANCH * ELU_GAIN)
        return Chain(ELU(), self.conv(channels, inner, 3), ELU(), last, residual=True)

    def _started(self, layer: Any, deviation: float, outputs: int = 0) -> nn.Module:
        nn.init.normal_(layer.conv.weight, std=deviation)
        nn.init.zeros_(layer.conv.bias)
        if self.norm:
            weight_norm(layer.conv, dim=outputs)
        return layer


@final
class SEANet(Codec):
    """Waveforms "B N", at 16 kHz or another rate.

    Args:
        make_quantizer: (channels, share of the rate) -> Quantizer.
        base: channels before the first stride.
        latent_dim: width of the latents.
        lstm_layers: of the LSTM on each side; 0: none.
        causal: pad before the signal only; otherwise on both sides, and an output waits for 2,717 samples.
        norm: weight normalisation (Salimans & Kingma 2016) of the convolutions.
    """

    paper = "Defossez et al. 2022, arXiv:2210.13438; Zeghidour et al. 2021, arXiv:2107.03312"
    domain = "waveform"
    stride = HOP
    default_bitrate = 6.0
    presets: ClassVar[dict[str, dict[str, Any]]] = {"seanet-small": {"base": 8, "lstm_layers": 0, "norm": False}}
    training_options: ClassVar[dict[str, Any]] = {
        "losses": {"complex_stft": 1.0, "relative_time": 1.0},
        "optimizer": "adamw",
        "learning_rate": 2e-3,
        "batch_size": 4,
        "crop_seconds": 1.0,
    }

    def __init__(
        self,
        make_quantizer: Maker,
        base: int = 32,
        latent_dim: int = 128,
        lstm_layers: int = 2,
        causal: bool = True,
        norm: bool = True,
    ) -> None:
        super().__init__()
        if base < 1 or latent_dim < 1 or lstm_layers < 0:
            raise ValueError(
                f"base={base}, latent_dim={latent_dim} must be positive, lstm_layers={lstm_layers} not < 0"
            )
        self.causal = causal
        make = Layers(causal, norm)
        widths = [base << level for level in range(len(STRIDES) + 1)]
        levels = list(zip(STRIDES, widths, widths[1:], strict=False))
        down = [
            layer
            for stride, inner, outer in levels
            for layer in (make.residual(inner), ELU(), make.conv(inner, outer, 2 * stride, stride))
        ]
        up = [
            layer
            for stride, inner, outer in reversed(levels)
            for layer in (ELU(), make.transposed(outer, inner, stride), make.residual(inner))
        ]
        recurrent = [[LSTM(widths[-1], lstm_layers)] if lstm_layers else [] for _ in range(2)]
        self.encoder = Chain(
            make.conv(1, base, 7, gain=1.0), *down, *recurrent[0], ELU(), make.conv(widths[-1], latent_dim, 7)
        )
        self.quantizer = make_quantizer(latent_dim, 1.0)
        self.decoder = Chain(
            make.conv(latent_dim, widths[-1], 7, gain=1.0), *recurrent[1], *up, ELU(), make.conv(base, 1, 7)
        )
        self.lookahead = HOP - 1 if causal else _lookahead(self.encoder, self.decoder)

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        return (self.quantizer,)

    def forward(self, signal: Tensor) -> Coded:
        samples = signal.shape[-1]
        padded = nn.functional.pad(signal, (0, -samples % HOP))
        quantized = self.quantizer(self.analyse(padded, {}))
        return Coded(self.synthesise(quantized.latents, {})[..., :samples], (quantized,))

    @torch.no_grad()
    def decode(self, codes: Codes, shape: tuple[int, ...]) -> Tensor:
        latents = self.quantizer.decode(codes, self.quantizer.draw(codes.shape[0], codes.shape[2]))
        return self.synthesise(latents, {})[..., : shape[-1]]

    def streamer(self) -> Streamer:
        """Encoder and decoder that take one or more positions (320 samples) at a time. ValueError: not causal."""
        if not self.causal:
            raise ValueError("only a causal codec can be fed piece by piece; build it with causal=True")
        return Streamer(self)

    def analyse(self, signal: Float[Tensor, "B N"], memory: Memory) -> Latents:
        """Latents of whole positions that follow those of `memory`."""
        return self.encoder(GAIN * signal[:, None], memory)

    def synthesise(self, latents: Latents, memory: Memory) -> Float[Tensor, "B N"]:
        """320 samples a position."""
        return self.decoder(latents, memory)[:, 0] / GAIN

    def finish(self, memory: Memory) -> Float[Tensor, "B 0"]:
        """Nothing: no sample is held back."""
        return next(iter(memory.values())).new_zeros(1, 0)


def _lookahead(encoder: nn.Module, decoder: nn.Module) -> int:
    """The most samples of the input that an output sample of a centred codec waits for beyond itself."""
    convs = [layer for half in (decoder, encoder) for layer in reversed(_convs(half))]

    def latest(sample: int) -> int:
        for conv in convs:
            if isinstance(conv, CentredTransposedConv):
                sample = (sample + conv.before) // conv.conv.stride[0]
            else:
                sample = (sample + 1) * conv.conv.stride[0] - 1 + conv.after
        return sample

    return max(latest(sample) - sample for sample in range(HOP))


def _convs(half: nn.Module) -> list[Any]:
    return [layer for layer in half.modules() if isinstance(layer, CentredConv | CentredTransposedConv)]
