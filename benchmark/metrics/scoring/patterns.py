"""Scores of a decoded stimulation pattern: of the pattern itself, and of what the sine vocoder makes of it."""

import torch
from jaxtyping import Float
from torch import Tensor

from ....datamodules.cochlear.ace import SAMPLE_RATE, AceConfig, ace
from ....datamodules.cochlear.vocoder import vocode
from ..base import Pending, Submit
from ..intelligibility import Reference, Waveforms, vstoi
from .items import score_item

Pattern = Float[Tensor, "22 _"]  # T frames, negative where a band is not stimulated; other lengths of a pair give NaN


def band_selection_error(pattern: Pattern, decoded_pattern: Pattern) -> float:
    """Share of the bands of all frames that are stimulated in one of the two patterns only; NaN if not finite."""
    if pattern.shape != decoded_pattern.shape or not (pattern.isfinite().all() and decoded_pattern.isfinite().all()):
        return float("nan")
    return float(((pattern >= 0) != (decoded_pattern >= 0)).double().mean())


def pattern_rmse(pattern: Pattern, decoded_pattern: Pattern) -> float:
    """Root mean square error over the bands stimulated in `pattern`, 1 being the dynamic range; NaN if none is."""
    if pattern.shape != decoded_pattern.shape:
        return float("nan")
    error = (decoded_pattern - pattern)[pattern >= 0]
    return float(error.double().square().mean().sqrt())


def active_bands(pattern: Pattern) -> float:
    """Mean number of stimulated bands per frame; ACE stimulates at most its maxima, a decoder may stimulate more."""
    return float((pattern >= 0).sum(0).double().mean()) if bool(pattern.isfinite().all()) else float("nan")


def bands_stimulated(pattern: Pattern, decoded_pattern: Pattern) -> dict[str, float]:
    """active_bands() of both patterns."""
    return {"active_bands": active_bands(decoded_pattern), "active_bands_uncoded": active_bands(pattern)}


def intelligibility(reference: Waveforms, decoded: Waveforms, clean: Waveforms | None = None) -> dict[str, Tensor]:
    """VSTOI of the vocoded decoded and uncoded patterns "1 N" against clean speech, their difference, and VESTOI.

    Without `clean` both signals are speech at 16 kHz, "B N": their patterns are those of the ACE front end, in float32,
    and VESTOI is left out.
    """
    if clean is None:
        config = AceConfig()
        patterns = [ace(speech.float(), config) for speech in (decoded, reference)]
        coded, uncoded = (vstoi(pattern, reference.float(), config) for pattern in patterns)
        extended = {}
    else:
        (coded, uncoded), (vestoi, _) = Reference(clean.double(), SAMPLE_RATE).pair(torch.cat([decoded, reference]))
        extended = {"vestoi": vestoi}
    return {"vstoi": coded, "vstoi_uncoded": uncoded, "dvstoi": coded.double() - uncoded.double()} | extended


def score_stimulation(
    clean: Float[Tensor, " N"], pattern: Pattern, decoded: Pattern, config: AceConfig, submit: Submit
) -> Pending:
    """Begin to score a decoded pattern, given the uncoded one and the clean signal at 16 kHz that it came from.

    What is returned waits for what `submit` computes, and gives every metric of the track. Audio is compared with the
    vocoded uncoded pattern, with one gain for both that brings the latter to a peak of 1 (ViSQOL depends on level).
    """
    clean, pattern, decoded = clean.detach().cpu(), pattern.detach().cpu(), decoded.detach().cpu()
    clean = clean if len(clean) else torch.full((1,), torch.nan)
    uncoded, coded = (_audible(each, len(clean), config) for each in (pattern, decoded))
    gain = 1 / uncoded.abs().max()
    sounds = {"reference": uncoded * gain, "decoded": coded * gain, "clean": clean}
    doubles = {name: sound.double() for name, sound in sounds.items()}
    patterns = {"pattern": pattern, "decoded_pattern": decoded}
    return score_item("cochlear", doubles, submit, SAMPLE_RATE, patterns)


def _audible(pattern: Pattern, samples: int, config: AceConfig) -> Tensor:
    """The vocoded pattern, NaN where there is nothing to vocode."""
    if pattern.shape[-1] == 0:
        return torch.full((samples,), torch.nan)
    return vocode(pattern[None], samples, config)[0]
