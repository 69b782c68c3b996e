"""FRAE: its loop against autograd, its causality, its loss, and a decoder in another process."""

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from codecbench.benchmark.losses.stimulation import band_selection_loss
from codecbench.codecs.frae import FRAE
from codecbench.codecs.parts.feedback import UNSELECTED, postprocess
from codecbench.quantizers.base import Quantizer
from codecbench.quantizers.ema_vq import EMAVQ
from codecbench.quantizers.identity import Identity
from codecbench.quantizers.nsvq import NSVQ
from codecbench.quantizers.ste_vq import StraightThroughVQ
from safetensors.torch import save_file
from torch import Tensor


def pattern(batch: int, frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(batch, 22, frames, generator=generator, dtype=torch.float64)
    return torch.where(torch.rand(values.shape, generator=generator) < 0.8, UNSELECTED, values)


def frae(quantizer: Callable[[int], Quantizer] = NSVQ, **options: object) -> FRAE:
    torch.manual_seed(0)
    return FRAE(lambda channels, share: quantizer(channels), **options)


def outputs_and_gradients(codec: FRAE, fast: bool) -> list[Tensor]:
    codec.fast = fast
    signal = pattern(3, 40).requires_grad_()
    torch.manual_seed(1)
    coded = codec(signal)
    part = coded.quantized[0]
    (coded.signal.square().mean() + part.loss + part.latents.pow(3).mean() + part.source.sum() * 0).backward()
    grads = [p.grad.clone() for p in codec.parameters() if p.grad is not None]
    codec.zero_grad()
    return [coded.signal.detach(), part.latents.detach(), part.codes, signal.grad, *grads]


@pytest.mark.parametrize("quantizer", [Identity, NSVQ, StraightThroughVQ, EMAVQ])
@pytest.mark.parametrize("feedback", [1, 4])
def test_the_handmade_backward_equals_autograd(quantizer: Callable[[int], Quantizer], feedback: int) -> None:
    codec = frae(quantizer, feedback=feedback).double().train()
    pairs = list(zip(*(outputs_and_gradients(codec, fast) for fast in (True, False)), strict=True))
    assert len(pairs) > 12
    for fast, eager in pairs:
        torch.testing.assert_close(fast, eager, rtol=1e-10, atol=1e-10)


def test_a_training_step_leaves_no_memory_behind() -> None:
    codec = frae().train()

    def tensors_after(steps: int) -> int:
        for _ in range(steps):
            codec(pattern(2, 5).float()).signal.sum().backward()
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    assert tensors_after(2) == tensors_after(5)


def test_no_output_frame_depends_on_a_later_input_frame() -> None:
    codec = frae().double().eval()
    signal = pattern(1, 60)
    changed = signal.clone()
    changed[:, :, 30:] = pattern(1, 30, seed=9)
    before, after = codec(signal), codec(changed)
    assert torch.equal(before.signal[:, :, :30], after.signal[:, :, :30])
    assert not torch.equal(before.quantized[0].source[:, :, 30], after.quantized[0].source[:, :, 30])  # zero delay
    assert codec.lookahead == 0 and codec.stride == 1


def test_the_feedback_reaches_both_networks() -> None:
    codec = frae().double().train()
    past = torch.zeros(1)
    for network, own in ((codec.encoder, 22), (codec.decoder, 5)):
        weight = network[0].weight
        assert weight.shape[1] == own + 4 * 22
        past = past + weight[:, own:].abs().sum().detach()
    assert past > 0
    coded = codec(pattern(2, 10))
    coded.signal[:, :, -1].sum().backward()  # the last frame alone
    assert codec.encoder[0].weight.grad[:, 22:].abs().max() > 0
    assert codec.decoder[0].weight.grad[:, 5:].abs().max() > 0


@pytest.mark.parametrize(
    "name, count",
    [
        ("frae-l5-h2-r1", 3771),
        ("frae-l5-h2-r4", 6939),
        ("frae-l5-h3-r4", 8267),
        ("aec-l5-h2", 2715),
        ("aec-l5-h3", 4043),
    ],
)
def test_sizes_of_the_family(name: str, count: int) -> None:
    codec = frae(**FRAE.presets[name])
    assert sum(p.numel() for p in [*codec.encoder.parameters(), *codec.decoder.parameters()]) == count


def test_the_aec_is_frae_without_feedback() -> None:
    codec = frae(**FRAE.presets["aec"]).eval()
    signal = pattern(1, 20).float()
    whole = codec(signal).signal
    single = torch.cat([codec(signal[:, :, n : n + 1]).signal for n in range(20)], 2)
    torch.testing.assert_close(whole, single)


def test_postprocessing_by_hand() -> None:
    raw = torch.tensor([-5.0, -1e-30, 0.0, 0.3, 1.0, 7.0])
    torch.testing.assert_close(postprocess(raw), torch.tensor([-0.1, -0.1, 0.0, 0.3, 1.0, 1.0]))


def test_the_loss_of_equation_1_by_hand() -> None:
    target = torch.tensor([0.5, 0.0, -0.1, -0.1]).reshape(1, 4, 1)
    decoded = torch.tensor([0.9, -0.2, 0.3, -0.7]).reshape(1, 4, 1)
    by_hand = (0.75 * (0.4**2 + 0.2**2) + 0.25 * 0.3) / 4  # a wrongly kept silent band costs nothing
    assert band_selection_loss(target, decoded, 0.25).item() == pytest.approx(by_hand)


def test_the_loss_has_slope_alpha_over_m_where_a_band_is_wrongly_selected() -> None:
    decoded = torch.full((1, 22, 1), 0.2, requires_grad=True)
    band_selection_loss(torch.full((1, 22, 1), UNSELECTED), decoded, 0.3).backward()
    torch.testing.assert_close(decoded.grad, torch.full((1, 22, 1), 0.3 / 22))


@pytest.mark.parametrize("options", [{"latent_dim": 0}, {"feedback": -1}, {"widths": [0]}])
def test_impossible_sizes_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        frae(**options)


DECODE = """
import sys, torch
from pathlib import Path
from safetensors.torch import load_file
from codecbench.codecs.files.files import decode_file
from codecbench.codecs.frae import FRAE
from codecbench.quantizers.nsvq import NSVQ
torch.set_num_threads(int(sys.argv[2]))
folder = Path(sys.argv[1])
codec = FRAE(lambda channels, share: NSVQ(channels)).eval()
codec.load_state_dict(load_file(folder / "model.safetensors"))
torch.save(decode_file(codec, folder / "item.cbs")[1], folder / f"decoded{sys.argv[2]}.pt")
"""


@pytest.mark.slow
def test_a_decoder_in_another_process_reproduces_the_encoders_feedback(tmp_path: Path) -> None:
    from codecbench.codecs.files.files import encode_file

    codec = frae().train()
    signal = pattern(1, 900).float()
    codec.fit(signal)
    codec.eval()
    codec.fit_tables(codec.encode(signal))
    save_file(codec.state_dict(), tmp_path / "model.safetensors")
    _, expected = encode_file(codec, signal[0], tmp_path / "item.cbs", "range")
    for threads in ("1", "2"):
        subprocess.run([sys.executable, "-c", DECODE, str(tmp_path), threads], check=True, timeout=120)
        assert torch.equal(torch.load(tmp_path / f"decoded{threads}.pt", weights_only=True), expected)
