"""No codec: the quantizer alone on toy sets, through the whole runner, and what the NSVQ paper says of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.metrics.scoring.pool import ScorePool
from codecbench.benchmark.runs.run import run
from codecbench.benchmark.tracks.vector import VectorTrack
from codecbench.codecs.none import Bare
from codecbench.datamodules.toy import Toy
from codecbench.quantizers.nsvq import NSVQ

POINTS = 2000
SHORT = {"steps": 30, "validate_every": 30, "crop_seconds": 0.2}


def once(quantizer: str, runs: Path, shape: str = "moons", points: int = POINTS, **options):
    return run(
        quantizer,
        "none",
        data="toy",
        data_options={"shape": shape, "points": points},
        output_dir=runs,
        quiet=True,
        **{"training": SHORT} | options,
    )


def test_a_vector_is_quantized_and_nothing_else() -> None:
    codec = Bare(lambda channels, share: NSVQ(channels, codebook_bits=1)).eval()
    codec.quantizer.place(torch.tensor([[0.0, 0.0], [4.0, 2.0]]))
    signal = torch.tensor([[[1.0, 3.0, 2.5], [1.0, 2.0, 0.0]]])  # nearest: 2 < 10, 13 > 1, 6.25 = 6.25: the first
    assert codec.encode(signal).tolist() == [[[0, 1, 0]]]
    assert codec(signal).signal.tolist() == [[[0, 4, 0], [0, 2, 0]]]
    assert codec.leading == (2,) and sum(p.numel() for p in codec.parameters()) == 4


def test_a_run_measures_bits_per_vector_and_the_error_of_a_number(tmp_path: Path) -> None:
    record = once("nsvq", tmp_path, quantizer_options={"codebook_bits": 4})
    assert record.track == "vector" and list(record.scores) == ["mse"]
    assert record.scores["mse"].n == 10 and not record.scores["mse"].higher_is_better
    assert record.rate_kbps["nominal"] == pytest.approx(4)  # bit per vector
    header = 8 * 11 / (POINTS / 10)  # at most 11 bytes over 200 vectors
    assert record.rate_kbps["payload"] < record.rate_kbps["measured"] < record.rate_kbps["payload"] + header
    assert any("bit per vector" in note for note in record.notes)
    assert len(list((tmp_path / record.name / "bitstreams").iterdir())) == 10
    assert len(list((tmp_path / record.name / "examples").glob("*.png"))) == 3
    assert record.complexity["parameters"] == record.complexity["quantizer_parameters"] == 32


def test_the_bitrate_is_bit_per_vector(tmp_path: Path) -> None:
    record = once("nsvq", tmp_path, bitrate=5)
    assert record.rate_kbps["measured"] == pytest.approx(5, rel=0.1)


@pytest.mark.parametrize("quantizer", ["kmeans_vq", "ema_vq"])
def test_quantizers_that_no_gradient_trains_learn_all_the_same(quantizer: str, tmp_path: Path) -> None:
    record = once(quantizer, tmp_path, quantizer_options={"codebook_bits": 6})
    assert record.scores["mse"].mean < 0.15  # 64 codewords; without any the variance is 40


def test_a_quantizer_without_parameters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Bare has nothing to train; choose a quantizer that learns"):
        once("identity", tmp_path)


def test_other_data_and_other_vectors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none needs vector, demo holds speech"):
        run("nsvq", "none", data="demo", output_dir=tmp_path, quiet=True)
    with pytest.raises(UserError, match=r"\(3,\).*\(2,\)"):
        once("nsvq", tmp_path, codec_options={"channels": 3})


def test_the_track_hands_out_the_corpus_and_no_other_points() -> None:
    corpus = Toy("circles", points=105)
    track = VectorTrack(corpus)
    items = [track.load(item) for item in track.test_items()]
    assert np.array_equal(np.concatenate([item.signal.T.numpy() for item in items]), corpus.array("test"))
    assert sum(item.seconds for item in items) == pytest.approx(0.105)
    batch = track.training_batch(3, 7, np.random.default_rng(0))
    known = {tuple(point) for point in corpus.array("train").tolist()}
    assert batch.shape == (3, 2, 7) and all(
        tuple(point) in known for point in batch.transpose(1, 2).flatten(0, 1).tolist()
    )
    assert torch.equal(batch, track.training_batch(3, 7, np.random.default_rng(0)))
    assert track.scorer.score(items[0], items[0].signal + 0.5, ScorePool(1).submit)() == {"mse": pytest.approx(0.25)}


@pytest.mark.slow
def test_nsvq_beats_k_means_and_straight_through_training_on_moons(tmp_path: Path) -> None:
    """Vali & Backstrom 2022, Table 2, 8 bit: 7.9e-3, MiniBatchKMeans 8.4e-3, straight-through 22.8e-3.

    With a learning rate of 5e-3 over 2,000 steps, not 1e-3 over 10,000; their straight-through error is not reached.
    """
    from sklearn.cluster import MiniBatchKMeans

    start = {"codebook_bits": 8, "initialisation": "noisy_samples"}
    training = {"validate_every": 2000}
    nsvq = once("nsvq", tmp_path, points=100_000, quantizer_options=start, training=training)
    ste = once("ste_vq", tmp_path, points=100_000, quantizer_options={**start, "replacement": 0}, training=training)
    corpus, generator = Toy("moons"), np.random.default_rng(0)
    train, test = corpus.array("train"), corpus.array("test")
    noisy = (train[generator.permutation(len(train))[:256]] + generator.standard_normal((256, 2))).astype(np.float32)
    means = MiniBatchKMeans(256, init=noisy, n_init=1, batch_size=2000, max_iter=40, max_no_improvement=None).fit(train)
    baseline = float(np.square(means.cluster_centers_[means.predict(test)] - test).mean())
    assert nsvq.scores["mse"].mean == pytest.approx(7.913e-3, rel=0.07) and nsvq.codebook["dead"] == 0
    assert nsvq.scores["mse"].mean < 0.98 * baseline
    assert ste.scores["mse"].mean > 1.3 * nsvq.scores["mse"].mean and ste.codebook["dead"] > 0.3 * 256
