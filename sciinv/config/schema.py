"""YAML read strictly, and a JSON schema whose complaints name the known keys and the nearest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from sciinv.config.paths import workflows
from sciinv.errors import ConfigError
from sciinv.registry import close_to

_TYPES = {
    "object": "keys with values",
    "array": "a list",
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
}
# Names that other programs use: {what was given: {key: what to do}}.
_MEANT = {"gpu": {"device": "a GPU is called cuda here: write device: cuda"}}
_BOUNDS = {
    "minimum": "{} or more",
    "maximum": "{} or less",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "minItems": "at least {} entries",
    "maxItems": "at most {} entries",
    "minLength": "at least {} characters",
    "minProperties": "at least {} keys",
}
_NUMBER = re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$")


_WHOLE = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$")
_REAL = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?$"
    r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without its silent last-one-wins rule for repeated keys, and without base 60.

    In YAML 1.1 a range 10:50 is the number 650, sixty times ten and fifty; here it stays a text.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML's own place for them
        first: [
            (tag, {"int": _WHOLE, "float": _REAL}.get(tag.rpartition(":")[2], pattern))
            for tag, pattern in resolvers
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            line = key_node.start_mark.line + 1
            if isinstance(key, str) and key in seen and key != "<<":
                raise ConfigError(
                    f"The key {key!r} is given twice",
                    where=f"{key_node.start_mark.name}, line {line}",
                    expected="each key once",
                    got=f"lines {seen[key]} and {line}",
                    remedy="remove one of the two",
                )
            seen[key] = line
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of keys and values.

    Raises:
        ConfigError: It is not there, cannot be parsed, or repeats a key.
    """
    path = Path(path)
    if not path.is_file():
        folder = path.parent
        near = get_close_matches(path.name, [p.name for p in folder.glob("*.y*ml")], 1)
        raise ConfigError(
            "The configuration is not there",
            where=path.absolute(),
            expected="a YAML file",
            got="a folder" if path.is_dir() else "nothing",
            remedy=f"did you mean {folder / near[0]}?" if near else "check the path",
        )
    try:
        with path.open() as stream:
            content = yaml.load(stream, _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(
            "The configuration is no valid YAML",
            where=f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else path,
            got=getattr(error, "problem", None) or error,
            remedy="check the indentation, the colons and the quotes there",
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(
            "The configuration holds no keys",
            where=path,
            expected="keys with values",
            got="an empty file" if content is None else type(content).__name__,
            remedy="see workflows/configs/main.yaml",
        )
    return content


def read_value(text: str, where: object) -> Any:
    """Read one value as a configuration has it: a number, a flag, a list, or a text.

    Raises:
        ConfigError: It is no YAML.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(
            "A value is no valid YAML",
            where=where,
            expected="a number, true or false, a text, or a list such as [0, 90]",
            got=text,
            remedy="close brackets and quotes; quote a text with special characters",
        ) from error


def check_schema(raw: Mapping[str, Any], where: object = None) -> None:
    """Check a configuration against `workflows/schemas/config.schema.yaml`.

    Raises:
        ConfigError: The first thing that is not allowed.
    """
    from jsonschema import Draft202012Validator

    schema = yaml.safe_load((workflows() / "schemas" / "config.schema.yaml").read_text())
    errors = list(Draft202012Validator(schema).iter_errors(raw))
    if errors:
        first = min(errors, key=_rank)
        raise _explain(first, where, len(errors) - 1)


def _rank(error: Any) -> tuple[bool, int]:
    """A misspelt key makes the right one missing: of the two, the misspelt one is the cause."""
    return error.validator != "additionalProperties", len(error.absolute_path)


def _explain(error: Any, where: object, more: int) -> ConfigError:
    key = ".".join(str(p) for p in error.absolute_path)
    place = ", ".join(str(p) for p in (where, key) if p) or None
    also = f" ({more} more to mend)" if more else ""
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = [k for k in error.instance if k not in known]
        hints = [close_to(k, known) for k in unknown]
        return ConfigError(
            f"The configuration has a key that is not known{also}",
            where=place,
            expected=", ".join(known),
            got=", ".join(map(str, unknown)),
            remedy="; ".join(h for h in hints if h) or "remove it",
        )
    if error.validator == "required":
        missing = [k for k in error.validator_value if k not in error.instance]
        return ConfigError(
            f"The configuration lacks a key{also}",
            where=place,
            expected=", ".join(missing),
            got=", ".join(map(str, error.instance)) or "no key",
            remedy=f"add {', '.join(missing)}",
        )
    if error.validator == "enum":
        known = [str(v) for v in error.validator_value]
        return ConfigError(
            f"The configuration has a value that is not known{also}",
            where=place,
            expected=", ".join(known),
            got=error.instance,
            remedy=_MEANT.get(str(error.instance).lower(), {}).get(key.split(".")[-1])
            or close_to(error.instance, known)
            or "choose one of these",
        )
    if error.validator == "type":
        kinds = error.validator_value
        kinds = [kinds] if isinstance(kinds, str) else kinds
        scientific = isinstance(error.instance, str) and _NUMBER.match(error.instance)
        wanted = " or ".join(_TYPES.get(k, k) for k in kinds)
        return ConfigError(
            f"The configuration has a value of the wrong kind{also}",
            where=place,
            expected=wanted,
            got=repr(error.instance),
            remedy="YAML takes 1e-3 for a text: write 1.0e-3" if scientific else f"give {wanted}",
        )
    name = error.instance if error.parent is None else error.parent.instance
    about = error.schema.get("description")
    bound = _BOUNDS.get(str(error.validator))
    if bound is not None:
        expected = bound.format(error.validator_value)
        return ConfigError(
            f"The configuration has a value outside its range{also}",
            where=place,
            expected=f"{expected} ({error.validator} {error.validator_value})"
            + (f": {about}" if about else ""),
            got=repr(name)[:200],
            remedy=f"give {expected}",
        )
    if error.validator == "pattern":
        words = error.schema.get("description") or "another text"
        return ConfigError(
            f"The configuration has a text that is not allowed{also}",
            where=place,
            expected=words,
            got=repr(name)[:200],
            remedy="choose another, of the characters that are allowed",
        )
    return ConfigError(
        f"The configuration has a value that is not allowed{also}",
        where=place,
        expected=f"{error.validator} {error.validator_value}",
        got=repr(name)[:200],
        remedy=about,
    )
