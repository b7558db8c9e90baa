"""The strategies file as parameters: YAML in, a located complaint or the accounts out. Reading the file is the shell's."""

import re

import msgspec

from core.accounts.params import AccountParams, Plan, by_account

_PATH = re.compile(r"^(?P<text>.*?) - at `(?P<path>\$[^`]*)`$", re.DOTALL)
FOUND_LIMIT = 80  # characters of a found value that a complaint shows


def parsed(content: bytes) -> dict[str, AccountParams]:
    """Return the accounts of a strategies file, by name. Raises ValueError: path, what was expected, what was found."""
    try:
        plan = msgspec.yaml.decode(content, type=Plan)
    except msgspec.ValidationError as error:
        raise ValueError(explained(str(error), content)) from error
    except msgspec.DecodeError as error:
        raise ValueError(f"the file: expected YAML, was none: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ValueError("the file: expected YAML of a few levels, was nested too deeply") from error
    except ValueError as error:  # a number of thousands of digits
        raise ValueError(f"the file: expected values that can be read, was: {error}") from error
    return by_account(plan)


def explained(complaint: str, content: bytes) -> str:
    """Return msgspec's complaint as ours, with the value that stands there."""
    match = _PATH.match(complaint)
    text, path = (match["text"], match["path"]) if match else (complaint, "$")
    where = path.removeprefix("$.") if path != "$" else "the file"
    text = text.replace("`", "").removeprefix("Expected ").split(", got ")[0]
    if text.startswith("Object contains unknown field "):
        return f"{where}: expected known keys only, was {text.removeprefix('Object contains unknown field ')}"
    if text.startswith("Object missing required field "):
        return f"{where}: expected the key {text.removeprefix('Object missing required field ')}, which is missing"
    if text.startswith("Invalid "):
        text = f"an allowed value ({text[0].lower()}{text[1:]})"
    return f"{where}: expected {text}, was {found_at(content, path)}"


def found_at(content: bytes, path: str) -> str:
    """Return what stands at a path like $.strategies[2].size_pct, short."""
    value = msgspec.yaml.decode(content)
    try:
        for name, position in re.findall(r"\.(\w+)|\[(\d+)\]", path):
            value = value[name] if name else value[int(position)]
        text = repr(value)
    except (LookupError, TypeError, RecursionError):
        return "something else"
    return text if len(text) <= FOUND_LIMIT else text[:FOUND_LIMIT] + "…"
