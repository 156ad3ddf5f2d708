create or replace function {{ schema }}.schema_version() returns {{ schema }}.installed
language plpgsql stable parallel safe
security definer set search_path = {{ schema }}, pg_temp
as $$
begin
    return (
        select row(
            (select max(left(m.migration, 4)::integer) from migration as m),
            (select max(r.version) from routine as r)
        )::installed
    );
end;
$$;

comment on function {{ schema }}.schema_version() is
'What is installed here: the number of the newest migration and the release that applied the routines. Drivers ask it before they work.';
