{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._barrier_message(p_barrier {{ schema }}.barrier, p_with_results boolean)
returns {{ schema }}.message
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * results has an element for each member, in their order, whatever its shape: that of member n is the n-th, and null
 * where it failed. Both lists are null together when they are larger than the barrier allows.
 */
declare
    v_is_fired constant boolean := p_barrier.state in ('fired', 'fire_failed');
    v_failed integer;
    v_outstanding integer;
    v_bytes bigint;
    v_results jsonb;
    v_failures jsonb;
    v_prefix text;
    v_payload jsonb;
begin
    select coalesce(sum(bit_count(s.failed::bit(64))), 0), coalesce(sum(bit_count(s.pending::bit(64))), 0)
    into v_failed, v_outstanding
    from barrier_slot s where s.epoch = p_barrier.epoch;
    if p_with_results then
        select coalesce(sum(_json_size(r.result)), 0) + coalesce(sum(octet_length(r.error)), 0) into v_bytes
        from barrier_result r where r.epoch = p_barrier.epoch;
    end if;
    if v_bytes <= p_barrier.inline_limit then
        if v_is_fired then
            select coalesce(jsonb_agg(r.result order by r.member), '[]') into v_results
            from barrier_result r where r.epoch = p_barrier.epoch;
        end if;
        v_failures := '[]';
        if v_failed > 0 then
            select jsonb_agg(jsonb_build_object('member', r.member, 'error', r.error) order by r.member)
            into v_failures
            from barrier_result r where r.epoch = p_barrier.epoch and r.error is not null;
        end if;
    end if;
    select i.event_prefix into v_prefix from installation i;
    v_payload := jsonb_build_object(
        'barrier', p_barrier.name, 'epoch', p_barrier.epoch, 'outcome', p_barrier.outcome,
        'reason', p_barrier.reason, 'members', p_barrier.member_count,
        'arrived', p_barrier.member_count - v_failed - v_outstanding, 'failed', v_failed,
        'results', v_results, 'failures', v_failures,
        'payload', case when v_is_fired then p_barrier.callback_payload else p_barrier.failure_payload end
    );
    return row({{ message_names("", {
        "attempts": "0", "priority": "p_barrier.callback_priority", "message_id": "nextval('position_seq')",
        "enqueued_at": "clock_now()", "payload": "v_payload", "headers": "p_barrier.callback_headers",
        "event_id": "_barrier_event_id(
            v_prefix, p_barrier.epoch, p_barrier.opened_at, case when v_is_fired then 'callback' else 'failure' end
        )",
        "body_id": "null", "body_bytes": "null", "max_attempts": "null", "max_batch": "null", "requeued_from": "null",
        "backoff": "null", "topic": "null", "group_key": "null", "job_key": "null", "run_id": "p_barrier.run_id",
        "tenant": "p_barrier.tenant", "errors": "null", "barrier": "null", "epoch": "null", "member": "null",
    }) }})::message;
end;
$$;

comment on function {{ schema }}._barrier_message({{ schema }}.barrier, boolean) is
'What a closed barrier says: its callback or, where it was aborted, its failure message, with the results as far as they are wanted and not too large.';
