"""The commented configuration that `overread init` writes."""

from typing import Any

from daemon.config import Settings
from daemon.config.sections import DestinationSection, Section


def template(listener: dict[str, Any], destinations: list[DestinationSection]) -> str:
    """Return a commented configuration with every key; `listener` replaces defaults."""
    lines = ["# Overread's configuration. The environment overrides it, for example OVERREAD_LISTENER__PORT=104."]
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if not (isinstance(section, type) and issubclass(section, Section)):
            continue
        lines += ["", f"# {section.__doc__}", f"[{name}]"]
        for key, option in section.model_fields.items():
            value = listener.get(key, option.default) if name == "listener" else option.default
            lines += [f"# {option.description}", _assignment(key, value)]
    if not destinations:
        lines += ["", f"# {DestinationSection.__doc__}", "# [[destination]]"]
        for key, option in DestinationSection.model_fields.items():
            value = "pacs" if option.is_required() else option.default
            lines += [f"# {option.description}", f"# {_assignment(key, value).removeprefix('# ')}"]
    for destination in destinations:
        lines += ["", f"# {DestinationSection.__doc__}", "[[destination]]"]
        lines += [_assignment(key, value) for key, value in destination.model_dump().items()]
    return "\n".join(lines) + "\n"


def _assignment(key: str, value: object) -> str:
    if value is None:
        return f"# {key} ="
    if isinstance(value, bool):
        return f"{key} = {str(value).lower()}"
    if isinstance(value, int | float):
        return f"{key} = {value}"
    if isinstance(value, tuple | list):
        return f"{key} = [{', '.join(_quoted(v) for v in value)}]"
    return f"{key} = {_quoted(value)}"


def _quoted(value: object) -> str:
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
