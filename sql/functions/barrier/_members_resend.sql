{% from "macros/channel.sql" import ring %}
{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._members_resend(p_barrier {{ schema }}.barrier, p_limit integer)
returns integer
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * Lost is who is outstanding and whose message is nowhere. Both are asked in one statement, so in one snapshot, and
 * whatever moves a message or ends it does so in one transaction: a message on its way is seen where it was, with its
 * member outstanding, or where it is. A dead one is none of these, as its member has failed with it; nor is one in
 * blocked, as members have no group. Where nothing is kept to be sent, as after barrier_open, nobody is lost.
 *
 * This reads what waits in the queue, and what is leased of it, below the floor and the marks of deadlines too, where
 * nothing should be unless sequence or clock were set back: once a stranded barrier. An index would be every message's
 * to keep up.
 *
 * The caller holds the epoch. A message keeps its message_id, and so its event_id, and the same large payload, as
 * long as that is there: else it cannot be sent again.
 */
declare
    v_queue text;
    v_channel channel;
    v_messages message[];
begin
    select n.queue into v_queue from barrier_sent n where n.epoch = p_barrier.epoch order by n.first_member limit 1;
    select * into v_channel from channel c where c.kind = 'queue' and c.name = v_queue;
    if not found then
        return 0;
    end if;
    with outstanding as materialized (
        select s.slot + b.bit * r.slot_count as member
        from barrier_slot s
        cross join lateral (
            select * from barrier_range n
            where n.epoch = s.epoch and n.first_member <= s.slot
            order by n.first_member desc
            limit 1
        ) r
        cross join generate_series(0, 61) b (bit)
        where s.epoch = p_barrier.epoch and s.pending & (1::bigint << b.bit) <> 0
    ), present as materialized (
        select r.member
        from ready r
        where r.channel_id = v_channel.channel_id and r.epoch = p_barrier.epoch
        union all
        select s.member
        from scheduled s
        where s.channel_id = v_channel.channel_id and s.epoch = p_barrier.epoch
        union all
        select m.member
        from lease l
        cross join unnest(l.messages) m
        where l.channel_id = v_channel.channel_id and m.epoch = p_barrier.epoch
    ), sent as materialized (
        select
            n.priority, n.max_attempts, n.headers, n.first_member + u.number::integer - 1 as member, u.message_id,
            n.sent_at, u.payload, u.body_id
        from barrier_sent n
        cross join unnest(n.message_ids, n.payloads, n.body_ids) with ordinality
            as u (message_id, payload, body_id, number)
        where n.epoch = p_barrier.epoch
    ), lost as (
        select s.*, _json_size(y.payload) as body_bytes, i.event_prefix
        from outstanding o
        inner join sent s on s.member = o.member
        left join body y on y.body_id = s.body_id
        cross join installation i
        where not exists (select from present p where p.member = o.member)
            and (s.body_id is null or y.body_id is not null)
        order by s.member
        limit p_limit
    )
    select array_agg(row({{ message_names("", {
        "attempts": "0", "priority": "l.priority", "message_id": "l.message_id", "enqueued_at": "clock_now()",
        "payload": "l.payload", "headers": "l.headers",
        "event_id": "_event_id(l.event_prefix, l.message_id, l.sent_at)", "body_id": "l.body_id",
        "body_bytes": "l.body_bytes", "max_attempts": "l.max_attempts", "max_batch": "null",
        "requeued_from": "null", "backoff": "null", "topic": "null", "group_key": "null", "job_key": "null",
        "run_id": "p_barrier.run_id", "tenant": "p_barrier.tenant", "errors": "null",
        "barrier": "p_barrier.name", "epoch": "p_barrier.epoch", "member": "l.member",
    }) }})::message order by l.member)
    into v_messages
    from lost l;
    if v_messages is null then
        return 0;
    end if;
    if v_channel.tenant_required and p_barrier.tenant is null then
        perform _bad_argument('p_tenant', null, format('Queue %s requires a tenant.', v_queue));
    end if;
    perform _priority_declare(
        v_channel.channel_id, array(select distinct m.priority::smallint from unnest(v_messages) m)
    );
    perform _message_enter(v_channel.channel_id, v_messages);
    {{ ring("'queue'", "v_channel.name") }}
    return cardinality(v_messages);
end;
$$;

comment on function {{ schema }}._members_resend({{ schema }}.barrier, integer) is
'Send the messages of outstanding members again that are nowhere, up to p_limit. Returns how many; 0 when none is lost, or nothing was kept that could be sent.';
