"""Causal layers that remember, so that a signal may come in pieces: one code path for whole files and for streams.

Every layer is called with a Memory. A new one stands for silence before the signal; the one of the last call makes the
next piece go on where that ended. Streamer keeps those of an encoder and of a decoder.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...quantizers.base import Codes, Latents, Quantizer

Frames = Float[Tensor, "B _ _"]  # channels and frames, of either side of a layer
Memory = dict[nn.Module, Tensor]  # what each layer keeps of the past
SHORT = 8  # frames up to which a matrix product is several times quicker than a convolution kernel's set-up


def continued(layer: nn.Module, values: Tensor, frames: int, memory: Memory) -> Tensor:
    """`values` with the `frames` before them in front: what the layer remembers, zeros at the start."""
    if frames == 0:
        return values
    before = memory.get(layer)
    if before is None:
        before = values.new_zeros(*values.shape[:-1], frames)
    whole = torch.cat([before, values], -1)
    memory[layer] = whole[..., -frames:]
    return whole


class CausalConv(nn.Module):
    """Convolution whose last tap lies on the newest frame; a piece must be a multiple of the stride."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, dilation: int = 1, channelwise: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, 0, dilation, inputs if channelwise else 1)
        self.past = dilation * (kernel - 1) + 1 - stride
        if self.past < 0:
            raise ValueError(f"kernel={kernel} at stride={stride} skips frames; the stride may not be longer")

    def forward(self, values: Frames, memory: Memory) -> Frames:
        whole = continued(self, values, self.past, memory)
        return self._short(whole) if values.shape[-1] <= SHORT else self.conv(whole)

    def _short(self, whole: Frames) -> Frames:
        """The same convolution of few frames, without the kernel's set-up."""
        weight, bias, dilation = self.conv.weight, self.conv.bias, self.conv.dilation[0]
        span = dilation * (weight.shape[2] - 1) + 1
        windows = whole.unfold(-1, span, self.conv.stride[0])[..., ::dilation]  # "B C F K"
        if self.conv.groups == 1:
            rows = windows.transpose(1, 2).flatten(2)
            return nn.functional.linear(rows, weight.flatten(1), bias).transpose(1, 2)
        out = (windows * weight[:, 0, None]).sum(-1)
        return out if bias is None else out + bias[:, None]


class CausalTransposedConv(nn.Module):
    """Transposed convolution of kernel 2 S and stride S, its right end left to the next piece: S frames for one."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride)

    def forward(self, values: Frames, memory: Memory) -> Frames:
        weight, bias = self.conv.weight, self.conv.bias
        whole = nn.functional.conv_transpose1d(values, weight, stride=self.stride)
        before = memory.get(self)
        if before is not None:
            whole = whole + nn.functional.pad(before, (0, whole.shape[-1] - self.stride))
        memory[self] = whole[..., -self.stride :]
        whole = whole[..., : -self.stride]
        return whole if bias is None else whole + bias[:, None]


class CausalGRU(nn.Module):
    """One-layer GRU forward in time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gru = nn.GRU(channels, channels, batch_first=True)

    def forward(self, values: Frames, memory: Memory) -> Frames:
        out, memory[self] = self.gru(values.transpose(1, 2), memory.get(self))
        return out.transpose(1, 2)


@runtime_checkable
class Streamable(Protocol):
    """What Streamer wants of a codec: both halves with their memories."""

    quantizer: Quantizer
    training: bool
    stride: int

    def analyse(self, signal: Float[Tensor, "B N"], memory: Memory) -> Latents:
        """Latents of a piece of whole positions."""
        ...

    def synthesise(self, latents: Latents, memory: Memory) -> Float[Tensor, "B N"]:
        """As many samples as the positions stand for, those `delay` before them."""
        ...

    def finish(self, memory: Memory) -> Float[Tensor, "B N"]:
        """The last `delay` samples, when no position follows."""
        ...


class Streamer:
    """Both ends of a call: pieces of signal to codes, codes to pieces of signal, each end with a state of its own.

    The codes are those of the whole file (up to a tie of rounding), the samples those of decode() within 1e-5, behind
    by the codec's synthesis delay: the first samples that decode() returns precede the signal, and flush() has the
    last.

    Raises:
        ValueError: the codec is in training, or a piece is not a multiple of its stride.
    """

    def __init__(self, codec: Streamable) -> None:
        if codec.training:
            raise ValueError("a codec in training has no codes to stream; call codec.eval() first")
        self._codec = codec
        self._sender: Memory = {}
        self._receiver: Memory = {}
        self._sent = self._received = 0  # positions

    @torch.no_grad()
    def encode(self, signal: Float[Tensor, "B N"]) -> Codes:
        """The codes of the next N samples, N a multiple of the stride."""
        stride, quantizer = self._codec.stride, self._codec.quantizer
        if signal.shape[-1] == 0 or signal.shape[-1] % stride:
            raise ValueError(f"a piece of {signal.shape[-1]} samples; pass a multiple of {stride}")
        latents = self._codec.analyse(signal, self._sender)
        noise = quantizer.draw(latents.shape[0], latents.shape[2], self._sent)
        self._sent += latents.shape[2]
        return quantizer.encode(latents, noise)

    @torch.no_grad()
    def decode(self, codes: Codes) -> Float[Tensor, "B N"]:
        """The next samples, `stride` for every position."""
        quantizer = self._codec.quantizer
        noise = quantizer.draw(codes.shape[0], codes.shape[2], self._received)
        self._received += codes.shape[2]
        return self._codec.synthesise(quantizer.decode(codes, noise), self._receiver)

    @torch.no_grad()
    def flush(self) -> Float[Tensor, "B N"]:
        """The samples that decode() still holds back when the signal has ended."""
        return self._codec.finish(self._receiver)
