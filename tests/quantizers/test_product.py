"""Product quantization: groups of channels by hand, uneven ones, inside and around other compositions."""

from typing import Any

import pytest
import torch
from codecbench.codecs.checks import run_checks as run_codec_checks
from codecbench.codecs.frae import FRAE
from codecbench.quantizers.base import Nested, Quantizer
from codecbench.quantizers.checks.contract import run_checks
from codecbench.quantizers.checks.running import built
from codecbench.quantizers.ema_vq import EMAVQ
from codecbench.quantizers.identity import Identity
from codecbench.quantizers.nsvq import NSVQ
from codecbench.quantizers.product import Product
from codecbench.quantizers.residual import Residual
from codecbench.quantizers.ste_vq import StraightThroughVQ
from torch import Tensor

SMALL = {"codebook_bits": 3.0, "initialisation": "samples"}
RESIDUAL = Nested(Residual, {"stage": Nested(NSVQ, SMALL), "stages": 2, "dropout": 0.5})
CASES = {
    "nsvq": lambda: Product(5, Nested(NSVQ, SMALL)),
    "ste_vq": lambda: Product(5, Nested(StraightThroughVQ, SMALL)),
    "ema_vq": lambda: Product(5, Nested(EMAVQ, SMALL)),
    "identity": lambda: Product(5, Nested(Identity), groups=5),
    "product of residual": lambda: Product(5, RESIDUAL, groups=3),
    "product of product": lambda: Product(5, Nested(Product, {"stage": Nested(EMAVQ, SMALL)}), groups=2),
    "residual of product": lambda: Residual(5, Nested(Product, {"stage": Nested(EMAVQ, SMALL), "groups": 3}), stages=2),
}


class PerChannel(Quantizer):
    """A grid of its own number of levels on [-1, 1] for every channel alike."""

    def __init__(self, channels: int, levels: int = 4) -> None:
        super().__init__(channels)
        self.levels = levels

    alphabet = property(lambda self: (self.levels,) * self.channels)

    def encode(self, latents: Tensor, noise: Tensor) -> Tensor:
        return ((latents.detach().clamp(-1, 1) + 1) / 2 * (self.levels - 1)).round().long()

    def decode(self, codes: Tensor, noise: Tensor) -> Tensor:
        return codes.to(self.float_type) / (self.levels - 1) * 2 - 1

    def surrogate(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.encode(latents, noise)
        return latents + (self.decode(codes, noise) - latents).detach(), codes

    @classmethod
    def for_rate(cls, channels: int, bits: float, **fixed: Any) -> dict[str, Any]:
        levels = round(2 ** (bits / channels))
        if levels < 2 or abs(channels * torch.tensor(float(levels)).log2() / bits - 1) > 0.05:
            raise ValueError(f"{channels} channels cannot spend {bits:g} bit; nearest: {channels}")
        return {"levels": levels}


def failures(results: list[Any]) -> dict[str, str]:
    return {result.name: result.message for result in results if not result.passed}


def by_hand(method: type[Quantizer], **options: Any) -> Product:
    """Three channels in groups of two and one; codewords (0, 0) and (4, 4), then -1 and 1."""
    quantizer = Product(3, Nested(method, {"codebook_bits": 1.0, **options}))
    first, second = quantizer.active_parts()
    first.place(torch.tensor([[0.0, 0.0], [4.0, 4.0]]))  # type: ignore[operator]
    second.place(torch.tensor([[-1.0], [1.0]]))  # type: ignore[operator]
    return quantizer


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_every_check_of_the_contract_holds(make: Any) -> None:
    results = run_checks(make)
    assert failures(results) == {}


@pytest.mark.parametrize("stage", [Nested(NSVQ, SMALL), RESIDUAL], ids=["nsvq", "residual"])
def test_it_runs_inside_the_feedback_loop(stage: Nested) -> None:
    results = run_codec_checks(
        lambda make: FRAE(make, widths=[8], feedback=2), lambda channels, share: Product(channels, stage)
    )
    assert failures(results) == {}


def test_each_group_is_coded_by_its_own_codebook() -> None:
    latents = torch.tensor([[[3.0, 0.5], [1.5, 1.0], [-0.2, 0.3]]])
    out = by_hand(NSVQ).eval()(latents)
    assert out.codes.tolist() == [[[1, 0], [0, 1]]]
    assert out.latents.tolist() == [[[4.0, 0.0], [4.0, 0.0], [-1.0, 1.0]]]
    assert out.bits.tolist() == [[2.0, 2.0]]


def test_the_loss_is_a_mean_over_channels() -> None:
    latents = torch.tensor([[[3.0], [1.5], [-0.2]]], requires_grad=True)
    out = by_hand(StraightThroughVQ, commitment=0.25).train()(latents)
    squares = [1.0**2, 2.5**2, 0.8**2]
    assert out.loss.item() == pytest.approx(1.25 * sum(squares) / 3)
    out.loss.backward()
    assert latents.grad is not None
    expected = [0.25 * 2 * error / 3 for error in (-1.0, -2.5, 0.8)]
    assert latents.grad.flatten().tolist() == pytest.approx(expected)


def test_a_product_of_one_group_is_its_stage() -> None:
    latents = torch.randn(2, 4, 9)
    torch.manual_seed(0)
    alone = NSVQ(4, 3.0).train()
    torch.manual_seed(0)
    product = Product(4, Nested(NSVQ, {"codebook_bits": 3.0}), groups=1).train()
    noise = alone.draw(2, 9)
    for first, second in zip(alone.step(latents, noise), product.step(latents, noise), strict=True):
        assert torch.equal(first, second)


def test_each_group_is_updated_from_its_own_channels() -> None:
    quantizer = by_hand(EMAVQ).train()
    quantizer.update(torch.tensor([[[3.0], [1.5], [-0.2]]]), torch.tensor([[[1], [0]]]), 0.0)
    first, second = (part.get_parameter("codebook").flatten().tolist() for part in quantizer.active_parts())
    assert first == pytest.approx([0.0, 0.0, 0.99 * 4 + 0.01 * 3.0, 0.99 * 4 + 0.01 * 1.5])
    assert second == pytest.approx([-0.99 - 0.01 * 0.2, 1.0])


def test_each_group_starts_from_its_own_channels() -> None:
    quantizer = Product(3, Nested(NSVQ, SMALL)).train()
    quantizer.fit(torch.tensor([100.0, 100.0, -7.0])[:, None] + torch.randn(4, 3, 50))
    first, second = (part.get_parameter("codebook") for part in quantizer.active_parts())
    assert (first - 100).abs().max() < 5 and (second + 7).abs().max() < 5


def test_groups_are_as_equal_as_possible() -> None:
    assert [part.channels for part in Product(32, Nested(NSVQ, SMALL), groups=3).active_parts()] == [11, 11, 10]
    assert [part.channels for part in Product(5, Nested(NSVQ, SMALL), groups=5).active_parts()] == [1] * 5


@pytest.mark.parametrize(
    ("channels", "bits", "options"),
    [
        (5, 6.0, {"groups": 2, "stage.codebook_bits": 3.0}),
        (32, 30.0, {"groups": 3, "stage.codebook_bits": 10.0}),
        (32, 60.0, {"groups": 6, "stage.codebook_bits": 10.0}),
        (256, 282.0, {"groups": 29, "stage.codebook_bits": pytest.approx(282 / 29)}),
        (2, 30.0, {"groups": 2, "stage.codebook_bits": 15.0}),
        (1, 6.0, {"groups": 1, "stage.codebook_bits": 6.0}),
    ],
)
def test_a_rate_is_divided_among_codebooks(channels: int, bits: float, options: dict[str, Any]) -> None:
    chosen = Product.for_rate(channels, bits)
    assert chosen == options
    assert built(Product, channels, chosen).nominal_bits == pytest.approx(bits, rel=1e-3)


@pytest.mark.parametrize(
    ("fixed", "bits", "options"),
    [
        ({"groups": 2, "stage": Nested(PerChannel)}, 10.0, {"stage.levels": 4}),  # 6 and 4 bit, not 5 and 5
        ({"stage": Nested(NSVQ, {"codebook_bits": 4.0})}, 12.2, {"groups": 3}),
        ({"stage": Nested(NSVQ, {"codebook_bits": 4.0}), "groups": 3}, 12.0, {}),
        ({"stage": Nested(PerChannel, {"levels": 8})}, 15.0, {"groups": 2}),
    ],
)
def test_what_is_fixed_stays_and_the_rest_follows(fixed: dict[str, Any], bits: float, options: dict[str, Any]) -> None:
    assert Product.for_rate(5, bits, **fixed) == options


@pytest.mark.parametrize(
    ("fixed", "bits", "words"),
    [
        ({"groups": 6}, 12.0, "groups=6 must lie between 1 and 5, the channels"),
        ({"groups": 2}, 40.0, "with groups=2 each: .* not 20; nearest: 16$"),
        ({"stage": Nested(NSVQ, {"codebook_bits": 4.0})}, 40.0, "5 groups spend 20 bit, not 40; nearest: 20$"),
        ({"stage": Nested(PerChannel)}, 7.0, "cannot spend"),
    ],
)
def test_a_rate_that_cannot_be_met_is_refused_in_one_line(fixed: dict[str, Any], bits: float, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refusal:
        Product.for_rate(5, bits, **fixed)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("groups", [0, 4])
def test_impossible_groups_are_refused(groups: int) -> None:
    with pytest.raises(ValueError, match=f"groups={groups} must lie between 1 and 3, the channels"):
        Product(3, groups=groups)


def test_diverged_latents_are_refused() -> None:
    with pytest.raises(ValueError, match="training diverged"):
        Product(3, Nested(Identity)).fit(torch.full((1, 3, 300), torch.nan))
