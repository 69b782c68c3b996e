"""The metrics as torchmetrics classes, for use outside of a run: each one is the mean of a function over all items.

    from codecbench.benchmark.metrics.modules import STOI

    stoi = STOI()
    stoi.update(decoded, reference)  # batches; torchmetrics' order: what is judged comes first
    stoi.compute(), stoi.count, stoi.failed

The functions themselves, in which the reference comes first, say what each score is and where it is undefined. Signals
must already have the class's `sample_rate`; PESQ and ViSQOL take the time of their libraries, item by item.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from . import quality
from .base import METRICS
from .image import psnr, ssim
from .intelligibility import stoi, vstoi
from .noise_to_mask import noise_to_mask_ratio
from .twof import two_f_model
from .waveform import log_spectral_distance, mel_cepstral_distortion, mel_distance, peak_snr, segmental_snr, si_sdr, snr
from .weighted_snr import weighted_snr

Batch = Float[Tensor, "_ ..."]  # B N or B 3 H W
Measure = Callable[[Tensor, Tensor], Tensor]  # reference, decoded -> one score per item


class ItemMean(Metric):
    """Mean score of the items that have one; abstract, a class names its metric and its function.

    Attributes:
        unit, higher_is_better, sample_rate: of the metric, as in METRICS; sample_rate in Hz, None for any.
        count: items in the mean.
        failed: items without a score (NaN), which are not in the mean.
    """

    unit: ClassVar[str]
    sample_rate: ClassVar[int | None]
    measure: ClassVar[Measure]
    is_differentiable = False
    full_state_update = False
    total: Tensor
    count: Tensor
    failed: Tensor

    def __init_subclass__(cls, metric: str, measure: Measure, **others: Any) -> None:
        super().__init_subclass__(**others)
        _, cls.unit, cls.higher_is_better, cls.sample_rate, _ = METRICS[metric]
        cls.measure = staticmethod(measure)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("failed", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Batch, target: Batch) -> None:
        """Count a batch in: what was decoded, then the references. ValueError where the shapes do not go together."""
        if not self.fit(preds, target):
            raise ValueError(f"decoded {tuple(preds.shape)} and reference {tuple(target.shape)} do not go together")
        scores = type(self).measure(target, preds).to(self.total)
        missing = scores.isnan()
        self.total += scores.where(~missing, 0).sum()
        self.count += (~missing).sum()
        self.failed += missing.sum()

    def fit(self, preds: Batch, target: Batch) -> bool:
        """Whether the shapes go together."""
        return preds.shape == target.shape

    def compute(self) -> Float[Tensor, ""]:
        """The mean; NaN where no item has a score."""
        return self.total / self.count


def by_item(score: Callable[..., float]) -> Measure:
    """A function of two batches, of one of two NumPy signals."""

    def measure(reference: Tensor, decoded: Tensor) -> Tensor:
        pairs = zip(reference.detach().cpu().numpy(), decoded.detach().cpu().numpy(), strict=True)
        return reference.new_tensor([score(*pair) for pair in pairs])

    return measure


class STOI(ItemMean, metric="stoi", measure=partial(stoi, rate=16_000)):
    """Mean short-time objective intelligibility."""


class ESTOI(ItemMean, metric="estoi", measure=partial(stoi, rate=16_000, extended=True)):
    """Mean extended STOI."""


class VSTOI(ItemMean, metric="vstoi", measure=lambda clean, pattern: vstoi(pattern, clean)):
    """Mean STOI of vocoded stimulation patterns "B 22 T" against clean speech "B N"."""

    def fit(self, preds: Batch, target: Batch) -> bool:
        """Items alone are paired."""
        return preds.ndim == 3 and target.ndim == 2 and len(preds) == len(target)


class PESQ(ItemMean, metric="pesq_wb", measure=by_item(quality.pesq_wb)):
    """Mean wideband PESQ."""


class ViSQOL(ItemMean, metric="visqol", measure=by_item(quality.visqol_speech)):
    """Mean ViSQOL in speech mode."""


class ViSQOLAudio(ItemMean, metric="visqol_audio", measure=by_item(quality.visqol_audio)):
    """Mean ViSQOL in audio mode."""


class TwoFModel(ItemMean, metric="two_f", measure=partial(two_f_model, rate=48_000)):
    """Mean MUSHRA score by the 2f-model."""


class SNR(ItemMean, metric="snr", measure=snr):
    """Mean signal-to-noise ratio."""


class SISDR(ItemMean, metric="si_sdr", measure=si_sdr):
    """Mean scale-invariant signal-to-distortion ratio."""


class SegmentalSNR(ItemMean, metric="segmental_snr", measure=segmental_snr):
    """Mean segmental SNR."""


class PeakSNR(ItemMean, metric="peak_snr", measure=peak_snr):
    """Mean peak SNR of waveforms."""


class WeightedSNR(ItemMean, metric="weighted_snr", measure=weighted_snr):
    """Mean perceptually weighted SNR."""


class NoiseToMaskRatio(ItemMean, metric="nmr", measure=partial(noise_to_mask_ratio, rate=16_000)):
    """Mean noise-to-mask ratio of signals at 16 kHz."""


class LogSpectralDistance(ItemMean, metric="log_spectral_distance", measure=log_spectral_distance):
    """Mean log-spectral distance."""


class MelDistance(ItemMean, metric="mel_distance", measure=mel_distance):
    """Mean mel distance."""


class MelCepstralDistortion(ItemMean, metric="mel_cepstral_distortion", measure=mel_cepstral_distortion):
    """Mean mel-cepstral distortion."""


class SSIM(ItemMean, metric="ssim", measure=ssim):
    """Mean structural similarity of images."""


class PSNR(ItemMean, metric="psnr", measure=psnr):
    """Mean peak SNR of images."""
