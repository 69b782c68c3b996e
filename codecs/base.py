"""The contract of a codec: a signal to codes and back, around quantizers that it is handed and knows nothing about."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, final

import torch
from lightning import LightningModule
from torch import Tensor

from ..quantizers.base import Codes, Maker, Quantized, Quantizer, Tables

__all__ = ["Codec", "Coded", "Maker"]


class Coded(NamedTuple):
    """A decoded signal and what each quantizer made of its latents, in the order of codec.quantizers."""

    signal: Tensor
    quantized: tuple[Quantized, ...]


class Codec(LightningModule, ABC):
    """A backbone plug-in. It is handed make_quantizer(channels, share), called once per quantizer it needs."""

    paper: ClassVar[str] = ""
    domain: ClassVar[str]  # "stimulation" | "waveform" | "image" | "vector"
    causal: bool = False
    leading: tuple[int, ...] = ()  # shape of the signal before its last axis, without B
    stride: int = 1  # samples of the signal, along its last axis, per latent position
    positions_per_stride: int = 1  # more where every stride holds a column of them, as in images
    lookahead: int = 0  # samples of the signal an output waits for beyond its own position
    phases: tuple[str, ...] = ("",)  # child modules trained one after another, in the order of their streams
    phase: int | None = None  # in training: the later ones are left out of forward(); None: all contribute
    presets: ClassVar[dict[str, dict[str, Any]]] = {}  # further names: constructor options
    training_options: ClassVar[dict[str, Any]] = {}  # of training, where others suit it than the suite's defaults
    default_bitrate: ClassVar[float | None] = None  # measured kbit/s when a quantizer leaves the rate open
    rate_option: ClassVar[str | None] = None  # of the constructor: all bits per position, where quantizers share them

    @property
    @abstractmethod
    def quantizers(self) -> tuple[Quantizer, ...]:
        """Every quantizer, in the order of its streams."""

    @abstractmethod
    def forward(self, signal: Tensor) -> Coded:
        """Analyse, quantize, synthesise. In eval mode the signal equals decode(encode(signal))."""

    @abstractmethod
    def decode(self, codes: Codes, shape: tuple[int, ...]) -> Tensor:
        """The signal from codes and its shape (without B) alone."""

    @torch.no_grad()
    def stacked(self, parameters: Mapping[str, Tensor], signal: Tensor) -> Tensor:
        """Decoded signals "P B ..." of P variants of this codec, which has to be in eval mode, for "B ..." signals.

        `parameters`: some or all of the named ones, as "P ..."; variants share what is left out, and the noise.
        The codec itself stays as it is. Default: one variant after another.
        """
        variants = (dict(zip(parameters, values, strict=True)) for values in zip(*parameters.values(), strict=True))
        return torch.stack([torch.func.functional_call(self, variant, (signal,)).signal for variant in variants])

    def tables(self, known: Codes) -> Tables:
        """Entropy model of the next group of streams; each quantizer's own unless a codec knows better."""
        begin = 0
        for quantizer in self.quantizers:
            end = begin + len(quantizer.alphabet)
            if known.shape[1] < end:
                return quantizer.tables(known[:, begin:])
            begin = end
        raise ValueError(f"{known.shape[1]} streams are known already; the codec has no more")

    # -- final ------------------------------------------------------------------------------------------------------

    @property
    @final
    def active_phases(self) -> int:
        """How many of the phases contribute to forward()."""
        return len(self.phases) if self.phase is None else self.phase + 1

    @property
    @final
    def alphabet(self) -> tuple[int | None, ...]:
        """Symbols per stream, over all quantizers."""
        return tuple(size for quantizer in self.quantizers for size in quantizer.alphabet)

    @final
    def positions(self, shape: tuple[int, ...]) -> int:
        """Latent positions T of a signal of this shape (without B)."""
        return -(-shape[-1] // self.stride) * self.positions_per_stride

    @final
    @torch.no_grad()
    def encode(self, signal: Tensor) -> Codes:
        """The codes of every stream."""
        return torch.cat([quantized.codes for quantized in self(signal).quantized], dim=1)

    @final
    def split(self, codes: Codes) -> tuple[Tensor, ...]:
        """Codes of every stream -> codes per quantizer."""
        return codes.split([len(quantizer.alphabet) for quantizer in self.quantizers], dim=1)

    @property
    @final
    def prefixes(self) -> tuple[int, ...]:
        """Numbers of leading streams that decode on their own; a codec of several quantizers has one only: all."""
        return self.quantizers[0].prefixes if len(self.quantizers) == 1 else (len(self.alphabet),)

    @final
    def truncate(self, streams: int) -> None:
        """Operate on the first `streams` streams alone. ValueError names those possible."""
        if len(self.quantizers) == 1:
            self.quantizers[0].truncate(streams)
        elif streams != len(self.alphabet):
            raise ValueError(f"{streams} streams do not decode on their own; possible: {len(self.alphabet)}")

    @final
    def set_dither_seed(self, seed: int) -> None:
        """The seed of the noise that encoder and decoder share."""
        row = 0
        for quantizer in self.quantizers:  # each under rows of its own
            quantizer.dither_seed, quantizer.first_row = seed, row
            row += quantizer.noise_rows

    @property
    @final
    def dithers(self) -> bool:
        """Whether decoding draws noise, so that a file must carry its seed."""
        return any(quantizer.noise_rows > 0 for quantizer in self.quantizers if not quantizer.training)

    @final
    def update(self, coded: Coded, progress: float) -> None:
        """Hand each quantizer in training what it quantized, once after every optimiser step."""
        for quantizer, quantized in zip(self.quantizers, coded.quantized, strict=self.phase is None):
            if quantizer.training and not quantizer.bypass:
                quantizer.update(quantized.source.to(self.dtype), quantized.codes, progress)

    @final
    @torch.no_grad()
    def fit(self, signal: Tensor) -> None:
        """Start every quantizer in training from the unquantized latents of training signals; ends the bypass."""
        for position, quantizer in enumerate(self.quantizers):  # earlier stages quantize while later ones are fitted
            if not quantizer.training:
                continue
            quantizer.bypass = True
            quantizer.fit(self(signal).quantized[position].source)
            quantizer.bypass = False

    @final
    def fit_tables(self, codes: Codes) -> None:
        """Fit every quantizer's coding tables on training codes."""
        for quantizer, part in zip(self.quantizers, self.split(codes), strict=True):
            quantizer.fit_tables(part)
