"""The objective of SPSA: mean VSTOI of many decoded variants of the same patterns, what is clean computed once."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ...datamodules.cochlear.ace import SAMPLE_RATE, AceConfig
from ...datamodules.cochlear.vocoder import vocode
from ..metrics.intelligibility import FEW_ITEMS, MANY_ITEMS, Reference
from .intelligibility import balanced_vstoi, mean_score


class StackedVSTOI:
    """Scores decoded patterns "P B M T" against B clean signals at 16 kHz.

    Args:
        clean: of each item, its samples "N"; lengths may differ, and frames beyond an item's samples do not count.
        pattern: the uncoded patterns "B M T"; with a limit their VSTOI is what eq. 3 compares with.
        config: of the front end.
        limit: L of eq. 3; None: plain VSTOI.
    """

    def __init__(
        self,
        clean: Sequence[Float[Tensor, " N"]] | Float[Tensor, "B N"],
        pattern: Float[Tensor, "B M T"],
        config: AceConfig = AceConfig(),  # noqa: B008
        limit: float | None = None,
    ) -> None:
        self.config, self.limit = config, limit
        self.samples = [len(signal) for signal in clean]
        self.references = [Reference(signal[None], SAMPLE_RATE) for signal in clean]
        self.uncoded = None if limit is None else self.scores(pattern[None])[0]

    @torch.no_grad()
    def __call__(self, decoded: Float[Tensor, "P B M T"]) -> Float[Tensor, " P"]:
        """The mean over the items that have a score; NaN where none has."""
        scores = self.scores(decoded)
        if self.limit is not None and self.uncoded is not None:
            scores = balanced_vstoi(scores, self.uncoded, self.limit)
        return mean_score(scores)

    @torch.no_grad()
    def scores(self, decoded: Float[Tensor, "P B M T"]) -> Float[Tensor, "P B"]:
        """VSTOI of every item, as `vstoi` gives it."""
        items = zip(self.references, self.samples, decoded.unbind(1), strict=True)
        return torch.stack([self._item(*item) for item in items], 1)

    def _item(self, reference: Reference, samples: int, decoded: Tensor) -> Tensor:
        decoded = decoded[..., : -(-samples // self.config.hop)]
        few = FEW_ITEMS if decoded.device.type == "cpu" else MANY_ITEMS  # what is vocoded is scored while in the cache
        return torch.cat([reference.stoi(vocode(part, samples, self.config)) for part in decoded.split(few)])
