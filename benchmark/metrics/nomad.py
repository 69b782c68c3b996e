"""NOMAD: how far the embedding of a decoded signal lies from that of its reference, by weights that the user brings.

waveform at 16 kHz -> wav2vec 2.0 base, fine-tuned -> mean over time -> ReLU -> 256 dimensions -> length 1

Source: Ragano, Skoglund and Hines, 2024 (NOMAD: Unsupervised Learning of Perceptual Embeddings for Speech Enhancement
and Non-Matching Reference Audio Quality Assessment). There the references are other clean recordings; here each item's
own, a codec's clean signal being at hand. Nothing is downloaded: the authors' `nomad_best_model.pt` (it holds the whole
model, so wav2vec_small.pt is not needed) lies in the folder that the variable CODECBENCH_NOMAD names.
"""

import os
import pickle
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from .hearing.wav2vec import SHORTEST, Size, Wav2Vec2
from .waveform import Scores, Waveforms, scored

VARIABLE = "CODECBENCH_NOMAD"
CHECKPOINT = "nomad_best_model.pt"
EMBEDDING = 256
UNUSED = ("mask_emb", "quantizer.", "project_q.", "final_proj.")  # parts of pre-training
REMEDY = f"put the authors' {CHECKPOINT} into a folder and name the folder in {VARIABLE}"


class Nomad(nn.Module):
    """The embedding of NOMAD; make it by load_nomad()."""

    def __init__(self, size: Size = Size()) -> None:  # noqa: B008
        super().__init__()
        self.ssl_model = Wav2Vec2(size)
        self.embedding_layer = nn.Sequential(nn.ReLU(), nn.Linear(size.width, EMBEDDING))

    def forward(self, waveform: Float[Tensor, "B N"]) -> Float[Tensor, "B 256"]:
        return F.normalize(self.embedding_layer(self.ssl_model(waveform).mean(1)))


def offered() -> bool:
    """Whether the user named weights; a run leaves NOMAD out where not. UserError: they are not there."""
    folder = os.environ.get(VARIABLE)
    if folder and not (Path(folder) / CHECKPOINT).is_file():
        raise UserError(f"{VARIABLE}={folder}: holds no {CHECKPOINT}; {REMEDY}")
    return bool(folder)


def load_nomad(folder: str | Path | None = None, size: Size = Size()) -> Nomad:  # noqa: B008
    """The model of a folder, by default that of CODECBENCH_NOMAD; UserError where no such weights are there."""
    if folder is None and not offered():
        raise UserError(f"NOMAD has no weights; {REMEDY}")
    path = Path(os.environ[VARIABLE] if folder is None else folder) / CHECKPOINT
    with torch.device("meta"):  # no time for weights that are replaced
        model = Nomad(size)
    weights = _plain(_read(path))
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    wrong = sorted(expected.keys() ^ weights.keys())
    wrong += [name for name in expected.keys() & weights.keys() if weights[name].shape != expected[name]]
    if wrong:
        raise UserError(f"{path}: not the weights of NOMAD, {len(wrong)} differ, such as {wrong[0]}; {REMEDY}")
    model.load_state_dict(weights, assign=True)
    return model.float().eval().requires_grad_(False)


@cache
def _usual() -> Nomad:
    return load_nomad()


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; {REMEDY}")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not readable as weights alone ({type(error).__name__}); {REMEDY}") from None
    if not isinstance(weights, dict) or not all(isinstance(each, Tensor) for each in weights.values()):
        raise UserError(f"{path}: holds something else than weights; {REMEDY}")
    return weights


def _plain(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without pre-training parts; the positional convolution's direction and length per tap become one weight."""
    plain = {name: w for name, w in weights.items() if not name.removeprefix("ssl_model.").startswith(UNUSED)}
    convolution = "ssl_model.encoder.pos_conv.0.weight"
    lengths, directions = (plain.pop(f"{convolution}_{part}", None) for part in "gv")
    if lengths is not None and directions is not None:
        plain[convolution] = lengths * directions / torch.linalg.vector_norm(directions, dim=(0, 1), keepdim=True)
    return plain


def nomad(reference: Waveforms, decoded: Waveforms, model: Nomad | None = None) -> Scores:
    """Euclidean distance of the embeddings of each item's two signals at 16 kHz, 0 ... 2, lower is better.

    Without a model by the weights that CODECBENCH_NOMAD names. NaN below 400 samples; else NaN and ValueError as for
    the measures of waveform.py.
    """
    model = _usual() if model is None else model

    @torch.no_grad()
    def distance(x: Tensor, y: Tensor) -> Tensor:
        if x.shape[1] < SHORTEST:
            return torch.full_like(x[:, 0], torch.nan)
        device = next(model.parameters()).device
        embedded = [model(each.float().to(device)) for each in (x, y)]
        return torch.linalg.vector_norm(embedded[0] - embedded[1], dim=1).to(x)

    return scored(distance, reference, decoded)
