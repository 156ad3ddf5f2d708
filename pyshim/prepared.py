"""Methods of the client that are written once, and answer or await as their connection does."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Protocol, TypeVar, overload

import psycopg

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Connection = psycopg.Connection[Any]
AsyncConnection = psycopg.AsyncConnection[Any]
Rows = Iterable[tuple[Any, ...]]


class Prepared(NamedTuple, Generic[T]):
    """A statement, its arguments, those of them that may be left out, and what its rows mean."""

    statement: str
    arguments: Mapping[str, Any]
    options: Mapping[str, Any]
    shape: Callable[[Rows], T]


class Caller(Protocol):
    """Whoever has methods made by `method`."""

    def _call(
        self,
        connection: Connection | AsyncConnection,
        statement: str,
        arguments: Mapping[str, Any],
        options: Mapping[str, Any],
        shape: Callable[[Rows], Any],
    ) -> Any: ...


class Method(Generic[P, T_co]):
    """A method bound to its client. With a `psycopg.Connection` it answers; with a
    `psycopg.AsyncConnection` it returns something to await."""

    def __init__(self, caller: Any, prepare: Callable[..., Prepared[T_co]]) -> None:
        self._caller = caller
        self._prepare = prepare
        functools.update_wrapper(self, prepare)

    @overload
    def __call__(self, connection: Connection, *args: P.args, **kwargs: P.kwargs) -> T_co: ...

    @overload
    def __call__(
        self, connection: AsyncConnection, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T_co]: ...

    def __call__(self, connection: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
        prepared = self._prepare(self._caller, *args, **kwargs)
        return self._caller._call(connection, *prepared)


class method(Generic[P, T]):
    """Makes a method out of one that says which call it is: its first argument is the connection,
    the others are those of the decorated one."""

    def __init__(self, prepare: Callable[Concatenate[Any, P], Prepared[T]]) -> None:
        self._prepare = prepare
        self.__doc__ = prepare.__doc__

    @overload
    def __get__(self, caller: None, owner: type) -> method[P, T]: ...

    @overload
    def __get__(self, caller: Caller, owner: type) -> Method[P, T]: ...

    def __get__(self, caller: Any, owner: type) -> Any:
        return self if caller is None else Method(caller, self._prepare)
