"""ResGLU: its size, GDN, gates, what it learns, and the contract at the published latents."""

import pytest
import torch
from codecbench.codecs.checks import run_checks, waveform
from codecbench.codecs.resglu import GDN, GatedLayer, ResGLU
from codecbench.datamodules.demo import Demo
from codecbench.quantizers.base import Maker, Nested, Quantizer
from codecbench.quantizers.fem import FEM
from codecbench.quantizers.hpm import HPM
from codecbench.quantizers.identity import Identity
from codecbench.quantizers.noise_sq import NoiseSQ
from codecbench.quantizers.nsvq import NSVQ
from codecbench.quantizers.product import Product
from codecbench.quantizers.soft_to_hard import SoftToHard
from torch import Generator, Tensor

QUANTIZERS: dict[str, Maker] = {
    "identity": lambda channels, share: Identity(channels),
    "product": lambda channels, share: Product(channels, Nested(NSVQ, {"codebook_bits": 4}), groups=8),
    "noise_sq": lambda channels, share: NoiseSQ(channels),
    "soft_to_hard": lambda channels, share: SoftToHard(channels),
    "fem": lambda channels, share: FEM(channels),
    "hpm": lambda channels, share: HPM(channels),
}
QUICK, PUBLISHED = ("identity",), ("identity",)
NARROW = {"channels": 4, "bottleneck": 2, "layers": 2}


def identity(channels: int, share: float) -> Quantizer:
    return Identity(channels)


def few_frames(batch: int, length: int, generator: Generator) -> Tensor:
    """Noise of at most 12 frames, where a check asks for 128 to fit a quantizer on."""
    return waveform(batch, min(length, 12 * ResGLU.stride), generator)


def speech(samples: int) -> Tensor:
    demo = Demo()
    return torch.from_numpy(demo.load(demo.items("test")[0]))[None, 16_000 : 16_000 + samples]


def failures(quantizer: str, **options: int) -> dict[str, str]:
    results = run_checks(lambda make: ResGLU(make, **options), QUANTIZERS[quantizer], make_signal=few_frames)
    return {result.name: result.message for result in results if not result.passed}


def test_it_has_the_published_size() -> None:
    codec = ResGLU(identity)
    layer, gdn = 2 * 27_030 + 27_100, 100 * 100 + 100
    block = 6 * layer + gdn
    encoder = 1_000 + block + 2 * 90_100 + block + 901
    decoder = 1_000 + block + 180_200 + block + 901
    count = sum(p.numel() for p in codec.parameters())
    assert count == encoder + decoder == 2_352_442 == pytest.approx(2.35e6, rel=0.01)


def test_a_frame_becomes_256_latents_and_a_frame_again() -> None:
    codec = ResGLU(identity, **NARROW)
    frames = torch.randn(2, 3, 512)
    latents = codec.coder.analyse(frames)
    assert latents.shape == (2, 256, 3) and codec.coder.synthesise(latents).shape == frames.shape


def test_gdn_divides_by_its_weighted_power() -> None:
    layer, back = GDN(2), GDN(2, inverse=True)
    with torch.no_grad():
        for each in (layer, back):
            each.root_beta.copy_(torch.tensor([3.0, 1.0]))
            each.root_gamma.copy_(torch.tensor([[2.0, 0.0], [0.0, 3**0.5]]))
        values = torch.tensor([[[2.0], [1.0]]])
        expected = torch.tensor([[[2 / 5], [1 / 2]]])  # sqrt(9 + 4 * 4) = 5, sqrt(1 + 3 * 1) = 2
        torch.testing.assert_close(layer(values), expected)
        torch.testing.assert_close(back(values), torch.tensor([[[10.0], [2.0]]]))


def test_gdn_mixes_channels_by_the_rows_of_gamma() -> None:
    layer = GDN(2)
    with torch.no_grad():
        layer.root_beta.copy_(torch.tensor([1.0, 1.0]))
        layer.root_gamma.copy_(torch.tensor([[0.0, 2.0], [0.0, 0.0]]))
        out = layer(torch.tensor([[[1.0], [2.0]]]))
    torch.testing.assert_close(out, torch.tensor([[[17**-0.5], [2.0]]]), rtol=1e-5, atol=1e-5)


def test_a_closed_gate_leaves_the_input_alone() -> None:
    torch.manual_seed(0)
    layer, values = GatedLayer(6, 3, dilation=4), torch.randn(1, 6, 64)
    assert not torch.allclose(layer(values), values)
    with torch.no_grad():
        layer.layers[0].bias[3:] = -1e4  # type: ignore[index]
    torch.testing.assert_close(layer(values), values)


def test_a_block_hears_as_far_as_its_dilations_reach() -> None:
    codec = ResGLU(identity, channels=4, bottleneck=2, layers=6).double()
    block = codec.coder.encoder[1:7]
    values = torch.randn(1, 4, 1024, dtype=torch.float64)
    other = values.clone()
    other[..., 512] += 1
    heard = (block(values) != block(other)).any(1)[0].nonzero()
    reach = 4 * (1 + 2 + 4 + 8 + 16 + 32) + 6 * 4  # of the dilated convolutions and the six that follow them
    assert (int(heard.min()), int(heard.max())) == (512 - reach, 512 + reach)


@pytest.mark.parametrize("quantizer", QUICK)
def test_the_contract_is_kept_with_256_latents_a_frame(quantizer: str) -> None:
    assert failures(quantizer, **NARROW) == {}


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", sorted(QUANTIZERS.keys() - set(QUICK)))
def test_the_contract_is_kept_with_the_other_quantizers(quantizer: str) -> None:
    assert failures(quantizer, **NARROW) == {}


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", PUBLISHED)
def test_the_contract_is_kept_at_the_published_size(quantizer: str) -> None:
    assert failures(quantizer) == {}


@pytest.mark.parametrize("samples", [1, 300, 481])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_silence_and_scraps_of_sound_come_back_finite(samples: int, level: float) -> None:
    codec = ResGLU(QUANTIZERS["noise_sq"], **NARROW).eval()
    signal = level * speech(samples)
    decoded = codec.decode(codec.encode(signal), (samples,))
    assert decoded.shape == signal.shape and bool(decoded.isfinite().all())


@pytest.mark.parametrize("options", [{"channels": 0}, {"bottleneck": 0}, {"layers": 0}, {"layers": 7}])
def test_sizes_that_cannot_be_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        ResGLU(identity, **options)


def overfit(codec: ResGLU, samples: int, steps: int) -> float:
    """SNR in dB of some speech after so many steps on it."""
    signal = speech(samples)
    optimizer = torch.optim.Adam(codec.parameters(), ResGLU.training_options["learning_rate"])
    for _ in range(steps):
        optimizer.zero_grad()
        (signal - codec(signal).signal).square().mean().mul(1e3).backward()
        optimizer.step()
    with torch.no_grad():
        error = signal - codec.eval()(signal).signal
    return float(10 * torch.log10(signal.square().sum() / error.square().sum()))


def test_a_narrow_codec_learns_one_utterance() -> None:
    torch.manual_seed(0)
    assert overfit(ResGLU(identity, channels=16, bottleneck=8, layers=3), 8_000, 40) > 8
