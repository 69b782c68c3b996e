"""Residual quantization: by hand, stage by stage, with dropout, inside a feedback loop, around stages of any kind."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from codecbench.codecs.checks import run_checks as run_codec_checks
from codecbench.codecs.frae import FRAE
from codecbench.quantizers.base import Nested, Quantizer
from codecbench.quantizers.checks.contract import run_checks
from codecbench.quantizers.checks.running import built, same, state_of
from codecbench.quantizers.coding.entropy import decode_codes, encode_codes
from codecbench.quantizers.ema_vq import EMAVQ
from codecbench.quantizers.nsvq import NSVQ
from codecbench.quantizers.product import Product
from codecbench.quantizers.residual import Residual
from codecbench.quantizers.ste_vq import StraightThroughVQ
from torch import Tensor, nn

METHODS = {"nsvq": NSVQ, "ste_vq": StraightThroughVQ, "ema_vq": EMAVQ}
SMALL = {"codebook_bits": 4.0, "initialisation": "samples"}


class Dithered(Quantizer):
    """Rounding with subtractive dither: a hash of the seed, the row and the position."""

    width: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("width", torch.tensor(0.5))

    alphabet = property(lambda self: (None,) * self.channels)
    noise_rows = property(lambda self: self.channels)

    def random(self, batch: int, positions: int, start: int) -> Tensor:
        rows = torch.arange(self.channels)[:, None] + self.first_row
        places = torch.arange(start, start + positions) + 1
        hashed = torch.sin(12.9898 * rows + 78.233 * places + self.dither_seed) * 43758.5453
        return ((hashed - hashed.floor()) - 0.5).to(self.float_type).expand(batch, -1, -1)

    def encode(self, latents: Tensor, noise: Tensor) -> Tensor:
        return (latents.detach() / self.width + noise).round().long()

    def decode(self, codes: Tensor, noise: Tensor) -> Tensor:
        return (codes - noise) * self.width

    def surrogate(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.encode(latents, noise)
        return latents + (self.decode(codes, noise) - latents).detach(), codes

    def fit(self, latents: Tensor) -> None:
        self.width.copy_(latents.std().clamp_min(0.01) / 2)


class Scaled(Quantizer):
    """Rounding of a scaled input, whose scale decode() does not read: the gradient passes with that scale."""

    def __init__(self, channels: int, scale: float = 0.5) -> None:
        super().__init__(channels)
        self.scale = nn.Parameter(torch.full((channels, 1), scale))

    alphabet = property(lambda self: (None,) * self.channels)

    def encode(self, latents: Tensor, noise: Tensor) -> Tensor:
        return (latents * self.scale).detach().round().long()

    def decode(self, codes: Tensor, noise: Tensor) -> Tensor:
        return codes.to(self.float_type)

    def surrogate(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        codes, soft = self.encode(latents, noise), latents * self.scale
        return soft + (codes - soft).detach(), codes


class Penalised(Scaled):
    """A loss that is read off the quantized values."""

    def objective(self, latents: Tensor, quantized: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        return quantized.square().mean(), quantized.abs().sum(1)


class Steered(Dithered):
    """A rate that is learned."""

    rate_is_learned = True

    def __init__(self, channels: int, target_bits: float | None = None) -> None:
        super().__init__(channels)
        self.target_bits = target_bits

    @classmethod
    def for_rate(cls, channels: int, bits: float, **fixed: Any) -> dict[str, Any]:
        return {"target_bits": bits}


STAGES = {name: Nested(method, SMALL) for name, method in METHODS.items()}
STAGES |= {"dithered": Nested(Dithered), "product": Nested(Product, {"stage": Nested(EMAVQ, SMALL)})}


def failures(results: list[Any]) -> dict[str, str]:
    return {result.name: result.message for result in results if not result.passed}


def fitted(stage: Nested, channels: int = 3, stages: int = 3, **options: Any) -> Residual:
    torch.manual_seed(0)
    quantizer = Residual(channels, stage, stages, **options).train()
    quantizer.fit(torch.randn(8, channels, 128))
    return quantizer


def by_hand(method: type[Quantizer], **options: Any) -> Residual:
    """One channel, two stages: codewords 0 and 4, then -1 and 1."""
    quantizer = Residual(1, Nested(method, {"codebook_bits": 1.0, **options}), stages=2)
    with torch.no_grad():
        for part, codewords in zip(quantizer.active_parts(), ([0.0, 4.0], [-1.0, 1.0]), strict=True):
            part.place(torch.tensor(codewords)[:, None])  # type: ignore[operator]
    return quantizer


def codebooks(quantizer: Residual) -> list[Tensor]:
    return [part.get_parameter("codebook") for part in quantizer.active_parts()]


# -- the contract, whatever the stages are ----------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("dropout", [0.0, pytest.param(0.5, marks=pytest.mark.slow)])
def test_every_check_of_the_contract_holds(stage: Nested, dropout: float) -> None:
    def make() -> Residual:
        return Residual(5, stage, stages=2, dropout=dropout)

    results = run_checks(make)
    assert failures(results) == {}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("fast", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_it_runs_inside_the_feedback_loop(method: type[Quantizer], fast: bool) -> None:
    results = run_codec_checks(
        lambda make: FRAE(make, widths=[8], feedback=2, fast=fast),
        lambda channels, share: Residual(channels, Nested(method, SMALL), stages=3),
    )
    assert failures(results) == {}


def test_the_feedback_loop_drops_stages_of_whole_items() -> None:
    results = run_codec_checks(
        lambda make: FRAE(make, widths=[8], feedback=2),
        lambda channels, share: Residual(channels, Nested(NSVQ, SMALL), stages=3, dropout=0.5),
    )
    assert failures(results) == {}


def test_float64_stays_float64() -> None:
    quantizer = Residual(2, Nested(NSVQ, SMALL), stages=2, dropout=0.5).double().train()
    out = quantizer(torch.randn(3, 2, 4, dtype=torch.float64))
    assert out.latents.dtype == out.loss.dtype == out.bits.dtype == torch.float64


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_the_second_stage_codes_what_the_first_left_over() -> None:
    out = by_hand(NSVQ).eval()(torch.tensor([[[4.6, 0.2, 1.9, 2.1]]]))
    assert out.codes.tolist() == [[[1, 0, 0, 1], [1, 1, 1, 0]]]
    assert out.latents.tolist() == [[[5.0, 1.0, 1.0, 3.0]]]
    assert out.bits.tolist() == [[2.0] * 4]


def test_the_codes_are_those_of_a_greedy_search_in_numpy() -> None:
    quantizer = fitted(Nested(StraightThroughVQ, SMALL), channels=4, stages=4).double().eval()
    latents = torch.randn(1, 4, 200, dtype=torch.float64)
    rest, expected = latents[0].T.numpy().copy(), []
    for codebook in codebooks(quantizer):
        codewords = codebook.detach().numpy()
        expected.append(((rest[:, None] - codewords) ** 2).sum(2).argmin(1))
        rest -= codewords[expected[-1]]
    out = quantizer(latents)
    assert np.array_equal(out.codes[0].numpy(), np.stack(expected))
    np.testing.assert_allclose((latents - out.latents)[0].T.detach().numpy(), rest, atol=1e-12)


def test_every_stage_is_updated_from_the_codebooks_that_made_the_codes() -> None:
    quantizer = by_hand(EMAVQ).train()
    quantizer.update(torch.tensor([[[4.6]]]), torch.tensor([[[1], [1]]]), 0.0)
    first, second = (codebook.flatten().tolist() for codebook in codebooks(quantizer))
    assert first == pytest.approx([0.0, 0.99 * 4.0 + 0.01 * 4.6])
    assert second == pytest.approx([-1.0, 0.99 * 1.0 + 0.01 * 0.6])  # 4.6 - 4.0, not 4.6 less the moved codeword


def test_straight_through_stages_pass_the_gradient_as_it_is() -> None:
    latents = torch.tensor([[[4.6, 0.2]]], requires_grad=True)
    (by_hand(StraightThroughVQ).train()(latents).latents * torch.tensor([2.0, 3.0])).sum().backward()
    assert latents.grad is not None and latents.grad.tolist() == [[[2.0, 3.0]]]


def test_losses_are_per_stage_and_move_no_earlier_stage() -> None:
    quantizer = by_hand(StraightThroughVQ, commitment=0.25).train()
    latents = torch.tensor([[[4.6]]], requires_grad=True)
    out = quantizer(latents)  # 4.6 leaves 0.6 behind 4, and -0.4 behind 1
    assert out.loss.item() == pytest.approx(1.25 * 0.6**2 + 1.25 * 0.4**2)
    out.loss.backward()
    assert latents.grad is not None and latents.grad.item() == pytest.approx(0.25 * 2 * (0.6 - 0.4))
    first, second = (codebook.grad for codebook in codebooks(quantizer))
    assert first is not None and first.flatten().tolist() == pytest.approx([0.0, -2 * 0.6])
    assert second is not None and second.flatten().tolist() == pytest.approx([0.0, 2 * 0.4])


def test_what_is_read_off_the_values_of_a_stage_reaches_the_input() -> None:
    latents = torch.tensor([[[4.6]]], requires_grad=True)
    out = Residual(1, Nested(Penalised), stages=2).train()(latents)  # 2, then 1
    assert out.loss.item() == pytest.approx(2.0**2 + 1.0**2) and out.bits.item() == pytest.approx(3.0)
    out.loss.backward()
    assert latents.grad is not None and latents.grad.item() == pytest.approx(2 * 2.0 + 2 * 1.0)


def test_nsvq_stages_substitute_noise_of_the_total_error() -> None:
    quantizer = by_hand(NSVQ).double().train()
    latents = torch.tensor([[[4.6]]], dtype=torch.float64, requires_grad=True)
    noise = torch.full((1, quantizer.noise_rows, 1), -3.0, dtype=torch.float64)
    quantized, codes = quantizer.surrogate(latents, noise)
    assert codes.tolist() == [[[1], [1]]]
    assert quantized.item() == pytest.approx(4.6 - 0.4)  # |4.6 - 4 - 1| against the noise's sign
    gradients = torch.autograd.grad(quantized, [latents, *codebooks(quantizer)])
    # x + |x - c1 - c2| v / |v| = x - (c1 + c2 - x)
    assert gradients[0].item() == pytest.approx(2.0)
    assert [gradient.flatten().tolist() for gradient in gradients[1:]] == [[0.0, -1.0], [0.0, -1.0]]


def test_a_scale_that_decoding_does_not_read_learns_in_every_stage() -> None:
    quantizer = Residual(1, Nested(Scaled), stages=3).train()
    latents = torch.tensor([[[4.6]]], requires_grad=True)
    out = quantizer(latents)  # 4.6 -> 2, 2.6 -> 1, 1.6 -> 1
    assert out.codes.flatten().tolist() == [2, 1, 1] and out.latents.item() == pytest.approx(4.0)
    out.latents.sum().backward()
    assert latents.grad is not None and latents.grad.item() == pytest.approx(1 - 0.5**3)
    scales = [part.get_parameter("scale").grad for part in quantizer.active_parts()]
    assert [scale.item() for scale in scales if scale is not None] == pytest.approx([4.6 / 4, 2.6 / 2, 1.6])


# -- prefixes ---------------------------------------------------------------------------------------------------------


def trained(method: type[Quantizer], steps: int = 150, **options: Any) -> tuple[Residual, Tensor]:
    """Three stages trained on correlated normal vectors, and such vectors that they have not seen."""
    torch.manual_seed(0)
    mix = torch.randn(3, 3)

    def draw() -> Tensor:
        return (torch.randn(4, 64, 3) @ mix).transpose(1, 2)

    quantizer = Residual(3, Nested(method, SMALL), stages=3, **options).train()
    quantizer.fit(torch.cat([draw() for _ in range(4)]))
    parameters = [p for p in quantizer.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=5e-3) if parameters else None
    for step in range(steps):
        latents = draw()
        out = quantizer(latents)
        if optimizer is not None:
            optimizer.zero_grad()
            ((out.latents - latents).square().mean() + out.loss).backward()
            optimizer.step()
        quantizer.update(out.source, out.codes, step / steps)
    return quantizer.eval(), torch.cat([draw() for _ in range(4)])


def errors_of_prefixes(quantizer: Residual, latents: Tensor) -> list[float]:
    errors = [float(latents.square().mean())]
    for streams in quantizer.prefixes:
        quantizer.truncate(streams)
        with torch.no_grad():
            errors.append(float((quantizer(latents).latents - latents).square().mean()))
    return errors


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_each_further_stage_lowers_the_error_of_a_trained_model(method: type[Quantizer], dropout: float) -> None:
    errors = errors_of_prefixes(*trained(method, dropout=dropout))
    assert all(later < 0.6 * earlier for earlier, later in itertools.pairwise(errors))


def test_dropout_trains_the_short_prefixes_of_nsvq() -> None:
    without, with_dropout = (errors_of_prefixes(*trained(NSVQ, dropout=dropout)) for dropout in (0.0, 1.0))
    assert with_dropout[1] < 0.97 * without[1]


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_any_prefix_decodes_and_its_codes_are_those_of_all_stages(stage: Nested) -> None:
    quantizer = fitted(stage).eval()
    latents = torch.randn(2, 3, 50)
    whole = quantizer(latents)
    quantizer.fit_tables(whole.codes)
    full, noise = quantizer.alphabet, quantizer.draw(2, 50)
    sums = [quantizer.decode(whole.codes[:, :streams], noise) for streams in quantizer.prefixes]
    for streams, decoded in zip(quantizer.prefixes, sums, strict=True):
        quantizer.truncate(streams)
        out = quantizer(latents)
        assert torch.equal(out.codes, whole.codes[:, :streams]) and torch.equal(out.latents, decoded)
        assert torch.equal(quantizer.decode(out.codes, quantizer.draw(2, 50)), decoded)
        assert quantizer.alphabet == full[:streams]
        item = out.codes[:1]
        assert torch.equal(decode_codes(quantizer, encode_codes(quantizer, item), 50), item)
    assert torch.equal(sums[-1], whole.latents)


def test_prefixes_count_the_streams_of_whole_stages() -> None:
    quantizer = Residual(4, Nested(Product, {"groups": 2, "stage": Nested(NSVQ, {"codebook_bits": 3.0})}), stages=3)
    assert quantizer.prefixes == (2, 4, 6)
    quantizer.truncate(4)
    assert quantizer.prefixes == (2, 4, 6) and quantizer.nominal_bits == 12.0
    with pytest.raises(ValueError, match="3 streams do not decode on their own; possible: 2, 4, 6"):
        quantizer.truncate(3)
    quantizer.truncate(6)
    assert quantizer.nominal_bits == 18.0


def test_the_operating_point_is_no_state_and_trains_the_stages_in_operation() -> None:
    quantizer = fitted(Nested(NSVQ, SMALL))
    before = state_of(quantizer)
    quantizer.truncate(2)
    assert same(list(before.values()), list(state_of(quantizer).values()))
    out = quantizer(torch.randn(2, 3, 5))
    assert out.codes.shape[1] == 2 and out.bits.tolist() == [[8.0] * 5] * 2
    out.latents.sum().backward()
    assert [codebook.grad is None for codebook in codebooks(quantizer)] == [False, False]
    assert quantizer.parts[2].codebook.grad is None


def test_tables_are_those_of_the_stage_whose_stream_is_next() -> None:
    quantizer = by_hand(NSVQ)
    codes = torch.tensor([[[0, 0, 0, 1], [1, 1, 1, 1]]])
    quantizer.fit_tables(codes)
    shares = [quantizer.tables(codes[:, :known]).counts[0].double() / 2**20 for known in (0, 1)]
    torch.testing.assert_close(shares[0], torch.tensor([4, 2]).double() / 6, atol=1e-5, rtol=0)  # one added to each
    torch.testing.assert_close(shares[1], torch.tensor([1, 5]).double() / 6, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="2 streams are known already; there are 2"):
        quantizer.tables(codes)


# -- noise ------------------------------------------------------------------------------------------------------------


def test_an_item_keeps_its_stages_at_all_positions_and_any_number_is_as_likely() -> None:
    quantizer = Residual(2, Nested(EMAVQ, SMALL), stages=4, dropout=0.4).train()
    torch.manual_seed(0)
    kept = quantizer.draw(8000, 3)
    assert kept.shape == (8000, 1, 3) and torch.equal(kept, kept[..., :1].expand(-1, -1, 3))
    shares = kept[:, 0, 0].long().bincount(minlength=5) / 8000
    torch.testing.assert_close(shares, torch.tensor([0.0, 0.1, 0.1, 0.1, 0.7]), atol=0.02, rtol=0)
    quantizer.truncate(2)
    assert set(quantizer.draw(500, 1).flatten().tolist()) == {1.0, 2.0}
    assert quantizer.eval().noise_rows == 0


@pytest.mark.parametrize("stage", [*STAGES.values(), Nested(Scaled)], ids=[*STAGES, "scaled"])
def test_an_item_that_keeps_n_stages_is_what_n_stages_make_of_it(stage: Nested) -> None:
    quantizer = fitted(stage, dropout=0.5)
    latents = torch.randn(3, 3, 10)
    noise = quantizer.draw(3, 10)
    noise[:, -1] = torch.tensor([1.0, 2.0, 3.0])[:, None]
    quantized, codes = quantizer.surrogate(latents, noise)
    for item, streams in enumerate(quantizer.prefixes):
        quantizer.truncate(streams)
        own = noise[item : item + 1].clone()
        own[:, -1] = item + 1.0
        rows = quantizer.noise_rows - 1
        alone, codes_alone = quantizer.surrogate(latents[item : item + 1], torch.cat([own[:, :rows], own[:, -1:]], 1))
        torch.testing.assert_close(quantized[item : item + 1], alone)
        assert torch.equal(codes[item : item + 1, :streams], codes_alone)


@pytest.mark.parametrize("method", [NSVQ, Scaled])
def test_every_stage_gets_a_gradient_under_dropout(method: type[Quantizer]) -> None:
    quantizer = fitted(Nested(method), dropout=1.0)
    latents = torch.randn(16, 3, 4, requires_grad=True)
    (quantizer(latents).latents * torch.randn(16, 3, 4)).sum().backward()
    for parameter in [latents, *quantizer.parameters()]:
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any()


def test_only_the_last_stage_draws_noise_for_a_surrogate() -> None:
    quantizer = Residual(5, Nested(NSVQ, SMALL), stages=4).train()
    assert quantizer.noise_rows == 5 and quantizer.eval().noise_rows == 0
    assert Residual(5, Nested(NSVQ, SMALL), stages=4, dropout=0.1).train().noise_rows == 21
    assert Residual(5, Nested(Dithered), stages=4).train().noise_rows == 20


def test_stages_have_dither_of_their_own_wherever_they_are() -> None:
    nested = Nested(Residual, {"stage": Nested(Dithered), "stages": 2})
    quantizer = Residual(2, nested, stages=3).eval()
    quantizer.dither_seed = 7
    rows = quantizer.draw(1, 40)[0]
    assert rows.shape == (12, 40) and len(rows.unique(dim=0)) == 12
    alone = Dithered(12)
    alone.dither_seed = 7
    assert torch.equal(rows, alone.draw(1, 40)[0])  # one numbering, from 0 on
    quantizer.first_row = 2
    assert torch.equal(quantizer.draw(1, 40)[0, :10], rows[2:])
    quantizer.first_row = 0
    quantizer.truncate(4)
    assert torch.equal(quantizer.draw(1, 40)[0], rows[:4])


# -- rates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize(
    ("channels", "bits", "stages", "each"), [(5, 6.0, 2, 3.0), (32, 30.0, 3, 10.0), (32, 60.0, 6, 10.0)]
)
def test_a_rate_is_divided_equally(
    method: type[Quantizer], channels: int, bits: float, stages: int, each: float
) -> None:
    options = Residual.for_rate(channels, bits, stage=Nested(method))
    assert options == {"stages": stages, "stage.codebook_bits": each}
    assert built(Residual, channels, {**options, "stage": Nested(method)}).nominal_bits == pytest.approx(bits)


def test_a_rate_of_hundreds_of_bits() -> None:
    options = Residual.for_rate(256, 282.0)
    assert options["stages"] == 29
    assert built(Residual, 256, options).nominal_bits == pytest.approx(282, rel=1e-3)


@pytest.mark.parametrize(
    ("fixed", "bits", "options"),
    [
        ({"stages": 4}, 30.0, {"stage.codebook_bits": 7.5}),
        ({"stage": Nested(NSVQ, {"codebook_bits": 6.0})}, 30.0, {"stages": 5}),
        ({"stage": Nested(NSVQ, {"codebook_bits": 6.0})}, 61.0, {"stages": 10}),
        ({"stage": Nested(NSVQ, {"codebook_bits": 6.0}), "stages": 5}, 30.0, {}),
        ({"stage": Nested(NSVQ, {"replacement": 0.0}), "dropout": 0.5}, 8.0, {"stages": 2, "stage.codebook_bits": 4.0}),
        ({}, 1.5, {"stages": 1, "stage.codebook_bits": 1.5}),
        ({"stage": Nested(Steered)}, 60.0, {"stages": 2, "stage.target_bits": 30.0}),
        ({"stage": Nested(Steered), "stages": 3}, 60.0, {"stage.target_bits": 20.0}),
        (
            {"stage": Nested(Product, {"stage": Nested(NSVQ)})},
            40.0,
            {"stages": 4, "stage.groups": 2, "stage.stage.codebook_bits": 5.0},
        ),
    ],
)
def test_what_is_fixed_stays_and_the_rest_follows(fixed: dict[str, Any], bits: float, options: dict[str, Any]) -> None:
    assert Residual.for_rate(32, bits, **fixed) == options


@pytest.mark.parametrize(
    ("fixed", "bits", "words"),
    [
        ({"stages": 3}, 60.0, "with stages=3 each: .* not 20; nearest: 16$"),
        ({}, 0.5, "with stages=1 each: .* nearest: 1$"),
        ({}, 2000.0, "with stages=64 each: .* nearest: 16$"),
        ({"stage": Nested(NSVQ, {"codebook_bits": 8.0})}, 30.0, "4 stages spend 32 bit, not 30; nearest: 32"),
        ({"stage": Nested(NSVQ, {"codebook_bits": 8.0}), "stages": 2}, 30.0, "2 stages spend 16 bit, not 30; nearest"),
    ],
)
def test_a_rate_that_cannot_be_met_is_refused_in_one_line(fixed: dict[str, Any], bits: float, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refusal:
        Residual.for_rate(32, bits, **fixed)
    assert "\n" not in str(refusal.value)


def test_a_rate_is_learned_where_that_of_the_stages_is() -> None:
    assert Residual(2, Nested(Residual, {"stage": Nested(Steered)})).rate_is_learned
    assert not Residual(2).rate_is_learned


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stages": 0}, "stages=0 must be at least 1"),
        ({"dropout": 1.5}, "dropout=1.5 must be a probability"),
        ({"stage": Nested(NSVQ, {"codebook_bits": 0.5})}, "codebook_bits=0.5 must lie between"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Residual(3, **options)


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_diverged_latents_are_refused_and_constant_ones_are_not(stage: Nested) -> None:
    quantizer = Residual(3, stage, stages=2).train()
    with pytest.raises(ValueError, match="training diverged"):
        quantizer.fit(torch.full((1, 3, 300), torch.inf))
    quantizer.fit(torch.full((1, 3, 300), 0.3))
    out = quantizer(torch.full((1, 3, 300), 0.3))
    assert out.latents.isfinite().all() and out.loss.isfinite()
    torch.testing.assert_close(
        quantizer.eval()(torch.full((1, 3, 9), 0.3)).latents, torch.full((1, 3, 9), 0.3), atol=0.26, rtol=0
    )
