"""Every registered plug-in holds its contract; the control quantizer costs and loses exactly what it says."""

from functools import partial

import pytest
import torch
from codecbench.benchmark.specs.registry import found
from codecbench.codecs import checks as codec_checks
from codecbench.quantizers.checks import contract as quantizer_checks
from codecbench.quantizers.checks.running import Result, demand, run_named
from codecbench.quantizers.coding.entropy import encode_codes
from codecbench.quantizers.fem import FEM
from codecbench.quantizers.hpm import HPM
from codecbench.quantizers.identity import Identity
from miniatures import remembered

QUANTIZERS, FRAE = found("quantizers"), found("codecs")["frae"]
CHANNELS = 5


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny models; two threads beside another process are a hundred times slower
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _densities_start_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for method in (FEM, HPM):
        monkeypatch.setattr(method, "fit_density", remembered(method.fit_density))


def failures(results: list[Result]) -> dict[str, str]:
    return {result.name: result.message for result in results if not result.passed}


# -- every plug-in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("check", quantizer_checks.CHECKS)
def test_every_quantizer_passes(name: str, check: str) -> None:
    only = {check: partial(quantizer_checks.CHECKS[check], lambda: QUANTIZERS[name](CHANNELS))}
    assert failures(run_named(only)) == {}


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("feedback", [4, pytest.param(0, marks=pytest.mark.slow)])
def test_the_autoencoder_passes_around_every_quantizer(feedback: int, quantizer: str) -> None:
    make = partial(FRAE, feedback=feedback)  # other codecs: test_crossing.py, and a file of each
    results = codec_checks.run_checks(make, lambda channels, share: QUANTIZERS[quantizer](channels))
    assert failures(results) == {}


# -- the control ------------------------------------------------------------------------------------------------------


def test_identity_returns_every_float_bit_for_bit() -> None:
    wild = [0.0, -0.0, 1.5, -1e-45, 3.4028235e38, float("inf"), float("-inf"), float("nan")]
    latents = torch.tensor(wild).view(1, 2, 4)
    out = Identity(2).eval()(latents)
    assert torch.equal(out.latents.view(torch.int32), latents.view(torch.int32))
    assert out.bits.tolist() == [[64.0] * 4]


def test_identity_writes_the_upper_half_then_the_lower() -> None:
    codes = Identity(1).encode(torch.tensor([[[-1.5, 1.0000001]]]), torch.zeros(1, 0, 2))
    assert codes.tolist() == [[[0xBFC0, 0x3F80], [0x0000, 0x0001]]]  # -1.5 = 0xBFC00000, 1 + 2**-23 = 0x3F800001


def test_identity_costs_32_bit_a_channel_in_a_real_file() -> None:
    quantizer = Identity(3).eval()
    codes = quantizer(torch.randn(1, 3, 100)).codes
    quantizer.fit_tables(codes)
    assert 9600 <= 8 * len(encode_codes(quantizer, codes)) <= 9600 + 40
    assert [tuple(value.shape) for value in quantizer.state_dict().values()] == [(0,)] * 3


def test_identity_gives_a_float64_codec_float64_latents() -> None:
    codec = FRAE(lambda channels, share: Identity(channels)).double().eval()
    assert codec(torch.rand(1, 22, 3, dtype=torch.float64)).signal.dtype == torch.float64


def test_identity_has_no_rate_to_choose() -> None:
    with pytest.raises(ValueError, match="no rate to choose"):
        Identity.for_rate(5, 12.0)


def test_identity_lets_float64_through_training() -> None:
    latents = torch.full((1, 1, 1), 1 + 2.0**-40, dtype=torch.float64, requires_grad=True)
    out = Identity(1).train()(latents)
    out.latents.sum().backward()
    assert out.latents.item() == 1 + 2.0**-40
    assert latents.grad is not None and latents.grad.item() == 1
    assert out.codes.flatten().tolist() == [0x3F80, 0]  # the float32 value, 1


# -- how checks are run -----------------------------------------------------------------------------------------------


def test_an_expected_failure_passes_and_carries_its_reason() -> None:
    results = run_named({"a": lambda: demand(False, "wrong")}, {"a": "known"})
    assert results[0][:3] == ("a", True, "expected: known")


def test_an_expected_failure_that_is_gone_fails() -> None:
    results = run_named({"a": lambda: None}, {"a": "known"})
    assert results[0][:3] == ("a", False, "passes; no longer expect: known")


def test_expecting_an_unknown_check_to_fail_is_refused() -> None:
    with pytest.raises(ValueError, match="no check is called b; there are a"):
        run_named({"a": lambda: None}, {"b": "known"})


def test_a_plug_in_that_crashes_fails_the_check_with_the_kind_of_its_error() -> None:
    assert run_named({"a": lambda: [][0]})[0][:3] == ("a", False, "IndexError: list index out of range")
