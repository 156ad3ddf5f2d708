create or replace function {{ schema }}.cleanup_sweep(
    p_limit integer default 1000,
    p_key_retention interval default '24 hours',
    p_guard_retention interval default '7 days',
    p_dead_letter_retention interval default '30 days',
    out archived_removed integer,
    out keys_removed integer,
    out guards_removed integer,
    out dead_letters_removed integer,
    out tallies_folded integer,
    out stranded_replaced integer
)
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
/*
 * Bounded, and only of what nobody needs: dead letters go when they were resolved or discarded, never while dead or
 * requeued. Rows that others hold are skipped.
 */
declare
    v_now timestamptz := clock_now();
    v_argument record;
begin
    if p_limit is null or p_limit not between 1 and 100000 then
        perform _bad_argument('p_limit', p_limit::text, 'Clean up between 1 and 100000 rows of a kind at a time.');
    end if;
    for v_argument in
        select a.name, a.value from (values
            ('p_key_retention', p_key_retention), ('p_guard_retention', p_guard_retention),
            ('p_dead_letter_retention', p_dead_letter_retention)
        ) as a (name, value)
        where (a.value > '0' and a.value <= '100 years') is not true
    loop
        perform _bad_argument(
            v_argument.name, v_argument.value::text, 'A retention is a positive interval, at most 100 years.'
        );
    end loop;

    with old as (
        select a.channel_id, a.settled_at, a.message_id
        from channel c
        cross join lateral (
            select * from archive n
            where n.channel_id = c.channel_id and n.settled_at < v_now - c.retention
            order by n.settled_at
            limit p_limit
            for update skip locked
        ) a
        limit p_limit
    ), removed as (
        delete from archive a using old o
        where a.channel_id = o.channel_id and a.settled_at = o.settled_at and a.message_id = o.message_id
        returning a.body_id
    ), freed as (
        delete from body b using removed r where b.body_id = r.body_id
    )
    select count(*) into archived_removed from removed;

    delete from idempotency_key where ctid = any(array(
        select k.ctid from idempotency_key k where k.created_at < v_now - p_key_retention
        order by k.created_at limit p_limit for update skip locked
    ));
    get diagnostics keys_removed = row_count;

    delete from guard where ctid = any(array(
        select g.ctid from guard g where g.state = 'done' and g.finished_at < v_now - p_guard_retention
        order by g.finished_at limit p_limit for update skip locked
    ));
    get diagnostics guards_removed = row_count;

    with removed as (
        delete from dead_letter where ctid = any(array(
            select d.ctid from dead_letter d
            where d.state in ('resolved', 'discarded') and d.resolved_at < v_now - p_dead_letter_retention
            order by d.resolved_at limit p_limit for update skip locked
        )) returning body_id
    ), freed as (
        delete from body b using removed r where b.body_id = r.body_id
    )
    select count(*) into dead_letters_removed from removed;

    -- Folding: whoever reads the sums meanwhile sees the rows before or after it, never both or neither.
    with folded as (
        delete from tally where ctid = any(array(select t.ctid from tally t limit p_limit * 10 for update skip locked))
        returning *
    ), kept as (
        insert into tally (channel_id, outcome, amount)
        select f.channel_id, f.outcome, sum(f.amount) from folded f group by f.channel_id, f.outcome
    )
    select count(*) into tallies_folded from folded;

    stranded_replaced := _stranded_replace(p_limit);

    delete from incident where ctid = any(array(
        select i.ctid from incident i where i.at < v_now - interval '7 days'
        order by i.incident_id limit p_limit for update skip locked
    ));
    -- Turns of groups that have been still for an hour: behind a hidden dead row, the next one looks a little longer.
    delete from group_turn where ctid = any(array(
        select t.ctid from group_turn t
        where t.message_id is null and t.taken_at < v_now - interval '1 hour'
        limit p_limit for update skip locked
    ));
    -- No lease lives longer than max_runtime, so whatever was to be stopped has ended.
    delete from cancel_request where ctid = any(array(
        select r.ctid from cancel_request r
        left join channel c on c.channel_id = r.channel_id
        where r.requested_at < v_now - coalesce(c.max_runtime, '0') - interval '1 hour'
        limit p_limit for update of r skip locked
    ));
    -- Rows that overlapping ticks left behind; the ordinary ones are removed by the tick itself.
    delete from tide where ctid = any(array(
        select t.ctid from tide t where t.tide_id < (select max(n.tide_id) from tide n) - 128
        limit p_limit for update skip locked
    ));
    delete from floor where ctid = any(array(
        select f.ctid from floor f
        where f.floor_id < (
            select n.floor_id from floor n where n.channel_id = f.channel_id order by n.floor_id desc limit 1
        )
        limit p_limit for update skip locked
    ));
end;
$$;

comment on function {{ schema }}.cleanup_sweep(integer, interval, interval, interval) is
'Remove what has outlived its retention, up to p_limit rows a kind, fold counters, and look for messages stranded below the floors (expected none). Archived messages go by their channel''s retention; idempotency keys, tombstones of guards, and dead letters that were resolved or discarded by the arguments. Returns what was removed; call again while a count equals p_limit. Errors: TG010 a limit or retention that is not positive.';
