"""What a finished run's model scores on training items, where a paper reports its train set; the record stays as it is.

The rates are those of fixed-length codes: nothing is written to files here.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...datamodules.base import Recordings
from ...leaderboards.records import read_items, write_items
from ..errors import UserError
from ..specs.spec import Spec
from ..tracks.base import Track, Watched
from ..tracks.choose import corpus_of, domain_of, track_of
from ..training.model import load_model

TRAIN_ITEMS = "items-train.csv"


def score_on_train(spec: Spec, folder: Path, count: int, watched: Watched) -> list[dict[str, Any]]:
    """Rows of `count` items spread over the train split, kept beside the run's items.csv; found there if scored before.

    UserError: no codec of stimulation patterns, or no model in `folder`.
    """
    kept = folder / TRAIN_ITEMS
    corpus = corpus_of(spec)
    if domain_of(spec) != "stimulation" or not isinstance(corpus, Recordings):
        raise UserError(f"{spec.codec.name} codes no stimulation patterns; only such are scored on training items")
    items = corpus.items("train")
    chosen = [items[index] for index in np.unique(np.linspace(0, len(items) - 1, count).round().astype(int))]
    rows = read_items(kept) if kept.exists() else []
    if [row["item"] for row in rows] == [item.name for item in chosen]:
        return rows
    codec, track = load_model(folder, spec), track_of(spec, watched)
    rows = [_row(codec, track, item) for item in watched(chosen, "training items")]
    write_items(kept, rows)
    return rows


@torch.no_grad()
def _row(codec: Any, track: Track, source: Any) -> dict[str, Any]:
    item = track.load(source)
    decoded = codec(item.signal[None]).signal
    both = torch.cat([decoded, item.signal[None]])
    coded, uncoded = track.intelligibility(both, item.clean.expand(2, -1)).double().tolist()
    bits = sum(quantizer.nominal_bits for quantizer in codec.quantizers) * codec.positions(tuple(item.signal.shape))
    scores = {"vstoi": coded, "vstoi_uncoded": uncoded, "dvstoi": coded - uncoded}
    about = {"item": item.name, **item.conditions, "seconds": item.seconds}
    return about | {"nominal_kbps": bits / item.seconds / 1000} | scores
