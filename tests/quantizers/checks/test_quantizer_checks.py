"""Every check of the quantizer contract catches what it is there for, and lets a sound quantizer pass."""

import ast
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from codecbench.quantizers.base import Quantized, Quantizer, Tables, require_finite
from codecbench.quantizers.checks import coding
from codecbench.quantizers.checks import contract as quantizer_checks
from codecbench.quantizers.checks.running import Result, run_named
from codecbench.quantizers.coding.entropy import decode_codes, encode_codes, information
from codecbench.quantizers.parts.finals import is_final
from codecbench.quantizers.parts.projected import ProjectedQuantizer
from codecbench.quantizers.parts.stepped import SteppedQuantizer
from codecbench.quantizers.parts.vector import VectorQuantizer
from torch import Tensor, nn


def failures(results: list[Result]) -> dict[str, str]:
    return {result.name: result.message for result in results if not result.passed}


class Sound(Quantizer):
    """Rounding with a learned step per channel, shared noise, and a running mean that update() keeps."""

    mean: Tensor

    def __init__(self, channels: int = 3) -> None:
        super().__init__(channels)
        self.log_step = nn.Parameter(torch.full((channels, 1), -1.0))
        self.register_buffer("mean", torch.zeros(channels, 1))
        self.calls = 0  # for the unsound

    @property
    def alphabet(self) -> tuple[int | None, ...]:
        return (None,) * self.channels

    @property
    def noise_rows(self) -> int:
        return self.channels

    def random(self, batch: int, positions: int, start: int) -> Tensor:
        place = torch.arange(start, start + positions) + torch.arange(self.channels)[:, None] * 7.0
        return ((place * 0.618).frac() - 0.5).expand(batch, -1, -1).contiguous()

    def encode(self, latents: Tensor, noise: Tensor) -> Tensor:
        return ((latents.detach() - self.mean) / self.log_step.detach().exp() + noise).round().long()

    def decode(self, codes: Tensor, noise: Tensor) -> Tensor:
        return (codes - noise) * self.log_step.exp() + self.mean

    def surrogate(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.encode(latents, noise)
        decoded = self.decode(codes, noise)
        return latents + decoded - latents.detach(), codes

    def fit(self, latents: Tensor) -> None:
        require_finite(latents)
        with torch.no_grad():
            self.log_step.copy_((latents.std((0, 2)) / 2).clamp_min(1e-6).log()[:, None])

    def update(self, latents: Tensor, codes: Tensor, progress: float) -> None:
        self.mean.lerp_(latents.mean((0, 2))[:, None], 0.1)


class WrongAlphabet(Sound):
    @property
    def alphabet(self) -> tuple[int | None, ...]:
        return (2,) * self.channels


class DecodesReversed(Sound):
    def decode(self, codes: Tensor, noise: Tensor) -> Tensor:
        return super().decode(codes.flip(1), noise)


class MixesPositions(Sound):
    def encode(self, latents: Tensor, noise: Tensor) -> Tensor:
        return super().encode(latents - latents.mean(2, keepdim=True), noise)


class StepsOnItsOwn(Sound):
    def stepper(self, noise: Tensor) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
        one = super().stepper(noise)
        return lambda latents, n: one(latents, 0)


class StacksOnItsOwn(Sound):
    def stacked_stepper(self, parameters: Mapping[str, Tensor], noise: Tensor) -> Callable[[Tensor, int], Tensor]:
        one = super().stacked_stepper(parameters, noise)
        return lambda latents, n: one(latents[:1].expand_as(latents), n)


class DrawsFromTheGenerator(Sound):
    def random(self, batch: int, positions: int, start: int) -> Tensor:
        return torch.rand(batch, self.channels, positions) - 0.5


class ForgetsStart(Sound):
    def random(self, batch: int, positions: int, start: int) -> Tensor:
        return super().random(batch, positions, 0)


class MixesItems(Sound):
    def encode(self, latents: Tensor, noise: Tensor) -> Tensor:
        return super().encode(latents - latents.mean(0, keepdim=True), noise)


class CutsTheGradient(Sound):
    def surrogate(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        return super().surrogate(torch.cat([latents[:, :1].detach(), latents[:, 1:]], 1), noise)


class HasAnIdleParameter(Sound):
    def __init__(self, channels: int = 3) -> None:
        super().__init__(channels)
        self.idle = nn.Parameter(torch.ones(()))


class CountsInForward(Sound):
    def encode(self, latents: Tensor, noise: Tensor) -> Tensor:
        self.mean += 1e-3
        return super().encode(latents, noise)


class CountsInPython(Sound):
    def surrogate(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        out, codes = super().surrogate(latents, noise)
        return out * (1 + self.calls), codes


class AnnealsInPython(Sound):
    def surrogate(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        out, codes = super().surrogate(latents, noise)
        return out * (1 + self.calls), codes

    def update(self, latents: Tensor, codes: Tensor, progress: float) -> None:
        self.calls += 1


class KeepsTablesInPython(Sound):
    def fit_tables(self, codes: Tensor) -> None:
        self.calls = 1

    def tables(self, known: Tensor) -> Tables:
        group = super().tables(known)
        return group._replace(shift=group.shift + self.calls)


class LooksAtValues(Sound):
    def encode(self, latents: Tensor, noise: Tensor) -> Tensor:
        return super().encode(latents, noise).clamp_max(int(100 / self.log_step.detach().exp().max().item()))


class LeaksGradients(Sound):
    def surrogate(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        out, codes = super().surrogate(latents, noise)
        mean = latents.mean(2, keepdim=True)
        return out + mean - mean.detach(), codes


class DecodesAtRandom(Sound):
    def decode(self, codes: Tensor, noise: Tensor) -> Tensor:
        return super().decode(codes, noise) + 1e-6 * torch.rand(codes.shape)


class RemembersTheInput(Sound):
    def encode(self, latents: Tensor, noise: Tensor) -> Tensor:
        self.seen = latents
        return super().encode(latents, noise)

    def decode(self, codes: Tensor, noise: Tensor) -> Tensor:
        return self.seen + 0 * super().decode(codes, noise)


class HasShortRows(Sound):
    def tables(self, known: Tensor) -> Tables:
        group = super().tables(known)
        return group._replace(counts=group.counts - 1)


class HasNoEscape(Sound):
    def tables(self, known: Tensor) -> Tables:
        return super().tables(known)._replace(escape=False)


class PointsBesideTheTable(Sound):
    def tables(self, known: Tensor) -> Tables:
        group = super().tables(known)
        return group._replace(index=group.index + 1)


class DescribesTooManyStreams(Sound):
    def tables(self, known: Tensor) -> Tables:
        group = super().tables(known)
        wide = group.index.expand(-1, self.channels + 1, -1)
        return group._replace(index=wide, shift=wide)


class IgnoresBypass(Sound):
    def stepper(self, noise: Tensor) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
        return lambda latents, n: (latents.round(), latents.round().long())


class ProjectsUnderAutocast(Sound):
    def encode(self, latents: Tensor, noise: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed):
            return super().encode((torch.eye(self.channels) @ latents).float(), noise)

    def __call__(self, *arguments: Tensor) -> Quantized:
        self.mixed = torch.is_autocast_enabled("cpu")
        return super().__call__(*arguments)

    mixed = False


class MissesItsRate(Sound):
    @property
    def alphabet(self) -> tuple[int | None, ...]:
        return (4,) * self.channels

    @classmethod
    def for_rate(cls, channels: int, bits: float, **fixed: object) -> dict[str, object]:
        return {}


class RefusesAtLength(Sound):
    @classmethod
    def for_rate(cls, channels: int, bits: float, **fixed: object) -> dict[str, object]:
        raise ValueError("no\nsuch rate")


class LearnsARateThatStays(Sound):
    rate_is_learned = True


class ChangesAFixedRate(Sound):
    def coarsen(self, amount: float) -> None:
        self.mean += amount


class DividesByZero(Sound):
    def update(self, latents: Tensor, codes: Tensor, progress: float) -> None:
        self.mean /= (codes * 0).sum()


class ChangesItsDtype(Sound):
    def update(self, latents: Tensor, codes: Tensor, progress: float) -> None:
        self.mean = self.mean.double()


class StartsAnywhere(Sound):
    def fit(self, latents: Tensor) -> None:
        require_finite(latents)


class TruncatesOnPaper(Sound):
    @property
    def prefixes(self) -> tuple[int, ...]:
        return (1, self.channels)


class LearnsFromNaN(Sound):
    def fit(self, latents: Tensor) -> None:
        self.mean.copy_(latents.mean((0, 2))[:, None])


class RefusesSilence(Sound):
    def fit(self, latents: Tensor) -> None:
        super().fit(latents)
        if latents.std() == 0:
            raise ValueError("nothing to learn from")


UNSOUND = [
    ("shapes_and_alphabet", WrongAlphabet, "must lie in 0..2"),
    ("decode_inverts_encode", DecodesReversed, "quantizing decoded latents again"),
    ("one_position_at_a_time", MixesPositions, "quantize each position alone"),
    ("stepper_equals_step", StepsOnItsOwn, "stepper\\(\\) gives other values frame by frame"),
    ("stacked_stepper_equals_step", StacksOnItsOwn, "stacked_stepper\\(\\) gives other values"),
    ("start_continues_the_sequence", DrawsFromTheGenerator, "must repeat the noise"),
    ("start_continues_the_sequence", ForgetsStart, "must repeat the noise"),
    ("batch_size_does_not_matter", MixesItems, "otherwise than in a batch"),
    ("the_gradient_reaches_the_input", CutsTheGradient, "zero for a whole channel"),
    ("every_trained_parameter_gets_a_gradient", HasAnIdleParameter, "gradient of idle is missing"),
    ("forward_does_not_change_state", CountsInForward, "changed mean"),
    ("forward_does_not_change_state", CountsInPython, "another result the second time"),
    ("state_round_trips", AnnealsInPython, "differs in training"),
    ("state_round_trips", KeepsTablesInPython, "other coding tables"),
    ("stacked_parameters", LooksAtValues, "item"),
    ("jacobians_are_per_position", LeaksGradients, "gradient of position 0"),
    ("forward_equals_decode_of_encode", DecodesAtRandom, "differs from the forward"),
    ("forward_equals_decode_of_encode", RemembersTheInput, "differs from the forward"),
    ("tables_are_valid", HasShortRows, "add up to 2\\*\\*20"),
    ("tables_are_valid", HasNoEscape, "set escape=True"),
    ("tables_are_valid", PointsBesideTheTable, "index must lie in 0..0"),
    ("tables_are_valid", DescribesTooManyStreams, "S from 1 to 3"),
    ("bypass_passes_through", IgnoresBypass, "must pass stepper"),
    ("autocast_does_not_change_codes", ProjectsUnderAutocast, "change under autocast"),
    ("for_rate_is_met", MissesItsRate, "spend 6 bit"),
    ("for_rate_is_met", RefusesAtLength, "refuse in one line"),
    ("coarsening_lowers_the_rate", LearnsARateThatStays, "must carry less after"),
    ("coarsening_lowers_the_rate", ChangesAFixedRate, "must carry as much after"),
    ("fit_and_update_run", DividesByZero, "mean is not finite"),
    ("fit_and_update_run", ChangesItsDtype, "another shape or dtype"),
    ("codes_follow_the_data", StartsAnywhere, "standard deviation 0.01 the codes carry"),
    ("decoding_from_any_prefix", TruncatesOnPaper, "first 1 streams"),
    ("diverged_latents_do_no_harm", LearnsFromNaN, "mean is not finite"),
    ("diverged_latents_do_no_harm", RefusesSilence, "refuses constant latents"),
]


def test_the_sound_quantizer_passes_everything() -> None:
    assert failures(quantizer_checks.run_checks(Sound)) == {}
    assert len(quantizer_checks.CHECKS) == 26


@pytest.mark.parametrize(("check", "unsound", "message"), UNSOUND)
def test_the_check_catches(check: str, unsound: Callable[[], Quantizer], message: str) -> None:
    with pytest.raises((AssertionError, RuntimeError), match=message):
        quantizer_checks.CHECKS[check](unsound)


def test_every_check_is_itself_checked() -> None:
    by_the_coder = {"bytes_round_trip", "wild_symbols_round_trip", "bits_agree_with_the_coder"}
    assert {check for check, *_ in UNSOUND} == set(quantizer_checks.CHECKS) - by_the_coder


def cheap(source: Quantizer, codes: Tensor) -> float:
    return 0.9 * information(source, codes)


def backwards(source: Quantizer, data: bytes, positions: int) -> Tensor:
    return decode_codes(source, data, positions).flip(2)


def clipped(source: Quantizer, codes: Tensor) -> bytes:
    return encode_codes(source, codes.clamp(-(2**15), 2**15))


@pytest.mark.parametrize(
    "name, wrong, caught",
    [
        ("decode_codes", backwards, {"bytes_round_trip", "wild_symbols_round_trip"}),
        ("information", cheap, {"bytes_round_trip"}),
        ("encode_codes", clipped, {"wild_symbols_round_trip"}),
    ],
)
def test_a_wrong_coder_is_caught(name: str, wrong: object, caught: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding, name, wrong)
    assert failures(quantizer_checks.run_checks(Sound)).keys() == caught


class SaysTooLittle(Sound):
    def objective(self, latents: Tensor, quantized: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        loss, bits = super().objective(latents, quantized, codes)
        return loss, torch.ones_like(bits)


class SaysTooMuch(Sound):
    rate_is_learned = True


@pytest.mark.parametrize("unsound", [SaysTooLittle, SaysTooMuch])
def test_bits_that_are_not_the_coders_are_caught(unsound: Callable[[], Quantizer]) -> None:
    with pytest.raises(AssertionError, match=r"the bits of objective\(\) must"):
        coding.bits_agree_with_the_coder(unsound)


def test_checks_leave_the_random_generator_alone() -> None:
    before = torch.get_rng_state()
    quantizer_checks.run_checks(Sound)
    assert torch.equal(torch.get_rng_state(), before)


# -- what a failure says ----------------------------------------------------------------------------------------------


class Lattice(Sound):
    """Made for three channels alone, at a rate of its own."""

    @property
    def alphabet(self) -> tuple[int | None, ...]:
        return (4,) * self.channels

    def __init__(self, channels: int = 3) -> None:
        if channels != 3:
            raise ValueError(f"channels={channels} must be 3")
        super().__init__(channels)

    @classmethod
    def for_rate(cls, channels: int, bits: float, **fixed: object) -> dict[str, object]:
        if bits == 6.5:
            return {}
        raise ValueError("nearest: 6")


def test_for_rate_is_not_asked_about_channels_that_the_method_refuses() -> None:
    Lattice.for_rate = classmethod(lambda cls, channels, bits: {} if channels != 3 else Sound.for_rate(3, bits))
    quantizer_checks.CHECKS["for_rate_is_met"](Lattice)


class Vector(VectorQuantizer):
    """What derives from a base names the hooks that the base calls."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__(channels, 3.0)


class CutsItsGradient(Vector):
    def replace(self, latents: Tensor, codewords: Tensor, noise: Tensor) -> Tensor:
        return codewords.detach()


class LosesItsValue(Vector):
    def replace(self, latents: Tensor, codewords: Tensor, noise: Tensor) -> Tensor:
        return codewords + latents if torch.is_grad_enabled() else codewords


class ChoosesByTheBatch(Vector):
    def choose(self, scores: Tensor, noise: Tensor) -> Tensor:
        return super().choose(scores - scores.mean(0), noise)


class StartsNowhere(Vector):
    def place(self, codewords: Tensor) -> None:
        self.codebook.data.fill_(1.0)


class Raises(Vector):
    def codewords(self) -> Tensor:
        return self.codebook[self.size]


@pytest.mark.parametrize(
    ("check", "unsound", "message"),
    [
        ("the_gradient_reaches_the_input", CutsItsGradient, r"^replace\(\) or choose\(\) has no gradient"),
        ("stepper_equals_step", LosesItsValue, r"replace\(\), prepare\(\) or choose\(\) gives other values frame by"),
        ("one_position_at_a_time", ChoosesByTheBatch, r"in replace\(\) or choose\(\)$"),
        ("codes_follow_the_data", StartsNowhere, r"from the data in place\(\)$"),
        ("shapes_and_alphabet", Raises, r"^codewords\(\): IndexError"),
    ],
)
def test_a_failure_names_what_the_plug_in_writes(check: str, unsound: type[Quantizer], message: str) -> None:
    result = run_named({check: lambda: quantizer_checks.CHECKS[check](unsound)})[0]
    assert re.search(message, result.message), result.message


FINAL = sorted(name for name in vars(Quantizer) if is_final(vars(Quantizer)[name]) and name != "forward")


def test_no_failure_names_a_final_method() -> None:
    said = [str(base.instead) for base in (Quantizer, VectorQuantizer, ProjectedQuantizer, SteppedQuantizer)]
    for path in Path(coding.__file__).parent.glob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        said += [ast.unparse(call.args[1]) for call in calls if getattr(call.func, "id", "") == "demand"]
    assert len(said) > 40
    assert [text for text in said for name in FINAL if re.search(rf"\b{name}\(\)", text)] == []


@pytest.mark.parametrize(
    ("base", "name", "hint"),
    [
        (Quantizer, "draw", "final in Quantizer; write random() or noise_rows instead"),
        (VectorQuantizer, "encode", "final in VectorQuantizer; write codewords() instead"),
        (ProjectedQuantizer, "surrogate", "final in ProjectedQuantizer; write substitute() instead"),
        (SteppedQuantizer, "stepper", "final in SteppedQuantizer; write analysis() instead"),
        (VectorQuantizer, "nominal_bits", "final in Quantizer; call yours otherwise"),
    ],
)
def test_what_is_final_cannot_be_overridden(base: type, name: str, hint: str) -> None:
    with pytest.raises(TypeError, match=f"Mine.{name} overrides what is {re.escape(hint)}"):
        type("Mine", (base,), {name: lambda self: None})
