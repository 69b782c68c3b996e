"""Which track and front end a codec's domain has."""

from ..datamodules.base import Recordings
from .cochlear_track import CochlearFrontEnd, CochlearTrack
from .errors import UserError
from .plugins import lookup
from .spec import Spec, build_corpus
from .tracks import FrontEnd, Track, Watched
from .waveform_track import WaveformFrontEnd, WaveformTrack

DOMAINS = {"stimulation": ("speech",), "waveform": ("speech", "music")}  # and the kinds of data they are trained on


def domain_of(spec: Spec) -> str:
    """The domain of a spec's codec. UserError where there is no track for it yet."""
    domain = lookup("codecs", spec.codec.name)[0].domain  # type: ignore[attr-defined]
    if domain not in DOMAINS:
        raise UserError(f"no data and metrics for codecs of the domain {domain!r} yet; there are: {', '.join(DOMAINS)}")
    return domain


def recordings_of(spec: Spec) -> Recordings:
    """The corpus of a spec. UserError where it is of no use to the codec's domain."""
    corpus, domain = build_corpus(spec.data), domain_of(spec)
    if not isinstance(corpus, Recordings) or corpus.kind not in DOMAINS[domain]:
        raise UserError(
            f"{spec.codec.name} needs {' or '.join(DOMAINS[domain])}, {spec.data.name} holds {corpus.kind}; "
            "choose other --data, see benchmark ls data"
        )
    return corpus


def signal_rate(spec: Spec) -> float:
    """Samples per second of the signal that the codec of a spec codes."""
    return spec.ace.frame_rate if domain_of(spec) == "stimulation" else float(recordings_of(spec).sample_rate)


def front_end_of(spec: Spec) -> FrontEnd:
    """Between sound and the signal of a spec's codec."""
    if domain_of(spec) == "stimulation":
        return CochlearFrontEnd(spec.ace)
    return WaveformFrontEnd(recordings_of(spec).sample_rate)


def track_of(spec: Spec, watched: Watched | None = None) -> Track:
    """Signals, loss and scores for a spec's codec, on its data."""
    corpus = recordings_of(spec)
    if domain_of(spec) == "stimulation":
        return CochlearTrack(corpus, spec.ace, spec.training.band_selection_weight, watched)
    return WaveformTrack(corpus, spec.training.losses, watched)
