"""What the targets of all publishers have in common: options in a URL, names with placeholders,
and how a target is shown without its secrets."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pyshim import config
from pyshim.config import redact
from pyshim.errors import ConfigError
from pyshim.publishers.base import Message

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_COLUMNS = ("topic", "group_key", "tenant", "run_id", "event_id")


class Unfit(Exception):
    """This message has not what the target asks of it."""


@dataclass(frozen=True)
class Name:
    """The name of a key, a subject, a routing key, perhaps with placeholders."""

    template: str

    def __post_init__(self) -> None:
        for name in _PLACEHOLDER.findall(self.template):
            if name not in _COLUMNS and not re.fullmatch(r"header\.\S+", name):
                raise ConfigError(
                    f"unknown placeholder {{{name}}} in {self.template!r}",
                    hint="known: {" + "}, {".join(_COLUMNS) + "}, {header.NAME}",
                )

    @functools.cached_property
    def is_own(self) -> bool:
        """Whether a message has a name of its own: what is wrong with it is then nobody else's."""
        return bool(set(_PLACEHOLDER.findall(self.template)) - {"topic"})

    def of(self, message: Message) -> str:
        """The name for one message."""
        return _PLACEHOLDER.sub(lambda found: self._value(message, found[1]), self.template)

    def _value(self, message: Message, name: str) -> str:
        header = name.partition("header.")[2]
        value = message.headers.get(header) if header else getattr(message, name)
        if value is None:
            raise Unfit(f"the event has no {name}, which {self.template!r} asks for")
        return str(value)


def shown(url: str) -> str:
    """Scheme and hosts: no user, no password, and no path or query, which may be secrets too."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{re.split('[/?#]', rest, maxsplit=1)[0].rpartition('@')[2]}"


def split(url: str, kind: str) -> SplitResult:
    """The parts of a URL."""
    try:
        parts = urlsplit(url)
        if "," not in parts.netloc:
            _ = parts.port
        if (not parts.netloc.strip(":@")) or "@" in parts.path + parts.query:
            raise ValueError
    except ValueError:  # its words may hold a part of the password
        raise ConfigError(
            f"what follows {url.partition('://')[0]}:// is not a URL for {kind}",
            hint="write @ : / % ? # in a password as %40 %3A %2F %25 %3F %23",
        ) from None
    return parts


def options(url: str, query: str, known: Collection[str]) -> dict[str, str]:
    """The options of a URL, each of them known."""
    found = dict(parse_qsl(query, keep_blank_values=True))
    for option in found:
        if option not in known:
            raise ConfigError(
                f"unknown option {option!r} in {shown(url)!r}", hint=f"known: {', '.join(known)}"
            )
    return found


def whole(found: Mapping[str, str], option: str, default: int) -> int:
    """A whole number from 1."""
    text = found.get(option)
    if text is None:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{option} is {text!r}; allowed: a whole number from 1")
    return int(text)


def seconds(found: Mapping[str, str], option: str, default: float) -> float:
    """A duration: 10s, 500ms."""
    text = found.get(option)
    given = default if text is None else config.duration(option, text)
    if given <= 0:
        raise ConfigError(f"{option} is {text!r}; allowed: a duration above 0, such as 10s")
    return given


def said(error: BaseException) -> str:
    """An error of a library in one line, without passwords."""
    return redact(" ".join(str(error).split())) or type(error).__name__
