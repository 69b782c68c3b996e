"""The frame loop of a feedback autoencoder with a hand-written backward pass.

Per frame n, with history h_n = [y_{n-R}; ...; y_{n-1}]:

    p_n, h_n -> encoder MLP -> z_n -> quantizer -> z^_n ;  z^_n, h_n -> decoder MLP -> raw_n -> post-process -> y_n

Against an eager autograd loop: the input product of all frames is one GEMM, both networks' feedback products are one
GEMM a frame, weight gradients are one GEMM a layer after the loop, and the quantizer's C x C Jacobians of all
positions come from C batched vector-Jacobian products (positions are quantized alone, so nothing need be declared).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ...quantizers.base import Quantizer

UNSELECTED = -0.1  # a band that is not stimulated
BLOCK = 4096  # frames that a loop without gradient keeps its activations of


def postprocess(raw: Tensor, out: Tensor | None = None) -> Tensor:
    """Decoder output -> pattern: below 0 is not selected, above 1 is full scale."""
    return torch.threshold_(torch.clamp(raw, max=1.0, out=out), -torch.finfo(raw.dtype).tiny, UNSELECTED)


class Weights(NamedTuple):
    """The two MLPs, their first layers split by what comes in; matrices are (out, in)."""

    encoder_input: Tensor  # from p_n
    encoder_past: Tensor  # from h_n
    encoder_bias: Tensor
    encoder: list[tuple[Tensor, Tensor]]  # further layers (weight, bias); the last is linear
    decoder_input: Tensor  # from z^_n
    decoder_past: Tensor  # from h_n
    decoder_bias: Tensor
    decoder: list[tuple[Tensor, Tensor]]


def split_weights(encoder: nn.Sequential, decoder: nn.Sequential, bands: int, latent_dim: int) -> Weights:
    """Views of the two MLPs' parameters, as the loop wants them."""
    parts: list[Any] = []
    for network, width in ((encoder, bands), (decoder, latent_dim)):
        first, *rest = [layer for layer in network if isinstance(layer, nn.Linear)]
        parts += [
            first.weight[:, :width],
            first.weight[:, width:],
            first.bias,
            [(layer.weight, layer.bias) for layer in rest],
        ]
    return Weights(*parts)


class Trace(NamedTuple):
    """What a forward pass leaves behind; time first: "T B width"."""

    raw: Tensor
    latents: Tensor
    quantized: Tensor
    codes: Tensor  # "B S T"
    history: Float[Tensor, "B columns"]  # all post-processed frames, R unselected ones first
    encoder: list[Tensor]  # activations of the hidden layers
    decoder: list[Tensor]


class Coding(NamedTuple):
    """What a loop without gradient leaves behind; time first: "T B width"."""

    raw: Tensor
    latents: Tensor
    quantized: Tensor
    codes: Tensor  # "B S T"


class _Network:
    """One MLP, run frame by frame into buffers "T B width" that keep every activation."""

    def __init__(self, past: Tensor, layers: list[tuple[Tensor, Tensor]], start: Tensor) -> None:
        frames, batch, _ = start.shape
        self.past = past.T.contiguous()
        self.layers = [(weight.T.contiguous(), bias) for weight, bias in layers]
        self.hidden = [start.new_empty(frames, batch, width) for width in [len(past), *(len(w) for w, _ in layers)]]
        self.slots = [buffer.unbind(0) for buffer in self.hidden]

    def frame(self, n: int, product: Tensor, history: Tensor) -> Tensor:
        """`product` is what the first layer makes of the frame's own input, bias included."""
        slots = self.slots
        value = torch.addmm(product, history, self.past, out=slots[0][n]).tanh_()
        for (weight, bias), slot in zip(self.layers[:-1], slots[1:], strict=False):
            value = torch.addmm(bias, value, weight, out=slot[n]).tanh_()
        weight, bias = self.layers[-1]
        return torch.addmm(bias, value, weight, out=slots[-1][n])


class _History:
    """All post-processed frames side by side, R unselected ones first: frame n writes one slot and sees R of them."""

    def __init__(
        self, batch: int, frames: int, bands: int, feedback: int, like: Tensor, before: Tensor | None = None
    ) -> None:
        self.columns = like.new_full((batch, (feedback + frames) * bands), UNSELECTED)
        if before is not None:
            self.columns[:, : feedback * bands] = before
        self.seen = self.columns.unfold(1, feedback * bands, bands).unbind(1)
        self.slots = self.columns.split(bands, 1)[feedback:]


@torch.no_grad()
def run_blocks(pattern: Tensor, noise: Tensor, weights: Weights, quantizer: Quantizer, feedback: int) -> Coding:
    """`run_loop` over a signal of any length, BLOCK frames at a time: a trace of an hour would need 27 GB."""
    blocks: list[Coding] = []
    before = None
    for begin in range(0, len(pattern), BLOCK):
        part = slice(begin, begin + BLOCK)
        trace = run_loop(pattern[part], noise[:, :, part], weights, quantizer, feedback, before)
        before = trace.history[:, trace.history.shape[1] - feedback * pattern.shape[2] :]
        blocks.append(Coding(trace.raw, trace.latents, trace.quantized, trace.codes))
    raws, latents, quantized, codes = zip(*blocks, strict=True)
    return Coding(torch.cat(raws), torch.cat(latents), torch.cat(quantized), torch.cat(codes, 2))


@torch.no_grad()
def run_loop(
    pattern: Tensor, noise: Tensor, weights: Weights, quantizer: Quantizer, feedback: int, before: Tensor | None = None
) -> Trace:
    """The loop itself, without a graph; `pattern` is "T B M", `before` the R decoded frames that precede it."""
    frames, batch, bands = pattern.shape
    products = (pattern.contiguous() @ weights.encoder_input.T + weights.encoder_bias).unbind(0)
    encoder = _Network(weights.encoder_past, weights.encoder, pattern)
    decoder = _Network(weights.decoder_past, weights.decoder, pattern)
    history = _History(batch, frames, bands, feedback, pattern, before)
    from_latent, bias = weights.decoder_input.T.contiguous(), weights.decoder_bias
    step = quantizer.stepper(noise)
    quantized, codes = [], []
    for n in range(frames):
        past = history.seen[n]
        value, code = step(encoder.frame(n, products[n], past), n)
        postprocess(decoder.frame(n, torch.addmm(bias, value, from_latent), past), out=history.slots[n])
        quantized.append(value)
        codes.append(code)
    *encoder_hidden, latents = encoder.hidden
    *decoder_hidden, raw = decoder.hidden
    kept = (history.columns, encoder_hidden, decoder_hidden)
    return Trace(raw, latents, torch.stack(quantized), torch.stack(codes, 2), *kept)


@torch.no_grad()
def synthesise_loop(quantized: Tensor, weights: Weights, bands: int, feedback: int) -> Tensor:
    """The decoder alone: quantized latents "T B L" -> post-processed "B M T", by the operations of `run_loop`."""
    from_latent, bias = weights.decoder_input.T.contiguous(), weights.decoder_bias
    signals, before = [], None
    for part in quantized.split(BLOCK):
        frames, batch, _ = part.shape
        decoder = _Network(weights.decoder_past, weights.decoder, part)
        history = _History(batch, frames, bands, feedback, part, before)
        for n, value in enumerate(part.unbind(0)):
            product = torch.addmm(bias, value, from_latent)
            postprocess(decoder.frame(n, product, history.seen[n]), out=history.slots[n])
        before = history.columns[:, frames * bands :]
        signals.append(history.columns[:, feedback * bands :].view(batch, frames, bands).transpose(1, 2))
    return torch.cat(signals, 2)


class FeedbackLoop(torch.autograd.Function):
    """(raw "T B M", latents "T B L", quantized "T B L", codes "B S T") of a sequence, differentiable once."""

    @staticmethod
    def forward(
        ctx: Any, pattern: Tensor, noise: Tensor, quantizer: Quantizer, feedback: int, depth: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        """`tensors`: the weights as `pack` lays them out, then the quantizer's parameters."""
        weights = unpack(tensors, depth)
        trace = run_loop(pattern, noise, weights, quantizer, feedback)
        # outputs kept on ctx itself would tie a knot that is never freed
        hidden = (*trace.encoder, *trace.decoder)
        ctx.save_for_backward(trace.raw, trace.latents, trace.quantized, trace.codes, trace.history, *hidden,
                              pattern, noise, *tensors)  # fmt: skip
        ctx.quantizer, ctx.feedback, ctx.depth = quantizer, feedback, depth
        ctx.mark_non_differentiable(trace.codes)
        return trace.raw, trace.latents, trace.quantized, trace.codes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of every input, from those of raw, latents and quantized."""
        feedback, depth = ctx.feedback, ctx.depth
        saved, hidden, rest = (
            ctx.saved_tensors[:5],
            ctx.saved_tensors[5 : 5 + 2 * depth],
            ctx.saved_tensors[5 + 2 * depth :],
        )
        raw, latents, quantized, codes, history = saved
        trace = Trace(raw, latents, quantized, codes, history, list(hidden[:depth]), list(hidden[depth:]))
        pattern, noise, *tensors = rest
        weights = unpack(tensors, depth)
        parameters = tensors[6 + 4 * depth :]
        rebuilt, jacobians = _quantizer_jacobians(ctx.quantizer, trace.latents, noise)
        encoder, decoder, into_quantized = _reverse(weights, trace, jacobians, grads, feedback)
        inner = _parameter_gradients(rebuilt, parameters, into_quantized)
        width = pattern.shape[2]
        past = trace.history.unfold(1, feedback * width, width)[:, :-1].transpose(0, 1)
        packed = [
            *_first_layer(encoder[0], pattern, past),
            *_further_layers(encoder[1:], trace.encoder),
            *_first_layer(decoder[0], trace.quantized, past),
            *_further_layers(decoder[1:], trace.decoder),
        ]
        into_pattern = encoder[0] @ weights.encoder_input if ctx.needs_input_grad[0] else None
        return into_pattern, None, None, None, None, *packed, *inner


def pack(weights: Weights) -> list[Tensor]:
    """The weights in one flat list."""
    flat: list[Tensor] = []
    for part in weights:
        flat += [part] if isinstance(part, Tensor) else [tensor for layer in part for tensor in layer]
    return flat


def unpack(tensors: Any, depth: int) -> Weights:
    """The inverse of `pack`; `depth` layers follow the first one in each network."""
    parts: list[Any] = []
    for network in (tensors[: 3 + 2 * depth], tensors[3 + 2 * depth : 6 + 4 * depth]):
        parts += [*network[:3], _pairs(network[3:])]
    return Weights(*parts)


def _pairs(tensors: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(tensors[::2], tensors[1::2], strict=True))


def _outer(grads: Tensor, inputs: Tensor) -> Tensor:
    return grads.flatten(0, 1).T @ inputs.flatten(0, 1)


def _first_layer(grads: Tensor, inputs: Tensor, past: Tensor) -> list[Tensor]:
    return [_outer(grads, inputs), _outer(grads, past), grads.sum((0, 1))]


def _further_layers(grads: list[Tensor], inputs: list[Tensor]) -> list[Tensor]:
    return [g for grad, value in zip(grads, inputs, strict=True) for g in (_outer(grad, value), grad.sum((0, 1)))]


def _quantizer_jacobians(quantizer: Quantizer, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The quantizer over all positions with a graph, and d quantized[c] / d latent[k] as "T B c k"."""
    with torch.enable_grad():
        z = latents.detach().permute(1, 2, 0).contiguous().requires_grad_()
        quantized, _ = quantizer.step(z, noise)
        rows = []
        for channel in range(z.shape[1]):
            pick = torch.zeros_like(quantized)
            pick[:, channel] = 1
            rows.append(_gradient_or_zero(quantized, z, pick))
    return quantized, torch.stack(rows, 1).permute(3, 0, 1, 2).contiguous()


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
    remaining = iter(grads)
    return [next(remaining) if p.requires_grad else None for p in parameters]


class _Reverse:
    """One MLP backwards, frame by frame; keeps the gradient at every pre-activation, first layer first."""

    def __init__(self, past: Tensor, layers: list[tuple[Tensor, Tensor]], hidden: list[Tensor], last: Tensor) -> None:
        self.past = past
        self.grads = [*(torch.empty_like(value) for value in hidden), torch.empty_like(last)]
        values = [value.unbind(0) for value in hidden]
        slots = [buffer.unbind(0) for buffer in self.grads]
        self.last = slots[-1]
        self.steps = [(w, slots[i], values[i]) for i, (w, _) in reversed(list(enumerate(layers)))]

    def frame(self, n: int, grad: Tensor, into_past: Tensor) -> Tensor:
        """`grad` is what reached the output slot self.last[n]; adds to the history's gradient."""
        for weight, slots, values in self.steps:
            torch.ops.aten.tanh_backward.grad_input(torch.mm(grad, weight), values[n], grad_input=slots[n])
            grad = slots[n]
        into_past.addmm_(grad, self.past)
        return grad


def _reverse(
    weights: Weights, trace: Trace, jacobians: Tensor, grads: tuple[Tensor, ...], feedback: int
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """The loop backwards: gradients at every pre-activation of both networks, and at the quantized latents."""
    into_raw, into_latents, into_quantized = (grad.contiguous().unbind(0) for grad in grads[:3])
    frames, _, bands = trace.raw.shape
    passed = ((trace.raw >= 0) & (trace.raw <= 1)).to(trace.raw.dtype).unbind(0)  # what post-processing lets through
    encoder = _Reverse(weights.encoder_past, weights.encoder, trace.encoder, trace.latents)
    decoder = _Reverse(weights.decoder_past, weights.decoder, trace.decoder, trace.raw)
    quantized = torch.empty_like(trace.quantized)
    slots, maps = quantized.unsqueeze(2).unbind(0), jacobians.unbind(0)
    history = torch.zeros_like(trace.history)
    into_frames, past = history.split(bands, 1)[feedback:], history.unfold(1, feedback * bands, bands).unbind(1)
    for n in reversed(range(frames)):
        grad = torch.addcmul(into_raw[n], passed[n], into_frames[n], out=decoder.last[n])
        grad = decoder.frame(n, grad, past[n])
        torch.addmm(into_quantized[n], grad, weights.decoder_input, out=slots[n].squeeze(1))
        grad = torch.add(into_latents[n], torch.bmm(slots[n], maps[n]).squeeze(1), out=encoder.last[n])
        encoder.frame(n, grad, past[n])
    return encoder.grads, decoder.grads, quantized
