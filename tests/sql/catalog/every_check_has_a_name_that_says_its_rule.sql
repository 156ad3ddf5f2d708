begin;
select plan(2);

create function pg_temp.offender(p_schema text) returns setof text
language sql stable
as $$
    select n.conname
    from pg_constraint n
    inner join pg_class c on c.oid = n.conrelid
    where n.connamespace = p_schema::regnamespace
        and n.contype = 'c'
        and n.conname ~ ('^' || c.relname || '_([a-z_]+_)?check[0-9]*$');
$$;

-- given checks that PostgreSQL named, and one that we named
create schema planted;
create table planted.box (
    width integer check (width > 0),
    height integer,
    check (height > width),
    constraint box_is_not_too_high check (height < 10)
);

-- then the query finds the generated names
select bag_eq(
    $$select * from pg_temp.offender('planted')$$,
    array['box_width_check', 'box_check'],
    'a generated name is found'
);

select is_empty($$select * from pg_temp.offender('tidegate')$$, 'every check says its rule');

select * from finish();
rollback;
