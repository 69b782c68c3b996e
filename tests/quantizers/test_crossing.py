"""Every codec around every quantizer: a training step, coding tables, a file, and its decoding in another process."""

from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.specs.plugin import Plugin, find
from codecbench.benchmark.specs.registry import found
from codecbench.benchmark.training.phases import check_phases
from codecbench.codecs.base import Codec
from codecbench.codecs.checks import SIGNALS
from codecbench.codecs.files.files import decode_file, encode_file
from codecbench.quantizers.checks.running import check_gradients, same, seeded
from codecbench.quantizers.identity import Identity
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor

QUANTIZERS, CODECS = sorted(found("quantizers")), sorted(found("codecs"))
PAIRS = [(codec, quantizer) for codec in CODECS for quantizer in QUANTIZERS]
OFTEN = max(len(QUANTIZERS), len(CODECS))
DIAGONAL = {(CODECS[n % len(CODECS)], QUANTIZERS[n % len(QUANTIZERS)]) for n in range(OFTEN)}
REFUSED = {("none", "identity"): "Bare has nothing to train; choose a quantizer that learns"}  # pair: reason
SEED = 7  # of dither, which the file carries
FITTED_ON, TRAINED_ON, CODED = (4, 24), (2, 12), 5  # items and positions; of the file, less a sample


@cache
def smallest(name: str) -> Plugin:
    """The preset of a codec with the fewest parameters."""
    cls = found("codecs")[name]

    def size(options: dict[str, Any]) -> int:
        codec = find("codec", name, options).build(lambda channels, share: Identity(channels))
        return sum(parameter.numel() for parameter in codec.parameters())

    return find("codec", name, min(({}, *cls.presets.values()), key=size))  # type: ignore[attr-defined]


def built(codec: Plugin, quantizer: str) -> Codec:
    return seeded(codec.build, lambda channels, share: find("quantizer", quantizer).build(channels))


def decoded(codec: Plugin, quantizer: str, model: Path, file: Path) -> Tensor:
    """What a process that has seen no more than the model and the file makes of them."""
    torch.set_num_threads(1)
    receiver = built(codec, quantizer)
    receiver.load_state_dict(load_file(model))
    return decode_file(receiver.eval(), file)[1]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Executor]:
    """One other process for all pairs."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


def signals(codec: Codec, items: int, positions: int, less: int = 0, seed: int = 0) -> Tensor:
    length = positions * codec.stride - less
    return SIGNALS[codec.domain](items, length, Generator().manual_seed(seed))


def train_a_step(codec: Codec) -> None:
    codec.train().fit(signals(codec, *FITTED_ON))
    signal = signals(codec, *TRAINED_ON, seed=1)
    coded = codec(signal)
    loss = (coded.signal - signal).square().mean() + sum(part.loss for part in coded.quantized)
    assert loss.isfinite()
    if loss.requires_grad:  # not of k-means without a codec, for one
        check_gradients(codec, loss)
        torch.optim.Adam(codec.parameters(), 1e-3).step()
    codec.update(coded, progress=0.5)
    codec.eval()
    codec.fit_tables(codec.encode(signal))


@pytest.mark.parametrize(
    ("codec", "quantizer"),
    [pytest.param(*pair, marks=() if pair in DIAGONAL else pytest.mark.slow) for pair in PAIRS],
)
def test_every_codec_serves_every_quantizer(codec: str, quantizer: str, elsewhere: Executor, tmp_path: Path) -> None:
    choice = smallest(codec)
    sender = built(choice, quantizer)
    if reason := REFUSED.get((codec, quantizer)):
        with pytest.raises(UserError, match=f"^{reason}$"):
            check_phases(sender, steps=1)
        return
    check_phases(sender, steps=1)
    seeded(train_a_step, sender)
    model, file = tmp_path / "model.safetensors", tmp_path / "signal.cbs"
    save_file({name: tensor.contiguous() for name, tensor in sender.state_dict().items()}, model)
    (signal,) = signals(sender, 1, CODED, less=sender.stride > 1, seed=2)
    _, expected = encode_file(sender, signal, file, "range", seed=SEED)
    assert same(elsewhere.submit(decoded, choice, quantizer, model, file).result(timeout=120), expected)
    assert expected.shape == signal.shape
