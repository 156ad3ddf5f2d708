begin;
select plan(2);

create function pg_temp.offender(p_schema text) returns setof text
language sql stable
as $$
    select p.oid::regprocedure || ' is public but no definer'
    from pg_proc p
    where p.pronamespace = p_schema::regnamespace
        and left(p.proname, 1) <> '_'
        and not p.prosecdef
        -- The clock is granted to no one and reads nothing: tests replace it.
        and p.proname <> 'clock_now'
    union all
    select p.oid::regprocedure || ' is private but a definer'
    from pg_proc p
    where p.pronamespace = p_schema::regnamespace
        and (left(p.proname, 1) = '_' or p.proname = 'clock_now')
        and p.prosecdef
    union all
    select p.oid::regprocedure || ' is private but granted to ' || a.grantee::regrole
    from pg_proc p, aclexplode(p.proacl) as a
    where p.pronamespace = p_schema::regnamespace
        and (left(p.proname, 1) = '_' or p.proname = 'clock_now')
        and a.grantee not in (0, p.proowner);
$$;

-- given one offender of each kind, and two routines as they should be
create schema planted;
create role t_somebody;
create function planted.thing_read() returns void language plpgsql as $$begin end;$$;
create function planted._thing_write() returns void language plpgsql security definer as $$begin end;$$;
create function planted._thing_drop() returns void language plpgsql as $$begin end;$$;
grant execute on function planted._thing_drop() to t_somebody;
create function planted.thing_list() returns void language plpgsql security definer as $$begin end;$$;
create function planted._thing_find() returns void language plpgsql as $$begin end;$$;

-- then the query names the three
select bag_eq(
    $$select * from pg_temp.offender('planted')$$,
    array[
        'planted.thing_read() is public but no definer',
        'planted._thing_write() is private but a definer',
        'planted._thing_drop() is private but granted to t_somebody'
    ],
    'a routine of the wrong kind is found'
);

select is_empty(
    $$select * from pg_temp.offender('tidegate')$$,
    'public routines are definers, private ones invokers granted to no one'
);

select * from finish();
rollback;
