create or replace function {{ schema }}._barrier_standing(p_name text, p_epoch bigint, p_member integer default null)
returns text
language plpgsql stable
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    v_barrier barrier;
    v_pending bigint;
begin
    select * into v_barrier from barrier b where b.name = p_name;
    if v_barrier.epoch is null or p_epoch is null or p_epoch > v_barrier.epoch then
        return 'unknown';
    end if;
    if p_epoch < v_barrier.epoch then
        return 'stale';
    end if;
    if p_member is not null then
        select s.pending & (1::bigint << ((p_member - r.first_member) / r.slot_count)) into v_pending
        from (
            select * from barrier_range n
            where n.epoch = p_epoch and n.first_member <= p_member
            order by n.first_member desc
            limit 1
        ) r
        inner join barrier_slot s
            on s.epoch = p_epoch and s.slot = r.first_member + (p_member - r.first_member) % r.slot_count
        where p_member < r.first_member + r.member_count;
        if not found then
            return 'unknown';
        elsif v_pending = 0 then
            return 'duplicate';
        end if;
    end if;
    return case when v_barrier.state = 'open' then 'open' else 'closed' end;
end;
$$;

comment on function {{ schema }}._barrier_standing(text, bigint, integer) is
'Why a call about an epoch, or a member of it, changes nothing: unknown (no such barrier, epoch or member), stale (it was opened anew), duplicate (that member has arrived or failed) or closed; open when none of them holds.';
