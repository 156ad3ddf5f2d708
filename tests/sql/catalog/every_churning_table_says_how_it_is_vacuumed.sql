begin;
select plan(3);

-- Tables that are configuration, or grow by mistakes only: the defaults of autovacuum are right for
-- them. Everything else is written and deleted by ordinary traffic.
create temporary table calm (name) as values
    ('installation'), ('channel'), ('channel_priority'), ('route'), ('migration'), ('routine'),
    ('incident'), ('dead_letter'), ('archive'), ('maintenance_setting');

create function pg_temp.offender(p_schema text) returns setof text
language sql stable
as $$
    select c.oid::regclass::text
    from pg_class c
    where c.relnamespace = p_schema::regnamespace
        and c.relkind in ('r', 'p')
        and c.relname not in (select name from calm)
        and not (
            coalesce(array_to_string(c.reloptions, ' '), '') ~ 'autovacuum_vacuum_threshold='
            and c.reloptions::text ~ 'autovacuum_vacuum_scale_factor='
        );
$$;

-- given a table that nobody thought about
create schema planted;
create table planted.box (box_id integer);
create table planted.tuned (box_id integer)
with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- then the query names it
select bag_eq(
    $$select * from pg_temp.offender('planted')$$,
    array['planted.box'],
    'a churning table without storage parameters is found'
);

select is_empty(
    $$select * from pg_temp.offender('tidegate')$$,
    'every churning table says how it is vacuumed'
);

-- and the places keep their tail: giving it back takes an exclusive lock
select is_empty(
    $$select c.relname
    from pg_class c
    where c.relnamespace = 'tidegate'::regnamespace
        and c.relname in ('ready', 'scheduled', 'lease', 'body')
        and not c.reloptions && array['vacuum_truncate=off', 'vacuum_truncate=false']$$,
    'vacuum never truncates a place'
);

select * from finish();
rollback;
