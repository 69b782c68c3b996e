"""Training in phases: the child modules that a codec names are trained one after another, each on its share of steps.

    phase 0: |- warm-up -|- fit -|- quantizers ... -|- cool-down -|   phase 1: |- warm-up -|- fit -| ...

In a phase its child alone gets gradients and is in training mode; those before it are frozen as they were left, those
after it contribute nothing. Warm-up, fit, progress and learning rate are those of a training of its own.
"""

from collections.abc import Collection
from typing import NamedTuple

from torch import nn

from ...codecs.base import Codec
from ...quantizers.base import Quantizer
from ..errors import UserError


class Stretch(NamedTuple):
    """The steps begin <= step < end of a run, in which one phase is trained."""

    phase: int
    begin: int
    end: int

    def after(self, share: float) -> int:
        """The step at which so much of the stretch is over."""
        return self.begin + round(share * (self.end - self.begin))


def stretch_of(step: int, steps: int, phases: int) -> Stretch:
    """The stretch that holds a step of a run; `steps` are divided evenly, the last step belongs to the last phase."""
    ends = [round((phase + 1) * steps / phases) for phase in range(phases)]
    phase = next((phase for phase, end in enumerate(ends) if step < end), phases - 1)
    return Stretch(phase, ends[phase - 1] if phase else 0, ends[phase])


def trainable(codec: Codec) -> set[str]:
    """Names of the parameters that gradients are to train."""
    return {name for name, parameter in codec.named_parameters() if parameter.requires_grad}


def check_phases(codec: Codec, steps: int) -> None:
    """UserError where a codec cannot be trained in its phases, in so many steps."""
    if steps < len(codec.phases):
        raise UserError(
            f"{type(codec).__name__} trains in {len(codec.phases)} phases; "
            f"--training.steps {steps} must be at least as many"
        )
    for phase in codec.phases:
        if not _learns(codec.get_submodule(phase)):
            where = f" in {phase}" if phase else ""
            raise UserError(f"{type(codec).__name__} has nothing to train{where}; choose a quantizer that learns")


def enter(codec: Codec, phase: int, trained: Collection[str]) -> None:
    """Make a codec train one of its phases: of the parameters in `trained` those of its child alone."""
    codec.phase = phase
    name = codec.phases[phase]
    codec.eval()
    codec.get_submodule(name).train()
    for parameter, values in codec.named_parameters():
        values.requires_grad_(parameter in trained and (not name or parameter.startswith(f"{name}.")))


def leave(codec: Codec, trained: Collection[str]) -> None:
    """All phases contribute, all of `trained` would get gradients again."""
    codec.phase = None
    for parameter, values in codec.named_parameters():
        values.requires_grad_(parameter in trained)


def _learns(child: nn.Module) -> bool:
    """Whether gradients train a parameter, or a quantizer has one: k-means and moving averages train theirs without."""
    quantizers = (module for module in child.modules() if isinstance(module, Quantizer))
    return any(p.requires_grad for p in child.parameters()) or any(list(q.parameters()) for q in quantizers)
