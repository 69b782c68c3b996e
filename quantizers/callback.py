"""Quantizers in anybody's LightningModule: the callback that calls fit(), update() and fit_tables() where they belong.

    |- warm-up: no quantizer -|- fit() -|- quantized, update() after every optimiser step -|- fit_tables() -|

What they learn from it takes from the forwards in training, so that nothing is to be handed over. What is left to the
module: it calls its quantizers as modules, `quantized = self.quantizer(latents)`, and adds `quantized.loss` to its own.
"""

import warnings
from collections import deque
from collections.abc import Iterable
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from .base import Codes, Latents, Quantized, Quantizer

TABLE_POSITIONS = 1 << 16  # of the latest latents in training, from whose codes the coding tables are fitted


class QuantizerCallback(Callback):
    """Does for every outermost Quantizer in training what a method needs beside gradient descent.

    fit() gets the latents of the first forward after the warm-up, before they are quantized. update() gets those of all
    forwards since the last optimiser step, with gradients accumulated too; validation, forwards without a gradient and
    quantizers in eval mode count for nothing. fit_tables() gets the codes that the latest latents have in the end.
    A resumed training starts no quantizer anew.

    Args:
        warmup: share of the training in which quantizers are bypassed.
        fit: False leaves out fit(), for quantizers that were trained before.

    Raises:
        ValueError: a warm-up that is no share; a Trainer that knows no end; one of several processes.
    """

    def __init__(self, warmup: float = 0.0, fit: bool = True) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup={warmup} must be a share of the training: at least 0 and below 1")
        self.warmup, self.fit = warmup, fit
        self._watched: dict[str, _Watched] = {}
        self._fitted: list[str] = []  # before the checkpoint of a resumed training
        self._steps: int | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch the forwards of every outermost quantizer."""
        if trainer.world_size > 1:
            raise ValueError("QuantizerCallback learns from one process; pass devices=1 to the Trainer")
        started, self._fitted, self._steps = self._fitted, [], None
        quantizers = outermost(pl_module)
        self._watched = {name: _Watched(part, not self.fit or name in started) for name, part in quantizers.items()}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Whether the warm-up is over."""
        due = share_done(trainer) >= self.warmup
        for watched in self._watched.values():
            watched.due = due
        self._steps = trainer.global_step if self._steps is None else self._steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After an optimiser step, before a checkpoint is written: update(); after the last one also fit_tables()."""
        if trainer.global_step == self._steps:  # gradients are being accumulated
            return
        self._steps, done = trainer.global_step, share_done(trainer)
        for name, watched in self._watched.items():
            watched.update((done - self.warmup) / (1 - self.warmup))
            if watched.missed():
                warnings.warn(
                    f"QuantizerCallback saw no forward of {name!r} in training: call a quantizer as a module; where it "
                    "is called by step(), call its fit(), update() and fit_tables() yourself",
                    stacklevel=2,
                )
            if done >= 1:
                watched.fit_tables()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The tables of a training that was stopped early too; the quantizers are the module's again."""
        for watched in self._watched.values():
            watched.fit_tables()
            watched.release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let go of the quantizers."""
        for watched in self._watched.values():
            watched.release()

    def state_dict(self) -> dict[str, Any]:
        """Which quantizers have started."""
        return {"fitted": [name for name, watched in self._watched.items() if watched.fitted]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do not start them anew."""
        self._fitted = list(state_dict["fitted"])


class _Watched:
    """A quantizer in training, and what its forwards have shown."""

    def __init__(self, quantizer: Quantizer, fitted: bool) -> None:
        self.quantizer, self.fitted = quantizer, fitted
        self.due = self.called = self.told = False
        self.seen: list[tuple[Latents, Codes]] = []  # since the last optimiser step
        self.latest: deque[Latents] = deque()
        before = quantizer.register_forward_pre_hook(self._before, with_kwargs=True)
        self.hooks = before, quantizer.register_forward_hook(self._after)

    def missed(self) -> bool:
        """Whether it is in training and was never called; true once."""
        self.told, told = True, self.told
        return self.quantizer.training and not self.called and not told

    def update(self, progress: float) -> None:
        """Its own update(), from everything since the last one."""
        if self.seen:
            latents, codes = (_joined(parts) for parts in zip(*self.seen, strict=True))
            self.quantizer.update(latents.to(self.quantizer.float_type), codes, min(max(progress, 0.0), 1.0))
        self.seen.clear()

    @torch.no_grad()
    def fit_tables(self) -> None:
        """Once, on the codes that the latest latents have by now."""
        training = self.quantizer.training
        self.quantizer.eval()
        if self.latest:
            self.quantizer.fit_tables(_joined([self.quantizer(latents).codes for latents in self.latest]))
        self.latest.clear()
        self.quantizer.train(training)

    def release(self) -> None:
        """Its forwards are not watched any more."""
        for hook in self.hooks:
            hook.remove()
        if self.called:
            self.quantizer.bypass = False

    def _learns(self) -> bool:
        return self.quantizer.training and torch.is_grad_enabled()

    def _before(self, quantizer: Quantizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._learns():
            return
        if self.due and not self.fitted:
            latents = (*args, *kwargs.values())[0].detach()
            with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
                quantizer.fit(latents.to(quantizer.float_type))
            self.fitted = True
        self.called, quantizer.bypass = True, not self.due

    def _after(self, quantizer: Quantizer, args: tuple[Any, ...], quantized: Quantized) -> None:
        if not self._learns() or quantizer.bypass:
            return
        self.seen.append((quantized.source, quantized.codes))
        self.latest.append(quantized.source)
        while sum(map(_positions, self.latest)) - _positions(self.latest[0]) >= TABLE_POSITIONS:
            self.latest.popleft()


def outermost(module: nn.Module) -> dict[str, Quantizer]:
    """The quantizers in a module by name, without those inside another one, which calls them itself."""
    quantizers: dict[str, Quantizer] = {}
    for name, part in module.named_modules():
        if isinstance(part, Quantizer) and not any(name.startswith(f"{outer}.") for outer in quantizers):
            quantizers[name] = part
    return quantizers


def share_done(trainer: Trainer) -> float:
    """How much of a training is done, 0 to 1: of its steps, or of the batches of its epochs, whichever ends it first.

    ValueError: neither is limited.
    """
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress.total
    epochs = trainer.max_epochs or -1
    shares = [trainer.global_step / trainer.max_steps] if trainer.max_steps > 0 else []
    if epochs > 0 and trainer.num_training_batches != float("inf"):
        shares.append(progress.processed / (epochs * trainer.num_training_batches))
    if not shares:
        raise ValueError("QuantizerCallback has to know how long a training is; pass the Trainer max_steps, max_epochs")
    return min(1.0, max(shares))


def _positions(latents: Tensor) -> int:
    return latents.shape[0] * latents.shape[2]


def _joined(parts: Iterable[Tensor]) -> Tensor:
    """Sequences "B C T" of any B and T as one, "1 C N"; positions keep their order."""
    return torch.cat([part.transpose(0, 1).flatten(1) for part in parts], 1)[None]
