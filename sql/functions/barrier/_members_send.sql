{% from "macros/channel.sql" import ring %}
{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._members_send(
    p_name text, p_epoch bigint, p_first_member integer, p_queue text, p_payloads jsonb[], p_headers jsonb,
    p_priority integer, p_max_attempts integer, p_run_id text, p_tenant text
) returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_now constant timestamptz := clock_now();
    v_channel channel;
    v_messages message[];
begin
    select * into v_channel from channel c where c.kind = 'queue' and c.name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    elsif v_channel.is_draining then
        raise exception using
            errcode = 'TG023',
            message = format('queue %L is draining and takes no more messages', p_queue),
            hint = 'Send elsewhere, or let it take messages again with queue_resume.';
    elsif v_channel.tenant_required and p_tenant is null then
        perform _bad_argument('p_tenant', null, format('Queue %s requires a tenant.', p_queue));
    elsif array_position(p_payloads, null) is not null then
        perform _bad_argument(
            format('p_payloads[%s]', array_position(p_payloads, null)), null,
            'Give a JSON value; for an empty one, ''null''::jsonb.'
        );
    elsif jsonb_typeof(p_headers) <> 'object' or _json_size(p_headers) > 8192 then
        perform _bad_argument('p_headers', left(p_headers::text, 200), 'Headers are a JSON object of at most 8 kB.');
    elsif p_priority is null or p_priority not between 0 and 9 then
        perform _bad_argument('p_priority', p_priority::text, 'A priority is a number from 0 (first) to 9 (last).');
    elsif p_max_attempts not between 0 and 32767 then
        perform _bad_argument('p_max_attempts', p_max_attempts::text, 'Give 1 to 32767, or 0 for ever.');
    end if;
    if p_payloads = '{}' then
        return;
    end if;
    perform _priority_declare(v_channel.channel_id, array[p_priority]::smallint[]);

    with input as materialized (
        select
            u.ordinality, u.payload, nextval('position_seq') as id, _json_size(u.payload) as bytes,
            case when _json_size(u.payload) > v_channel.inline_limit then nextval('body_body_id_seq') end as body_id
        from unnest(p_payloads) with ordinality u (payload, ordinality)
    ), large as (
        insert into body (body_id, payload) overriding system value
        select i.body_id, i.payload from input i where i.body_id is not null
    )
    select array_agg(row({{ message_names("", {
        "attempts": "0", "priority": "p_priority", "message_id": "i.id", "enqueued_at": "v_now",
        "payload": "case when i.body_id is null then i.payload end", "headers": "p_headers", "event_id": "null",
        "body_id": "i.body_id", "body_bytes": "case when i.body_id is not null then i.bytes end",
        "max_attempts": "p_max_attempts", "max_batch": "null", "requeued_from": "null", "backoff": "null",
        "topic": "null", "group_key": "null", "job_key": "null", "run_id": "p_run_id", "tenant": "p_tenant",
        "errors": "null", "barrier": "p_name", "epoch": "p_epoch",
        "member": "p_first_member + i.ordinality::integer - 1",
    }) }})::message order by i.ordinality)
    into v_messages
    from input i;
    perform _message_enter(v_channel.channel_id, v_messages);
    {{ ring("'queue'", "v_channel.name") }}
    insert into barrier_sent (
        epoch, sent_at, first_member, queue, priority, max_attempts, headers, message_ids, payloads, body_ids
    )
    select
        p_epoch, v_now, min(m.member), p_queue, p_priority, p_max_attempts, p_headers,
        array_agg(m.message_id order by m.member), array_agg(m.payload order by m.member),
        case when count(m.body_id) > 0 then array_agg(m.body_id order by m.member) end
    from unnest(v_messages) m
    group by (m.member - p_first_member) / 1000;
end;
$$;

comment on function {{ schema }}._members_send(
    text, bigint, integer, text, jsonb[], jsonb, integer, integer, text, text
) is
'Send the messages of members to a queue, from p_first_member on. Errors: TG010 bad argument, TG020 no such queue, TG023 it is draining.';
