begin;
select plan(2);

create function pg_temp.offender(p_schema text) returns setof text
language sql stable
as $$
    select p.oid::regprocedure::text
    from pg_proc p
    inner join pg_language l on l.oid = p.prolang
    where p.pronamespace = p_schema::regnamespace
        and l.lanname = 'plpgsql'
        and coalesce(p.proconfig, '{}') && array['search_path=' || p_schema || ', pg_temp'] is not true;
$$;

-- given routines that are not pinned, pinned with pg_temp first, and pinned with a schema too many
create schema planted;
create function planted.loose() returns void language plpgsql as $$begin end;$$;
create function planted.ajar() returns void language plpgsql
set search_path = planted as $$begin end;$$;
create function planted.wide() returns void language plpgsql
set search_path = planted, public, pg_temp as $$begin end;$$;
create function planted.shut() returns void language plpgsql
set search_path = planted, pg_temp as $$begin end;$$;

-- then the query names those three
select bag_eq(
    $$select * from pg_temp.offender('planted')$$,
    array['planted.loose()', 'planted.ajar()', 'planted.wide()'],
    'a door left open is found'
);

select is_empty(
    $$select * from pg_temp.offender('tidegate')$$,
    'every PL/pgSQL routine is pinned to its schema with pg_temp last'
);

select * from finish();
rollback;
