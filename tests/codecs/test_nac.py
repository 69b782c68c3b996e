"""NAC: its size, its frames, its cascade, what it learns, and the contract at the published latents."""

import pytest
import torch
from codecbench.codecs.checks import run_checks, waveform
from codecbench.codecs.nac import NAC, Bottleneck
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
QUICK, PUBLISHED = ("identity", "noise_sq"), ("identity", "fem")
NARROW = {"channels": 4, "bottleneck": 2}


def identity(channels: int, share: float) -> Quantizer:
    return Identity(channels)


def few_frames(batch: int, length: int, generator: Generator) -> Tensor:
    """Noise of at most 12 frames, where a check asks for 128 to fit a quantizer on."""
    return waveform(batch, min(length, 12 * NAC.stride), generator)


def speech(samples: int) -> Tensor:
    demo = Demo()
    return torch.from_numpy(demo.load(demo.items("test")[0]))[None, 16_000 : 16_000 + samples]


def failures(quantizer: str, **options: int) -> dict[str, str]:
    results = run_checks(lambda make: NAC(make, **options), QUANTIZERS[quantizer], make_signal=few_frames)
    return {result.name: result.message for result in results if not result.passed}


def test_a_module_has_the_parameters_of_table_1() -> None:
    count = lambda part: sum(p.numel() for p in part.parameters())  # noqa: E731
    codec = NAC(identity)
    module = codec.cascade[0]
    assert count(codec) == 465_372
    assert count(module.encoder) == 1_000 + 2 * 39_740 + 90_100 + 2 * 39_740 + 901
    assert count(module.decoder) == 1_000 + 2 * 39_740 + 90_100 + 2 * 21_690 + 451
    assert sum(p.numel() for p in codec.parameters() if p.ndim > 1) == 463_950  # without biases
    assert count(NAC(identity, **NAC.presets["nac-2"])) == 930_744


def test_shapes_of_table_1() -> None:
    module = NAC(identity).cascade[0]
    values, shapes = torch.randn(1, 1, 512), []
    for layer in [*module.encoder, *module.decoder]:
        values = layer(values)
        if not shapes or values.shape[1:] != shapes[-1]:
            shapes.append(values.shape[1:])
    assert shapes == [(100, 512), (100, 256), (1, 256), (100, 256), (50, 512), (1, 512)]


def test_a_bottleneck_adds_little_at_first() -> None:
    torch.manual_seed(0)
    values = torch.randn(2, 100, 512)
    added = Bottleneck(100, 20)(values).detach() - values
    assert 0.1 < float(added.std()) < 0.3


@pytest.mark.parametrize("quantizer", QUICK)
def test_the_contract_is_kept_with_256_latents_a_frame(quantizer: str) -> None:
    assert failures(quantizer, **NARROW) == {}


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", sorted(QUANTIZERS.keys() - set(QUICK)))
def test_the_contract_is_kept_with_the_other_quantizers(quantizer: str) -> None:
    assert failures(quantizer, **NARROW) == {}


def test_a_cascade_keeps_the_contract() -> None:
    assert failures("product", modules=2, **NARROW) == {}


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", PUBLISHED)
def test_the_contract_is_kept_at_the_published_size(quantizer: str) -> None:
    assert failures(quantizer) == {}


def test_hpm_has_its_published_size_on_a_frame() -> None:
    quantizer = NAC(QUANTIZERS["hpm"], channels=2, bottleneck=1).quantizers[0]
    steps = quantizer.get_parameter("log_step").numel()
    assert sum(p.numel() for p in quantizer.parameters()) - steps == 184_346 and steps == 256


def test_modules_share_the_rate_and_code_what_is_left() -> None:
    shares: list[tuple[int, float]] = []

    def make(channels: int, share: float) -> Quantizer:
        shares.append((channels, share))
        return Identity(channels)

    torch.manual_seed(0)
    codec = NAC(make, modules=2, channels=4, bottleneck=2).eval()
    assert shares == [(256, 0.5), (256, 0.5)] and codec.phases == ("cascade.0", "cascade.1")
    signal = speech(1000)
    with torch.no_grad():
        frames = codec.overlap.split(signal)
        first, second = codec.cascade
        before = first.synthesise(first.analyse(frames))
        after = second.synthesise(second.analyse(frames - before))
        expected = codec.overlap.join(before + after, 1000)
        coded = codec(signal)
        codec.phase = 0
        alone = codec(signal)
    torch.testing.assert_close(coded.signal, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(alone.signal, codec.overlap.join(before, 1000), rtol=0, atol=1e-6)
    assert len(alone.quantized) == 1 and len(coded.quantized) == 2


@pytest.mark.parametrize("samples", [1, 300, 481])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_silence_and_scraps_of_sound_come_back_finite(samples: int, level: float) -> None:
    codec = NAC(QUANTIZERS["noise_sq"], modules=2, channels=4, bottleneck=2).eval()
    signal = level * speech(samples)
    decoded = codec.decode(codec.encode(signal), (samples,))
    assert decoded.shape == signal.shape and bool(decoded.isfinite().all())


@pytest.mark.parametrize("options", [{"modules": 0}, {"channels": 5}, {"channels": 0}, {"bottleneck": 0}])
def test_sizes_that_cannot_be_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        NAC(identity, **options)


def overfit(codec: NAC, samples: int, steps: int) -> float:
    """SNR in dB of some speech after so many steps on it."""
    signal = speech(samples)
    optimizer = torch.optim.Adam(codec.parameters(), NAC.training_options["learning_rate"])
    for _ in range(steps):
        optimizer.zero_grad()
        (signal - codec(signal).signal).square().mean().mul(1e4).backward()
        optimizer.step()
    with torch.no_grad():
        error = signal - codec.eval()(signal).signal
    return float(10 * torch.log10(signal.square().sum() / error.square().sum()))


@pytest.mark.slow
def test_a_narrow_module_learns_one_utterance() -> None:
    torch.manual_seed(0)
    assert overfit(NAC(identity, channels=16, bottleneck=8), 8_000, 60) > 8
