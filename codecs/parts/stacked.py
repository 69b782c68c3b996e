"""The frame loop of P variants of a feedback autoencoder at once, without gradient.

Every layer of a frame is one batched matrix product over all variants; both networks' feedback products are the same
one, and what the frames themselves bring to the encoder is computed for a block of them before its loop. So a frame
takes some thirty operations for all variants together, not for each.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...quantizers.base import StackedStepper
from .feedback import UNSELECTED, postprocess

FRAMES = 64  # at once: what the variants decoded of them stays in the cache

Layers = list[tuple[Float[Tensor, "P I O"], Float[Tensor, "P 1 O"]]]  # weights and biases


def part_of(parameters: Mapping[str, Tensor], module: str) -> dict[str, Tensor]:
    """Those of one module of the codec, under the names that they have there."""
    prefix = module + "."
    return {name.removeprefix(prefix): value for name, value in parameters.items() if name.startswith(prefix)}


def stacked_layers(network: nn.Sequential, parameters: Mapping[str, Tensor]) -> Layers:
    """The linear layers of P variants of a network."""
    return [
        (parameters[f"{place}.weight"].transpose(1, 2).contiguous(), parameters[f"{place}.bias"].unsqueeze(1))
        for place, layer in enumerate(network)
        if isinstance(layer, nn.Linear)
    ]


@torch.no_grad()
def run_stacked(
    pattern: Float[Tensor, "B M T"], encoder: Layers, decoder: Layers, step: StackedStepper, feedback: int
) -> Float[Tensor, "P B M T"]:
    """Post-processed patterns of every variant; R = `feedback` frames of at least one."""
    (batch, bands, frames), (variants, latent_dim) = pattern.shape, _shape(encoder)
    before = feedback * bands
    (into_encoder, encoder_bias), *encoder = encoder
    (into_decoder, decoder_bias), *decoder = decoder
    frame_weights, encoder_past = into_encoder.split([bands, before], 1)
    from_latent, decoder_past = into_decoder.split([latent_dim, before], 1)
    past, width = torch.cat([encoder_past, decoder_past], 2), encoder_bias.shape[2]
    from_latent = from_latent.contiguous()
    history = pattern.new_full((variants, batch, before + FRAMES * bands), UNSELECTED)
    decoded = pattern.new_empty(variants, batch, bands, frames)
    sums = pattern.new_empty(min(FRAMES, frames), variants, batch, past.shape[2])
    for start in range(0, frames, FRAMES):
        block = pattern[:, :, start : start + FRAMES]
        sums[: block.shape[2], ..., :width] = _products(block, frame_weights, encoder_bias)
        sums[..., width:] = decoder_bias
        for n, both in enumerate(sums[: block.shape[2]].unbind(0)):
            both.baddbmm_(history[:, :, n * bands : n * bands + before], past)
            latents = _further(both[:, :, :width].tanh(), encoder)
            hidden = torch.baddbmm(both[:, :, width:], step(latents, start + n), from_latent).tanh_()
            postprocess(_further(hidden, decoder), out=history[:, :, before + n * bands : before + (n + 1) * bands])
        passed = block.shape[2] * bands
        ours = history[:, :, before : before + passed].unflatten(2, (-1, bands))
        decoded[..., start : start + FRAMES] = ours.transpose(2, 3)
        history[:, :, :before] = history[:, :, passed : passed + before].clone()
    return decoded


def _shape(encoder: Layers) -> tuple[int, int]:
    weights = encoder[-1][0]
    return weights.shape[0], weights.shape[2]


def _products(block: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """What the encoder's first layer makes of the frames themselves, "T P B H"."""
    inputs = block.permute(2, 0, 1).flatten(0, 1).expand(len(weights), -1, -1)
    return torch.baddbmm(bias, inputs, weights).unflatten(1, (-1, len(block))).transpose(0, 1)


def _further(values: Tensor, layers: Layers) -> Tensor:
    *hidden, (weights, bias) = layers
    for matrix, shift in hidden:
        values = torch.baddbmm(shift, values, matrix).tanh_()
    return torch.baddbmm(bias, values, weights)
