"""Size, multiply-accumulates and latency of codecs without their quantizers: `benchmark ls codecs --complexity`."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ...codecs.base import Codec
from ...codecs.classical.base import ClassicalCodec
from ...datamodules.base import SAMPLE_RATE
from ...quantizers.identity import Identity
from ..errors import UserError
from ..specs.registry import lookup
from ..specs.spec import AceConfig
from ..tracks.choose import DOMAINS
from ..tracks.image import columns_per_second
from ..tracks.vector import VECTORS_PER_SECOND

ENOUGH = 50  # strides that operations are counted on


class Complexity(NamedTuple):
    """What a codec costs around an identity quantizer."""

    parameters: int  # of encoder and decoder
    macs_per_second: float
    positions_per_second: float
    latency_s: float  # the samples that an output waits for beyond its own position
    causal: bool


def complexity_of(name: str) -> Complexity:
    """Of a registered codec or preset; sound at 16 kHz. UserError: unknown, or of a domain without data."""
    cls, options = lookup("codecs", name)
    codec: Codec = cls(lambda channels, share: Identity(channels), **options).eval()
    rate = _rate(codec)
    return Complexity(
        sum(parameter.numel() for parameter in codec.parameters()),
        macs_per_second(codec, rate),
        rate * codec.positions_per_stride / codec.stride,
        codec.lookahead / rate,
        codec.causal,
    )


def classical_latency(name: str) -> float:
    """Seconds of algorithmic latency of a codec with nothing to train; sound at 16 kHz."""
    cls, options = lookup("classical", name)
    codec: ClassicalCodec = cls(**options)
    return codec.latency_s(SAMPLE_RATE if "waveform" in codec.domains else AceConfig().frame_rate)


def _rate(codec: Codec) -> float:
    """Samples a second of the signals of a codec's domain, as its runs have them by default."""
    rates: dict[str, Callable[[], float]] = {
        "stimulation": lambda: AceConfig().frame_rate,
        "waveform": lambda: float(SAMPLE_RATE),
        "image": lambda: columns_per_second(codec.leading[1]),
        "vector": lambda: VECTORS_PER_SECOND,
    }
    if codec.domain not in rates:
        raise UserError(f"no data for codecs of the domain {codec.domain!r} yet; there are: {', '.join(DOMAINS)}")
    return rates[codec.domain]()


def recurrent_macs(layer: nn.RNNBase, steps: int) -> int:
    """Of `steps` time steps (over all items): every weight is used once in each, those of gates and both directions."""
    return steps * sum(weight.numel() for name, weight in layer.named_parameters() if "weight" in name)


def macs(module: nn.Module, run: Callable[[], Any]) -> int:
    """Of matrix products, convolutions and recurrent layers of `module` while run() lasts; not of FFTs.

    torch's counter sees into a GRU on some devices and never into an LSTM, so recurrent layers count by their weights.
    """
    counter = FlopCounterMode(display=False)
    begun: list[int] = []
    missed: list[int] = []

    def before(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        begun.append(counter.get_total_flops() // 2)

    def after(layer: nn.RNNBase, inputs: tuple[Any, ...], output: Any) -> None:
        steps = inputs[0].numel() // inputs[0].shape[-1]
        missed.append(recurrent_macs(layer, steps) + begun.pop() - counter.get_total_flops() // 2)

    layers = [layer for layer in module.modules() if isinstance(layer, nn.RNNBase)]
    hooks = [layer.register_forward_pre_hook(before) for layer in layers]
    hooks += [layer.register_forward_hook(after) for layer in layers]
    try:
        with counter:
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return counter.get_total_flops() // 2 + sum(missed)


@torch.no_grad()
def macs_per_second(codec: Codec, rate: float) -> float:
    """Of encoder and decoder, each once, in evaluation, per second of a signal of `rate` samples a second."""
    strides = min(ENOUGH, math.ceil(rate / codec.stride))
    signal = torch.zeros(1, *codec.leading, strides * codec.stride, device=codec.device)
    return macs(codec, lambda: codec(signal)) * rate / signal.shape[-1]
