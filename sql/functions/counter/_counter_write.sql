create or replace function {{ schema }}._counter_write(
    p_keys text[], p_values bigint[], p_run_ids text[]
) returns setof {{ schema }}.counted
language plpgsql volatile rows 1000
set search_path = {{ schema }}, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * All that writes to counter, this and the fold, does so under one advisory lock, taken before the statement that
 * reads: no two of them can wait for each other in a circle. Additions take no lock and wait for nobody.
 *
 * A value is set against the additions not folded yet: what is added by transactions still open comes on top. A counter
 * that says the value already is not written.
 */
declare
    v_now constant timestamptz := clock_now();
    v_folded_to bigint;
    v_closed text[];
begin
    perform pg_advisory_xact_lock(_lock_key('counter'::regclass, 0));
    v_folded_to := coalesce((select f.folded_to from counter_fold f order by f.fold_id desc limit 1), 0);
    v_closed := _counter_closed(array(
        select p.run_id from unnest(p_run_ids) as p (run_id) where p.run_id is not null
        union
        select b.run_id
        from unnest(p_keys) as p (key)
        cross join lateral (
            select c.run_id from counter c where c.key = p.key order by c.entry desc limit 1
        ) b
        where b.run_id is not null
    ));

    return query
    with asked as (
        select
            p.key,
            greatest(p.value, 0) as value,
            p.value < 0 as is_clamped,
            coalesce(p.run_id, b.run_id) as run_id,
            p.run_id is not null and p.run_id is distinct from b.run_id as is_moved,
            b.ctid as former,
            coalesce(b.value, 0) as base,
            coalesce(b.value, 0) + a.added as counted
        from unnest(p_keys, p_values, p_run_ids) as p (key, value, run_id)
        left join lateral (
            select c.ctid, c.value, c.run_id from counter c where c.key = p.key order by c.entry desc limit 1
        ) b on true
        cross join lateral (
            select coalesce(sum(d.amount), 0) as added
            from counter_delta d
            where d.key = p.key and d.delta_id > v_folded_to
        ) a
    ), judged as (
        select
            a.*,
            case
                when a.run_id = any(v_closed) then 'closed'
                when a.is_clamped then 'clamped'
                when a.value <> a.counted or a.is_moved then 'written'
                else 'unchanged'
            end as outcome
        from asked a
    ), changed as (
        select j.* from judged j
        where j.outcome in ('written', 'clamped') and (j.value <> j.counted or j.is_moved)
    ), written as (
        insert into counter (key, value, run_id, written_at)
        select c.key, c.base + c.value - c.counted, c.run_id, v_now from changed c order by c.key
    ), replaced as (
        delete from counter where ctid = any(array(select c.former from changed c where c.former is not null))
    )
    select
        j.key,
        case when j.outcome = 'closed' then j.said else j.value end,
        j.said,
        least(abs(j.value - j.counted), 1000000000000000000)::bigint,
        j.outcome
    from (select n.*, least(greatest(n.counted, 0), 1000000000000000000)::bigint as said from judged n) j
    order by j.key;
end;
$$;

comment on function {{ schema }}._counter_write(text[], bigint[], text[]) is
'Set counters to values, each at most once. Returns a row a counter, in order of their keys.';
