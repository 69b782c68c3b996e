"""Do a run's codes matter? For waveform codecs.

The mean ESTOI over a run's test items of: what it decodes; what it decodes from its own codes in a random order of
positions, the same for all streams; and what the same codec decodes before its training, with quantizers fitted on
training crops. A model that ignores its codes scores alike with both orders.
"""

from pathlib import Path

import torch
from torch import Generator

from ...codecs.base import Codec
from ..errors import UserError
from ..metrics.intelligibility import stoi
from ..specs.spec import Spec
from ..tracks.base import Track
from ..tracks.choose import domain_of, signal_rate, track_of
from ..training.model import SPEC, load_model, make_codec
from ..training.module import fit
from ..training.rate_search import read_search

COLUMNS = ("decoded", "shuffled", "untrained")


@torch.no_grad()
def controls(run: Path, items: int | None = None) -> list[float]:
    """Mean ESTOI of COLUMNS, over the first `items` of the test set. UserError: no run of a waveform codec."""
    try:
        spec = Spec.from_yaml((run / SPEC).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{run}: no run ({error.strerror}); name the folder of one") from error
    if domain_of(spec) != "waveform":
        raise UserError(f"{run}: {spec.codec.name} codes no waveforms; name the run of another codec")
    trained, track = load_model(run, spec), track_of(spec)
    untrained = _untrained(spec, run, track)
    shuffle = Generator().manual_seed(spec.seed)
    found = []
    for source in track.test_items()[:items]:
        signal = track.load(source).signal[None]
        codes = trained.encode(signal)
        other = codes[..., torch.randperm(codes.shape[2], generator=shuffle)].contiguous()
        shape = tuple(signal.shape[1:])
        decoded = [
            *(trained.decode(sent, shape) for sent in (codes, other)),
            untrained.decode(untrained.encode(signal), shape),
        ]
        rate = round(track.signal_rate)
        found.append([float(stoi(signal, sound, rate, extended=True)) for sound in decoded])
    return torch.tensor(found).nanmean(0).tolist()


def _untrained(spec: Spec, run: Path, track: Track) -> Codec:
    trials = read_search(run)
    codec = make_codec(spec, signal_rate(spec), trials[-1].bits if trials else None).train()
    torch.manual_seed(spec.seed)
    fit(codec, track, spec.training, spec.seed)
    return codec.eval()
