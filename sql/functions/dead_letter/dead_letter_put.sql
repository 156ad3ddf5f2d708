{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}.dead_letter_put(p_channel text, p_specs jsonb, p_kind text default 'queue')
returns setof {{ schema }}.sent
language plpgsql volatile rows 100
security definer
set search_path = {{ schema }}, pg_temp
as $$
/*
 * For what died before it came here. The messages never stood in a place, so nobody can have claimed one: they are made
 * here and buried in one go, as any other death is. When each failed stands in its history; dead_at is when it landed.
 */
declare
    v_channel channel;
    v_specs constant jsonb[] := array(
        select s.spec from _specs_check(p_specs, array[
            'payload', 'error', 'reason', 'attempts', 'failed_at', 'enqueued_at', 'headers', 'priority', 'group_key',
            'job_key', 'idempotency_key', 'event_id', 'run_id', 'tenant', 'max_attempts', 'backoff'
        ]) s (spec)
    );
    v_spec jsonb;
    v_id bigint;
    v_first bigint;
    v_body_id bigint;
    v_size integer;
    v_attempts integer;
    v_priority integer;
    v_reason text;
    v_long text;
    v_answers sent[] := '{}';
    v_messages message[] := '{}';
    v_reasons text[] := '{}';
    v_errors text[] := '{}';
begin
    if p_kind is null or p_kind not in ('queue', 'topic') then
        perform _bad_argument('p_kind', p_kind, 'A channel is a queue or a topic.');
    end if;
    select * into v_channel from channel c where c.kind = p_kind and c.name = p_channel;
    if not found then
        perform _no_such_channel(p_kind, p_channel);
    end if;
    if cardinality(v_specs) > 1 then
        perform _idempotency_keys_lock(p_kind, p_channel, v_specs);
    end if;
    foreach v_spec in array v_specs loop
        v_attempts := coalesce((v_spec ->> 'attempts')::integer, 0);
        if v_attempts not between 0 and 32767 then
            perform _bad_argument('attempts', v_attempts::text, 'Give how many deliveries failed: 0 to 32767.');
        end if;
        v_reason := coalesce(v_spec ->> 'reason', case when v_attempts > 0 then 'exhausted' else 'not_retryable' end);
        if v_reason not in ('exhausted', 'not_retryable', 'expired', 'malformed', 'unknown_handler')
            or v_reason = 'exhausted' and v_attempts = 0
        then
            perform _bad_argument(
                'reason', v_reason,
                'The reasons are exhausted (of at least one attempt), not_retryable, expired, malformed and'
                ' unknown_handler.'
            );
        end if;
        v_priority := coalesce((v_spec ->> 'priority')::integer, 0);
        if v_priority not between 0 and 9 then
            perform _bad_argument('priority', v_priority::text, 'A priority is a number from 0 (first) to 9 (last).');
        end if;
        if (v_spec ->> 'max_attempts')::integer not between 0 and 32767 then
            perform _bad_argument('max_attempts', v_spec ->> 'max_attempts', 'Give 1 to 32767, or 0 for ever.');
        end if;
        if v_channel.tenant_required and v_spec ->> 'tenant' is null then
            perform _bad_argument('tenant', null, format('%s %s requires a tenant.', initcap(p_kind), p_channel));
        end if;
        if jsonb_typeof(nullif(v_spec -> 'headers', 'null')) <> 'object' or _json_size(v_spec -> 'headers') > 8192 then
            perform _bad_argument(
                'headers', left(v_spec ->> 'headers', 200), 'Headers are a JSON object of at most 8 kB.'
            );
        end if;
        perform _backoff_check(nullif(v_spec -> 'backoff', 'null')) where v_spec -> 'backoff' <> 'null';
        select t.name into v_long
        from unnest(array['group_key', 'job_key', 'idempotency_key', 'run_id', 'tenant']) t (name)
        where octet_length(v_spec ->> t.name) > 512
        limit 1;
        if found then -- they stand in indexes
            perform _bad_argument(v_long, left(v_spec ->> v_long, 100), 'It has at most 512 bytes; hash a longer one.');
        end if;

        v_id := nextval('position_seq');
        if v_spec ->> 'idempotency_key' is not null then
            -- As in a send: the second of two at once waits here, and finds what is final.
            v_first := null;
            loop
                insert into idempotency_key (channel_id, key, message_id, created_at)
                values (v_channel.channel_id, v_spec ->> 'idempotency_key', v_id, clock_now())
                on conflict do nothing;
                exit when found;
                select k.message_id into v_first
                from idempotency_key k
                where k.channel_id = v_channel.channel_id and k.key = v_spec ->> 'idempotency_key';
                exit when found;
            end loop;
            if v_first is not null then
                v_answers := v_answers || row(v_first, 'deduplicated')::sent;
                continue;
            end if;
        end if;
        v_size := _json_size(v_spec -> 'payload');
        v_body_id := null;
        if v_size > v_channel.inline_limit then
            insert into body (payload) values (v_spec -> 'payload') returning body_id into v_body_id;
        end if;
        if v_priority > 0 then -- a requeue puts it where claims have to look
            perform _priority_declare(v_channel.channel_id, array[v_priority]::smallint[]);
        end if;
        if exists (select from unnest(v_messages) m where m.job_key = v_spec ->> 'job_key') then
            -- Of one key the later lands in the entry of the earlier, as if they had died one after the other.
            perform _message_bury(v_channel.channel_id, v_messages, v_reasons, v_errors);
            v_messages := '{}';
            v_reasons := '{}';
            v_errors := '{}';
        end if;
        v_answers := v_answers || row(v_id, 'inserted')::sent;
        v_reasons := v_reasons || v_reason;
        v_errors := v_errors || coalesce(v_spec ->> 'error', '');
        v_messages := v_messages || row({{ message_names("", {
            "attempts": "v_attempts", "priority": "v_priority", "message_id": "v_id",
            "enqueued_at": "coalesce((v_spec ->> 'enqueued_at')::timestamptz, clock_now())",
            "payload": "case when v_body_id is null then v_spec -> 'payload' end",
            "headers": "nullif(v_spec -> 'headers', 'null')", "event_id": "(v_spec ->> 'event_id')::uuid",
            "body_id": "v_body_id", "body_bytes": "case when v_body_id is not null then v_size end",
            "max_attempts": "(v_spec ->> 'max_attempts')::integer", "max_batch": "null", "requeued_from": "null",
            "backoff": "nullif(v_spec -> 'backoff', 'null')", "topic": "null",
            "group_key": "v_spec ->> 'group_key'", "job_key": "v_spec ->> 'job_key'",
            "run_id": "v_spec ->> 'run_id'", "tenant": "v_spec ->> 'tenant'",
            "errors": "jsonb_build_array(jsonb_build_object(
                'at', coalesce((v_spec ->> 'failed_at')::timestamptz, clock_now()), 'attempt', v_attempts,
                'error', _error_text(v_spec ->> 'error')
            ))",
            "barrier": "null", "epoch": "null", "member": "null",
        }) }})::message;
    end loop;
    if v_messages <> '{}' then
        perform _message_bury(v_channel.channel_id, v_messages, v_reasons, v_errors);
    end if;
    return query select a.message_id, a.outcome from unnest(v_answers) with ordinality a order by a.ordinality;
end;
$$;

comment on function {{ schema }}.dead_letter_put(text, jsonb, text) is
'Bring in messages that died elsewhere, as dead letters of a queue (or, with p_kind topic, of a topic) that can be requeued or discarded as any other: a JSON array of objects with payload and error, reason (exhausted, not_retryable, expired, malformed, unknown_handler), attempts, failed_at and enqueued_at, and, as in queue_send, headers, priority, group_key, job_key, idempotency_key, event_id, run_id, tenant, max_attempts, backoff. One answer an element, in order: inserted, or, for an idempotency key used before on this channel, deduplicated with the first message_id. Errors: TG010 bad argument, TG020 no such channel; a value of the wrong type raises what its cast raises (22P02, 22007).';
