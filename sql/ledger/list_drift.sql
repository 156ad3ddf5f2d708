{%- from "macros/catalog.sql" import definitions -%}
{#- `sources`: as in record_routines. One row per routine that is not as it should be. -#}
with in_catalog as (
    {{ definitions() | indent(4) }}
),

expected (name, checksum) as (
    values
    (null::text, null::text)
{%- for name, checksum in sources %},
    ('{{ name }}', '{{ checksum }}')
{%- endfor %}
)

select
    coalesce(r.routine, c.routine, e.name) as routine,
    case
        when r.routine is null and c.routine is null then 'not yet installed'
        when r.routine is null then 'not part of Tidegate'
        when c.routine is null then 'missing'
        when c.definition <> r.definition then 'changed by hand'
        when e.name is null then 'not in this release'
        when e.checksum <> r.source then 'of another release'
    end as drift
from {{ schema }}.routine as r
full join in_catalog as c on r.routine = c.routine
full join expected as e
    on coalesce(c.name, pg_catalog.split_part(r.routine, '(', 1)) = e.name
where
    coalesce(r.routine, c.routine, e.name) is not null
    and (
        r.definition is distinct from c.definition
        or r.source is distinct from e.checksum
    )
order by 1;
