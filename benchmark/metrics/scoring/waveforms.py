"""Scores of a decoded waveform against its reference: what the speech and audio tracks report of every item."""

from jaxtyping import Float
from torch import Tensor

from ..base import Pending, Submit
from ..quality import SAMPLE_RATE as SPEECH_RATE
from .items import resampled, score_item

Waveform = Float[Tensor, " N"]
FIRST = ("stoi", "estoi", "vstoi", "vstoi_uncoded", "dvstoi", "segmental_snr", "weighted_snr", "log_spectral_distance")
FIRST += ("mel_distance", "nomad", "snr", "si_sdr", "peak_snr", "nmr", "two_f")  # columns of items.csv, then the others


def score_waveform(reference: Waveform, decoded: Waveform, rate: int, track: str, submit: Submit) -> Pending:
    """Begin to score one item at `rate` Hz; what is returned waits for `submit` and gives every metric of the track.

    track "speech": everything at 16 kHz, VSTOI of the pattern that the ACE front end makes of the decoded speech;
    "audio": at the corpus's rate. What needs another rate is resampled by soxr HQ.
    """
    signals = {"reference": reference.detach().cpu().double(), "decoded": decoded.detach().cpu().double()}
    if track == "speech":
        signals, rate = resampled(signals, rate, SPEECH_RATE), SPEECH_RATE
    pending = score_item(track, signals, submit, rate)

    def scores() -> dict[str, float]:
        given = pending()
        return {name: given[name] for name in (*(name for name in FIRST if name in given), *given)}

    return scores
