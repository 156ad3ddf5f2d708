"""Schema names: which may be used, and how they are written in SQL."""

from __future__ import annotations

import re

from pyshim.errors import SchemaNameError

ROLES = ("producer", "worker", "operator", "monitor")

_MAX_BYTES = 63
_SIMPLE = re.compile(r"[a-z_][a-z0-9_]*")
# Quotes, backslash, dollar and percent would end or bend a literal, a body or a message somewhere.
_REFUSED = re.compile(r"[\"'`\\$%\x00-\x1f\x7f]")
_RESERVED_SCHEMAS = ("information_schema", "pg_catalog", "pg_toast")

# Every key word that PostgreSQL 14 to 18 does not call "unreserved" (pg_get_keywords).
_KEYWORDS = frozenset(
    """
    all analyse analyze and any array as asc asymmetric authorization between bigint binary bit
    boolean both case cast char character check coalesce collate collation column concurrently
    constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user dec decimal default deferrable desc distinct do else end except
    exists extract false fetch float for foreign freeze from full grant greatest group grouping
    having ilike in initially inner inout int integer intersect interval into is isnull join
    json json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar
    json_serialize json_table json_value lateral leading least left like limit localtime
    localtimestamp merge_action national natural nchar none normalize not notnull null nullif
    numeric offset on only or order out outer overlaps overlay placing position precision primary
    real references returning right row select session_user setof similar smallint some substring
    symmetric system_user table tablesample then time timestamp to trailing treat trim true union
    unique user using values varchar variadic verbose when where window with xmlattributes
    xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize
    xmltable
    """.split()
)


def quote_ident(name: str) -> str:
    """`name` as a SQL identifier, in double quotes only where they are needed."""
    if _SIMPLE.fullmatch(name) and name not in _KEYWORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


def check_schema_name(name: str, *, roles: bool = False) -> str:
    """Return `name` when it can be a schema of ours; else raise `SchemaNameError` with the reason.

    With `roles` the name must leave room for the longest role suffix, `_producer`.
    """

    def refuse(reason: str) -> SchemaNameError:
        return SchemaNameError(
            f"schema name {name!r} {reason}",
            hint="choose another with --schema or TIDEGATE_SCHEMA, such as app_jobs",
        )

    if not name:
        raise refuse("is empty")
    refused = _REFUSED.search(name)
    if refused:
        raise refuse(
            f"contains {refused.group()!r}; quotes, backslashes, '$', '%' and control characters"
            " are not allowed"
        )
    if name != name.strip():
        raise refuse("begins or ends with a space")
    if name.startswith("pg_") or name in _RESERVED_SCHEMAS:
        raise refuse("is reserved by PostgreSQL")
    suffix = max(len(role) for role in ROLES) + 1 if roles else 0
    size = len(name.encode("utf-8"))
    if size + suffix > _MAX_BYTES:
        room = f", {_MAX_BYTES - suffix} with room for role names" if roles else ""
        raise refuse(f"is {size} bytes long; PostgreSQL allows {_MAX_BYTES}{room}")
    return name
