"""What the executable contracts of quantizers and codecs are made of: run named checks, compare states, demand.

A check raises AssertionError with what must hold, what was got, and what to write instead in which of the plug-in's
methods, never in a final one.
"""

import inspect
import traceback
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..base import Latents, Nested, Noise, Quantized, Quantizer
from ..parts.finals import is_final, written

Make = Callable[[], Quantizer]
TOLERANCE = 1e-5  # float32 results depend on the batch's size in their last bits
FITTED_ON = (16, 128)  # items and positions of the latents that a quantizer is fitted on
POSITIONS = 7


class Result(NamedTuple):
    """What became of one check; `message` is empty, or why it failed, or why that was expected."""

    name: str
    passed: bool
    message: str
    seconds: float


def run_named(
    checks: Mapping[str, Callable[[], None]], expected_failures: Mapping[str, str] | None = None
) -> list[Result]:
    """Run named checks one by one; a failure that was expected counts as passed, an expected one that is absent fails.

    Raises:
        ValueError: `expected_failures` names a check that does not exist.
    """
    expected = dict(expected_failures or {})
    for name in expected.keys() - checks.keys():
        raise ValueError(f"no check is called {name}; there are {', '.join(checks)}")
    results = []
    for name, check in checks.items():
        start = perf_counter()
        try:
            seeded(check)
            failure = ""
        except AssertionError as error:
            failure = str(error)
        except Exception as error:  # a plug-in may raise anything
            failure = f"{_raiser(error)}{type(error).__name__}: {' '.join(str(error).split())}"
        passed, message = not failure, failure
        if name in expected:
            passed = not passed
            message = f"expected: {expected[name]}" if passed else f"passes; no longer expect: {expected[name]}"
        results.append(Result(name, passed, message, perf_counter() - start))
    return results


def built(cls: type[Quantizer], channels: int, options: Mapping[str, Any]) -> Quantizer:
    """A quantizer with options as for_rate() gives them; "stage.option" goes to the Nested that `stage` defaults to."""
    plain = {option: value for option, value in options.items() if "." not in option}
    for option, value in options.items():
        if "." in option:
            name, _, inner = option.partition(".")
            stage = plain.get(name) or inspect.signature(cls).parameters[name].default
            plain[name] = Nested(stage.cls, {**stage.options, inner: value})
    return cls(channels, **plain)


def demand(holds: bool | Tensor, message: str) -> None:
    """Raise AssertionError with `message` unless it holds (python -O keeps it)."""
    if not holds:
        raise AssertionError(message)


def hook(module: nn.Module, *names: str) -> str:
    """What a plug-in writes to change what these methods do, for messages."""
    return " or ".join(dict.fromkeys(written(type(module), name) for name in names))


def seeded(function: Callable[..., Any], *arguments: Any, seed: int = 0) -> Any:
    """Call it under a torch seed and leave the generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return function(*arguments)


def close(first: Tensor, second: Tensor) -> bool:
    """Equal up to what the batch's size does to float32."""
    return first.shape == second.shape and torch.allclose(first, second, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)


def entropy(stream: Tensor) -> float:
    """Bits per symbol of a stream's own histogram (biased low where symbols are few)."""
    _, counts = stream.reshape(-1).unique(return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * shares.log2()).sum())


def same(first: Any, second: Any) -> bool:
    """The same tensors bit for bit, in tuples too."""
    if isinstance(first, Tensor):
        return first.dtype == second.dtype and torch.equal(first.nan_to_num(nan=0.5), second.nan_to_num(nan=0.5))
    return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of everything that a checkpoint holds."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def changes(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that two states do not share bit for bit."""
    return [
        name
        for name in {**before, **after}
        if name not in before or name not in after or not same(before[name], after[name])
    ]


def check_fields(quantizer: Quantizer, out: Quantized, positions: int) -> None:
    """jaxtyping does not look into a NamedTuple; this does."""
    channels, streams, dtype = quantizer.channels, len(quantizer.alphabet), quantizer.float_type
    wanted = {
        "latents": ((3, channels, positions), dtype),
        "codes": ((3, streams, positions), torch.int64),
        "loss": ((), dtype),
        "bits": ((3, positions), dtype),
        "source": ((3, channels, positions), dtype),
    }
    coding = coded_by(quantizer)
    for name, (shape, kind) in wanted.items():
        got = getattr(out, name)
        demand(
            tuple(got.shape) == shape and got.dtype == kind,
            f"Quantized.{name} must be {shape} of {kind} in {mode(quantizer)}, got {tuple(got.shape)} of {got.dtype}; "
            f"correct {coding if name in ('latents', 'codes') else hook(quantizer, 'objective')}",
        )
    demand(bool(out.latents.isfinite().all()), f"latents of finite latents must be finite; correct {coding}")
    demand(
        bool(out.loss.isfinite() and (out.bits >= 0).all()),
        f"loss must be finite and bits at least 0; correct {hook(quantizer, 'objective')}",
    )


def objective_of(output: Tensor, quantized: tuple[Quantized, ...]) -> Tensor:
    """A loss that touches all a trainer may touch: the output, auxiliary losses, and bits that have a gradient."""
    total = (output * seeded(torch.randn_like, output)).sum()
    for part in quantized:
        total = total + part.loss + (part.bits.mean() if part.bits.requires_grad else 0.0)
    return total


def check_gradients(module: nn.Module, loss: Tensor) -> None:
    """Every parameter that asks for a gradient gets a finite one that is not all zero."""
    used = hook(module, "surrogate", "objective") if isinstance(module, Quantizer) else hook(module, "forward")
    module.zero_grad()
    loss.backward()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            gradient = parameter.grad
            demand(
                gradient is not None and bool(gradient.isfinite().all() and gradient.any()),
                f"the gradient of {name} is missing, zero, NaN or infinite, for output, loss and bits together; use it "
                f"in {used}, or set requires_grad=False",
            )


def check_state_is_kept(module: nn.Module, first_input: Tensor, other_input: Tensor) -> None:
    """Neither the checkpoint's state nor hidden state in Python changes in a forward."""
    kept = "from forward() to its quantizers' update()"
    if isinstance(module, Quantizer):
        kept = f"from {coded_by(module)} to {hook(module, 'update')}"
    before = state_of(module)
    first = seeded(module, first_input)
    module(other_input)
    moved = changes(before, state_of(module))
    demand(not moved, f"a forward in {mode(module)} changed {', '.join(moved)}; move that {kept}")
    demand(
        same(first, seeded(module, first_input)),
        f"the same forward in {mode(module)} gives another result the second time; move what it keeps {kept}",
    )


def fresh(make: Make, training: bool = False) -> Quantizer:
    """A new quantizer, the same at every call as far as torch's seed goes."""
    return seeded(make).train(training)


def ready(make: Make, training: bool = False) -> Quantizer:
    """A quantizer as it is after its start: fitted on latents."""
    quantizer = fresh(make, training=True)
    with torch.no_grad():
        seeded(quantizer.fit, sample(quantizer, *FITTED_ON))
    return quantizer.train(training)


def sample(quantizer: Quantizer, batch: int = 3, positions: int = POSITIONS, seed: int = 1) -> Latents:
    """Standard normal latents "B C T"."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, quantizer.channels, positions, generator=generator, dtype=quantizer.float_type)


def drawn(quantizer: Quantizer, latents: Latents) -> Noise:
    """The noise of these latents, the same at every call."""
    return seeded(quantizer.draw, latents.shape[0], latents.shape[2])


def coded_by(quantizer: Quantizer) -> str:
    """What a plug-in writes to change what a forward does in the present mode, for messages."""
    return hook(quantizer, *(("surrogate",) if quantizer.training else ("encode", "decode")))


def mode(module: nn.Module) -> str:
    """Its name in messages."""
    return "training" if module.training else "evaluation"


def _raiser(error: Exception) -> str:
    """The innermost method of a module that an error came out of and that is not final: "tables(): "."""
    name = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner, method = frame.f_locals.get("self", frame.f_locals.get("cls")), frame.f_code.co_name
        cls = owner if isinstance(owner, type) else type(owner)
        member = getattr(cls, method, None)
        if issubclass(cls, nn.Module) and member is not None and not is_final(member) and method != "_call_impl":
            name = f"{method}(): "
    return name
