"""How a stream of codes uses its alphabet, counted over the whole test set."""

from jaxtyping import Int
from torch import Tensor

Symbols = Int[Tensor, "..."]  # all the symbols of one stream


def empirical_entropy(symbols: Symbols) -> float:
    """Bits per symbol that an ideal code fitted to these very symbols spends; NaN without symbols."""
    counts = symbols.unique(return_counts=True)[1].double()
    probabilities = counts / counts.sum()
    return float(-(probabilities * probabilities.log2()).sum()) if len(counts) else float("nan")


def perplexity(symbols: Symbols) -> float:
    """2 to the empirical entropy: how many symbols used equally often would carry as much."""
    return 2.0 ** empirical_entropy(symbols)


def dead_codewords(symbols: Symbols, alphabet: int | None) -> float:
    """Symbols of the alphabet that are never used; NaN where the alphabet is open."""
    return float("nan") if alphabet is None else float(alphabet - len(symbols.unique()))


def used_fraction(symbols: Symbols, alphabet: int | None) -> float:
    """Share of the alphabet that is used; NaN where the alphabet is open."""
    return float("nan") if alphabet is None else len(symbols.unique()) / alphabet


def codebook_use(codes: Int[Tensor, "B S T"], alphabet: tuple[int | None, ...]) -> dict[str, list[float]]:
    """Every figure of this file, one per stream."""
    streams = list(zip(codes.unbind(1), alphabet, strict=True))
    return {
        "entropy": [empirical_entropy(symbols) for symbols, _ in streams],
        "perplexity": [perplexity(symbols) for symbols, _ in streams],
        "dead": [dead_codewords(symbols, size) for symbols, size in streams],
        "used_fraction": [used_fraction(symbols, size) for symbols, size in streams],
    }
