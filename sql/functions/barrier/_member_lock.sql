{% from "macros/barrier.sql" import is_awaited %}
create or replace function {{ schema }}._member_lock(p_messages {{ schema }}.message[], p_with_epochs boolean)
returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * In the order of _barrier_settle: who settles several members at once, of several barriers, must not cross others.
 * Members of a barrier that is closed, or whose run was stopped, change nothing there, and never will: they are passed
 * over, so that a cancel of the run waits for none of them.
 */
declare
    v_members message[];
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('a settlement of members of a barrier');
    end if;
    v_members := array(
        select m from unnest(p_messages) m
        where m.barrier is not null and {{ is_awaited("m.barrier", "m.epoch") }}
    );
    if v_members = '{}' then
        return;
    end if;
    perform
    from (
        select m.epoch, r.first_member + (m.member - r.first_member) % r.slot_count as slot
        from unnest(v_members) m
        cross join lateral (
            select * from barrier_range n
            where n.epoch = m.epoch and n.first_member <= m.member
            order by n.first_member desc
            limit 1
        ) r
        group by 1, 2
        order by 1, 2
    ) w
    cross join lateral (
        select from barrier_slot s where s.epoch = w.epoch and s.slot = w.slot limit 1 for update
    ) l;
    if p_with_epochs then
        perform
        from (
            select distinct m.epoch from unnest(v_members) m order by m.epoch
        ) w
        cross join lateral (
            select from barrier_epoch e where e.epoch = w.epoch limit 1 for update
        ) l;
    end if;
end;
$$;

comment on function {{ schema }}._member_lock({{ schema }}.message[], boolean) is
'Lock the slots of members that messages belong to and, where some arrive and others fail in one transaction, the epochs. Errors: TG030 not READ COMMITTED.';
