begin;
select plan(2);

create function pg_temp.offender(p_schema text) returns setof text
language sql stable
as $$
    select c.oid::regclass || '.' || a.attname
    from pg_class c
    inner join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relnamespace = p_schema::regnamespace
        and c.relkind in ('r', 'p', 'v', 'm', 'c')
        and a.atttypid in ('timestamp'::regtype, 'timestamp[]'::regtype, 'timetz'::regtype)
    union all
    select p.oid::regprocedure::text
    from pg_proc p
    where p.pronamespace = p_schema::regnamespace
        and (array[p.prorettype] || p.proargtypes::oid[] || p.proallargtypes)
            && array['timestamp', 'timestamp[]', 'timetz']::regtype[]::oid[];
$$;

-- given a column, a composite's attribute and an argument that depend on the session's time zone
create schema planted;
create table planted.box (made_at timestamp, sold_at timestamptz);
create type planted.span as (began timestamp, ended timestamptz);
create function planted.age(p_since timestamp) returns interval language sql return now() - p_since;
create function planted.good(p_since timestamptz) returns interval language sql return now() - p_since;

-- then the query names all three
select bag_eq(
    $$select * from pg_temp.offender('planted')$$,
    array['planted.box.made_at', 'planted.span.began', 'planted.age(timestamp without time zone)'],
    'a timestamp without time zone is found'
);

select is_empty(
    $$select * from pg_temp.offender('tidegate')$$,
    'every instant has its time zone'
);

select * from finish();
rollback;
