begin;
select plan(2);

create function pg_temp.offender(p_schema text) returns setof text
language sql stable
as $$
    select c.oid::regclass::text
    from pg_class c
    where c.relnamespace = p_schema::regnamespace
        and c.relkind in ('r', 'p', 'v', 'm', 'c')
        and coalesce(obj_description(c.oid, 'pg_class'), obj_description(c.reltype, 'pg_type')) is null
    union all
    select t.oid::regtype::text
    from pg_type t
    where t.typnamespace = p_schema::regnamespace
        and t.typtype in ('d', 'e')
        and obj_description(t.oid, 'pg_type') is null;
$$;

-- given a table, a view, a composite and a domain without comments, and a commented composite
create schema planted;
create table planted.box (box_id integer);
create view planted.boxes as select * from planted.box;
create type planted.pair as (one integer, two integer);
create domain planted.size as integer;
create type planted.known as (one integer);
comment on type planted.known is 'One.';

-- then the query names all four
select bag_eq(
    $$select * from pg_temp.offender('planted')$$,
    array['planted.box', 'planted.boxes', 'planted.pair', 'planted.size'],
    'what has no comment is found'
);

select is_empty(
    $$select * from pg_temp.offender('tidegate')$$,
    'every table, view and type is commented'
);

select * from finish();
rollback;
