"""Which track and front end a codec's domain has."""

from ...datamodules.base import Arrays, Corpus, Recordings
from ..errors import UserError
from ..losses import LOSSES
from ..specs.spec import Spec
from .base import FrontEnd, Track, Watched
from .cochlear import CochlearFrontEnd, CochlearTrack
from .image import ImageTrack, columns_per_second
from .vector import VECTORS_PER_SECOND, VectorTrack
from .waveform import WaveformFrontEnd, WaveformTrack

ALPHA = 0.1  # weight of band_selection where neither codec nor user names one
DOMAINS = {  # and the kinds of data they are trained on
    "stimulation": ("speech",),
    "waveform": ("speech", "music"),
    "image": ("image",),
    "vector": ("vector",),
}


DOMAIN_OF_TRACK = {"cochlear": "stimulation", "speech": "waveform", "audio": "waveform"}


def domain_of(spec: Spec) -> str:
    """The domain of a spec's codec. UserError where there is no track for it yet."""
    track = spec.codec.options.get("track", "")  # of a codec with nothing to train, which may serve several
    domain = DOMAIN_OF_TRACK.get(track) or spec.codec.declared("domain")
    if domain not in DOMAINS:
        raise UserError(f"no data and metrics for codecs of the domain {domain!r} yet; there are: {', '.join(DOMAINS)}")
    return domain


def corpus_of(spec: Spec) -> Corpus:
    """The corpus of a spec. UserError where it is of no use to the codec's domain."""
    corpus, domain = spec.data.build(), domain_of(spec)
    if corpus.kind not in DOMAINS[domain]:
        raise UserError(
            f"{spec.codec.name} needs {' or '.join(DOMAINS[domain])}, {spec.data.name} holds {corpus.kind}; "
            "choose other --data, see benchmark ls data"
        )
    return corpus


def signal_rate(spec: Spec) -> float:
    """Samples per second of the signal that the codec of a spec codes."""
    domain = domain_of(spec)
    if domain == "stimulation":
        return spec.ace.frame_rate
    corpus = corpus_of(spec)
    if isinstance(corpus, Recordings):
        return float(corpus.sample_rate)
    if domain == "vector":
        return VECTORS_PER_SECOND
    return columns_per_second(spec.codec.declared("leading")[1])


def front_end_of(spec: Spec) -> FrontEnd:
    """Between sound and the signal of a spec's codec. UserError where there is no sound."""
    domain = domain_of(spec)
    if domain == "stimulation":
        return CochlearFrontEnd(spec.ace)
    corpus = corpus_of(spec)
    if not isinstance(corpus, Recordings):
        raise UserError(f"{spec.codec.name} codes {corpus.kind} data, not sound; name the run of another codec")
    return WaveformFrontEnd(corpus.sample_rate, corpus.level)


def track_of(spec: Spec, watched: Watched | None = None) -> Track:
    """Signals, loss and scores for a spec's codec, on its data."""
    corpus, domain = corpus_of(spec), domain_of(spec)
    if isinstance(corpus, Recordings):
        if domain == "stimulation":
            alpha = (spec.training.losses or {}).get("band_selection", ALPHA)
            return CochlearTrack(corpus, spec.ace, alpha, watched)
        if spec.trained and not spec.training.losses:
            names = ", ".join(LOSSES)
            raise UserError(f"the codec names no training loss; add --training.losses.NAME WEIGHT: {names}")
        return WaveformTrack(corpus, spec.training.losses, watched)
    assert isinstance(corpus, Arrays), "a corpus is either"
    return ImageTrack(corpus) if domain == "image" else VectorTrack(corpus)
