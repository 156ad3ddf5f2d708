{%- from "macros/catalog.sql" import definitions -%}
{#- `sources`: (name, checksum of the file) of every routine and view in install.sql. -#}
-- Remember what was just applied, so that a change by hand is seen later.
do $$
declare
    v_path text := pg_catalog.current_setting('search_path');
begin
    perform pg_catalog.set_config('search_path', pg_catalog.quote_ident({{ schema_literal }}) || ', pg_temp', true);
{%- if sources %}
    create temporary table tidegate_installed on commit drop as
    select d.routine, d.kind, s.checksum as source, d.definition
    from (
        {{ definitions() | indent(8) }}
    ) as d
    inner join (
        values
{%- for name, checksum in sources %}
        ('{{ name }}', '{{ checksum }}'){{ "," if not loop.last }}
{%- endfor %}
    ) as s (name, checksum) on d.name = s.name;

    delete from {{ schema }}.routine as r
    where not exists (select from tidegate_installed as i where i.routine = r.routine);

    insert into {{ schema }}.routine as r (routine, kind, source, definition, version)
    select i.routine, i.kind, i.source, i.definition, '{{ version }}'
    from tidegate_installed as i
    on conflict (routine) do update
    set
        kind = excluded.kind,
        source = excluded.source,
        definition = excluded.definition,
        version = excluded.version,
        applied_at = case
            when r.definition = excluded.definition then r.applied_at else excluded.applied_at
        end;

    drop table tidegate_installed;
{%- else %}
    delete from {{ schema }}.routine;
{%- endif %}
    perform pg_catalog.set_config('search_path', v_path, true);
end;
$$;
