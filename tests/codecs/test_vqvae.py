"""VQ-VAE and the track of images: sizes, positions in columns, bits per pixel, and that it learns."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.metrics.scoring.pool import score_pool
from codecbench.benchmark.runs.run import run
from codecbench.benchmark.runs.transcode import decode
from codecbench.benchmark.specs.grid import make_specs
from codecbench.benchmark.tracks.choose import signal_rate
from codecbench.benchmark.tracks.image import ImageTrack
from codecbench.benchmark.training.model import asked_bits
from codecbench.codecs.checks import run_checks
from codecbench.codecs.vqvae import VQVAE, Residual
from codecbench.datamodules.patches import Patches
from codecbench.quantizers.base import Maker, Nested
from codecbench.quantizers.fem import FEM
from codecbench.quantizers.identity import Identity
from codecbench.quantizers.noise_sq import NoiseSQ
from codecbench.quantizers.nsvq import NSVQ
from codecbench.quantizers.residual import Residual as ResidualQuantizer
from torch import nn

MAKERS: dict[str, Maker] = {
    "identity": lambda channels, share: Identity(channels),
    "residual": lambda channels, share: ResidualQuantizer(channels, Nested(NSVQ, {"codebook_bits": 3}), stages=2),
    "noise_sq": lambda channels, share: NoiseSQ(channels),
    "fem": lambda channels, share: FEM(channels),
}
TINY = partial(VQVAE, channels=8, latent_dim=4, blocks=1)
SHORT = {"steps": 20, "validate_every": 10, "batch_size": 8}


@pytest.fixture(scope="module")
def track() -> ImageTrack:
    return ImageTrack(Patches())


@pytest.mark.parametrize("name", [m if m == "residual" else pytest.param(m, marks=pytest.mark.slow) for m in MAKERS])
def test_it_keeps_the_contract(name: str) -> None:
    assert {each.name: each.message for each in run_checks(TINY, MAKERS[name]) if not each.passed} == {}


def test_it_has_the_size_of_its_layers() -> None:
    blocks = 2 * (9 * 256 * 256 + 256 + 256 * 256 + 256)
    encoder = (48 * 256 + 256) + (16 * 256 * 256 + 256) + blocks + (256 * 64 + 64)
    decoder = (64 * 256 + 256) + blocks + (16 * 256 * 256 + 256) + (256 * 48 + 3)
    codec = VQVAE(MAKERS["identity"])
    assert sum(parameter.numel() for parameter in codec.parameters()) == encoder + decoder == 4_779_075


def test_positions_are_a_grid_of_eight_rows_read_row_by_row() -> None:
    codec = TINY(MAKERS["identity"]).eval()
    assert [codec.positions((3, 32, width)) for width in (1, 4, 5, 32)] == [8, 8, 16, 64]
    images = torch.rand(1, 3, 32, 32)
    other = images.clone()
    other[..., 31, 31] = 1 - other[..., 31, 31]  # the last row and column: seen by the last positions alone
    before, after = (codec(each).quantized[0].source[0] for each in (images, other))
    moved = (before - after).abs().amax(0).reshape(8, 8) > 0
    assert moved[7, 7] and not moved[:5].any() and not moved[:, :5].any()


def test_a_residual_block_by_hand() -> None:
    block = Residual(1)
    for weights, value in ((block.wide, 1.0), (block.narrow, 2.0)):
        nn.init.constant_(weights.weight, value), nn.init.zeros_(weights.bias)
    values = torch.tensor([[[[1.0, -5.0, 2.0]]]])  # ReLU 1 0 2; sums of neighbours 1 3 2
    assert block(values).tolist() == [[[[3, 1, 6]]]]


def test_only_evaluation_keeps_pixels_within_bounds() -> None:
    torch.manual_seed(0)
    codec = TINY(MAKERS["identity"])
    codec.decoder[-1].bias.data.fill_(3)  # type: ignore[operator,union-attr]
    images = torch.rand(2, 3, 32, 32)
    assert codec.train()(images).signal.max() > 1.5 and codec.eval()(images).signal.max() == 1


def test_the_track_hands_out_whole_images_of_the_corpus(track: ImageTrack) -> None:
    corpus = Patches()
    assert track.leading == (3, 32) and track.typical_length == 32 and track.signal_rate == 31.25
    batch = track.training_batch(4, 7, np.random.default_rng(0))
    assert batch.shape == (4, 3, 32, 32)
    assert all((corpus.array("train") == image.numpy()).all((1, 2, 3)).any() for image in batch)
    items = [track.load(item) for item in track.test_items()]
    assert len(items) == len(corpus.array("test")) == 104 and len({item.name for item in items}) == 104
    assert items[0].seconds == pytest.approx(1.024) and items[0].samples == 32
    darker = items[0].signal * 0.9
    with score_pool(1) as pool:
        scores = track.scorer.score(items[0], darker, pool.submit)()
    error = float((0.1 * items[0].signal).square().mean())
    assert scores["psnr"] == pytest.approx(-10 * np.log10(error), abs=1e-3) and 0.5 < scores["ssim"] < 1


def test_a_run_measures_bits_per_pixel(tmp_path: Path) -> None:
    options = {"channels": 8, "latent_dim": 4}
    record = run(
        "nsvq",
        "vqvae",
        data="patches",
        quantizer_options={"codebook_bits": 8},
        codec_options=options,
        training=SHORT,
        output_dir=tmp_path,
        quiet=True,
    )
    assert record.track == "image" and list(record.scores) == ["ssim", "psnr"]
    assert all(score.n == 104 and score.failed == 0 for score in record.scores.values())
    items = list((tmp_path / record.name / "bitstreams").iterdir())
    bits = sum(8 * path.stat().st_size for path in items) / (104 * 1024)
    assert record.rate_kbps["measured"] == pytest.approx(bits, rel=1e-6)
    assert record.rate_kbps["nominal"] == pytest.approx(64 * 8 / 1024)
    assert any("bit per pixel" in note for note in record.notes)
    assert len(list((tmp_path / record.name / "examples").glob("*.png"))) == 3
    wanted = make_specs("nsvq", "vqvae", "patches", bitrate=0.6)[0]
    assert asked_bits(wanted, signal_rate(wanted)) == pytest.approx(0.6 * 16)  # a position stands for 16 pixels
    with pytest.raises(UserError, match="vqvae codes image data, not sound"):
        decode(items[0], tmp_path / "sound.wav", tmp_path / record.name)


def test_sound_and_images_do_not_meet(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="vqvae-small needs image, demo holds speech"):
        run("nsvq", "vqvae-small", data="demo", output_dir=tmp_path, quiet=True)
    with pytest.raises(UserError, match="frae needs speech, patches holds image"):
        run("nsvq", "frae", data="patches", output_dir=tmp_path, quiet=True)


@pytest.mark.slow
def test_it_learns_photographs(tmp_path: Path) -> None:
    training = {"steps": 300, "validate_every": 100}
    record = run("nsvq", "vqvae-small", data="patches", training=training, output_dir=tmp_path, quiet=True)
    assert record.scores["psnr"].mean > 18 and record.scores["ssim"].mean > 0.4
