"""FRAE: zero-delay feedback recurrent autoencoder for stimulation patterns (Hinrichs, Bilsky, Ostermann).

    p_n ----------> encoder -> z_n -> Q -> z^_n -> decoder -> p^_n -> post-process -> y_n
    y_{n-R..n-1} -----^--------------------------------^             (p^ < 0: not selected)

Encoder and decoder see the last R decoded, post-processed frames; the encoder runs the decoder, so both sides know
them from the codes alone. R = 0 is the plain autoencoder (AEC). Zero look-ahead: frame n depends on frames <= n only.
Names: FRAE-L5-H3-R4 has 5 latents, 3 hidden layers a side and 4 frames of feedback; AEC-L5-H2 has R = 0.
Not in the paper: layer widths (here 32-24-16, H2: 32-16, mirrored in the decoder) and tanh as activation.
"""

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from ..quantizers.base import Codes, Maker, Quantizer
from .base import Codec, Coded
from .parts.feedback import UNSELECTED, FeedbackLoop, pack, postprocess, run_blocks, split_weights, synthesise_loop
from .parts.stacked import part_of, run_stacked, stacked_layers

WIDTHS = {2: (32, 16), 3: (32, 24, 16)}


def _mlp(sizes: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def _family() -> dict[str, dict[str, object]]:
    presets: dict[str, dict[str, object]] = {"aec": {"feedback": 0}}
    for latent, hidden, feedback in itertools.product((3, 4, 5), WIDTHS, range(5)):
        name = f"frae-l{latent}-h{hidden}-r{feedback}" if feedback else f"aec-l{latent}-h{hidden}"
        presets[name] = {"latent_dim": latent, "widths": list(WIDTHS[hidden]), "feedback": feedback}
    return presets


@final
class FRAE(Codec):
    """Patterns "B M T" with M bands, values in [0, 1] or negative where a band is not selected.

    Args:
        make_quantizer: (channels, share of the rate) -> Quantizer.
        latent_dim: L.
        widths: hidden layers of the encoder, input side first; the decoder mirrors them.
        feedback: R, decoded frames fed back; 0 is the AEC.
        bands: M.
        fast: hand-written backward pass of the frame loop; False runs the same loop through autograd.
    """

    paper = "Hinrichs, Bilsky & Ostermann, Vector-Quantized Feedback Recurrent Autoencoders (2023)"
    domain = "stimulation"
    causal = True
    default_bitrate = 5.0
    training_options: ClassVar[dict[str, Any]] = {"losses": {"band_selection": 0.1}}  # alpha of eq. 1
    presets = _family()

    def __init__(
        self,
        make_quantizer: Maker,
        latent_dim: int = 5,
        widths: list[int] | None = None,
        feedback: int = 4,
        bands: int = 22,
        fast: bool = True,
    ) -> None:
        super().__init__()
        hidden = list(WIDTHS[3] if widths is None else widths)
        if latent_dim < 1 or feedback < 0 or not hidden or min(hidden) < 1:
            raise ValueError(
                f"latent_dim={latent_dim}, widths={hidden} must be positive and feedback={feedback} at least 0"
            )
        self.bands, self.feedback, self.latent_dim, self.fast = bands, feedback, latent_dim, fast
        self.leading = (bands,)
        past = bands * feedback
        self.encoder = _mlp([bands + past, *hidden, latent_dim])
        self.decoder = _mlp([latent_dim + past, *reversed(hidden), bands])
        self.quantizer = make_quantizer(latent_dim, 1.0)

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        return (self.quantizer,)

    def forward(self, signal: Tensor) -> Coded:
        """Training: the decoder's output as it is, for the loss. Evaluation: the post-processed pattern."""
        with torch.autocast(signal.device.type, enabled=False):  # the hand-written backward pass knows one type
            return self._coded(signal)

    def _coded(self, signal: Tensor) -> Coded:
        noise = self.quantizer.draw(signal.shape[0], signal.shape[2])
        if self.feedback == 0:
            raw, latents, quantized, codes = self._all_at_once(signal, noise)
        elif not torch.is_grad_enabled():
            weights = split_weights(self.encoder, self.decoder, self.bands, self.latent_dim)
            raw, latents, quantized, codes = run_blocks(
                signal.permute(2, 0, 1), noise, weights, self.quantizer, self.feedback
            )
        elif self.fast:
            weights = split_weights(self.encoder, self.decoder, self.bands, self.latent_dim)
            inner = list(self.quantizer.parameters())
            raw, latents, quantized, codes = FeedbackLoop.apply(
                signal.permute(2, 0, 1),
                noise,
                self.quantizer,
                self.feedback,
                len(weights.encoder),
                *pack(weights),
                *inner,
            )
        else:
            raw, latents, quantized, codes = self._eager(signal, noise)
        output = raw if self.training else postprocess(raw)
        closed = self.quantizer.collect(latents.permute(1, 2, 0), quantized.permute(1, 2, 0), codes)
        return Coded(output.permute(1, 2, 0), (closed,))

    @torch.no_grad()
    def decode(self, codes: Codes, shape: tuple[int, ...]) -> Tensor:
        noise = self.quantizer.draw(codes.shape[0], codes.shape[2])
        quantized = self.quantizer.decode(codes, noise).permute(2, 0, 1)
        if self.feedback == 0:
            return postprocess(self.decoder(quantized)).permute(1, 2, 0)
        weights = split_weights(self.encoder, self.decoder, self.bands, self.latent_dim)
        return synthesise_loop(quantized, weights, self.bands, self.feedback)

    @torch.no_grad()
    def stacked(self, parameters: Mapping[str, Tensor], signal: Tensor) -> Tensor:
        if self.feedback == 0 or not parameters:
            return super().stacked(parameters, signal)
        variants = len(next(iter(parameters.values())))
        every = {
            name: parameters[name] if name in parameters else value.expand(variants, *value.shape)
            for name, value in self.named_parameters()
        }
        encoder, decoder = (
            stacked_layers(network, part_of(every, name))
            for name, network in (("encoder", self.encoder), ("decoder", self.decoder))
        )
        noise = self.quantizer.draw(signal.shape[0], signal.shape[2])
        step = self.quantizer.stacked_stepper(part_of(every, "quantizer"), noise)
        return run_stacked(signal, encoder, decoder, step, self.feedback)

    def _all_at_once(self, signal: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        latents = self.encoder(signal.permute(2, 0, 1))
        quantized, codes = self.quantizer.step(latents.permute(1, 2, 0), noise)
        quantized = quantized.permute(2, 0, 1)
        return self.decoder(quantized), latents, quantized, codes

    def _eager(self, signal: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The reference: one frame after the other through autograd."""
        batch, bands, frames = signal.shape
        past = [signal.new_full((batch, bands), UNSELECTED)] * self.feedback
        raws, latents, quantized, codes = [], [], [], []
        for n in range(frames):
            history = past[-self.feedback :]
            z = self.encoder(torch.cat([signal[:, :, n], *history], 1))
            zq, code = self.quantizer.step(z.unsqueeze(2), noise[:, :, n : n + 1])
            raw = self.decoder(torch.cat([zq[:, :, 0], *history], 1))
            past.append(postprocess(raw))
            for kept, value in zip((raws, latents, quantized, codes), (raw, z, zq[:, :, 0], code), strict=True):
                kept.append(value)
        return torch.stack(raws), torch.stack(latents), torch.stack(quantized), torch.cat(codes, 2)
