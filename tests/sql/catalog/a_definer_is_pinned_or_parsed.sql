begin;
select plan(2);

create function pg_temp.offender(p_schema text) returns setof text
language sql stable
as $$
    select p.oid::regprocedure::text
    from pg_proc p
    where p.pronamespace = p_schema::regnamespace
        and p.prosecdef
        and p.prosqlbody is null
        and not exists (
            select from unnest(p.proconfig) as setting where setting ~ '^search_path=.*, pg_temp$'
        );
$$;

-- given two definers: one finds its names in the caller's search_path, one was parsed when it was made
create schema planted;
create function planted.exposed() returns bigint language sql security definer
as $$select count(*) from pg_class$$;
create function planted.parsed() returns bigint language sql security definer
begin atomic
select count(*) from pg_class;
end;

-- then the query names the first
select bag_eq(
    $$select * from pg_temp.offender('planted')$$,
    array['planted.exposed()'],
    'a definer that trusts its caller''s search_path is found'
);

select is_empty(
    $$select * from pg_temp.offender('tidegate')$$,
    'every definer is pinned, or its body was parsed'
);

select * from finish();
rollback;
