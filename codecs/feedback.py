"""The frame loop of a feedback autoencoder with a hand-written backward pass.

Per frame n, with history h_n = [y_{n-R}; ...; y_{n-1}]:

    p_n, h_n -> encoder MLP -> z_n -> quantizer -> z^_n ;  z^_n, h_n -> decoder MLP -> raw_n -> post-process -> y_n

Against an eager autograd loop: the input product of all frames is one GEMM, both networks' feedback products are one
GEMM a frame, weight gradients are one GEMM a layer after the loop, and the quantizer's C x C Jacobians of all
positions come from C batched vector-Jacobian products (positions are quantized alone, so nothing need be declared).
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..quantizers.base import Quantizer

UNSELECTED = -0.1  # a band that is not stimulated


def postprocess(raw: Tensor) -> Tensor:
    """Decoder output -> pattern: below 0 is not selected, above 1 is full scale."""
    return torch.where(raw < 0, UNSELECTED, raw.clamp(max=1.0))


class Weights(NamedTuple):
    """The two MLPs with their first layers split into own-input and feedback parts; matrices are (out, in)."""

    own: Tensor  # encoder, first layer, from p_n
    feedback: Tensor  # encoder's and decoder's first layers stacked, from h_n
    encoder_bias: Tensor
    encoder: list[tuple[Tensor, Tensor]]  # further layers (weight, bias); the last is linear
    latent: Tensor  # decoder, first layer, from z^_n
    decoder_bias: Tensor
    decoder: list[tuple[Tensor, Tensor]]


def split_weights(encoder: nn.Sequential, decoder: nn.Sequential, bands: int, latent_dim: int) -> Weights:
    """Views of the two MLPs' parameters, as the loop wants them."""
    first, *encoder_rest = [layer for layer in encoder if isinstance(layer, nn.Linear)]
    start, *decoder_rest = [layer for layer in decoder if isinstance(layer, nn.Linear)]
    feedback = torch.cat([first.weight[:, bands:], start.weight[:, latent_dim:]])
    return Weights(
        first.weight[:, :bands],
        feedback,
        first.bias,
        [(layer.weight, layer.bias) for layer in encoder_rest],
        start.weight[:, :latent_dim],
        start.bias,
        [(layer.weight, layer.bias) for layer in decoder_rest],
    )


class Trace(NamedTuple):
    """What a forward pass leaves behind; time first: "T B width"."""

    raw: Tensor
    latents: Tensor
    quantized: Tensor
    codes: Tensor  # "B S T"
    history: Float[Tensor, "B columns"]  # all post-processed frames, R unselected ones first
    encoder: list[Tensor]  # activations of the hidden layers
    decoder: list[Tensor]


def _mlp(hidden: Tensor, layers: list[tuple[Tensor, Tensor]], kept: list[Tensor]) -> Tensor:
    """The layers after the first: tanh between them, linear at the end; hidden activations go to `kept`."""
    kept.append(hidden)
    for weight, bias in layers[:-1]:
        hidden = torch.addmm(bias, hidden, weight.T).tanh_()
        kept.append(hidden)
    weight, bias = layers[-1]
    return torch.addmm(bias, hidden, weight.T)


def new_history(batch: int, frames: int, bands: int, feedback: int, like: Tensor) -> Tensor:
    """Room for R + T frames of `bands`, side by side, all unselected."""
    return like.new_full((batch, (feedback + frames) * bands), UNSELECTED)


def synthesise(weights: Weights, product: Tensor, quantized: Tensor, kept: list[Tensor]) -> Tensor:
    """Decoder MLP of one frame; `product` is the feedback product of both networks."""
    own = torch.addmm(weights.decoder_bias, quantized, weights.latent.T)
    return _mlp((own + product[:, len(weights.encoder_bias) :]).tanh_(), weights.decoder, kept)


@torch.no_grad()
def run_loop(pattern: Tensor, noise: Tensor, weights: Weights, quantizer: Quantizer, feedback: int) -> Trace:
    """The loop itself, without a graph; `pattern` is "T B M"."""
    frames, batch, bands = pattern.shape
    own = pattern @ weights.own.T + weights.encoder_bias
    history = new_history(batch, frames, bands, feedback, pattern)
    turn = weights.feedback.T.contiguous()
    width = len(weights.encoder_bias)
    raws, latents, quantizeds, codes = [], [], [], []
    encoder: list[list[Tensor]] = []
    decoder: list[list[Tensor]] = []
    for n in range(frames):
        product = history[:, n * bands : (n + feedback) * bands] @ turn
        encoder.append([])
        decoder.append([])
        z = _mlp((own[n] + product[:, :width]).tanh_(), weights.encoder, encoder[-1])
        zq, code = quantizer.step(z.unsqueeze(2), noise[:, :, n : n + 1])
        raw = synthesise(weights, product, zq[:, :, 0], decoder[-1])
        history[:, (n + feedback) * bands : (n + feedback + 1) * bands] = postprocess(raw)
        raws.append(raw)
        latents.append(z)
        quantizeds.append(zq[:, :, 0])
        codes.append(code)
    return Trace(
        torch.stack(raws),
        torch.stack(latents),
        torch.stack(quantizeds),
        torch.cat(codes, 2),
        history,
        [torch.stack(layer) for layer in zip(*encoder, strict=True)],
        [torch.stack(layer) for layer in zip(*decoder, strict=True)],
    )


def synthesise_loop(quantized: Tensor, weights: Weights, bands: int, feedback: int) -> Tensor:
    """The decoder alone: "T B L" quantized latents -> post-processed frames "B M T", by the operations of `run_loop`."""
    frames, batch, _ = quantized.shape
    history = new_history(batch, frames, bands, feedback, quantized)
    turn = weights.feedback.T.contiguous()
    for n in range(frames):
        product = history[:, n * bands : (n + feedback) * bands] @ turn
        raw = synthesise(weights, product, quantized[n], [])
        history[:, (n + feedback) * bands : (n + feedback + 1) * bands] = postprocess(raw)
    return history[:, feedback * bands :].reshape(batch, frames, bands).transpose(1, 2)


class FeedbackLoop(torch.autograd.Function):
    """(raw "T B M", latents "T B L", quantized "T B L", codes "B S T") of a sequence, differentiable once."""

    @staticmethod
    def forward(
        ctx: Any, pattern: Tensor, noise: Tensor, quantizer: Quantizer, feedback: int, depth: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        """`tensors`: the weights as `pack` lays them out, then the quantizer's parameters."""
        weights = unpack(tensors, depth)
        trace = run_loop(pattern, noise, weights, quantizer, feedback)
        ctx.save_for_backward(pattern, noise, *tensors)
        ctx.trace, ctx.quantizer, ctx.feedback, ctx.depth = trace, quantizer, feedback, depth
        ctx.mark_non_differentiable(trace.codes)
        return trace.raw, trace.latents, trace.quantized, trace.codes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of every input, from those of raw, latents and quantized."""
        pattern, noise, *tensors = ctx.saved_tensors
        trace, feedback = ctx.trace, ctx.feedback
        weights = unpack(tensors, ctx.depth)
        parameters = tensors[5 + 4 * ctx.depth :]
        rebuilt, z, jacobians = _quantizer_jacobians(ctx.quantizer, trace.latents, noise)
        encoder_grads, decoder_grads, quantized_grads = _reverse(weights, trace, jacobians, grads, feedback)
        inner = _parameter_gradients(rebuilt, parameters, quantized_grads)
        history = trace.history.unfold(1, feedback * pattern.shape[2], pattern.shape[2])[:, :-1].transpose(0, 1)
        first = torch.cat([encoder_grads[0], decoder_grads[0]], 2)
        packed = [
            _outer(encoder_grads[0], pattern),
            _outer(first, history),
            encoder_grads[0].sum((0, 1)),
            *_layer_gradients(encoder_grads[1:], trace.encoder),
            _outer(decoder_grads[0], trace.quantized),
            decoder_grads[0].sum((0, 1)),
            *_layer_gradients(decoder_grads[1:], trace.decoder),
        ]
        into_pattern = encoder_grads[0] @ weights.own if ctx.needs_input_grad[0] else None
        return into_pattern, None, None, None, None, *packed, *inner


def pack(weights: Weights) -> list[Tensor]:
    """The weights in one flat list."""
    encoder = [tensor for layer in weights.encoder for tensor in layer]
    decoder = [tensor for layer in weights.decoder for tensor in layer]
    return [
        weights.own, weights.feedback, weights.encoder_bias, *encoder, weights.latent, weights.decoder_bias, *decoder,
    ]  # fmt: skip


def unpack(tensors: Any, depth: int) -> Weights:
    """The inverse of `pack`; `depth` layers follow the first one in each network."""
    own, feedback, encoder_bias, *rest = tensors
    encoder, rest = rest[: 2 * depth], rest[2 * depth :]
    latent, decoder_bias, *decoder = rest[: 2 + 2 * depth]
    return Weights(
        own, feedback, encoder_bias, _pairs(encoder), latent, decoder_bias, _pairs(decoder)
    )  # fmt: skip


def _pairs(tensors: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(tensors[::2], tensors[1::2], strict=True))


def _outer(grads: Tensor, inputs: Tensor) -> Tensor:
    return grads.flatten(0, 1).T @ inputs.flatten(0, 1)


def _layer_gradients(grads: list[Tensor], inputs: list[Tensor]) -> list[Tensor]:
    return [g for grad, value in zip(grads, inputs, strict=True) for g in (_outer(grad, value), grad.sum((0, 1)))]


def _quantizer_jacobians(quantizer: Quantizer, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The quantizer over all positions with a graph, and d quantized[c] / d latent[k] as "T B c k"."""
    with torch.enable_grad():
        z = latents.permute(1, 2, 0).detach().requires_grad_()
        quantized, _ = quantizer.step(z, noise)
        rows = []
        for channel in range(z.shape[1]):
            pick = torch.zeros_like(quantized)
            pick[:, channel] = 1
            rows.append(_gradient_or_zero(quantized, z, pick))
    return quantized, z, torch.stack(rows, 1).permute(3, 0, 1, 2).contiguous()


def _gradient_or_zero(output: Tensor, source: Tensor, cotangent: Tensor) -> Tensor:
    if not output.requires_grad:
        return torch.zeros_like(source)
    (grad,) = torch.autograd.grad(output, source, cotangent, retain_graph=True, allow_unused=True)
    return torch.zeros_like(source) if grad is None else grad


def _parameter_gradients(rebuilt: Tensor, parameters: list[Tensor], cotangent: Tensor) -> list[Tensor | None]:
    wanted = [p for p in parameters if p.requires_grad]
    if not wanted or not rebuilt.requires_grad:
        return [None] * len(parameters)
    grads = torch.autograd.grad(rebuilt, wanted, cotangent.permute(1, 2, 0), allow_unused=True)
    found = iter(grads)
    return [next(found) if p.requires_grad else None for p in parameters]


def _back(grad: Tensor, layers: list[tuple[Tensor, Tensor]], hidden: list[Tensor], slopes: list[list[Tensor]]) -> Tensor:
    """Gradient at an MLP's output -> at its first pre-activation; pre-activation gradients go to `slopes`, last first."""
    for (weight, _), value in zip(reversed(layers), reversed(hidden), strict=True):
        slopes[0].append(grad)
        slopes = slopes[1:]
        grad = (grad @ weight).mul_(1 - value * value)
    slopes[0].append(grad)
    return grad


def _reverse(
    weights: Weights, trace: Trace, jacobians: Tensor, grads: tuple[Tensor, ...], feedback: int
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """The loop backwards: pre-activation gradients of each layer, first layer first, and those of the quantized latents."""
    into_raw, into_latents, into_quantized = grads[:3]
    frames, batch, bands = trace.raw.shape
    passed = ((trace.raw >= 0) & (trace.raw <= 1)).to(trace.raw.dtype)  # where post-processing lets a gradient through
    into_history = trace.history.new_zeros(trace.history.shape)
    encoder: list[list[Tensor]] = [[] for _ in range(len(weights.encoder) + 1)]
    decoder: list[list[Tensor]] = [[] for _ in range(len(weights.decoder) + 1)]
    quantized: list[Tensor] = []
    for n in reversed(range(frames)):
        frame = into_history[:, (n + feedback) * bands : (n + feedback + 1) * bands]
        grad = torch.addcmul(into_raw[n], passed[n], frame)
        from_decoder = _back(grad, weights.decoder, [layer[n] for layer in trace.decoder], decoder)
        zq = torch.addmm(into_quantized[n], from_decoder, weights.latent)
        quantized.append(zq)
        z = torch.baddbmm(into_latents[n].unsqueeze(1), zq.unsqueeze(1), jacobians[n])[:, 0]
        from_encoder = _back(z, weights.encoder, [layer[n] for layer in trace.encoder], encoder)
        past = into_history[:, n * bands : (n + feedback) * bands]
        past.addmm_(torch.cat([from_encoder, from_decoder], 1), weights.feedback)
    def in_order(layers: list[list[Tensor]]) -> list[Tensor]:
        return [torch.stack(layer[::-1]) for layer in reversed(layers)]
    return in_order(encoder), in_order(decoder), torch.stack(quantized[::-1])
