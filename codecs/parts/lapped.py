"""A lapped transform whose blocks end where the signal does: the MDCT as a rotation at block edges and a DCT-IV.

    x "B N" -> blocks of M samples -> at every edge between two: (l_j, r_j) -> rotation -> DCT-IV -> X "B M T"

r_j is the j-th sample after an edge, l_j the j-th before it, j < M / 2; the rotations are those of a sine window of 2 M
samples (Malvar 1990; Princen & Bradley 1986). The signal's ends are not rotated, so T = N / M blocks are an orthonormal
basis of it: noise in X is noise of the same energy in x. Block t waits for M / 2 samples of the next one.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

Waveform = Float[Tensor, "B N"]
Spectrum = Float[Tensor, "B M T"]


class LappedTransform(nn.Module):
    """Blocks of `size` samples, an even number, to as many coefficients and back."""

    basis: Tensor
    cosine: Tensor
    sine: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        points = torch.arange(size, dtype=torch.float64) + 0.5
        window = (math.pi / 2 / size * points).sin()  # its rising half
        before, after = window.split(size // 2)
        basis = math.sqrt(2 / size) * (math.pi / size * points[:, None] * points).cos()
        for name, value in (("basis", basis), ("cosine", after), ("sine", before.flip(0))):
            self.register_buffer(name, value, persistent=False)

    def analyse(self, signal: Waveform) -> Spectrum:
        """Spectra of a signal of whole blocks, computed in float64: an item's do not change with its batch."""
        blocks = signal.double().unflatten(-1, (-1, self.size))
        left, right = self._edges(blocks)
        cosine, sine = self.cosine.double(), self.sine.double()
        rotated = self._around(blocks, cosine * left - sine * right, cosine * right + sine * left)
        return (rotated @ self.basis.double()).transpose(1, 2).to(signal.dtype)

    def synthesise(self, spectrum: Spectrum) -> Waveform:
        """The signal of whole blocks."""
        blocks = spectrum.transpose(1, 2) @ self.basis.to(spectrum.dtype)
        left, right = self._edges(blocks)
        cosine, sine = self.cosine.to(spectrum.dtype), self.sine.to(spectrum.dtype)
        return self._around(blocks, cosine * left + sine * right, cosine * right - sine * left).flatten(1)

    def _edges(self, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """Samples before and after every inner edge, the nearest first: "B T-1 M/2" each."""
        half = self.size // 2
        return blocks[:, :-1, half:].flip(-1), blocks[:, 1:, :half]

    def _around(self, blocks: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Blocks with other samples before and after their inner edges."""
        half = self.size // 2
        first = torch.cat([blocks[:, :1, :half], right], 1)
        last = torch.cat([left.flip(-1), blocks[:, -1:, half:]], 1)
        return torch.cat([first, last], -1)
