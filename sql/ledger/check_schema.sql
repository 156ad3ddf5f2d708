-- What stands in the schema runs with the rights of whoever migrates, and a function that fits a call better than ours
-- would be called instead. So the schema is that role's, nobody else may create anything in it, or has.
do $$
declare
    v_schema oid := (select n.oid from pg_catalog.pg_namespace as n where n.nspname = {{ schema_literal }});
    v_me oid := (select r.oid from pg_catalog.pg_roles as r where r.rolname = current_user);
    v_owner oid := (select n.nspowner from pg_catalog.pg_namespace as n where n.oid = v_schema);
    v_seen text;
    v_statement text;
begin
    if v_owner <> v_me then
        raise exception using
            errcode = 'TG060',
            message = pg_catalog.format(
                'schema %I belongs to %s, and this is %s', {{ schema_literal }}, v_owner::pg_catalog.regrole, v_me::pg_catalog.regrole
            ),
            hint = pg_catalog.format(
                'Connect as %s, choose another schema, or run: alter schema %I owner to %s;',
                v_owner::pg_catalog.regrole, {{ schema_literal }}, v_me::pg_catalog.regrole
            );
    end if;

    select pg_catalog.string_agg(distinct g.name, ', ' order by g.name)
    into v_seen
    from (
        select case a.grantee when 0 then 'public' else a.grantee::pg_catalog.regrole::text end as name
        from pg_catalog.pg_namespace as n
        cross join lateral pg_catalog.aclexplode(n.nspacl) as a
        where n.oid = v_schema and a.privilege_type = 'CREATE' and a.grantee <> n.nspowner
    ) as g;
    if v_seen is not null then
        raise exception using
            errcode = 'TG060',
            message = pg_catalog.format('others may create in schema %I: %s', {{ schema_literal }}, v_seen),
            hint = pg_catalog.format('Run: revoke create on schema %I from %s cascade;', {{ schema_literal }}, v_seen);
    end if;

    -- A superuser gains nothing by what he put here.
    select
        pg_catalog.string_agg(pg_catalog.format('%s %s of %s', o.type, o.identity, r.rolname), ', ' order by o.identity),
        pg_catalog.string_agg(pg_catalog.format('drop %s %s;', o.type, o.identity), ' ' order by o.identity)
    into v_seen, v_statement
    from pg_catalog.pg_shdepend as s
    inner join pg_catalog.pg_depend as d on s.classid = d.classid and s.objid = d.objid
    inner join pg_catalog.pg_roles as r on s.refobjid = r.oid and not r.rolsuper
    cross join lateral pg_catalog.pg_identify_object(s.classid, s.objid, 0) as o
    where
        s.dbid = (select b.oid from pg_catalog.pg_database as b where b.datname = pg_catalog.current_database())
        and s.deptype = 'o'
        and s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
        and s.refobjid <> v_me
        and d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
        and d.refobjid = v_schema;
    if v_seen is not null then
        raise exception using
            errcode = 'TG060',
            message = pg_catalog.format('schema %I holds what others made: %s', {{ schema_literal }}, v_seen),
            hint = pg_catalog.format('Take it away, or give it to %s: %s', v_me::pg_catalog.regrole, v_statement);
    end if;
end;
$$;
