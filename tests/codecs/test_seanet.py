"""SEANet: its published size, causality, streams, and that it learns."""

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from codecbench.benchmark.losses import LOSSES
from codecbench.benchmark.runs.run import run
from codecbench.codecs.checks import run_checks
from codecbench.codecs.seanet import BRANCH, ELU, HOP, LSTM, CentredConv, CentredTransposedConv, Layers, SEANet
from codecbench.datamodules.demo import Demo
from codecbench.quantizers.base import Maker, Nested
from codecbench.quantizers.dithered_sq import DitheredSQ
from codecbench.quantizers.fem import FEM
from codecbench.quantizers.identity import Identity
from codecbench.quantizers.noise_sq import NoiseSQ
from codecbench.quantizers.nsvq import NSVQ
from codecbench.quantizers.residual import Residual
from torch import Tensor

MAKERS: dict[str, Maker] = {
    "identity": lambda channels, share: Identity(channels),
    "residual": lambda channels, share: Residual(channels, Nested(NSVQ, {"codebook_bits": 3}), stages=2),
    "noise_sq": lambda channels, share: NoiseSQ(channels),
    "fem": lambda channels, share: FEM(channels),
}
TINY = partial(SEANet, base=2, latent_dim=4, lstm_layers=1)


def tiny(quantizer: str = "identity", seed: int = 0, **options) -> SEANet:
    torch.manual_seed(seed)
    return TINY(MAKERS[quantizer], **options).eval()


def noise(samples: int, seed: int = 0, batch: int = 1) -> Tensor:
    return 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))


def parameters(codec: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in codec.parameters())


# -- contract ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [m if m == "residual" else pytest.param(m, marks=pytest.mark.slow) for m in MAKERS])
def test_it_keeps_the_contract(name: str) -> None:
    assert {each.name: each.message for each in run_checks(TINY, MAKERS[name]) if not each.passed} == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_it_keeps_the_contract_with_centred_convolutions(name: str) -> None:
    results = run_checks(partial(TINY, causal=False, lstm_layers=0, norm=False), MAKERS[name])
    assert {each.name: each.message for each in results if not each.passed} == {}


def test_it_has_the_published_size() -> None:
    # per side 2 * 4 * 512 * 514 of LSTM; per residual unit 3 c c/2 + c/2 + c/2 c + c; ends and strides below
    lstm, units = 2 * 4 * 512 * (512 + 512 + 2), sum(2 * c * c + 3 * c // 2 for c in (32, 64, 128, 256))
    strides = sum(2 * s * c * 2 * c for s, c in ((2, 32), (4, 64), (5, 128), (8, 256)))
    down, up = strides + 64 + 128 + 256 + 512, strides + 32 + 64 + 128 + 256
    ends = (7 * 32 + 32) + (7 * 512 * 128 + 128), (7 * 128 * 512 + 512) + (7 * 32 + 1)
    codec = SEANet(MAKERS["identity"], norm=False)
    assert parameters(codec.encoder) == lstm + units + down + ends[0] == 7_335_952
    assert parameters(codec.decoder) == lstm + units + up + ends[1] == 7_335_825
    channels = [p.numel() for name, p in codec.named_parameters() if name.endswith("conv.bias")]
    assert parameters(SEANet(MAKERS["identity"])) == parameters(codec) + sum(channels)  # a norm for each


# -- causality --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lstm_layers", [0, 1])
def test_a_position_waits_for_its_own_samples_and_for_no_later_one(lstm_layers: int) -> None:
    codec = tiny(lstm_layers=lstm_layers).double()
    assert codec.causal and codec.lookahead == HOP - 1 == 319
    signal = noise(8 * HOP).double().requires_grad_()
    latents = codec.analyse(signal, {})
    for position in (0, 3, 6):
        (gradient,) = torch.autograd.grad(latents[0, :, position].square().sum(), signal, retain_graph=True)
        end = (position + 1) * HOP
        assert gradient[0, end:].abs().max() == 0 and gradient[0, end - 1] != 0  # its last sample counts
        moved = signal.detach().clone()
        moved[0, end:] += 1
        with torch.no_grad():
            assert torch.equal(codec.analyse(moved, {})[..., : position + 1], latents[..., : position + 1])


def test_an_output_waits_for_no_later_position() -> None:
    codec = tiny().double()
    latents = torch.randn(1, 4, 8, dtype=torch.float64, requires_grad=True)
    out = codec.synthesise(latents, {})
    for position in (0, 3, 6):
        (gradient,) = torch.autograd.grad(out[0, position * HOP], latents, retain_graph=True)
        assert gradient[..., position + 1 :].abs().max() == 0 and gradient[..., position].abs().max() > 0


def test_centred_convolutions_wait_as_long_as_is_said() -> None:
    codec = tiny(causal=False, lstm_layers=0).double()
    codec.quantizer.bypass = True
    assert not codec.causal and codec.lookahead == 2717
    signal = noise(24 * HOP).double().requires_grad_()
    out = codec(signal).signal
    latest = []
    for sample in range(10 * HOP, 11 * HOP):
        (gradient,) = torch.autograd.grad(out[0, sample], signal, retain_graph=True)
        latest.append(int(gradient[0].nonzero().max()) - sample)
    assert max(latest) == codec.lookahead


# -- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantizer", ["residual", "dithered"])
def test_a_stream_frame_by_frame_equals_the_whole_file(quantizer: str) -> None:
    make = MAKERS.get(quantizer, lambda channels, share: DitheredSQ(channels))
    torch.manual_seed(0)
    codec = TINY(make).train()
    codec.fit(noise(200 * HOP, seed=2))
    codec.eval()
    signal = noise(9 * HOP)
    codes = codec.encode(signal)
    whole = codec.decode(codes, (9 * HOP,))
    stream = codec.streamer()
    sizes = [1, 1, 2, 1, 4]
    pieces = [stream.encode(piece) for piece in signal.split([size * HOP for size in sizes], -1)]
    assert torch.equal(torch.cat(pieces, 2), codes) and len(codes.unique()) > 2
    decoded = [stream.decode(piece) for piece in codes.split([4, 1, 2, 1, 1], 2)]
    torch.testing.assert_close(torch.cat([*decoded, stream.flush()], -1), whole, atol=1e-5, rtol=0)


def test_pieces_that_cannot_be_streamed_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 320"):
        tiny().streamer().encode(noise(HOP + 1))
    with pytest.raises(ValueError, match="causal=True"):
        tiny(causal=False).streamer()
    with pytest.raises(ValueError, match="base=0"):
        SEANet(MAKERS["identity"], base=0)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("samples", [1, HOP - 1, HOP, HOP + 1, 5 * HOP + 7])
def test_signals_of_any_length_come_back_in_their_length(samples: int, causal: bool) -> None:
    codec = tiny(causal=causal)
    coded = codec(noise(samples))
    assert coded.signal.shape == (1, samples)
    assert coded.quantized[0].codes.shape[2] == codec.positions((samples,)) == -(-samples // HOP)


# -- layers by hand ---------------------------------------------------------------------------------------------------


def test_a_centred_convolution_reflects_one_more_sample_before_than_behind() -> None:
    conv = CentredConv(1, 1, 4, 1)  # 3 samples of padding: 2 and 1
    torch.nn.init.ones_(conv.conv.weight)
    torch.nn.init.zeros_(conv.conv.bias)
    values = torch.tensor([[[1.0, 2.0, 4.0]]])  # 4 2 | 1 2 4 | 2
    assert conv(values, {}).tolist() == [[[9, 9, 9]]]
    assert conv(values[..., :1], {}).tolist() == [[[4]]]  # nothing to reflect: repeated


def test_a_centred_transposed_convolution_drops_half_a_stride_at_each_end() -> None:
    conv = CentredTransposedConv(1, 1, 2)  # 6 samples for two, one off at each end
    conv.conv.weight.data = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    torch.nn.init.zeros_(conv.conv.bias)
    assert conv(torch.tensor([[[1.0, 10.0]]]), {}).tolist() == [[[2, 13, 24, 30]]]  # of 1 2 13 24 30 40


def test_variances_are_kept_at_the_start_and_residual_branches_are_weak() -> None:
    torch.manual_seed(0)
    make, memory = Layers(causal=True, norm=True), {}
    values = torch.randn(4, 64, 500)
    for layer in (make.conv(64, 128, 8, 4), make.transposed(64, 32, 4)):
        out = layer(ELU()(values, memory), memory)
        assert float(out[..., 8:].detach().std()) == pytest.approx(1, abs=0.1)
    branch = make.residual(64)(values, memory) - values
    assert float(branch.detach().std()) == pytest.approx(BRANCH, abs=0.03)


def test_the_lstm_is_added_to_its_input() -> None:
    layer = LSTM(3, 2)
    values = torch.randn(2, 3, 7)
    expected, _ = layer.lstm(values.transpose(1, 2))
    torch.testing.assert_close(layer(values, {}), values + expected.transpose(1, 2))


# -- training ---------------------------------------------------------------------------------------------------------


def test_its_losses_are_relative_and_see_the_phase() -> None:
    clean = noise(4000, batch=2)
    for name in SEANet.training_options["losses"]:
        loss = LOSSES[name](16_000)
        assert float(loss(clean, 0 * clean)) >= 1 > float(loss(clean, 0.9 * clean))
        torch.testing.assert_close(loss(10 * clean, 9 * clean), loss(clean, 0.9 * clean), atol=2e-3, rtol=0)
        assert float(loss(clean, -clean)) == pytest.approx(2, abs=1e-4)
    relative = LOSSES["relative_time"](16_000)
    assert float(relative(torch.tensor([[1.0, -3.0]]), torch.tensor([[0.5, -3.0]]))) == pytest.approx(0.5 / 4)


@pytest.mark.slow
def test_a_narrow_codec_learns_one_utterance() -> None:
    demo = Demo()
    clean = torch.from_numpy(demo.load(demo.items("test")[0]))[None, 16_000:22_000]
    torch.manual_seed(0)
    codec = SEANet(MAKERS["identity"], base=4, lstm_layers=0)
    optimizer = torch.optim.AdamW(codec.parameters(), SEANet.training_options["learning_rate"])
    terms = [(weight, LOSSES[name](16_000)) for name, weight in SEANet.training_options["losses"].items()]
    losses = []
    for _ in range(40):
        loss = torch.stack([weight * term(clean, codec(clean).signal) for weight, term in terms]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_it_runs_and_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    for split, count in (("train", 2), ("validation", 1), ("test", 1)):
        (tmp_path / "speech" / split / f"{split} voice").mkdir(parents=True)
        for item in Demo().items(split)[:count]:
            shutil.copy(item.path, tmp_path / "speech" / split / f"{split} voice")
    record = run(
        "residual",
        "seanet",
        data="folder",
        data_options={"root": str(tmp_path / "speech")},
        quantizer_options={"stages": 2, "stage": "nsvq", "stage.codebook_bits": 4},
        codec_options={"base": 2, "latent_dim": 8, "lstm_layers": 1},
        training={"steps": 16, "validate_every": 8, "batch_size": 2, "crop_seconds": 0.25},
        output_dir=tmp_path,
        quiet=True,
    )
    losses = record.training["curve"]["validation_loss"]
    assert losses[-1] < losses[0]
    assert record.rate_kbps["nominal"] == pytest.approx(0.05 * 8, rel=0.01)  # 50 positions/s of 2 x 4 bit
    assert record.complexity["latency_s"] == 319 / 16_000
