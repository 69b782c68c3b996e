"""What is final stays final, at run time too: an override would be passed over in one frame loop or another."""

from typing import Any


def is_final(member: Any) -> bool:
    """Whether a member of a class is marked by typing.final, a property by its getter."""
    return getattr(getattr(member, "fget", None) or member, "__final__", False)


def written(cls: Any, name: str) -> str:
    """What a plug-in of this class writes to change what `name` does: "encode()", or what a base derives it from."""
    for base in cls.__mro__:
        if name in vars(base).get("instead", {}):
            return base.instead[name]
        if name in vars(base):
            return name if isinstance(vars(base)[name], property) else f"{name}()"
    raise AttributeError(f"{cls.__name__} has no {name}")


def refuse_overrides(cls: Any) -> None:
    """TypeError where a class overrides what a base of it has marked as final; it says what to write instead."""
    for name in vars(cls):
        for base in cls.__mro__[1:]:
            if is_final(vars(base).get(name)):
                stated = any(name in vars(parent).get("instead", {}) for parent in base.__mro__)
                hint = f"write {written(base, name)} instead" if stated else "call yours otherwise"
                raise TypeError(f"{cls.__name__}.{name} overrides what is final in {base.__name__}; {hint}")
