begin;
select plan(2);

create function pg_temp.offender(p_schema text) returns setof text
language sql stable
as $$
    select format('%s is a prefix of %s', i.indexrelid::regclass, j.indexrelid::regclass)
    from pg_index i
    inner join pg_class c on c.oid = i.indrelid and c.relnamespace = p_schema::regnamespace
    inner join pg_index j on j.indrelid = i.indrelid and j.indexrelid <> i.indexrelid
    where not i.indisunique -- a unique index says something that a longer one does not
        and i.indexprs is null and j.indexprs is null
        and i.indpred is null and j.indpred is null
        and (j.indkey::text || ' ') like (i.indkey::text || ' %')
        and (j.indclass::text || ' ') like (i.indclass::text || ' %')
        and (j.indcollation::text || ' ') like (i.indcollation::text || ' %')
        and (j.indoption::text || ' ') like (i.indoption::text || ' %')
        and (i.indkey::text <> j.indkey::text or i.indexrelid < j.indexrelid or j.indisunique);
$$;

-- given an index that repeats the head of the primary key, its opposite order, and a twin
create schema planted;
create table planted.box (a integer, b integer, c integer, primary key (a, b));
create index box_for_a on planted.box (a);
create index box_for_a_backwards on planted.box (a desc);
create index box_for_c on planted.box (c);
create index box_for_c_again on planted.box (c);

-- then the query names the first and one of the twins
select bag_eq(
    $$select * from pg_temp.offender('planted')$$,
    array[
        'planted.box_for_a is a prefix of planted.box_pkey',
        'planted.box_for_c is a prefix of planted.box_for_c_again'
    ],
    'an index that says nothing new is found'
);

select is_empty(
    $$select * from pg_temp.offender('tidegate')$$,
    'no index is a prefix of another'
);

select * from finish();
rollback;
