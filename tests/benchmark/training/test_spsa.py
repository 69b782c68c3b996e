"""SPSA: gains and steps by hand, a quadratic's maximum, taking up again, many variants at once against one by one."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.losses.intelligibility import balanced_vstoi, mean_score
from codecbench.benchmark.losses.stacked_vstoi import StackedVSTOI
from codecbench.benchmark.metrics.intelligibility import vstoi
from codecbench.benchmark.specs.registry import found
from codecbench.benchmark.specs.stages import SPSA
from codecbench.benchmark.training.spsa import Climber, climb, deciding_parameters
from codecbench.codecs.base import Codec
from codecbench.codecs.frae import FRAE
from codecbench.codecs.seanet import SEANet
from codecbench.datamodules.cochlear.ace import UNSELECTED, ace
from codecbench.datamodules.demo import Demo
from codecbench.quantizers.base import Quantizer
from torch import Tensor

RATE = 16_000


def made(name: str, channels: int, share: float) -> Quantizer:
    return found("quantizers")[name](channels)


def small_frae(quantizer: str, feedback: int = 2, dtype: torch.dtype = torch.float64) -> FRAE:
    torch.manual_seed(0)
    codec = FRAE(partial(made, quantizer), latent_dim=3, widths=[8, 6], feedback=feedback).to(dtype)
    codec.fit(noise_pattern(4, 50).to(dtype))
    return codec.eval()


def noise_pattern(items: int, frames: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    values, chosen = (torch.rand(items, 22, frames, generator=generator, dtype=torch.float64) for _ in range(2))
    return values.where(chosen < 0.36, UNSELECTED)


def variants_of(codec: Codec, count: int, size: float = 0.1, leave_out: str = "") -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        name: value.detach() + size * torch.randn(count, *value.shape, generator=generator, dtype=value.dtype)
        for name, value in codec.named_parameters()
        if name != leave_out
    }


def one_by_one(codec: Codec, variants: dict[str, Tensor], signal: Tensor) -> Tensor:
    """Each variant loaded into the codec, and loaded out again."""
    kept = {name: value.clone() for name, value in codec.state_dict().items()}
    decoded = []
    for n in range(len(next(iter(variants.values())))):
        codec.load_state_dict(kept | {name: values[n] for name, values in variants.items()})
        decoded.append(codec.decode(codec.encode(signal), tuple(signal.shape[1:])))
    codec.load_state_dict(kept)
    return torch.stack(decoded)


@pytest.fixture(scope="module")
def speech() -> Tensor:
    """Two items of 1.2 s of the demo corpus."""
    demo = Demo()
    sound = np.concatenate([demo.load(item) for item in demo.items("test")[:6]])
    return torch.from_numpy(sound[: 2 * 19200]).double().view(2, 19200)


# -- the optimiser ----------------------------------------------------------------------------------------------------


def test_gains_by_hand() -> None:
    options = SPSA(a=1.0, stability=99.0, gamma=0.5, c=0.3, beta=1.0)
    assert options.gains(0) == pytest.approx((0.1, 0.3))  # 1 / sqrt(100)
    assert options.gains(2) == pytest.approx((1 / math.sqrt(102), 0.1))
    paper = SPSA(stability=0.0, c=1.0)
    assert paper.gains(0) == (1.0, 1.0)
    assert paper.gains(1023) == pytest.approx((2**-6.02, 2**-1.01))


@pytest.mark.parametrize(
    ("option", "value"),
    [("steps", 0), ("pairs", 0), ("batch", 0), ("a", 0.0), ("c", -1.0), ("c", math.nan), ("seconds", math.inf),
     ("stability", -1.0), ("gamma", -0.1), ("beta", math.nan), ("limit", 1.0), ("longest_step", 0.0)],
)  # fmt: skip
def test_options_out_of_range_are_named(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{option}="):
        SPSA(**{option: value})


def test_one_step_by_hand() -> None:
    """f(w) = 3 w: (y+ - y-) / c = 6 D, so that eq. 2 moves w by 6 a_0 whatever the sign."""
    weight = torch.tensor([2.0], dtype=torch.float64)
    ascender = Climber({"w": weight}, SPSA(pairs=1, a=0.5, stability=0.0, c=0.25))
    done = ascender.step(lambda variants: 3 * variants["w"][:, 0])
    assert weight.item() == pytest.approx(2 + 6 * 0.5)
    assert done == pytest.approx((6.0, 1.5, 3.0))  # f(2), 3 * 2 * 0.25, the step


@pytest.mark.parametrize("pairs", [1, 16])
def test_a_quadratic_is_climbed_to_its_top(pairs: int) -> None:
    top = {"first": torch.tensor([[1.0, -2.0], [0.5, 3.0]]), "second": torch.tensor([-1.0])}
    weights = {name: torch.zeros_like(value) for name, value in top.items()}

    def evaluate(variants: dict[str, Tensor]) -> Tensor:
        return -sum((variants[name] - top[name]).square().flatten(1).sum(1) for name in top)  # type: ignore[return-value]

    ascender = Climber(weights, SPSA(pairs=pairs, a=0.5, stability=20.0, c=0.01))
    values = [ascender.step(evaluate).value for _ in range(300)]
    assert values[0] == pytest.approx(-15.25, abs=1.0)
    assert values[-1] == pytest.approx(0.0, abs=1e-3)
    for name, value in top.items():
        assert torch.allclose(weights[name], value, atol=1e-3)


def test_many_pairs_give_the_gradient() -> None:
    """The mean of (y+ - y-) / c D is twice the gradient: of many pairs it is near, of one far."""
    slope = torch.linspace(-1, 1, 20, dtype=torch.float64)

    def error(pairs: int) -> float:
        weight = torch.zeros(20, dtype=torch.float64)
        ascender = Climber({"w": weight}, SPSA(pairs=pairs, stability=0.0))
        ascender.step(lambda variants: variants["w"] @ slope)
        return float((weight / 2 - slope).norm() / slope.norm())

    assert error(4096) < 0.1
    assert error(1) > 2


def test_taken_up_again_it_goes_on_as_if_it_had_not_stopped() -> None:
    def evaluate(variants: dict[str, Tensor]) -> Tensor:
        return variants["w"].sin().prod(1)

    def run(*parts: int) -> Tensor:
        weight, state = torch.linspace(0.1, 1.3, 7), None
        for steps in parts:
            ascender = Climber({"w": weight}, SPSA(pairs=3, stability=5.0), seed=4 if state is None else 0)
            if state is not None:
                ascender.load_state_dict(state)
            for _ in range(steps):
                ascender.step(evaluate)
            weight, state = weight.clone(), ascender.state_dict()
        return weight

    assert run(9).equal(run(4, 5))
    assert not run(9).equal(run(8))


def test_pairs_evaluated_in_turn_are_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def evaluate(variants: dict[str, Tensor]) -> Tensor:
        sizes.append(len(variants["w"]))
        return variants["w"].cos().sum(1)

    def run() -> Tensor:
        weight = torch.linspace(0.1, 1.3, 7, dtype=torch.float64)
        Climber({"w": weight}, SPSA(pairs=5)).step(evaluate)
        return weight

    whole = run()
    monkeypatch.setattr("codecbench.benchmark.training.spsa.NUMBERS_AT_ONCE", 2 * 2 * 7)
    assert torch.allclose(run(), whole, rtol=0, atol=1e-14)
    assert sizes == [10, 4, 4, 2]


def test_pairs_without_a_score_are_left_out() -> None:
    def evaluate(variants: dict[str, Tensor]) -> Tensor:
        return torch.tensor([math.nan, 3.0, 5.0, 1.0])  # y+ of both pairs, y- of both: only the second pair counts

    weight = torch.zeros(1, dtype=torch.float64)
    done = Climber({"w": weight}, SPSA(pairs=2, a=1.0, stability=0.0, c=1.0)).step(evaluate)
    assert done == pytest.approx((2.0, 2.0, 2.0))
    assert abs(weight.item()) == pytest.approx(2.0)


def test_a_step_without_any_score_moves_nothing_and_counts() -> None:
    weight = torch.ones(3)
    ascender = Climber({"w": weight}, SPSA(pairs=2))
    done = ascender.step(lambda variants: torch.full((4,), math.nan))
    assert math.isnan(done.value) and done.length == 0 and weight.equal(torch.ones(3)) and ascender.k == 1


def test_what_goes_wrong_says_what_to_do() -> None:
    with pytest.raises(UserError, match="diverged at step 0: lower a"):
        Climber({"w": torch.zeros(3)}, SPSA(a=1e38)).step(lambda variants: 1e5 * variants["w"].sum(1))


def test_a_longest_step_bounds_the_norm() -> None:
    weight = torch.zeros(4, dtype=torch.float64)
    options = SPSA(pairs=3, stability=0.0, longest_step=0.25)
    done = Climber({"w": weight}, options).step(lambda variants: 100 * variants["w"].sum(1))
    assert done.length == 0.25
    assert float(weight.norm()) == pytest.approx(0.25)


# -- many variants at once --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantizer", sorted(found("quantizers")))
def test_variants_at_once_decode_what_they_decode_one_by_one(quantizer: str) -> None:
    codec, signal = small_frae(quantizer), noise_pattern(2, 70)  # more than one block of frames
    state = {name: value.clone() for name, value in codec.state_dict().items()}
    variants = variants_of(codec, 3, leave_out="encoder.0.bias")
    at_once = codec.stacked(variants, signal)
    assert at_once.shape == (3, 2, 22, 70)
    assert at_once[0].ne(at_once[1]).any()
    assert torch.allclose(at_once, one_by_one(codec, variants, signal), rtol=0, atol=1e-12)
    assert all(value.equal(state[name]) for name, value in codec.state_dict().items())


@pytest.mark.parametrize("quantizer", ["kmeans_vq", "nsvq", "identity", "fem"])
def test_in_float32_they_agree_but_where_rounding_flips_a_code(quantizer: str) -> None:
    codec, signal = small_frae(quantizer, dtype=torch.float32), noise_pattern(2, 40).float()
    variants = variants_of(codec, 3)
    far = (codec.stacked(variants, signal) - one_by_one(codec, variants, signal)).abs() > 1e-5
    assert float(far.float().mean()) < 0.02


@pytest.mark.parametrize("quantizer", ["kmeans_vq", "noise_sq", "residual"])
def test_bypassed_quantizers_let_latents_through(quantizer: str) -> None:
    codec, signal = small_frae(quantizer), noise_pattern(1, 20)
    codec.quantizer.bypass = True
    variants = variants_of(codec, 2)
    expected = []
    for n in range(2):
        plain = small_frae("identity")
        own = {name: values[n] for name, values in variants.items() if not name.startswith("quantizer.")}
        plain.load_state_dict(own, strict=False)
        plain.quantizer.bypass = True
        expected.append(plain(signal).signal)
    assert torch.allclose(codec.stacked(variants, signal), torch.stack(expected), rtol=0, atol=1e-12)


def test_without_feedback_and_in_waveform_codecs_one_follows_the_other() -> None:
    torch.manual_seed(0)
    waves = torch.randn(2, 700)
    net = SEANet(partial(made, "kmeans_vq"), **SEANet.presets["seanet-small"]).eval()
    for codec, signal in ((small_frae("kmeans_vq", feedback=0), noise_pattern(2, 9)), (net, waves)):
        variants = variants_of(codec, 2, size=0.01)
        assert codec.stacked(variants, signal).equal(one_by_one(codec, variants, signal))


def test_what_nothing_decoded_depends_on_stays() -> None:
    codec, signal = small_frae("fem"), noise_pattern(2, 40)
    left_out = set(dict(codec.named_parameters())) - set(deciding_parameters(codec, signal))
    assert left_out
    assert all(name.startswith("quantizer.density.") for name in left_out)
    whole = small_frae("kmeans_vq")
    assert set(deciding_parameters(whole, signal)) == set(dict(whole.named_parameters()))
    assert not whole.quantizer.bypass
    whole.quantizer.bypass = True
    assert "quantizer.codebook" not in deciding_parameters(whole, signal)


# -- the objective ----------------------------------------------------------------------------------------------------


def test_gains_beyond_the_uncoded_pattern_are_bent() -> None:
    coded = torch.tensor([0.5, 0.6, 0.7, 1.0, math.nan], dtype=torch.float64, requires_grad=True)
    uncoded = torch.full((5,), 0.6, dtype=torch.float64)
    bent = balanced_vstoi(coded, uncoded, 10.0)
    expected = [0.5, 0.6, 0.6 + math.tanh(1) / 10, 0.6 + math.tanh(4) / 10, math.nan]
    assert bent.tolist() == pytest.approx(expected, nan_ok=True)
    bent[:4].sum().backward()
    assert coded.grad is not None
    assert coded.grad[:4].tolist() == pytest.approx([1.0, 1.0, 1 / math.cosh(1) ** 2, 1 / math.cosh(4) ** 2])
    assert float(balanced_vstoi(torch.tensor(9.0), torch.tensor(0.5), 20.0)) == pytest.approx(0.55)  # ceiling 1 / L
    with pytest.raises(ValueError, match="limit=1 must be above 1"):
        balanced_vstoi(uncoded, uncoded, 1)


def test_items_without_a_score_are_left_out_of_the_mean() -> None:
    scores = torch.tensor([[0.2, math.nan, 0.4], [math.nan] * 3])
    assert mean_score(scores).tolist() == pytest.approx([0.3, math.nan], nan_ok=True)


def test_the_objective_is_the_mean_vstoi(speech: Tensor) -> None:
    pattern = ace(speech)
    decoded = torch.stack([pattern, (pattern * 0.5).where(pattern >= 0, UNSELECTED), pattern.roll(30, 2)])
    expected = torch.stack([vstoi(each, speech) for each in decoded])
    plain, bent = StackedVSTOI(speech, pattern), StackedVSTOI(speech, pattern, limit=20.0)
    assert torch.allclose(plain.scores(decoded), expected, rtol=0, atol=1e-9)
    assert torch.allclose(plain(decoded), expected.mean(1), rtol=0, atol=1e-9)
    assert torch.allclose(bent(decoded), balanced_vstoi(expected, expected[0], 20.0).mean(1), rtol=0, atol=1e-9)


def test_items_may_differ_in_length(speech: Tensor) -> None:
    """An item is scored by its own samples and frames, whatever the pattern holds beyond."""
    first, second = speech[0], speech[1, :12_345]
    pattern = ace(speech)
    objective = StackedVSTOI([first, second], pattern)
    alone = torch.stack([vstoi(pattern[:1], first[None])[0], vstoi(pattern[1:, :, :686], second[None])[0]])
    assert torch.allclose(objective.scores(pattern[None])[0], alone, rtol=0, atol=1e-9)
    silent = StackedVSTOI([first, torch.zeros(16_000, dtype=torch.float64)], pattern)
    assert torch.allclose(silent(pattern[None]), alone[:1], rtol=0, atol=1e-9)


@pytest.mark.slow
def test_a_codec_with_its_quantizer_gains_intelligibility(speech: Tensor) -> None:
    speech = speech[:1].float()
    pattern = ace(speech)
    codec = small_frae("kmeans_vq", dtype=torch.float32)
    objective = StackedVSTOI(speech, pattern)

    def score() -> float:
        return float(objective(codec(pattern).signal[None]))

    before = score()
    codebook = codec.quantizer.codebook.clone()  # type: ignore[operator]
    ascender = Climber(deciding_parameters(codec, pattern), SPSA(pairs=8, stability=20.0, c=0.05))
    for _ in range(10):
        climb(ascender, codec, pattern, objective)
    assert score() > before + 0.01
    assert not codec.quantizer.codebook.equal(codebook)  # type: ignore[arg-type]
