{%- from "macros/catalog.sql" import definitions -%}
-- Routines and views fit the newest tables only: a rollback takes them away first. They may depend
-- on one another, so passes are made until nothing is left; when a pass moves nothing, something
-- that is not ours depends on one of them, and its name stops the rollback.
do $$
declare
    v_path text := pg_catalog.current_setting('search_path');
    v_commands text[];
    v_command text;
    v_left text[];
    v_detail text;
begin
    perform pg_catalog.set_config('search_path', pg_catalog.quote_ident({{ schema_literal }}) || ', pg_temp', true);
    select pg_catalog.array_agg(
        case d.kind
            when 'view' then 'drop view ' || d.oid::pg_catalog.regclass
            else 'drop routine ' || d.oid::pg_catalog.regprocedure
        end
    )
    into v_commands
    from (
        {{ definitions() | indent(8) }}
    ) as d
    inner join {{ schema }}.routine as r on d.routine = r.routine;

    while v_commands is not null loop
        v_left := null;
        foreach v_command in array v_commands loop
            begin
                execute v_command;
            exception when dependent_objects_still_exist then
                get stacked diagnostics v_detail = pg_exception_detail;
                v_left := v_left || v_command;
            end;
        end loop;
        if pg_catalog.cardinality(v_left) = pg_catalog.cardinality(v_commands) then
            raise exception using
                errcode = 'TG060',
                message = 'something that is not part of Tidegate depends on it: ' || v_left[1],
                detail = v_detail,
                hint = 'drop that first';
        end if;
        v_commands := v_left;
    end loop;

    delete from {{ schema }}.routine;
    perform pg_catalog.set_config('search_path', v_path, true);
end;
$$;
