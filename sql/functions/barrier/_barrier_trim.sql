create or replace function {{ schema }}._barrier_trim(p_limit integer, p_before timestamptz) returns integer
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * First the barriers that were closed long ago; then, of epochs that are no barrier's any more, results, slots, ranges
 * and what was sent, and at last the row of the epoch, when nothing hangs on it. An arrival at a former epoch that is
 * under way holds a slot, which is skipped, and its epoch is left for the next pass. Every row that goes is counted:
 * less than p_limit of them tells that no more is left than others hold.
 */
declare
    v_limit integer := p_limit;
    v_epoch bigint;
    v_removed integer;
    v_count integer;
begin
    delete from barrier where ctid = any(array(
        select b.ctid from barrier b
        where b.state <> 'open' and b.state <> 'fire_failed' and b.closed_at < p_before
        order by b.closed_at limit p_limit for update skip locked
    ));
    get diagnostics v_removed = row_count;
    for v_epoch in
        select e.epoch from barrier_epoch e
        where not exists (select from barrier b where b.name = e.name and b.epoch = e.epoch)
        order by e.epoch
        limit p_limit
        for update of e skip locked
    loop
        exit when v_limit <= 0;
{%- for table in ["slot", "result", "sent", "range"] %}
        if v_limit > 0 then
            delete from barrier_{{ table }} where ctid = any(array(
                select n.ctid from barrier_{{ table }} n where n.epoch = v_epoch limit v_limit for update skip locked
            ));
            get diagnostics v_count = row_count;
            v_limit := v_limit - v_count;
        end if;
{%- endfor %}
        delete from barrier_epoch e
        where e.epoch = v_epoch
{%- for table in ["slot", "result", "sent", "range"] %}
            and not exists (select from barrier_{{ table }} n where n.epoch = v_epoch)
{%- endfor %};
        get diagnostics v_count = row_count;
        v_limit := v_limit - v_count;
    end loop;
    return v_removed + p_limit - v_limit;
end;
$$;

comment on function {{ schema }}._barrier_trim(integer, timestamptz) is
'Remove barriers closed before p_before, and what is left of former epochs, up to p_limit rows of each. Returns how many rows went; less than p_limit when there was no more to remove, 0 when there was nothing.';
