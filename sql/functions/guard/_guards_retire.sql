create or replace function {{ schema }}._guards_retire(p_run_ids text[]) returns integer
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * Orphans: claimed for a run that has ended since, and their lease has run out. That the run has ended is the only
 * sign that is taken: one that is not known may never have been opened. All of it is asked in the writing statement,
 * under the lock of the row; a holder that is alive finishes, renews or is skipped. A lease that was counted from an
 * instant after now is over, too: the clock was set back. Its holder, if alive, still finishes it, as any tombstone.
 */
declare
    v_retired integer;
begin
    update guard g
    set state = 'done', finished_at = clock_now(), expires_at = null
    where g.ctid = any(array(
        select n.ctid from guard n
        where n.run_id = any(p_run_ids) and n.state = 'held'
        order by n.scope, n.key
        for update skip locked
    ))
        and g.state = 'held' and (g.expires_at <= clock_now() or g.renewed_at > clock_now())
        and exists (
            select from run r where r.run_id = g.run_id and r.state in ('completed', 'error', 'stopped')
        );
    get diagnostics v_retired = row_count;
    insert into tally (channel_id, outcome, amount) select 0, 'recovered.guards', v_retired where v_retired > 0;
    return v_retired;
end;
$$;

comment on function {{ schema }}._guards_retire(text[]) is
'Make tombstones of the guards that were held for these runs, where a run has ended and the lease has run out. Returns how many; 0 when there are none.';
