create or replace function {{ schema }}._cleanup_part(
    p_part text, p_limit integer, p_before timestamptz
) returns integer
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/* Oldest first, and around whatever others hold. */
declare
    v_found integer;
begin
    case p_part
        when 'archive' then
            with old as (
                select a.channel_id, a.settled_at, a.message_id
                from channel c
                cross join lateral (
                    select * from archive n
                    where n.channel_id = c.channel_id and n.settled_at < p_before - c.retention
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
            select count(*) into v_found from removed;
        when 'idempotency_key' then
            delete from idempotency_key where ctid = any(array(
                select k.ctid from idempotency_key k where k.created_at < p_before
                order by k.created_at limit p_limit for update skip locked
            ));
            get diagnostics v_found = row_count;
        when 'guard' then
            delete from guard where ctid = any(array(
                select g.ctid from guard g where g.state = 'done' and g.finished_at < p_before
                order by g.finished_at limit p_limit for update skip locked
            ));
            get diagnostics v_found = row_count;
        when 'dead_letter' then
            with removed as (
                delete from dead_letter where ctid = any(array(
                    select d.ctid from dead_letter d
                    where d.state in ('resolved', 'discarded') and d.resolved_at < p_before
                    order by d.resolved_at limit p_limit for update skip locked
                )) returning body_id
            ), freed as (
                delete from body b using removed r where b.body_id = r.body_id
            )
            select count(*) into v_found from removed;
        when 'discard' then
            v_found := dead_letter_discard_matching(
                'Nobody asked for it in time: discarded by cleanup_sweep.', p_until => p_before, p_limit => p_limit
            );
        when 'tally' then
            -- Whoever reads the sums meanwhile sees the rows before or after it, never both or neither.
            with folded as (
                delete from tally where ctid = any(array(
                    select t.ctid from tally t limit p_limit for update skip locked
                )) returning *
            ), kept as (
                insert into tally (channel_id, outcome, amount)
                select f.channel_id, f.outcome, sum(f.amount) from folded f group by f.channel_id, f.outcome
            )
            select count(*) into v_found from folded;
        when 'counter_delta' then
            v_found := _counter_fold(p_limit);
        when 'counter' then
            -- A counter that is not there says 0 too.
            delete from counter where ctid = any(array(
                select c.ctid from counter c where c.value = 0 and c.written_at < p_before
                limit p_limit for update skip locked
            ));
            get diagnostics v_found = row_count;
        when 'stranded' then
            v_found := _stranded_replace(p_limit);
        when 'incident' then
            delete from incident where ctid = any(array(
                select i.ctid from incident i where i.at < p_before
                order by i.incident_id limit p_limit for update skip locked
            ));
            get diagnostics v_found = row_count;
        when 'group_turn' then
            -- Of groups that have been still: behind a hidden dead row, the next one looks a little longer.
            delete from group_turn where ctid = any(array(
                select t.ctid from group_turn t
                where t.message_id is null and t.taken_at < p_before
                limit p_limit for update skip locked
            ));
            get diagnostics v_found = row_count;
        when 'cancel_request' then
            -- No lease lives longer than max_runtime, so whatever was to be stopped has ended.
            delete from cancel_request where ctid = any(array(
                select r.ctid from cancel_request r
                left join channel c on c.channel_id = r.channel_id
                where r.requested_at < p_before - coalesce(c.max_runtime, '0')
                limit p_limit for update of r skip locked
            ));
            get diagnostics v_found = row_count;
        when 'tide' then
            -- Rows that overlapping ticks left behind; the ordinary ones are removed by the tick itself.
            delete from tide where ctid = any(array(
                select t.ctid from tide t where t.tide_id < (select max(n.tide_id) from tide n) - 128
                limit p_limit for update skip locked
            ));
            get diagnostics v_found = row_count;
        when 'floor' then
            delete from floor where ctid = any(array(
                select f.ctid from floor f
                where f.floor_id < (
                    select n.floor_id from floor n where n.channel_id = f.channel_id order by n.floor_id desc limit 1
                )
                limit p_limit for update skip locked
            ));
            get diagnostics v_found = row_count;
        when 'maintenance_run' then
            delete from maintenance_run where ctid = any(array(
                select r.ctid from maintenance_run r
                where r.entry < (
                    select n.entry from maintenance_run n where n.job = r.job order by n.entry desc limit 1
                )
                limit p_limit for update skip locked
            ));
            get diagnostics v_found = row_count;
        when 'barrier' then
            v_found := _barrier_trim(p_limit, p_before);
        when 'run' then
            v_found := _run_trim(p_limit, p_before);
    end case;
    return v_found;
end;
$$;

comment on function {{ schema }}._cleanup_part(text, integer, timestamptz) is
'One part of a cleanup: up to p_limit rows from before an instant. Returns how many; 0 when there are none.';
