"""The nearest-codeword search against argmin and against all distances."""

import pytest
import torch
from codecbench.quantizers.parts import nearest as search
from codecbench.quantizers.ste_vq import StraightThroughVQ
from torch import Tensor


def integers(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Small whole numbers: sums of products are exact in any order, and ties abound."""
    return torch.randint(-3, 4, shape).to(dtype)


@pytest.mark.parametrize("columns", [1, 2, 63, 64, 255, 256, 257, 320, 1000, 1024, 4096])
@pytest.mark.parametrize("rows", [1, 3, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_lowest_score_is_that_of_argmin_ties_included(rows: int, columns: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for scores in (integers(rows, columns, dtype=dtype), torch.randn(rows, columns, dtype=dtype)):
        assert torch.equal(search.lowest(scores), scores.argmin(1))


@pytest.mark.parametrize("columns", [256, 300])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_scores_that_are_not_finite_are_taken_as_argmin_takes_them(columns: int, value: float) -> None:
    torch.manual_seed(0)
    scores = torch.randn(300, columns)
    scores[torch.rand(300, columns) < 0.01] = value
    scores[:100] = value
    assert torch.equal(search.lowest(scores), scores.argmin(1))


@pytest.mark.parametrize("size", [2, 100, 256, 1000, 1024])
@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [2.0, 1.0, 4.0]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chunks_find_what_all_distances_say(
    size: int, weights: list[float], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    vectors, codewords, metric = integers(517, 3, dtype=dtype), integers(size, 3, dtype=dtype), torch.tensor(weights)
    differences = (vectors[:, None].double() - codewords.double()) * metric
    expected = differences.square().sum(2).argmin(1)
    for chunk in (1, 1 << 15, 1 << 30):
        monkeypatch.setitem(search.CHUNK, "cpu", chunk)
        assert torch.equal(search.nearest(vectors, search.scorer(codewords, metric.to(dtype))), expected)


def test_no_more_than_a_chunk_of_scores_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    def lowest(scores: Tensor) -> Tensor:
        held.append(scores.numel())
        return scores.argmin(1)

    monkeypatch.setattr(search, "lowest", lowest)
    search.nearest(torch.randn(3000, 4), search.scorer(torch.randn(1024, 4), torch.ones(4)))
    assert sum(held) == 3000 * 1024 and max(held) <= search.CHUNK["cpu"]


@pytest.mark.parametrize("size", [100, 512])
@pytest.mark.parametrize("own_latents", [True, False])
def test_stacked_codebooks_under_vmap_equal_a_loop(
    size: int, own_latents: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(search.CHUNK, "cpu", 1 << 16)
    torch.manual_seed(0)
    vectors, codebooks, metric = torch.randn(3, 300, 4).double(), torch.randn(3, size, 4).double(), torch.ones(4)
    stack = vectors if own_latents else vectors[:1].expand(3, -1, -1)

    def chosen(vectors: Tensor, codebook: Tensor) -> Tensor:
        return search.nearest(vectors, search.scorer(codebook, metric.double()))

    expected = torch.stack([chosen(*pair) for pair in zip(stack, codebooks, strict=True)])
    dims = (0 if own_latents else None, 0)
    assert torch.equal(torch.func.vmap(chosen, dims)(vectors if own_latents else vectors[0], codebooks), expected)
    expected = torch.stack([chosen(part, codebooks[0]) for part in vectors])
    assert torch.equal(torch.func.vmap(chosen, (0, None))(vectors, codebooks[0]), expected)


def test_encoding_latents_that_are_not_finite_gives_valid_codes() -> None:
    torch.manual_seed(0)
    quantizer = StraightThroughVQ(4, 8.5).eval()
    latents = torch.randn(4, 4, 100)
    latents[0], latents[1, 2], latents[2] = torch.nan, torch.inf, 1e30
    codes = quantizer(latents).codes
    assert codes.min() >= 0 and codes.max() < quantizer.size
    assert torch.equal(codes[3:], quantizer(latents[3:]).codes)
