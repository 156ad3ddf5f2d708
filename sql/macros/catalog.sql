{# What the catalog holds of an installation: every routine and view of the schema, and the SHA-256
   of its definition. Deparsed text depends on the search_path: the caller sets it to this schema. #}
{% macro definitions() -%}
select
    p.proname || '(' || pg_catalog.oidvectortypes(p.proargtypes) || ')' as routine,
    p.proname::text as name,
    'routine' as kind,
    p.oid,
    pg_catalog.encode(
        pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.pg_get_functiondef(p.oid), 'UTF8')), 'hex'
    ) as definition
from pg_catalog.pg_proc as p
inner join pg_catalog.pg_namespace as n on p.pronamespace = n.oid
where n.nspname = {{ schema_literal }} and p.prokind in ('f', 'p')
union all
select
    c.relname::text as routine,
    c.relname::text as name,
    'view' as kind,
    c.oid,
    pg_catalog.encode(
        pg_catalog.sha256(
            pg_catalog.convert_to(
                pg_catalog.pg_get_viewdef(c.oid) || coalesce(c.reloptions::text, ''), 'UTF8'
            )
        ),
        'hex'
    ) as definition
from pg_catalog.pg_class as c
inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
where n.nspname = {{ schema_literal }} and c.relkind = 'v'
{%- endmacro %}
