"""k-means codebooks: against scikit-learn, against known quantizers of the normal distribution, and in odd cases."""

import pytest
import torch
from codecbench.quantizers.checks.contract import run_checks
from codecbench.quantizers.kmeans_vq import KMeansVQ
from codecbench.quantizers.nsvq import NSVQ
from codecbench.quantizers.parts import clustering
from sklearn.cluster import KMeans
from torch import Tensor

LLOYD_MAX = {1: 0.3634, 2: 0.1175, 3: 0.03454, 4: 0.009497}  # Max 1960, doi:10.1109/TIT.1960.1057548: N(0, 1), MSE


def error_of(quantizer: KMeansVQ | NSVQ, latents: Tensor) -> float:
    """Mean squared error per channel."""
    return (quantizer.eval()(latents).latents.detach() - latents).square().mean().item()


def normal_quantiles(count: int) -> Tensor:
    """N(0, 1) without the noise of a sample: its quantiles in the middle of `count` equal shares."""
    shares = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return (2 * shares - 1).erfinv().mul(2**0.5).float().reshape(1, 1, -1)


def nsvq_trained_on(latents: Tensor, bits: float, steps: int, batch: int) -> NSVQ:
    """Fitted and trained to reproduce "1 C T" latents with the mean squared error alone."""
    quantizer = NSVQ(latents.shape[1], bits, initialisation="samples").train()
    quantizer.fit(latents)
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, 2 * (1 - step / steps)))
    for step in range(steps):
        part = latents[..., torch.randint(latents.shape[2], (batch,))]
        quantized = quantizer(part)
        optimizer.zero_grad()
        (quantized.latents - part).square().mean().backward()
        optimizer.step()
        schedule.step()
        quantizer.update(part, quantized.codes, (step + 1) / steps)
    return quantizer


@pytest.mark.parametrize("bits", LLOYD_MAX)
def test_one_channel_reaches_the_lloyd_max_error(bits: int) -> None:
    torch.manual_seed(0)
    latents = normal_quantiles(100_000)
    quantizer = KMeansVQ(1, float(bits))
    quantizer.fit(latents)
    assert error_of(quantizer, latents) == pytest.approx(LLOYD_MAX[bits], rel=0.01)


@pytest.mark.parametrize("bits", [1, 3])
def test_nsvq_reaches_the_lloyd_max_error_too(bits: int) -> None:
    torch.manual_seed(0)
    latents = normal_quantiles(100_000)
    quantizer = nsvq_trained_on(latents, float(bits), 600, 2000)
    assert error_of(quantizer, latents) == pytest.approx(LLOYD_MAX[bits], rel=0.01)


@pytest.mark.parametrize("channels", [pytest.param(channels, marks=pytest.mark.slow) for channels in (2, 3, 4)])
def test_nsvq_and_kmeans_agree_on_normal_vectors(channels: int) -> None:
    torch.manual_seed(0)
    latents = torch.randn(1, channels, 50_000)
    fitted = KMeansVQ(channels, 8.0)
    fitted.fit(latents)
    excess = error_of(nsvq_trained_on(latents, 8.0, 1000, 2000), latents) / error_of(fitted, latents) - 1
    assert -0.02 < excess < 0.01  # replacement leaves local minima behind that k-means stays in


def test_the_codewords_are_the_means_of_their_cells() -> None:
    torch.manual_seed(0)
    latents = torch.randn(2, 3, 2000).double()
    quantizer = KMeansVQ(3, 3.0).double()
    quantizer.fit(latents)
    vectors, codes = latents.transpose(1, 2).reshape(-1, 3), quantizer.eval()(latents).codes.reshape(-1)
    means = torch.stack([vectors[codes == code].mean(0) for code in range(8)])
    assert (quantizer.codebook - means).norm(dim=1).max() < 0.03


def test_large_codebooks_are_iterated_as_scikit_learn_does() -> None:
    torch.manual_seed(0)
    points = torch.randn(3000, 4).double()
    seeds = clustering.spread_seeds(points, 100)
    reference = KMeans(100, init=seeds.numpy(), n_init=1, max_iter=3, tol=0.0).fit(points.numpy())
    torch.testing.assert_close(clustering.lloyd(points, seeds, 3), torch.from_numpy(reference.cluster_centers_))


def test_a_mean_without_points_stays() -> None:
    points = torch.tensor([[0.0], [2.0], [10.0]])
    means = clustering.lloyd(points, torch.tensor([[1.5], [8.0], [99.0]]), 2)
    torch.testing.assert_close(means, torch.tensor([[1.0], [10.0], [99.0]]))


def test_seeds_are_distinct_points_that_leave_no_cluster_out() -> None:
    torch.manual_seed(0)
    clusters = torch.randn(8, 2) * 100
    points = (clusters[:, None] + 0.01 * torch.randn(8, 500, 2)).reshape(-1, 2)
    points = torch.cat([points[:10], points[500:]])  # one cluster is small
    seeds = clustering.spread_seeds(points, 80)
    assert len(seeds.unique(dim=0)) == 80
    assert torch.cdist(clusters, seeds).min(1).values.max() < 1
    assert len(clustering.spread_seeds(torch.zeros(90, 2), 80)) == 80


@pytest.mark.parametrize("large", [True, False])
@pytest.mark.parametrize("bits", [5.0, 7.0])
def test_kmeans_is_close_to_scikit_learns_best(large: bool, bits: float, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:
        monkeypatch.setattr(clustering, "LARGE", 0)
    torch.manual_seed(0)
    latents = 50 + torch.distributions.Laplace(0.0, 1.0).sample((1, 3, 4000))
    vectors = latents[0].T.double().numpy()
    best = KMeans(2 ** int(bits), n_init=3, random_state=0).fit(vectors).inertia_ / vectors.size
    quantizer = KMeansVQ(3, bits).double()
    quantizer.fit(latents.double())
    assert error_of(quantizer, latents.double()) == pytest.approx(best, rel=0.05)


def test_the_same_seed_gives_the_same_codebook() -> None:
    latents = torch.randn(4, 5, 500)
    codebooks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        quantizer = KMeansVQ(5, 7.0)
        quantizer.fit(latents)
        codebooks.append(quantizer.codebook.detach())
    assert torch.equal(codebooks[0], codebooks[1]) and not torch.equal(codebooks[0], codebooks[2])


def test_the_codebook_is_fitted_once_and_for_all() -> None:
    torch.manual_seed(0)
    quantizer = KMeansVQ(2, 6.0, commitment=0.5).train()
    quantizer.fit(torch.randn(4, 2, 500))
    before = quantizer.codebook.clone()
    assert not quantizer.codebook.requires_grad
    latents = torch.full((1, 2, 10), 0.1, requires_grad=True)  # all but one codeword are idle
    for progress in (0.01, 0.3, 0.7):
        quantized = quantizer(latents)
        (quantized.latents.sum() + quantized.loss).backward()
        quantizer.update(quantized.source, quantized.codes, progress)
    assert torch.equal(quantizer.codebook, before)


@pytest.mark.parametrize("commitment", [0.0, 0.5])
def test_the_gradient_passes_to_the_latents_and_commitment_pulls_them(commitment: float) -> None:
    quantizer = KMeansVQ(2, 1.0, commitment=commitment).train()
    quantizer.place(torch.tensor([[1.0, 0.0], [9.0, 9.0]]))
    latents = torch.tensor([[[4.0], [4.0]]], requires_grad=True)
    quantized = quantizer(latents)
    torch.testing.assert_close(quantized.latents.detach(), torch.tensor([[[1.0], [0.0]]]))
    assert quantized.loss.item() == pytest.approx(commitment * 12.5)
    (quantized.latents.sum() + quantized.loss).backward()
    torch.testing.assert_close(latents.grad.flatten(), 1.0 + commitment * torch.tensor([3.0, 4.0]))


@pytest.mark.slow
def test_without_commitment_the_contract_holds_too() -> None:
    assert not [result for result in run_checks(lambda: KMeansVQ(5, commitment=0.0)) if not result.passed]


@pytest.mark.parametrize("bits", [1, 3, 16])
@pytest.mark.parametrize("vectors", [1, 7, 300])
def test_more_codewords_than_vectors_and_fewer(bits: int, vectors: int) -> None:
    torch.manual_seed(0)
    latents = torch.randn(1, 3, vectors)
    quantizer = KMeansVQ(3, float(bits)).train()
    quantizer.fit(latents)
    assert quantizer.codebook.shape == (2**bits, 3) and quantizer.codebook.isfinite().all()
    if vectors <= 2**bits:
        assert error_of(quantizer, latents) < 1e-4  # every vector has a codeword beside it
        assert len(quantizer.codebook.unique(dim=0)) == 2**bits or vectors == 1


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@pytest.mark.parametrize("bits", [2.0, 6.0, 8.0])
@pytest.mark.parametrize("large", [True, False])
def test_latents_that_are_all_the_same_are_all_codewords(
    bits: float, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(clustering, "LARGE", 0)
    quantizer = KMeansVQ(3, bits).train()
    quantizer.fit(torch.full((2, 3, 400), 7.0))
    torch.testing.assert_close(quantizer.codebook.detach(), torch.full_like(quantizer.codebook, 7.0))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_latents_that_are_not_finite_are_refused(value: float) -> None:
    latents = torch.zeros(1, 2, 300)
    latents[0, 1, 5] = value
    with pytest.raises(ValueError, match="training diverged"):
        KMeansVQ(2).fit(latents)


@pytest.mark.parametrize("options", [{"codebook_bits": 17.0}, {"commitment": -0.1}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        KMeansVQ(2, **options)
