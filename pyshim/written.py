"""Python values as JSON that a jsonb can hold."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any

from pyshim.errors import BadArgument

Dumps = Callable[[Any], "str | bytes"]

DUMPS: Dumps = functools.partial(json.dumps, allow_nan=False, ensure_ascii=False)

# A pair of surrogates, or what a jsonb cannot hold: half of one, or U+0000; or any other escape.
_ESCAPES = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\u0000)"
    r"|\\."
)
_HOW = "say how: Client(dumps=functools.partial(json.dumps, default=str))"


def as_json(name: str, value: Any, dumps: Dumps = DUMPS, *, hint: str = _HOW) -> str:
    """`value` as JSON that a jsonb can hold, or `BadArgument` before the server sees it: its
    refusal would end the caller's transaction. `hint` is for types that `dumps` does not know."""
    try:
        written = dumps(value)
        text = written if isinstance(written, str) else written.decode()
        text.encode()
    except UnicodeEncodeError as error:
        raise no_character(name, ascii(error.object[error.start])[1:-1]) from None
    except TypeError as error:
        raise BadArgument(f"{name} cannot be written as JSON: {error}", hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise BadArgument(
            f"{name} cannot be written as JSON: {error}",
            hint="JSON has no NaN or Infinity, and no circles: send null or a string instead",
        ) from error
    if "\\u" in text:
        for escape in _ESCAPES.finditer(text):
            if escape[1]:
                raise no_character(name, escape[1])
    return text


def no_character(name: str, escape: str) -> BadArgument:
    """What is said of a text that a text of PostgreSQL cannot hold."""
    return BadArgument(
        f"{name} holds {escape}, which PostgreSQL cannot store as a character",
        hint="take it out, or send the text as base64",
    )
