{% from "macros/barrier.sql" import options, passed, types %}
create or replace function {{ schema }}.barrier_open(
    p_name text,
    p_members integer,
    {{ options() }}
) returns {{ schema }}.barrier_opened
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_opened barrier_opened;
begin
    select o.epoch, o.outcome into v_opened
    from _barrier_open(
        p_name, p_members,
        {{ passed() }}
    ) o;
    return v_opened;
end;
$$;

comment on function {{ schema }}.barrier_open(
    text, integer, {{ types() }}
) is
'Open a barrier of members 1 to p_members; when the last has arrived, p_callback_payload is sent to p_callback_queue with their results. The same name again begins a new epoch: calls of the former one are told stale. Without members a sealed barrier fires at once (outcome fired); one opened with p_sealed false waits for barrier_add and barrier_seal. p_policy: abort (the first failure ends it), collect (failures are among the results), quorum (p_quorum must arrive). p_failure_queue hears when it is aborted, unless its run was stopped. It is stranded after p_expires_in, or p_stall_after without an arrival. Results of up to p_inline_limit bytes travel in the callback. p_key makes the call repeatable: the same one again answers the first epoch, and opens and sends nothing, whatever else it says. For a run that was stopped nothing is opened: outcome cancelled. Errors: TG010 bad argument, TG020 no such queue, TG030 not READ COMMITTED.';
