"""Scores of a decoded stimulation pattern: of the pattern itself, and of what the sine vocoder makes of it."""

import torch
from jaxtyping import Float
from torch import Tensor

from ....datamodules.cochlear.ace import SAMPLE_RATE, AceConfig
from ....datamodules.cochlear.vocoder import vocode
from ..intelligibility import Reference
from .pool import Pending, Submit

Pattern = Float[Tensor, "22 _"]  # T frames, negative where a band is not stimulated; other lengths of a pair give NaN


def band_selection_error(reference: Pattern, decoded: Pattern) -> float:
    """Share of the bands of all frames that are stimulated in one of the two patterns only; NaN if not finite."""
    if reference.shape != decoded.shape or not (reference.isfinite().all() and decoded.isfinite().all()):
        return float("nan")
    return float(((reference >= 0) != (decoded >= 0)).double().mean())


def pattern_rmse(reference: Pattern, decoded: Pattern) -> float:
    """Root mean square error over the bands stimulated in the reference, 1 being the dynamic range; NaN if none is."""
    if reference.shape != decoded.shape:
        return float("nan")
    error = (decoded - reference)[reference >= 0]
    return float(error.double().square().mean().sqrt())


def active_bands(pattern: Pattern) -> float:
    """Mean number of stimulated bands per frame; ACE stimulates at most its maxima, a decoder may stimulate more."""
    return float((pattern >= 0).sum(0).double().mean()) if bool(pattern.isfinite().all()) else float("nan")


def score_stimulation(
    clean: Float[Tensor, " N"], pattern: Pattern, decoded: Pattern, config: AceConfig, submit: Submit
) -> Pending:
    """Begin to score a decoded pattern, given the uncoded one and the clean signal at 16 kHz that it came from.

    What is returned waits for what `submit` computes, and gives every metric.

    vstoi, vestoi: the vocoded decoded pattern against the clean signal; stoi, estoi, pesq_wb, visqol: against the
    vocoded uncoded pattern, with one gain for both that brings the latter to a peak of 1 (ViSQOL depends on level).
    """
    clean, pattern, decoded = clean.detach().cpu(), pattern.detach().cpu(), decoded.detach().cpu()
    clean = clean if len(clean) else torch.full((1,), torch.nan)
    uncoded, coded = (_audible(each, len(clean), config) for each in (pattern, decoded))
    gain = 1 / uncoded.abs().max()
    uncoded, coded = uncoded * gain, coded * gain
    waiting = submit(("pesq_wb", "visqol"), uncoded, coded)
    (vstoi, vstoi_uncoded), (vestoi, _) = _intelligibility(clean, coded, uncoded)
    (stoi,), (estoi,) = _intelligibility(uncoded, coded)
    own = {
        "vstoi": vstoi,
        "vstoi_uncoded": vstoi_uncoded,
        "dvstoi": vstoi - vstoi_uncoded,
        "vestoi": vestoi,
        "stoi": stoi,
        "estoi": estoi,
        "band_selection_error": band_selection_error(pattern, decoded),
        "pattern_rmse": pattern_rmse(pattern, decoded),
        "active_bands": active_bands(decoded),
        "active_bands_uncoded": active_bands(pattern),
    }
    return lambda: own | waiting.result()


def _intelligibility(reference: Tensor, *decoded: Tensor) -> list[list[float]]:
    """STOI, then ESTOI, of every decoded signal in float64."""
    scores = Reference(reference[None].double(), SAMPLE_RATE).pair(torch.stack(decoded).double())
    return [score.tolist() for score in scores]


def _audible(pattern: Pattern, samples: int, config: AceConfig) -> Tensor:
    """The vocoded pattern, NaN where there is nothing to vocode."""
    if pattern.shape[-1] == 0:
        return torch.full((samples,), torch.nan)
    return vocode(pattern[None], samples, config)[0]
