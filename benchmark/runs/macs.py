"""Multiply-accumulates of codecs."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ...codecs.base import Codec

ENOUGH = 50  # strides that operations are counted on


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
