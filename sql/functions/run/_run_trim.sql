create or replace function {{ schema }}._run_trim(p_limit integer, p_before timestamptz) returns integer
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * What the row of a run that has ended is still needed for: a stopped one refuses its messages at delivery, so it
 * outlives whatever of it may yet be delivered: what waits, follow-ups, what is leased, and dead letters that could be
 * requeued or have been. All of these are asked, of every run alike, in the statement that deletes. One that is sent
 * meanwhile finds the row and is refused, as it is there until this commits; a sender that looked before a cancel
 * would have to be open for the whole retention. An open child or barrier keeps it too: they end by it.
 *
 * After that it is as if the run had never been: what is sent for it then, by that name, is delivered.
 */
declare
    v_now constant timestamptz := clock_now();
    v_run_ids text[];
    v_removed integer;
begin
    select array_agg(r.run_id) into v_run_ids
    from (
        select n.run_id from run n
        where n.finished_at < p_before
            and exists (
                select from guard g
                where g.run_id = n.run_id and g.state = 'held' and (g.expires_at <= v_now or g.renewed_at > v_now)
            )
        order by n.finished_at
        limit p_limit
    ) r;
    if v_run_ids is not null then
        perform _guards_retire(v_run_ids);
    end if;
    delete from run where ctid = any(array(
        select r.ctid from run r
        where r.finished_at < p_before
            and not exists (select from run c where c.parent_id = r.run_id and c.state = 'open')
            and not exists (select from barrier b where b.run_id = r.run_id and b.state in ('open', 'fire_failed'))
            and not exists (select from guard g where g.run_id = r.run_id and g.state = 'held')
            and not exists (select from ready m where m.run_id = r.run_id)
            and not exists (select from scheduled m where m.run_id = r.run_id)
            and not exists (select from blocked m where m.run_id = r.run_id)
            and not exists (select from job_key k where (k.follow_up).run_id = r.run_id)
            and not exists (
                select from dead_letter d where d.run_id = r.run_id and d.state in ('dead', 'requeued')
            )
            and not exists (select from lease l where l.run_ids is not null and r.run_id = any(l.run_ids))
        order by r.finished_at
        limit p_limit
        for update skip locked
    ));
    get diagnostics v_removed = row_count;
    return v_removed;
end;
$$;

comment on function {{ schema }}._run_trim(integer, timestamptz) is
'Remove up to p_limit runs that ended before p_before and of which nothing is left: no open child or barrier, no guard that is held, no message, no dead letter that may come back. Returns how many; 0 when there are none.';
