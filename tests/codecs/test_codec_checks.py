"""Every check of the codec contract catches what it is there for, and lets a sound two-stage cascade pass."""

from collections.abc import Callable

import pytest
import torch
from codecbench.codecs.base import Codec, Coded, Maker
from codecbench.codecs.checks import CHECKS, Subject, run_checks, vector
from codecbench.quantizers.base import Quantizer
from codecbench.quantizers.ema_vq import EMAVQ
from torch import Tensor, nn


def small_vq(channels: int, share: float) -> Quantizer:
    return EMAVQ(channels, codebook_bits=8 * share)


class Stage(nn.Module):
    """Two samples at a time, and the two before them, to three latents and back."""

    def __init__(self, make_quantizer: Maker, share: float) -> None:
        super().__init__()
        self.analysis, self.synthesis = nn.Linear(8, 3), nn.Linear(3, 4)
        self.quantizer = make_quantizer(3, share)

    def analyse(self, signal: Tensor) -> Tensor:
        signal = nn.functional.pad(signal, (2, signal.shape[2] % 2))
        return self.analysis(signal.unfold(2, 4, 2).permute(0, 2, 1, 3).flatten(2)).transpose(1, 2)

    def synthesise(self, latents: Tensor, length: int) -> Tensor:
        samples = self.synthesis(latents.transpose(1, 2)).unflatten(2, (2, 2))
        return samples.permute(0, 2, 1, 3).flatten(2)[..., :length]


class Sound(Codec):
    """The second stage codes what the first one left over."""

    domain, causal, stride, phases = "vector", True, 2, ("first", "second")

    def __init__(self, make_quantizer: Maker) -> None:
        super().__init__()
        self.first, self.second = Stage(make_quantizer, 0.5), Stage(make_quantizer, 0.25)

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        return self.first.quantizer, self.second.quantizer

    def forward(self, signal: Tensor) -> Coded:
        rest, total, parts = signal, torch.zeros_like(signal), []
        for stage in (self.first, self.second)[: self.active_phases]:
            parts.append(stage.quantizer(stage.analyse(rest)))
            total = total + stage.synthesise(parts[-1].latents, signal.shape[2])
            rest = (signal - total).detach()
        return Coded(total, tuple(parts))

    @torch.no_grad()
    def decode(self, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        total = torch.zeros(())
        for stage, part in zip((self.first, self.second), self.split(codes), strict=True):
            noise = stage.quantizer.draw(part.shape[0], part.shape[2])
            total = total + stage.synthesise(stage.quantizer.decode(part, noise), shape[-1])
        return total


class DecodesLouder(Sound):
    def decode(self, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        return super().decode(codes, shape) * (1 + 1e-6)


class LosesTheLastSample(Sound):
    def decode(self, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        return super().decode(codes, (shape[0], shape[1] // 2 * 2))


class MistakesItsStride(Sound):
    stride = 3


class NormalisesTheBatch(Sound):
    def forward(self, signal: Tensor) -> Coded:
        return super().forward(signal - signal.mean())


class LooksAhead(Sound):
    def forward(self, signal: Tensor) -> Coded:
        return super().forward(signal + 1e-3 * signal.roll(-1, 2))


class IgnoresItsInput(Sound):
    def forward(self, signal: Tensor) -> Coded:
        return super().forward(torch.zeros_like(signal))


class HasAnIdleParameter(Sound):
    def __init__(self, make_quantizer: Maker) -> None:
        super().__init__(make_quantizer)
        self.idle = nn.Parameter(torch.ones(()))


class CountsForwards(Sound):
    def __init__(self, make_quantizer: Maker) -> None:
        super().__init__(make_quantizer)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, signal: Tensor) -> Coded:
        self.count += 1
        return super().forward(signal)


class KeepsAGainInPython(Sound):
    def __init__(self, make_quantizer: Maker) -> None:
        super().__init__(make_quantizer)
        self.gain = float(torch.rand(()))

    def forward(self, signal: Tensor) -> Coded:
        return super().forward(signal * self.gain)


class NeverFreezes(Sound):
    def train(self, mode: bool = True) -> "NeverFreezes":
        super().train(mode)
        self.first.quantizer.train()
        return self


class RunsAllItsPhases(Sound):
    @property
    def phase(self) -> None:
        return None

    @phase.setter
    def phase(self, phase: int | None) -> None:
        pass


class SwapsItsResults(Sound):
    def forward(self, signal: Tensor) -> Coded:
        coded = super().forward(signal)
        return coded._replace(quantized=coded.quantized[::-1])


class DropsAResult(Sound):
    def forward(self, signal: Tensor) -> Coded:
        coded = super().forward(signal)
        return coded._replace(quantized=coded.quantized[:1])


UNSOUND = [
    ("decode_of_encode_is_forward", DecodesLouder, "differs from the forward"),
    ("odd_lengths_keep_their_shape", LosesTheLastSample, "decode turns a signal"),
    ("odd_lengths_keep_their_shape", MistakesItsStride, r"correct them or forward\(\)"),
    ("one_item_equals_a_batch", NormalisesTheBatch, "otherwise than in a batch"),
    ("no_output_depends_on_a_later_input", LooksAhead, "change with inputs after sample"),
    ("no_output_depends_on_a_later_input", IgnoresItsInput, "does not depend on the input"),
    ("every_parameter_gets_a_gradient", HasAnIdleParameter, "gradient of idle"),
    ("forward_does_not_change_state", CountsForwards, "changed count"),
    ("state_round_trips", KeepsAGainInPython, "differs in evaluation"),
    ("frozen_phases_do_not_move", NeverFreezes, "moved first.quantizer"),
    ("frozen_phases_do_not_move", RunsAllItsPhases, "leave later phases out"),
    ("streams_are_in_order", SwapsItsResults, "keep the order"),
    ("streams_are_in_order", DropsAResult, "2 quantizers gave 1 results"),
]


@pytest.mark.parametrize("make_quantizer", [small_vq, None])
def test_the_sound_codec_passes_everything(make_quantizer: Maker | None) -> None:
    results = run_checks(Sound, make_quantizer) if make_quantizer else run_checks(Sound)
    assert {result.name: result.message for result in results if not result.passed} == {}


@pytest.mark.parametrize(("check", "unsound", "message"), UNSOUND)
def test_the_check_catches(check: str, unsound: Callable[[Maker], Codec], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        CHECKS[check](Subject(lambda: unsound(small_vq), None))


def test_every_check_is_itself_checked() -> None:
    assert {check for check, *_ in UNSOUND} == set(CHECKS)


def test_lookahead_is_granted_where_it_is_declared() -> None:
    class Declared(LooksAhead):
        lookahead = 1

    CHECKS["no_output_depends_on_a_later_input"](Subject(lambda: Declared(small_vq), None))


def test_an_unknown_domain_needs_a_signal_of_its_own() -> None:
    class Smell(Sound):
        domain = "smell"

    with pytest.raises(ValueError, match="no test signal for the domain smell"):
        Subject(lambda: Smell(small_vq), None).codec()
    Subject(lambda: Smell(small_vq), vector).codec()
