"""Checks of what a file holds: codes, noise that both sides draw, coding tables, saved state, and bytes."""

from collections.abc import Iterator
from typing import Any

import torch
from safetensors.torch import load, save

from ..base import ESCAPE_BITS, TABLE_TOTAL, Codes, Quantizer, Tables
from ..coding.entropy import decode_codes, encode_codes, information
from .running import POSITIONS, TOLERANCE, Make, demand, drawn, hook, mode, ready, same, sample, seeded


def decode_inverts_encode(make: Make) -> None:
    """Decoded latents are quantized to themselves, or nearly: a greedy search may find other codes for a few."""
    quantizer = ready(make)
    latents = sample(quantizer, 4, 64)
    noise = drawn(quantizer, latents)
    with torch.no_grad():
        decoded = quantizer.decode(quantizer.encode(latents, noise), noise)
        again = quantizer.decode(quantizer.encode(decoded, noise), noise)
    first, second = float((latents - decoded).square().mean()), float((decoded - again).square().mean())
    demand(
        second <= 0.25 * first + TOLERANCE**2,
        f"quantizing decoded latents again must change next to nothing, but the error is {second:.3g} (the first "
        f"time {first:.3g}); {hook(quantizer, 'decode')} must read streams, scales and noise the way "
        f"{hook(quantizer, 'encode')} writes them",
    )


def start_continues_the_sequence(make: Make) -> None:
    """In evaluation the decoder draws the encoder's noise again, from any position on, the same for every item."""
    for training in (True, False):
        quantizer = ready(make, training)
        shape = (2, quantizer.noise_rows, POSITIONS)
        whole = quantizer.draw(2, POSITIONS)
        demand(
            whole.shape == shape and whole.dtype == quantizer.float_type,
            f'in {mode(quantizer)} noise must be "B R T" = {shape} of {quantizer.float_type}, got '
            f"{tuple(whole.shape)} of {whole.dtype}; correct {hook(quantizer, 'noise_rows', 'random')}",
        )
        later = quantizer.draw(1, POSITIONS - 3, start=3)
        demand(
            training or (same(later, whole[:1, :, 3:]) and same(later, whole[1:, :, 3:])),
            f"in evaluation {hook(quantizer, 'random')} must repeat the noise of position `start` on, for every item "
            "alike; key it by a seed and the position, not by the global generator",
        )


def forward_equals_decode_of_encode(make: Make) -> None:
    """In evaluation the latents are decode(encode(latents)) bit for bit, each item from its own file."""
    quantizer = ready(make)
    items = sample(quantizer).split(1)
    outs = [quantizer(item) for item in items]
    for item, out in zip(items, outs, strict=True):
        codes = quantizer.encode(item, quantizer.draw(1, POSITIONS))
        demand(
            same(codes, out.codes),
            f"{hook(quantizer, 'encode')} gives other codes the second time; take all randomness from `noise`",
        )
    for out in outs:  # after all were encoded: nothing may be left over from the item itself
        demand(
            same(quantizer.decode(out.codes, quantizer.draw(1, POSITIONS)), out.latents),
            f"what the codes decode to differs from the forward; {hook(quantizer, 'decode')} may use codes, noise and "
            "the state, nothing else",
        )


def state_round_trips(make: Make) -> None:
    """The state_dict holds everything: a fresh object that loads it does the same, bit for bit."""
    quantizer = _trained(make)
    data = save(quantizer.state_dict())
    other = seeded(make, seed=1)
    other.load_state_dict(load(data))
    demand(save(other.state_dict()) == data, "a fresh object that loaded the state saves other bytes")
    latents = sample(quantizer, 4, 32)
    for training in (True, False):
        first, second = (seeded(module.train(training), latents) for module in (quantizer, other))
        demand(
            same(first, second),
            f"a fresh object that loaded the state differs in {mode(other)}; make hardness, counters and whatever "
            f"{hook(quantizer, 'fit', 'update')} may change Parameters or buffers",
        )
    pairs = zip(_groups(quantizer, first.codes), _groups(other, first.codes), strict=True)
    demand(
        all(same(a[:3], b[:3]) and a.escape == b.escape for (_, a), (_, b) in pairs),
        "a fresh object that loaded the state has other coding tables; keep what "
        f"{hook(quantizer, 'fit_tables')} learns in buffers",
    )


def tables_are_valid(make: Make) -> None:
    """Coding tables describe every stream, before and after they are fitted."""
    quantizer = ready(make)
    codes = quantizer(sample(quantizer)).codes
    check_tables(quantizer, quantizer.alphabet, codes)
    quantizer.fit_tables(codes)
    check_tables(quantizer, quantizer.alphabet, codes[:1])


def check_tables(source: Any, alphabet: tuple[int | None, ...], codes: Codes) -> None:
    """tables() of a quantizer or codec describes every stream of `codes` once, with valid integers."""
    for known, group in _groups(source, codes):
        where = f"{hook(source, 'tables')} after {known} of {len(alphabet)} streams: "
        integers = {tensor.dtype for tensor in group[:3]}
        demand(integers == {torch.int64}, f"{where}counts, index and shift must be int64, got {integers}")
        demand(
            group.counts.dim() == 2 and (group.counts.sum(1) == TABLE_TOTAL).all() and group.counts.min() > 0,
            f"{where}each row of counts must be positive and add up to 2**20; build it with integer_counts()",
        )
        rows, columns = group.counts.shape
        demand(
            group.index.min() >= 0 and group.index.max() < rows,
            f"{where}index must lie in 0..{rows - 1}, the rows of counts",
        )
        lowest, highest = group.shift.amax((0, 2)), group.shift.amin((0, 2)) + columns - 1
        for size, low, high in zip(alphabet[known:], lowest, highest, strict=False):
            demand(
                group.escape or (size is not None and low <= 0 and high >= size - 1),
                f"{where}the alphabet {size} is not covered by the symbols {int(low)}..{int(high)}; set escape=True",
            )


def bytes_round_trip(make: Make) -> None:
    """Codes survive the file exactly, at most 0.5 % + 40 bit above their information under the tables."""
    quantizer = _trained(make).eval()
    positions = 200
    codes = quantizer(sample(quantizer, 1, positions, seed=4)).codes
    data = encode_codes(quantizer, codes)
    demand(
        same(decode_codes(quantizer, data, positions), codes),
        f"the decoded codes are not those that were encoded; {hook(quantizer, 'tables')} may use the known codes and "
        "the state, nothing else",
    )
    spent, needed = 8 * len(data), information(quantizer, codes)
    demand(
        spent <= 1.005 * needed + 40,
        f"the file takes {spent} bit, but its information is {needed:.1f} bit; {hook(quantizer, 'tables')} must give "
        "the same tables at every call",
    )


def wild_symbols_round_trip(make: Make) -> None:
    """Symbols that training never saw survive too: both ends of an alphabet, both ends of the escape."""
    quantizer = _trained(make).eval()
    codes = quantizer(sample(quantizer, 1, POSITIONS)).codes.clone()
    for stream, size in enumerate(quantizer.alphabet):
        ends = (-(1 << (ESCAPE_BITS - 1)), (1 << (ESCAPE_BITS - 1)) - 1) if size is None else (0, size - 1)
        codes[0, stream, 2], codes[0, stream, 5] = ends
    data = encode_codes(quantizer, codes)
    demand(
        same(decode_codes(quantizer, data, POSITIONS), codes),
        f"symbols outside the fitted range do not survive; {hook(quantizer, 'tables')} needs a positive count for "
        "each, or escape=True",
    )


def bits_agree_with_the_coder(make: Make) -> None:
    """The bits of a forward in evaluation are at least what the coder spends; those of a learned rate within 5 %."""
    quantizer = _trained(make).eval()
    out = quantizer(sample(quantizer, 1, 400, seed=6))
    spent, bits = information(quantizer, out.codes), float(out.bits.detach().sum())
    demand(
        spent <= 1.05 * bits and (not quantizer.rate_is_learned or bits <= 1.05 * spent + 40),
        f"a forward says {bits:.0f} bit, the coder spends {spent:.0f}; the bits of {hook(quantizer, 'objective')} must "
        "be those of the tables, or nominal",
    )


def _trained(make: Make) -> Quantizer:
    """A quantizer after fit(), one step of everything that changes its state, and fit_tables()."""
    quantizer = ready(make, training=True)
    latents = sample(quantizer, 4, 32)
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter.mul_(1.01)
        out = seeded(quantizer, latents)
        seeded(quantizer.update, out.source, out.codes, 0.5)
        quantizer.fit_tables(quantizer.eval()(sample(quantizer, 8, 128)).codes)
    return quantizer


def _groups(source: Any, codes: Codes) -> Iterator[tuple[int, Tables]]:
    """(streams known before, tables) of every group; together they must cover every stream once."""
    known = 0
    while known < codes.shape[1]:
        group: Tables = source.tables(codes[:, :known])
        left = codes.shape[1] - known
        shape = tuple(group.index.shape)
        demand(
            shape == group.shift.shape == (codes.shape[0], shape[min(1, len(shape) - 1)], codes.shape[2])
            and 0 < shape[1] <= left,
            f'{hook(source, "tables")} after {known} streams: index and shift must both be "B S T" with '
            f"B={codes.shape[0]}, S from 1 to {left}, T={codes.shape[2]}; got {shape} and {tuple(group.shift.shape)}",
        )
        yield known, group
        known += shape[1]
