"""A plug-in that writes only what it must trains alike in the fast frame loop and in the eager one."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from codecbench.benchmark.cli.main import main
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.specs import contract, registry
from codecbench.benchmark.specs.plugin import find
from codecbench.codecs.frae import FRAE
from codecbench.quantizers.base import Nested, Quantizer
from codecbench.quantizers.parts.projected import ProjectedQuantizer
from codecbench.quantizers.parts.stepped import SteppedQuantizer
from codecbench.quantizers.parts.vector import VectorQuantizer
from codecbench.quantizers.product import Product
from codecbench.quantizers.residual import Residual
from rich.console import Console
from torch import Tensor

PLUGINS = Path(__file__).parents[1] / "plugins"


@pytest.fixture(autouse=True)
def no_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_handed_in", {kind: {} for kind in registry.BASES})


class Halfway(VectorQuantizer):
    """One hook: half of the error remains, and the gradient reaches codeword and latent."""

    def replace(self, latents: Tensor, codewords: Tensor, noise: Tensor) -> Tensor:
        return latents + 0.5 * (codewords - latents)


class Sampled(Halfway):
    """Codes drawn in training, the noise hoisted."""

    @property
    def noise_rows(self) -> int:
        return self.size if self.training else 0

    def prepare(self, noise: Tensor) -> Tensor:
        return noise.mean(1, keepdim=True)

    def choose(self, scores: Tensor, noise: Tensor) -> Tensor:
        return super().choose(scores + noise, noise)

    def replace(self, latents: Tensor, codewords: Tensor, noise: Tensor) -> Tensor:
        return super().replace(latents, codewords, noise) + noise


class WritesTheSurrogate(VectorQuantizer):
    def surrogate(self, latents: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.encode(latents, noise)
        return latents + 0.25 * (self.decode(codes, noise) - latents), codes


class Projected(ProjectedQuantizer):
    def __init__(self, channels: int) -> None:
        super().__init__(channels, [5] * channels)

    def bound(self, projected: Tensor) -> Tensor:
        return 2 * projected.tanh()

    def cells(self, z: Tensor, noise: Tensor) -> Tensor:
        return (z.round() + 2).long()

    def points(self, codes: Tensor, noise: Tensor) -> Tensor:
        return (codes - 2).to(self.float_type)

    def substitute(self, z: Tensor, codes: Tensor, noise: Tensor) -> Tensor:
        return 0.5 * (z + self.points(codes, noise))


class Stepped(SteppedQuantizer):
    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, None, 1e-3, "straight_through")

    @property
    def alphabet(self) -> tuple[int | None, ...]:
        return (None,) * self.channels

    def analysis(self) -> Callable[[Tensor], Tensor]:
        return lambda scaled: scaled

    def stream_noise(self, noise: Tensor) -> Tensor:
        return noise

    def log2_mass(self, symbols: Tensor) -> Tensor:
        return -symbols.abs() - 1

    def fit_density(self, scaled: Tensor) -> None: ...


VECTORS = [partial(cls, codebook_bits=4.0) for cls in (Halfway, Sampled, WritesTheSurrogate)]
STAGES = [Nested(cls, {"codebook_bits": 3.0}) for cls in (Halfway, Sampled, WritesTheSurrogate)]
COMPOSED = [partial(kind, stage=stage) for kind in (Residual, Product) for stage in STAGES]


@pytest.mark.parametrize("make", [*VECTORS, Projected, Stepped, *COMPOSED])
def test_fast_and_eager_loop_train_alike(make: Callable[[int], Quantizer]) -> None:
    torch.manual_seed(0)
    codec = FRAE(lambda channels, share: make(channels)).double().train()
    signal = torch.rand(3, 22, 12, dtype=torch.float64)
    codec.fit(signal)
    sides = []
    for codec.fast in (True, False):
        torch.manual_seed(1)
        codec.zero_grad()
        coded = codec(signal)
        part = coded.quantized[0]
        (coded.signal.square().mean() + part.loss + part.latents.pow(3).mean()).backward()
        gradients = [p.grad for p in codec.parameters() if p.grad is not None]
        sides.append([coded.signal.detach(), part.latents.detach(), part.codes, *gradients])
    assert len(sides[0]) == len(sides[1]) > 12
    for fast, eager in zip(*sides, strict=True):
        torch.testing.assert_close(fast, eager, rtol=1e-9, atol=1e-9)


def test_codes_are_sampled_in_training_alone() -> None:
    quantizer = Sampled(3, 4.0).train()
    quantizer.place(torch.randn(16, 3))
    latents = torch.randn(4, 3, 50)
    noise = quantizer.draw(4, 50)
    assert not torch.equal(quantizer.step(latents, noise)[1], quantizer.encode(latents, noise))
    quantizer.eval()
    assert torch.equal(quantizer(latents).codes, quantizer.encode(latents, noise[:, :0]))


@pytest.mark.parametrize(("name", "channels"), [("gumbel_vq", "5"), ("e8", "8")])
def test_the_plug_in_passes_the_contract(name: str, channels: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["check", "--plugin", str(PLUGINS / f"{name}.py"), "--quantizer", name, "--channels", channels]
    assert main(command) == 0, capsys.readouterr()
    assert "26 of 26" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "latent_dim"), [("gumbel_vq", 5), ("e8", 8)])
def test_the_plug_in_trains_in_the_feedback_loop(name: str, latent_dim: int) -> None:
    registry.add_file(PLUGINS / f"{name}.py")
    cls = registry.lookup("quantizers", name)[0]
    codec = FRAE(lambda channels, share: cls(channels), latent_dim=latent_dim).train()
    signal = torch.rand(4, 22, 20)
    codec.fit(signal)
    optimiser = torch.optim.Adam(codec.parameters(), 1e-2)
    losses = []
    for _ in range(8):
        loss = (codec(signal).signal - signal).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_a_lattice_says_which_channels_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--plugin", str(PLUGINS / "e8.py"), "--quantizer", "e8"]) == 2
    assert "channels=5 must be 8, the dimensions of E8; --channels N" in capsys.readouterr().err


class Cuts(VectorQuantizer):
    def replace(self, latents: Tensor, codewords: Tensor, noise: Tensor) -> Tensor:
        return codewords


@pytest.mark.parametrize("name", ["cuts", "residual"])
def test_an_outside_plug_in_that_breaks_the_contract_is_refused(name: str) -> None:
    registry.add_class("quantizers", Cuts)
    quantizer = find("quantizer", name, {} if name == "cuts" else {"stage": "cuts"})
    codec = FRAE(lambda channels, share: Cuts(3) if name == "cuts" else Residual(3, Nested(Cuts)))
    message = r"^cuts fails the check the_gradient_reaches_the_input: .*correct replace\(\) or choose\(\)"
    with pytest.raises(UserError, match=message):
        contract.require_contract(quantizer, find("codec", "frae"), codec, Console(quiet=True))
