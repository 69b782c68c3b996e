"""What run files and recipes say: names, seed, bitrate, coder, and the options of each group."""

from pathlib import Path
from typing import Any

import yaml

from ...leaderboards.errors import nearest
from ..errors import UserError
from .options import GROUPS

RECIPES = Path(__file__).parent / "recipes"
QUICK = "quick"
PLAIN_KEYS = ("seed", "bitrate", "coder")
DERIVED_KEYS = ("data_fingerprint", "plugins", "version", "hash")  # what a run's spec.yaml says beyond its options


def read_settings(path: Path) -> dict[str, Any]:
    """What a run file says: names, seed, bitrate, coder, and the options of each group under "options"."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    return settings_of(content, str(path))


def settings_of(content: Any, where: str) -> dict[str, Any]:
    """The settings in a mapping, in the form of read_settings(); `where` it is from begins every complaint."""
    if not isinstance(content, dict):
        raise UserError(f"{where}: must hold settings like `quantizer: nsvq`, one a line")
    settings: dict[str, Any] = {"options": {}}
    for key, value in content.items():
        if key in PLAIN_KEYS:
            settings[key] = value
        elif key in GROUPS:
            name, settings["options"][key] = _group_settings(where, key, value)
            settings |= {key: name} if name else {}
        elif key not in DERIVED_KEYS:
            known = [*GROUPS, *PLAIN_KEYS]
            raise UserError(
                f"{where}: no setting is called {key!r}{nearest(str(key), known)} There are: {', '.join(known)}"
            )
    return settings


def recipes() -> dict[str, Path]:
    """The recipes of `--profile`: name -> file; CODEC-PROFILE are a codec's own."""
    return {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}


def recipe_of(codec: str, profile: str | None) -> dict[str, Any]:
    """The settings of a codec's own recipe, none where it has no quick one. UserError: there is no such recipe."""
    name = f"{codec}-{profile or QUICK}"
    if name in recipes():
        return read_recipe(name)
    if profile is None or profile == QUICK:
        return {}
    profiles = [file.removeprefix(f"{codec}-") for file in recipes() if file.startswith(f"{codec}-")]
    there = sorted({QUICK, *profiles, *recipes()})
    raise UserError(f"no profile is called {profile!r}{nearest(profile, there)} There are: {', '.join(there)}")


def read_recipe(name: str) -> dict[str, Any]:
    """The settings of one of recipes()."""
    return read_settings(recipes()[name])


def _group_settings(where: str, group: str, value: Any) -> tuple[str, dict[str, Any]]:
    named_group = group not in ("training", "ace")
    if named_group and isinstance(value, str | list):
        return ",".join(map(str, [value] if isinstance(value, str) else value)), {}
    if value is not None and not isinstance(value, dict):
        raise UserError(f"{where}: {group} must be {'a name or ' * named_group}settings, not {value!r}")
    rest = dict(value or {})
    name = str(rest.pop("name", "")) if named_group else ""
    nested = rest.pop("options", None) or {}
    return name, {**nested, **rest}
