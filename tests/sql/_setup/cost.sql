-- Pages that a statement touches: the honest measure of its cost, whatever the machine.
create function t.buffers(p_query text) returns bigint
language plpgsql
as $$
declare
    v_plan json;
begin
    execute 'explain (analyze, buffers, timing off, format json) ' || p_query into v_plan;
    return (v_plan -> 0 -> 'Plan' ->> 'Shared Hit Blocks')::bigint
        + (v_plan -> 0 -> 'Plan' ->> 'Shared Read Blocks')::bigint;
end;
$$;

-- How the places were read since reads_begin(). EXPLAIN shows no statement inside a function, but the
-- server counts how each table was read: no sequential scan, and no more rows than were wanted.
create function t.reads_begin() returns void
language plpgsql
as $$
begin
    drop table if exists pg_temp.reads_before;
    create temporary table reads_before as
    select relname, seq_scan, coalesce(idx_tup_fetch, 0) as idx_tup_fetch from pg_stat_xact_user_tables;
end;
$$;

create function t.reads(
    out place text, out sequential_scans bigint, out rows_by_index bigint
) returns setof record
language plpgsql volatile
as $$
begin
    return query
    select
        s.relname::text, s.seq_scan - coalesce(b.seq_scan, 0),
        coalesce(s.idx_tup_fetch, 0) - coalesce(b.idx_tup_fetch, 0)
    from pg_stat_xact_user_tables s
    left join pg_temp.reads_before b using (relname)
    where s.schemaname = 'tidegate'
        and s.relname in (
            'ready', 'scheduled', 'lease', 'body', 'floor', 'tide', 'tally', 'idempotency_key'
        );
end;
$$;
