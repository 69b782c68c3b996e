"""Scores of a decoded waveform against its reference: what the speech and audio tracks report of every item."""

import functools

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ....datamodules.cochlear.ace import AceConfig, ace
from ....datamodules.parts.sound import resample
from ..intelligibility import Reference, vstoi
from ..noise_to_mask import noise_to_mask_ratio
from ..nomad import Nomad, load_nomad, nomad, offered
from ..quality import AUDIO_RATE
from ..quality import SAMPLE_RATE as SPEECH_RATE
from ..twof import two_f_model
from ..waveform import log_spectral_distance, mel_distance, peak_snr, segmental_snr, si_sdr, snr
from ..weighted_snr import weighted_snr
from .pool import Pending, Submit

Waveform = Float[Tensor, " N"]


def score_waveform(reference: Waveform, decoded: Waveform, rate: int, track: str, submit: Submit) -> Pending:
    """Begin to score one item at `rate` Hz; what is returned waits for `submit` and gives every metric.

    track "speech": at 16 kHz, with STOI, PESQ-WB, ViSQOL's speech mode, and VSTOI, which is of the pattern that the ACE
    front end makes of the decoded speech, and NOMAD where the user named its weights; "audio": at the corpus's rate,
    ViSQOL's audio mode at 48 kHz. What needs another rate is resampled by soxr HQ.
    """
    reference, decoded = (signal.detach().cpu().double() for signal in (reference, decoded))
    if track == "speech":
        pair = [_at(signal, rate, SPEECH_RATE) for signal in (reference, decoded)]
        waiting, own = submit(("pesq_wb", "visqol"), *pair), _speech(*pair)
    else:
        pair = [_at(signal, rate, AUDIO_RATE) for signal in (reference, decoded)]
        waiting, own = submit(("visqol_audio",), *pair), _audio(reference, decoded, rate)
    return lambda: own | waiting.result()


def _speech(reference: Tensor, decoded: Tensor) -> dict[str, float]:
    rows = reference[None], decoded[None]
    intelligibility = Reference(rows[0], SPEECH_RATE).pair(rows[1])
    config = AceConfig()
    patterns = [ace(row.float(), config) for row in rows]
    coded, uncoded = (float(vstoi(pattern, rows[0].float(), config)) for pattern in reversed(patterns))
    return {
        "stoi": float(intelligibility.stoi),
        "estoi": float(intelligibility.estoi),
        "vstoi": coded,
        "vstoi_uncoded": uncoded,
        "dvstoi": coded - uncoded,
        "segmental_snr": float(segmental_snr(*rows)),
        "weighted_snr": float(weighted_snr(*rows)),
        "log_spectral_distance": float(log_spectral_distance(*rows)),
        "mel_distance": float(mel_distance(*rows)),
        **({"nomad": float(nomad(*rows, _nomad()))} if offered() else {}),
    } | _audio(reference, decoded, SPEECH_RATE)


@functools.cache
def _nomad() -> Nomad:
    return load_nomad()


def _audio(reference: Tensor, decoded: Tensor, rate: int) -> dict[str, float]:
    rows = reference[None], decoded[None]
    return {
        "snr": float(snr(*rows)),
        "si_sdr": float(si_sdr(*rows)),
        "peak_snr": float(peak_snr(*rows)),
        "nmr": float(noise_to_mask_ratio(*rows, rate)),
        "two_f": float(two_f_model(*rows, rate)),
    }


def _at(signal: Tensor, rate: int, wanted: int) -> Tensor:
    """Resampled where it has to be; what is not finite stays as it is, to be scored NaN."""
    if rate == wanted or not bool(signal.isfinite().all()):
        return signal
    return torch.from_numpy(np.ascontiguousarray(resample(signal.numpy(), rate, wanted)))
