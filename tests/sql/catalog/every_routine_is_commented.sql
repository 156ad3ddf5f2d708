begin;
select plan(2);

create function pg_temp.offender(p_schema text) returns setof text
language sql stable
as $$
    select p.oid::regprocedure::text
    from pg_proc p
    where p.pronamespace = p_schema::regnamespace
        and obj_description(p.oid, 'pg_proc') is null;
$$;

-- given a routine without a comment
create schema planted;
create function planted.silent(p_number integer) returns integer language sql return p_number;
create function planted.spoken(p_number integer) returns integer language sql return p_number;
comment on function planted.spoken(integer) is 'The number itself.';

-- then the query names it, and only it
select bag_eq(
    $$select * from pg_temp.offender('planted')$$,
    array['planted.silent(integer)'],
    'a routine without a comment is found'
);

select is_empty($$select * from pg_temp.offender('tidegate')$$, 'every routine is commented');

select * from finish();
rollback;
