"""Methods of a module for P variants of its parameters at once: what is evaluated many times over, as SPSA does."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def over_variants(
    owner: nn.Module, method: Callable[..., Tensor], parameters: Mapping[str, Tensor], dims: tuple[int | None, ...] = ()
) -> Callable[..., Tensor]:
    """`method`, which reads parameters of `owner`, mapped over variants of these: name -> "P ...".

    `dims`: of each argument, 0 where it has the variants in front, None where all share it. The result has them too.
    """
    module = _Method(owner, method)
    named = {f"owner.{name}": values for name, values in parameters.items()}

    def variant(values: dict[str, Tensor], *arguments: Any) -> Tensor:
        return torch.func.functional_call(module, values, arguments)

    mapped = torch.func.vmap(variant, (0, *dims))
    return lambda *arguments: mapped(named, *arguments)


class _Method(nn.Module):
    """A method as a module's forward, which functional_call() wants."""

    def __init__(self, owner: nn.Module, method: Callable[..., Tensor]) -> None:
        super().__init__()
        self.owner, self.method = owner, method

    def forward(self, *arguments: Any) -> Tensor:
        return self.method(*arguments)
