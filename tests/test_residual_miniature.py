"""Residual quantization in miniature: the contract composes, whatever the stages are, and inside a feedback loop too.

    rest_1 = x,  rest_{i+1} = rest_i - decode_i(code_i);  x_hat = sum of decode_i(code_i)

Training telescopes: x_hat' = (x - rest_N) + surrogate_N(rest_N), with the hard values of all earlier stages.
"""

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from codecbench.benchmark.entropy_coding import decode_codes, encode_codes, information
from codecbench.codecs.checks import run_checks as run_codec_checks
from codecbench.codecs.frae import FRAE
from codecbench.quantizers.base import Quantizer
from codecbench.quantizers.checks import run_checks
from codecbench.quantizers.coding_checks import coder_checks
from codecbench.quantizers.ema_vq import EMAVQ
from codecbench.quantizers.nsvq import NSVQ
from codecbench.quantizers.ste_vq import StraightThroughVQ
from torch import Tensor, nn

Stages = tuple[Callable[..., Quantizer], ...]
STAGES: dict[str, Stages] = {
    "nsvq": (NSVQ, NSVQ, NSVQ),
    "ste_vq": (StraightThroughVQ, StraightThroughVQ),
    "ema_vq": (EMAVQ, EMAVQ),
    "mixed": (EMAVQ, StraightThroughVQ, NSVQ),
}


class Residual(Quantizer):
    def __init__(self, channels: int, stages: Stages, codebook_bits: float = 4.0) -> None:
        super().__init__(channels)
        self.stages = nn.ModuleList(stage(channels, codebook_bits, "samples") for stage in stages)

    @property
    def alphabet(self) -> tuple[int | None, ...]:
        return tuple(size for stage in self.each() for size in stage.alphabet)

    @property
    def noise_rows(self) -> int:
        return sum(stage.noise_rows for stage in self.each())

    def random(self, batch: int, positions: int, start: int) -> Tensor:
        return torch.cat([stage.draw(batch, positions, start) for stage in self.each()], 1)

    def encode(self, latents: Tensor, noise: Tensor) -> Tensor:
        rest, codes = latents.detach(), []
        for stage, part in zip(self.each(), self.split(noise), strict=True):
            codes.append(stage.encode(rest, part))
            rest = rest - stage.decode(codes[-1], part).detach()
        return torch.cat(codes, 1)

    def decode(self, codes: Tensor, noise: Tensor) -> Tensor:
        return torch.stack(list(self.decoded(codes, noise))).sum(0)

    def surrogate(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.encode(latents, noise)
        *_, rest = self.inputs(latents, codes, noise)
        *_, last = self.each()
        *_, part = self.split(noise)
        return latents - rest + last.surrogate(rest, part)[0], codes

    def objective(self, latents: Tensor, quantized: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        noise = latents[:, :0]
        rests = self.inputs(latents, codes, noise)
        closed = [
            stage.objective(rest, value, code)
            for stage, rest, value, code in zip(
                self.each(), rests, self.decoded(codes, noise), codes.split(1, 1), strict=True
            )
        ]
        losses, bits = zip(*closed, strict=True)
        return torch.stack(losses).sum(), torch.stack(bits).sum(0)

    def fit(self, latents: Tensor) -> None:
        rest, noise = latents, latents[:, :0]
        for stage in self.each():
            stage.fit(rest)
            rest = rest - stage.decode(stage.encode(rest, noise), noise)

    def update(self, latents: Tensor, codes: Tensor, progress: float) -> None:
        with torch.no_grad():
            rests = self.inputs(latents, codes, latents[:, :0])  # all of them by the codebooks that made the codes
        for stage, rest, code in zip(self.each(), rests, codes.split(1, 1), strict=True):
            stage.update(rest, code, progress)

    def each(self) -> Iterator[Quantizer]:
        for stage in self.stages:
            assert isinstance(stage, Quantizer)
            yield stage

    def split(self, noise: Tensor) -> tuple[Tensor, ...]:
        return noise.split([stage.noise_rows if noise.shape[1] else 0 for stage in self.each()], 1)

    def decoded(self, codes: Tensor, noise: Tensor) -> Iterator[Tensor]:
        for stage, code, part in zip(self.each(), codes.split(1, 1), self.split(noise), strict=True):
            yield stage.decode(code, part)

    def inputs(self, latents: Tensor, codes: Tensor, noise: Tensor) -> list[Tensor]:
        """What each stage was given."""
        rests = [latents]
        for value in self.decoded(codes, noise):
            rests.append(rests[-1] - value)
        return rests[:-1]


@pytest.mark.parametrize("stages", STAGES.values(), ids=STAGES)
def test_it_passes_every_check_of_the_contract(stages: Stages) -> None:
    results = run_checks(lambda: Residual(5, stages))
    results += coder_checks(lambda: Residual(5, stages), encode_codes, decode_codes, information)
    assert {result.name: result.message for result in results if not result.passed} == {}


@pytest.mark.parametrize("stages", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("fast", [True, False])
def test_it_runs_inside_the_feedback_loop(stages: Stages, fast: bool) -> None:
    results = run_codec_checks(
        lambda make: FRAE(make, widths=[8], feedback=2, fast=fast), lambda channels, share: Residual(channels, stages)
    )
    assert {result.name: result.message for result in results if not result.passed} == {}


def by_hand(stage: Callable[..., Quantizer]) -> Residual:
    quantizer = Residual(1, (stage, stage), codebook_bits=1.0)
    with torch.no_grad():
        for inner, codewords in zip(quantizer.each(), ([0.0, 4.0], [-1.0, 1.0]), strict=True):
            inner.place(torch.tensor(codewords)[:, None])  # type: ignore[operator]
    return quantizer


def test_the_second_stage_codes_what_the_first_left_over() -> None:
    out = by_hand(NSVQ).eval()(torch.tensor([[[4.6, 0.2, 1.9, 2.1]]]))
    assert out.codes.tolist() == [[[1, 0, 0, 1], [1, 1, 1, 0]]]
    assert out.latents.tolist() == [[[5.0, 1.0, 1.0, 3.0]]]
    assert out.bits.tolist() == [[2.0] * 4]


def test_every_stage_is_updated_from_the_codebooks_that_made_the_codes() -> None:
    quantizer = by_hand(EMAVQ).train()
    quantizer.update(torch.tensor([[[4.6]]]), torch.tensor([[[1], [1]]]), 0.0)
    first, second = (stage.state_dict()["codebook"].flatten().tolist() for stage in quantizer.each())
    assert first == pytest.approx([0.0, 0.99 * 4.0 + 0.01 * 4.6])
    assert second == pytest.approx([-1.0, 0.99 * 1.0 + 0.01 * 0.6])  # 4.6 - 4.0, not 4.6 less the moved codeword


def test_straight_through_stages_pass_the_gradient_as_it_is() -> None:
    latents = torch.tensor([[[4.6, 0.2]]], requires_grad=True)
    (by_hand(StraightThroughVQ).train()(latents).latents * torch.tensor([2.0, 3.0])).sum().backward()
    assert latents.grad is not None and latents.grad.tolist() == [[[2.0, 3.0]]]


def test_each_further_stage_lowers_the_error() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(8, 3, 256, generator=generator)
    quantizer = Residual(3, (NSVQ,) * 4).train()
    with torch.no_grad():
        quantizer.fit(latents)
        codes = quantizer.eval()(latents).codes
        rests = quantizer.inputs(latents, codes, latents[:, :0])
    errors = [rest.square().mean().item() for rest in rests]
    assert all(later < 0.7 * earlier for earlier, later in itertools.pairwise(errors))
