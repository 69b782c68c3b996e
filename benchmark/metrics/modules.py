"""The metrics as torchmetrics classes, for use outside of a run: each one is the mean of a function over all items.

    from codecbench.benchmark.metrics.modules import STOI

    stoi = STOI()
    stoi.update(decoded, reference)  # batches; torchmetrics' order: what is judged comes first
    stoi.compute(), stoi.count, stoi.failed

Every declared metric of two signals has a class, made where it is asked for; `classes()` names them all. The functions
themselves, in which the reference comes first, say what each score is and where it is undefined. Signals must already
have the class's `sample_rate`; PESQ and ViSQOL take the time of their libraries, item by item.
"""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from . import base
from .intelligibility import vstoi

SAMPLE_RATE = 16_000  # Hz, that a function is told which takes any
Batch = Float[Tensor, "_ ..."]  # B N or B 3 H W
Measure = Callable[[Tensor, Tensor], Tensor]  # reference, decoded -> one score per item


class ItemMean(Metric):
    """Mean score of the items that have one; abstract, a class names its metric and its function.

    Attributes:
        unit, higher_is_better, sample_rate: of the metric, as declared; sample_rate in Hz, None for any.
        count: items in the mean.
        failed: items without a score (NaN), which are not in the mean.
    """

    unit: ClassVar[str]
    sample_rate: ClassVar[int | None]
    measure: ClassVar[Measure]
    is_differentiable = False
    full_state_update = False
    total: Tensor
    count: Tensor
    failed: Tensor

    def __init_subclass__(cls, metric: base.Metric, measure: Measure, **others: Any) -> None:
        super().__init_subclass__(**others)
        cls.unit, cls.higher_is_better, cls.sample_rate = metric.unit, metric.higher_is_better, metric.sample_rate
        cls.measure = staticmethod(measure)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("failed", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Batch, target: Batch) -> None:
        """Count a batch in: what was decoded, then the references. ValueError where the shapes do not go together."""
        if not self.fit(preds, target):
            raise ValueError(f"decoded {tuple(preds.shape)} and reference {tuple(target.shape)} do not go together")
        scores = type(self).measure(target, preds).to(self.total)
        missing = scores.isnan()
        self.total += scores.where(~missing, 0).sum()
        self.count += (~missing).sum()
        self.failed += missing.sum()

    def fit(self, preds: Batch, target: Batch) -> bool:
        """Whether the shapes go together."""
        return preds.shape == target.shape

    def compute(self) -> Float[Tensor, ""]:
        """The mean; NaN where no item has a score."""
        return self.total / self.count


class VSTOI(ItemMean, metric=base.METRICS["vstoi"], measure=lambda clean, pattern: vstoi(pattern, clean)):
    """Mean STOI of vocoded stimulation patterns "B 22 T" against clean speech "B N"."""

    def fit(self, preds: Batch, target: Batch) -> bool:
        """Items alone are paired."""
        return preds.ndim == 3 and target.ndim == 2 and len(preds) == len(target)


def classes() -> dict[str, type[ItemMean]]:
    """Every class by its name."""
    found: dict[str, type[ItemMean]] = {"VSTOI": VSTOI}
    for metric in base.declared().values():
        if _of_two_signals(metric):
            found.setdefault(_class_name(metric), _made(metric))
    return found


def __getattr__(name: str) -> type[ItemMean]:
    if name.startswith("_") or name not in (found := classes()):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found[name]


def _class_name(metric: base.Metric) -> str:
    return metric.class_name or "".join(map(str.capitalize, metric.name.split("_")))


def _of_two_signals(metric: base.Metric) -> bool:
    """Whether the function can be handed a reference and a decoded signal, and nothing else that items have."""
    taken = inspect.signature(base.load(metric.function)).parameters
    return {"reference", "decoded"} <= taken.keys() and not {"clean", "pattern", "decoded_pattern"} & taken.keys()


@cache
def _made(metric: base.Metric) -> type[ItemMean]:
    function = base.load(metric.function)
    about = (inspect.getdoc(function) or "").partition("\n")[0]
    space = {"__doc__": f"Mean over items of: {metric.title}. {about}".strip(), "__module__": __name__}
    return type(_class_name(metric), (ItemMean,), space, metric=metric, measure=_measure_of(metric, function))


def _measure_of(metric: base.Metric, function: Callable[..., Any]) -> Measure:
    """One score per item of two batches."""
    if metric.apart:
        return _by_item(function)
    told = {"rate": metric.sample_rate or SAMPLE_RATE} if "rate" in inspect.signature(function).parameters else {}
    same = [m.name for m in base.declared().values() if m.function == metric.function]
    return lambda reference, decoded: base.by_name(function(reference, decoded, **told), same)[metric.name]


def _by_item(score: Callable[..., float]) -> Measure:
    """A function of two batches, of one of two NumPy signals."""

    def measure(reference: Tensor, decoded: Tensor) -> Tensor:
        pairs = zip(reference.detach().cpu().numpy(), decoded.detach().cpu().numpy(), strict=True)
        return reference.new_tensor([score(*pair) for pair in pairs])

    return measure
