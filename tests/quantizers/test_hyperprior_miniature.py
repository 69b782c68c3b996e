"""A mean-scale hyperprior in miniature: the contract carries side information, and models that hang on it.

    y "8" -> round -> z, coded under N(mean, scale) of each channel
    y -> analysis -> round -> side "2", coded first under static tables -> synthesis -> mean, scale

The tables of the main streams are exact integer arithmetic on the decoded side information (arXiv:1809.02736).
"""

import pytest
import torch
from codecbench.quantizers.base import Quantizer
from codecbench.quantizers.checks.contract import run_checks
from codecbench.quantizers.coding.entropy import decode_codes, encode_codes, information
from miniatures import CHANNELS, FRACTIONS, REACH, SIDE, Hyperprior
from safetensors.torch import load, save
from torch import Tensor


def loud_and_quiet(positions: int, seed: int) -> Tensor:
    """Latents "1 8 T" whose positions share a mean and a scale."""
    generator = torch.Generator().manual_seed(seed)
    mean = 3 * torch.randn(1, 1, positions, generator=generator)
    scale = 4 ** torch.randn(1, 1, positions, generator=generator).clamp(-1, 1)
    return mean + scale * torch.randn(1, CHANNELS, positions, generator=generator)


@pytest.fixture(scope="module")
def trained() -> Hyperprior:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        quantizer = Hyperprior().train()
    optimiser = torch.optim.Adam(quantizer.parameters(), lr=0.02)
    for step in range(300):
        optimiser.zero_grad()
        quantizer(loud_and_quiet(256, step)).bits.mean().backward()
        optimiser.step()
    quantizer.eval().fit_tables(quantizer(loud_and_quiet(4096, -1)).codes)
    return quantizer


def test_it_passes_every_check_of_the_contract() -> None:
    fixed = {"codes_follow_the_data": "its step is 1, whatever the data"}
    results = run_checks(Hyperprior, fixed)
    assert {result.name: result.message for result in results if not result.passed} == {}


def test_a_fresh_decoder_reads_the_main_streams_under_the_decoded_side_information(trained: Hyperprior) -> None:
    codes = trained(loud_and_quiet(500, -2)).codes
    decoder = Hyperprior().eval()
    decoder.load_state_dict(load(save(trained.state_dict())))
    assert torch.equal(decode_codes(decoder, encode_codes(trained, codes), 500), codes)


def test_wild_integers_in_both_groups_go_through_the_escape(trained: Hyperprior) -> None:
    codes = trained(loud_and_quiet(50, -2)).codes
    codes[0, 0, 3], codes[0, 1, 4], codes[0, 2, 5], codes[0, 9, 6] = 2**31 - 1, -(2**31), -(10**6), 17
    assert torch.equal(decode_codes(trained, encode_codes(trained, codes), 50), codes)


def test_the_bits_of_the_objective_are_those_of_the_file(trained: Hyperprior) -> None:
    out = trained(loud_and_quiet(2000, -3))
    spent = 8 * len(encode_codes(trained, out.codes))
    assert spent == pytest.approx(out.bits.sum().item(), rel=0.03)


def test_side_information_pays_for_itself(trained: Hyperprior) -> None:
    class Static(Hyperprior):
        tables = Quantizer.tables

        @property
        def alphabet(self) -> tuple[int | None, ...]:
            return (None,) * CHANNELS

    codes = trained(loud_and_quiet(2000, -3)).codes
    static = Static()
    static.fit_tables(codes[:, SIDE:])  # fitted on the very codes: no static table does better
    assert information(trained, codes) < 0.95 * information(static, codes[:, SIDE:])


def test_a_table_row_is_the_normal_density_by_hand() -> None:
    row = Hyperprior().rows[8 * FRACTIONS]  # scale 2**0, mean on an integer
    assert int(row[REACH]) == pytest.approx(0.382925 * 2**20, abs=50)  # erf(0.5 / sqrt 2)
    assert int(row[REACH + 1]) == int(row[REACH - 1]) == pytest.approx(0.241730 * 2**20, abs=50)


def test_tables_do_not_hang_on_the_batch_they_are_computed_in(trained: Hyperprior) -> None:
    codes = trained(loud_and_quiet(300, -4)).codes[:, :SIDE]
    whole = trained.tables(codes)
    for position in range(0, 300, 50):
        alone = trained.tables(codes[..., position : position + 1])
        assert torch.equal(alone.index, whole.index[..., position : position + 1])
        assert torch.equal(alone.shift, whole.shift[..., position : position + 1])
