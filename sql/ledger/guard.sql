{#- `after`: the migration that must be the newest; `expected`: (name, checksum) up to it. -#}
{% include "ledger/lock.sql" %}

{% include "ledger/check_schema.sql" %}

do $$
declare
    v_unfit text;
    v_newest text;
begin
    if exists (
        select from pg_catalog.pg_class as c
        inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
        where n.nspname = {{ schema_literal }} and c.relname = 'migration'
    ) then
        select max(m.migration) into v_newest from {{ schema }}.migration as m;
    end if;
{%- if after == 0 %}
    if v_newest is not null then
        raise exception using
            errcode = 'TG060',
            message = pg_catalog.format(
                'schema %I is installed already, up to migration %s', {{ schema_literal }}, v_newest
            ),
            hint = 'render an upgrade with --from '
                || pg_catalog.ltrim(pg_catalog.left(v_newest, 4), '0')
                || ', or use tidegate migrate';
    end if;
{%- else %}
    if v_newest is null then
        raise exception using
            errcode = 'TG060',
            message = pg_catalog.format('schema %I holds no installation', {{ schema_literal }}),
            hint = 'render without --from to install';
    end if;
    select pg_catalog.string_agg(coalesce(e.migration, m.migration), ', ' order by 1)
    into v_unfit
    from (
        values
{%- for name, checksum in expected %}
        ('{{ name }}', '{{ checksum }}'){{ "," if not loop.last }}
{%- endfor %}
    ) as e (migration, checksum)
    full join {{ schema }}.migration as m on m.migration = e.migration
    where m.checksum is distinct from e.checksum;
    if v_unfit is not null then
        raise exception using
            errcode = 'TG060',
            message = pg_catalog.format(
                'this file upgrades from migration {{ "%04d" | format(after) }}, and schema %I differs in: %s',
                {{ schema_literal }}, v_unfit
            ),
            hint = 'its newest migration is ' || v_newest || '; look at tidegate status';
    end if;
{%- endif %}
end;
$$;
