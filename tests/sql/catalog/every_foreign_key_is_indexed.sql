begin;
select plan(2);

create function pg_temp.offender(p_schema text) returns setof text
language sql stable
as $$
    select n.conname
    from pg_constraint n
    where n.connamespace = p_schema::regnamespace
        and n.contype = 'f'
        and not exists (
            select from pg_index i
            where i.indrelid = n.conrelid
                -- all rows that refer to something must be in it
                and (i.indpred is null or pg_get_expr(i.indpred, i.indrelid) ~ '^\(\w+ IS NOT NULL\)$')
                and (i.indkey::smallint[])[0:cardinality(n.conkey) - 1] @> n.conkey
        );
$$;

-- given a key without an index, one whose index leaves rows out, and one with its index
create schema planted;
create table planted.shelf (shelf_id integer primary key);
create table planted.box (
    bare_id integer references planted.shelf,
    part_id integer references planted.shelf,
    good_id integer references planted.shelf,
    label text
);
create index on planted.box (part_id) where label = 'x';
create index on planted.box (good_id, label) where good_id is not null;

-- then the query names the first two
select bag_eq(
    $$select * from pg_temp.offender('planted')$$,
    array['box_bare_id_fkey', 'box_part_id_fkey'],
    'a foreign key without an index is found'
);

select is_empty($$select * from pg_temp.offender('tidegate')$$, 'every foreign key is indexed');

select * from finish();
rollback;
