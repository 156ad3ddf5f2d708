"""docs/reference.md: what the catalog of an installation says of its functions, types and views.

`make golden` writes the file; the golden test fails when it is out of step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from pyshim import assets, errors
from pyshim.names import ROLES

HEAD = """\
# Reference

Written by `make golden` from the catalog of an installation: the words are those that `\\df+` and
`\\dT+` show. All of it stands in the schema that you installed into. The owner may call everything;
the roles exist where it was installed with `--roles`.
"""

FUNCTIONS = """
select
    p.proname as name,
    obj_description(p.oid, 'pg_proc') as comment,
    array(
        select format('%%s %%s', p.proargnames[a.place], format_type(a.type, null))
            || coalesce(' default ' || pg_get_function_arg_default(p.oid, a.place::integer), '')
        from unnest(p.proargtypes::oid[]) with ordinality as a (type, place)
        order by a.place
    ) as arguments,
    coalesce(
        (
            select string_agg(
                format('%%s %%s', a.name, format_type(a.type, null)), ', ' order by a.place
            )
            from unnest(p.proargnames, p.proallargtypes, p.proargmodes) with ordinality
                as a (name, type, mode, place)
            where a.mode = 'o'
        ),
        lower(pg_get_function_result(p.oid))
    ) as result,
    array(
        select r.name
        from unnest(%(roles)s::text[]) with ordinality as r (name, place)
        where has_function_privilege(current_schema || '_' || r.name, p.oid, 'execute')
        order by r.place
    ) as roles
from unnest(%(names)s::text[]) with ordinality as f (name, place)
inner join pg_proc as p on f.name = p.proname and p.pronamespace = current_schema::regnamespace
order by f.place
"""

# What a caller sees rows of: composite types, views, and tables that a public function returns.
ROWS = """
select
    c.relname as name,
    case c.relkind when 'v' then 'view' when 'r' then 'table' else 'type' end as kind,
    coalesce(obj_description(c.reltype, 'pg_type'), obj_description(c.oid, 'pg_class')) as comment,
    (
        select jsonb_agg(
            jsonb_build_array(
                a.attname, format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum)
            )
            order by a.attnum
        )
        from pg_attribute as a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    ) as columns,
    array(
        select r.name
        from unnest(%(roles)s::text[]) with ordinality as r (name, place)
        where has_table_privilege(current_schema || '_' || r.name, c.oid, 'select')
        order by r.place
    ) as roles
from pg_class as c
where c.relnamespace = current_schema::regnamespace
    and (
        c.relkind in ('c', 'v')
        or exists (
            select from pg_proc as p
            where p.pronamespace = c.relnamespace and p.prorettype = c.reltype
                and not starts_with(p.proname, '_')
        )
    )
order by kind, name
"""


def reference(connection: psycopg.Connection[Any], schema: str) -> str:
    """The whole page, of an installation with roles."""
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        cursor.execute("select set_config('search_path', %s, true)", (schema,))
        page = "\n".join([HEAD, *_functions(cursor), *_rows(cursor), *_errors()])
    return page.replace("timestamp with time zone", "timestamptz")


def _functions(cursor: psycopg.Cursor[Any]) -> Iterator[str]:
    """Every public function, room by room in the order of install.sql."""
    rooms: dict[str, list[str]] = {}
    for path in assets.routines():
        kind, room, *file = path.split("/")
        if kind == "functions" and not file[0].startswith("_"):
            rooms.setdefault(room, []).append(file[0].removesuffix(".sql"))
    for room, names in rooms.items():
        yield f"## {room.capitalize().replace('_', ' ')}\n"
        for function in cursor.execute(FUNCTIONS, {"names": names, "roles": list(ROLES)}):
            yield f"### {function.name}\n"
            yield f"```sql\n{_signature(function)}\n```\n"
            may_call = ", ".join(function.roles) or "the owner"
            yield f"{_text(function.comment)} *May call it: {may_call}.*\n"


def _signature(function: Any) -> str:
    # A default is written with its type, which stands beside it already.
    arguments = [
        re.sub(r"::[\w ]+(\[\])?$", "", each).replace("NULL", "null") for each in function.arguments
    ]
    line = f"{function.name}({', '.join(arguments)}) → {function.result}"
    if len(line) <= 120:
        return line
    return f"{function.name}(\n    " + ",\n    ".join(arguments) + f"\n) → {function.result}"


def _rows(cursor: psycopg.Cursor[Any]) -> Iterator[str]:
    """Types, views and tables with their columns."""
    yield "## Types, views, tables\n"
    for row in cursor.execute(ROWS, {"roles": list(ROLES)}):
        yield f"### {row.name} ({row.kind})\n"
        may_read = f" *May read it: {', '.join(row.roles)}.*" if row.roles else ""
        yield f"{_text(row.comment)}{may_read}\n"
        if any(comment for _, _, comment in row.columns):
            yield "| column | type | |\n|---|---|---|"
            for name, kind, comment in row.columns:
                yield f"| {name} | {kind} | {_text(comment or '').replace('|', '&#124;')} |"
            yield ""
        else:
            yield (
                "Columns: " + ", ".join(f"`{name}` {kind}" for name, kind, _ in row.columns) + ".\n"
            )


def _errors() -> Iterator[str]:
    """The SQLSTATEs, from the driver's list of them."""
    yield "## Errors\n\n| SQLSTATE | raised when | in Python (`pyshim.errors`) |\n|---|---|---|"
    for state, kind in sorted(errors.BY_SQLSTATE.items()):
        meaning = " ".join((kind.__doc__ or "").split())
        yield f"| {state} | {_text(meaning)} | `{kind.__name__}` |"
    yield "\nThese are never raised; rows of `incident` carry them:\n\n| code | met |\n|---|---|"
    for state, meaning in sorted(errors.INCIDENTS.items()):
        yield f"| {state} | {_text(meaning)} |"
    yield ""


def _text(text: str) -> str:
    """Plain words as Markdown: identifiers and comparisons must not become markup."""
    return re.sub(r"([*<>])|(?<=\W)_|_(?=\W)", lambda found: "\\" + found[0], text)
