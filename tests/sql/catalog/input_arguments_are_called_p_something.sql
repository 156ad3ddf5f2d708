begin;
select plan(2);

create function pg_temp.offender(p_schema text) returns setof text
language sql stable
as $$
    select format('%s: argument %s is called %s', p.oid::regprocedure, a.nr, coalesce(nullif(a.name, ''), '(nothing)'))
    from pg_proc p,
        generate_series(1, p.pronargs) as nr,
        lateral (
            -- proargnames holds output arguments too, and proargmodes is null when there are none
            select nr, (
                array_agg(p.proargnames[i] order by i)
                filter (where coalesce(p.proargmodes[i], 'i') in ('i', 'b', 'v'))
            )[nr] as name
            from generate_series(1, coalesce(array_length(p.proallargtypes, 1), p.pronargs)) as i
        ) as a
    where p.pronamespace = p_schema::regnamespace and p.prokind in ('f', 'p')
        and coalesce(a.name, '') !~ '^p_[a-z]';
$$;

-- given a bare name, no name at all, and output columns, which are free
create schema planted;
create function planted.bare(id integer) returns integer language sql return id;
create function planted.nameless(integer) returns integer language sql return $1;
create function planted.fine(out result integer, p_id integer, out other integer)
language sql as $$select p_id, p_id$$;

-- then the query names the first two
select bag_eq(
    $$select * from pg_temp.offender('planted')$$,
    array[
        'planted.bare(integer): argument 1 is called id',
        'planted.nameless(integer): argument 1 is called (nothing)'
    ],
    'an argument without its prefix is found'
);

select is_empty(
    $$select * from pg_temp.offender('tidegate')$$,
    'every input argument is called p_something'
);

select * from finish();
rollback;
