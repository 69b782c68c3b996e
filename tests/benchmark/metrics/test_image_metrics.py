"""SSIM and PSNR of images equal torchmetrics and hand-worked values."""

import math

import pytest
import torch
import torchmetrics.functional.image as reference_metrics
from codecbench.benchmark.metrics.image import psnr, ssim


@pytest.fixture(scope="module")
def images():
    """Four smooth images "4 3 32 48" in [0, 1]."""
    noise = torch.rand(4, 3, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.nn.functional.interpolate(noise, (32, 48), mode="bicubic").clamp(0, 1)


def noisy(images, sigma=0.1):
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=images.dtype)
    return (images + sigma * noise).clamp(0, 1)


def test_psnr_equals_torchmetrics(images):
    options = {"data_range": 1.0, "dim": (1, 2, 3), "reduction": "none"}
    expected = reference_metrics.peak_signal_noise_ratio(noisy(images), images, **options)
    assert torch.allclose(psnr(images, noisy(images)), expected)


def test_ssim_equals_that_of_torchmetrics_windows_inside_the_image(images):
    options = {"data_range": 1.0, "reduction": "none", "return_full_image": True}
    _, full = reference_metrics.structural_similarity_index_measure(noisy(images), images, **options)
    expected = full[:, :, 5:-5, 5:-5].mean((1, 2, 3))
    assert torch.allclose(ssim(images, noisy(images)), expected)


def test_flat_images_of_hand_worked_values():
    dark, light = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.6)
    assert psnr(dark, light).item() == pytest.approx(-20 * math.log10(0.4), abs=1e-5)
    assert ssim(dark, light).item() == pytest.approx((2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4), abs=1e-6)


@pytest.mark.parametrize(("measure", "best"), [(psnr, 100), (ssim, 1)])
def test_more_noise_scores_lower_and_none_scores_best(measure, best, images):
    scores = torch.stack([measure(images, noisy(images, sigma)) for sigma in (0, 0.02, 0.1, 0.4)])
    assert (scores.diff(dim=0) < 0).all()
    assert scores[0].tolist() == pytest.approx([best] * 4)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_what_cannot_be_scored_is_nan_and_does_not_touch_its_neighbours(measure, images):
    decoded = noisy(images).float()
    expected = measure(images.float(), decoded)
    decoded[0, 1, 2, 3] = torch.nan
    scores = measure(images.float(), decoded)
    assert scores.dtype == torch.float32
    assert scores[0].isnan()
    assert torch.equal(scores[1:], expected[1:])
    assert measure(torch.zeros_like(images), noisy(images)).isfinite().all()  # black is an image
    assert measure(images[:, :, :0], images[:, :, :0]).isnan().all()
    assert ssim(images[:, :, :10], images[:, :, :10]).isnan().all()
    with pytest.raises(ValueError, match="must have one shape"):
        measure(images, images[:, :, 1:])
