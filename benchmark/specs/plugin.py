"""A plug-in as a run has it: looked up once, with its options, and built from them as often as it takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from .options import create, nested_in, typed
from .registry import Kind, lookup, registered_name, source_hash

T = TypeVar("T")
KINDS: dict[str, Kind] = {"quantizer": "quantizers", "codec": "codecs", "data": "datamodules"}  # by part of a run


@dataclass(frozen=True)
class Plugin(Generic[T]):
    """What a part of a run ("quantizer", "codec", "data") is; `options` are plain JSON values, do not change them."""

    part: str
    name: str  # registered name or preset
    cls: type[T]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The name that a plug-in and its presets share."""
        return registered_name(KINDS[self.part], self.cls) or self.name

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments that the options stand for."""
        return typed(self.part, self.name, self.cls, self.options)

    @property
    def classes(self) -> list[tuple[str, type]]:
        """Names and classes: its own, and those of the quantizers that its options name."""
        return [(self.name, self.cls), *nested_in(self.part, self.cls, self.options)]

    @property
    def sources(self) -> tuple[tuple[str, str], ...]:
        """Names, and digests of the files that define the classes."""
        return tuple((name, source_hash(cls)) for name, cls in self.classes)

    def build(self, *handed_over: Any) -> T:
        """An instance, from what it is handed and its options. UserError, in its own words, where it refuses them."""
        return create(self.part, self.name, self.cls, self.options, *handed_over)

    def having(self, options: Mapping[str, Any]) -> "Plugin[T]":
        """The same under other options."""
        return Plugin(self.part, self.name, self.cls, options)

    def declared(self, attribute: str, default: Any = None) -> Any:
        """What the class says of itself."""
        return getattr(self.cls, attribute, default)

    def as_dict(self) -> dict[str, Any]:
        """Name and options, as records and run files have them."""
        return {"name": self.name, "options": dict(self.options)}


class Nothing:
    """In the place of a quantizer, where there is nothing to train."""


NO_QUANTIZER: Plugin[Nothing] = Plugin("quantizer", "none", Nothing)


def find(part: str, name: str, options: Mapping[str, Any] | None = None) -> Plugin[Any]:
    """The plug-in of a registered name or preset, its options as they are. UserError: there is none."""
    if (part, name) == (NO_QUANTIZER.part, NO_QUANTIZER.name):
        return NO_QUANTIZER
    return Plugin(part, name, lookup(KINDS[part], name)[0], options or {})
