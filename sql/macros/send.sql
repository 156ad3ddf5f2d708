{% from "macros/argument.sql" import lengths_check %}
{% from "macros/channel.sql" import ring %}
{% from "macros/message.sql" import message_names %}
{% from "macros/run.sql" import is_stopped %}
{#-
  The one path by which messages come in: shared by outbox_put and queue_send, one at a time and many.
  `kind` is the channel's, `name` the argument that names it.
-#}
{% macro channel_lookup(kind, name) -%}
    select c.channel_id, c.inline_limit, c.tenant_required, c.doorbell{{ ", c.is_draining" if kind == "queue" }}
    into v_channel
    from channel c
    where c.kind = '{{ kind }}' and c.name = {{ name }};
    if not found then
        perform _no_such_channel('{{ kind }}', {{ name }});
    end if;
{%- endmacro %}

{#- What an ordinary call is tested for, in one expression: each is set up anew in every transaction. -#}
{% macro is_ordinary(kind) -%}
p_priority = 0 and p_run_at is null and p_idempotency_key is null and p_group_key is null and p_run_id is null
        and current_setting('transaction_isolation') = 'read committed'
        and coalesce(octet_length(p_tenant) <= 512, not v_channel.tenant_required)
        and (p_headers is null or (jsonb_typeof(p_headers) = 'object' and _json_size(p_headers) <= 8192))
{%- if kind == "queue" %}
        and p_max_attempts is null and p_backoff is null and not v_channel.is_draining
{%- endif %}
{%- endmacro %}

{% macro options_check(kind, name, key) -%}
    if current_setting('transaction_isolation') <> 'read committed' then
        -- An old snapshot may show a channel that was dropped since: its lock raises 40001 then.
        perform from channel c where c.channel_id = v_channel.channel_id for key share;
    end if;
    if p_priority is null or p_priority not between 0 and 9 then
        perform _bad_argument('p_priority', p_priority::text, 'A priority is a number from 0 (first) to 9 (last).');
    end if;
    if v_channel.tenant_required and p_tenant is null then
        perform _bad_argument('p_tenant', p_tenant, format('%s %s requires a tenant.', initcap('{{ kind }}'), {{ name }}));
    end if;
    if jsonb_typeof(p_headers) <> 'object' or _json_size(p_headers) > 8192 then
        perform _bad_argument('p_headers', left(p_headers::text, 200), 'Headers are a JSON object of at most 8 kB.');
    end if;
{%- if kind == "queue" %}
    if p_max_attempts not between 0 and 32767 then
        perform _bad_argument('p_max_attempts', p_max_attempts::text, 'Give 1 to 32767, or 0 for ever.');
    end if;
    if p_backoff is not null then
        perform _backoff_check(p_backoff);
    end if;
    -- A repeat of what came in before is answered as ever.
    if v_channel.is_draining and not exists (
        select from idempotency_key k where k.channel_id = v_channel.channel_id and k.key = {{ key }}
    ) then
        raise exception using
            errcode = 'TG023',
            message = format('queue %L is draining and takes no more messages', p_queue),
            hint = 'Send elsewhere, or let it take messages again with queue_resume.';
    end if;
{%- endif %}
{{- lengths_check(["p_idempotency_key", "p_group_key", "p_run_id", "p_tenant"]) }}
    if p_run_at > clock_now() + interval '100 years' then
        perform _bad_argument('p_run_at', p_run_at::text, 'Give an instant of the next 100 years, or null for now.');
    end if;
    if p_priority > 0 then
        perform _priority_declare(v_channel.channel_id, array[p_priority]::smallint[]);
    end if;
{%- endmacro %}

{% macro insert_one(kind, place, key, value) -%}
insert into {{ place }} (
            {{ key }}, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id,
            body_bytes, {{ "max_attempts, backoff, " if kind == "queue" }}group_key, run_id, tenant
        ) values (
            {{ value }}, v_channel.channel_id, 0, p_priority, v_sent.message_id, clock_now(),
            case when v_body_id is null then p_payload end, p_headers, p_event_id, v_body_id,
            case when v_body_id is not null then v_size end,
            {{ "p_max_attempts, p_backoff, " if kind == "queue" }}p_group_key, p_run_id, p_tenant
        );
{%- endmacro %}

{% macro send_one_body(kind, name) -%}
declare
    v_channel record;
    v_sent sent;
    v_body_id bigint;
    v_size integer;
begin
    {{ channel_lookup(kind, name) }}
    if {{ is_ordinary(kind) }}
        and _json_size(p_payload) <= v_channel.inline_limit{{ " and p_job_key is null and p_key_mode = 'replace'" if kind == "queue" }}
    then
        v_sent := row(nextval('position_seq'), 'inserted');
        insert into ready (
            position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, run_id, tenant
        ) values (
            v_sent.message_id, v_channel.channel_id, 0, 0, v_sent.message_id, clock_now(), p_payload, p_headers,
            p_event_id, p_run_id, p_tenant
        );
        {{ ring("'" ~ kind ~ "'", name) | indent }}
        return v_sent;
    end if;

    {{ options_check(kind, name, "p_idempotency_key") }}
{%- if kind == "queue" %}
    if p_key_mode is null or p_key_mode not in ('replace', 'preserve_run_at', 'dedupe') then
        perform _bad_argument('p_key_mode', p_key_mode, 'The modes are replace, preserve_run_at and dedupe.');
    elsif p_key_mode <> 'replace' and p_job_key is null then
        perform _bad_argument('p_key_mode', p_key_mode, 'Without a p_job_key there is nothing that it could mean.');
    end if;
{%- endif %}
    if p_payload is null then
        perform _bad_argument('p_payload', null, 'Give a JSON value; for an empty one, ''null''::jsonb.');
    end if;
    if p_run_id is not null and {{ is_stopped("p_run_id") }} then
        select k.message_id, 'deduplicated' into v_sent
        from idempotency_key k
        where k.channel_id = v_channel.channel_id and k.key = p_idempotency_key;
        if not found then
            v_sent := row(null, 'cancelled');
        end if;
        return v_sent;
    end if;
    v_size := _json_size(p_payload);
    v_sent := row(nextval('position_seq'), 'inserted');
    if p_idempotency_key is not null then
        -- Of two that use a key at once, the second waits here for the first to end: whatever it finds then is final.
        loop
            insert into idempotency_key (channel_id, key, message_id, created_at)
            values (v_channel.channel_id, p_idempotency_key, v_sent.message_id, clock_now())
            on conflict do nothing;
            exit when found;
            select k.message_id, 'deduplicated' into v_sent
            from idempotency_key k
            where k.channel_id = v_channel.channel_id and k.key = p_idempotency_key;
            if found then
                return v_sent;
            end if;
            v_sent.message_id := nextval('position_seq');
            v_sent.outcome := 'inserted';
        end loop;
    end if;
    {{ ring("'" ~ kind ~ "'", name, "(p_run_at is null or p_run_at <= clock_now())") }}
    if v_size > v_channel.inline_limit then
        insert into body (payload) values (p_payload) returning body_id into v_body_id;
    end if;

{%- if kind == "queue" %}
    if p_job_key is not null then
        v_sent := _keyed_send(
            v_channel.channel_id, p_key_mode, p_run_at,
            row({{ message_names("", {
                "attempts": "0", "priority": "p_priority", "message_id": "v_sent.message_id",
                "enqueued_at": "clock_now()", "payload": "case when v_body_id is null then p_payload end",
                "headers": "p_headers", "event_id": "p_event_id", "body_id": "v_body_id",
                "body_bytes": "case when v_body_id is not null then v_size end", "max_attempts": "p_max_attempts",
                "max_batch": "null", "requeued_from": "null", "backoff": "p_backoff", "topic": "null",
                "group_key": "p_group_key", "job_key": "p_job_key", "run_id": "p_run_id", "tenant": "p_tenant",
                "errors": "null", "barrier": "null", "epoch": "null", "member": "null",
            }) }})::message
        );
        if p_idempotency_key is not null then
            update idempotency_key set message_id = v_sent.message_id
            where channel_id = v_channel.channel_id and key = p_idempotency_key;
        end if;
        return v_sent;
    end if;
{%- endif %}

    if p_run_at > clock_now() then
        {{ insert_one(kind, "scheduled", "due_at", "greatest(p_run_at, clock_now() + interval '1 microsecond')") }}
{%- if kind == "queue" %}
    elsif p_group_key is not null then
        {{ insert_one(kind, "blocked", "position", "v_sent.message_id") }}
{%- endif %}
    else
        {{ insert_one(kind, "ready", "position", "v_sent.message_id") }}
    end if;
    return v_sent;
end;
{%- endmacro %}

{% macro insert_many(kind, place) -%}
return query
        with input as materialized (
            select
                nextval('position_seq') as id, u.payload,
                case when _json_size(u.payload) > v_channel.inline_limit then nextval('body_body_id_seq') end as body_id
            from unnest(p_payloads) as u (payload)
        ), large as (
            insert into body (body_id, payload) overriding system value
            select i.body_id, i.payload from input i where i.body_id is not null
        )
        insert into {{ place }} (
            position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, body_id, body_bytes,
            {{ "max_attempts, backoff, " if kind == "queue" }}group_key, run_id, tenant
        )
        select
            i.id, v_channel.channel_id, 0, p_priority, i.id, v_now,
            case when i.body_id is null then i.payload end, p_headers,
            i.body_id, case when i.body_id is not null then _json_size(i.payload) end,
            {{ "p_max_attempts, p_backoff, " if kind == "queue" }}p_group_key, p_run_id, p_tenant
        from input i
        returning {{ place }}.message_id, 'inserted'::text;
{%- endmacro %}

{% macro send_many_body(kind, name, one) -%}
declare
    v_channel record;
    v_now timestamptz := clock_now();
begin
    {{ channel_lookup(kind, name) }}
    if {{ is_ordinary(kind) }}
        and array_ndims(p_payloads) = 1
        and (
            select max(coalesce(_json_size(u.payload), 2147483647)) from (select unnest(p_payloads) as payload) u
        ) <= v_channel.inline_limit
    then
        return query
        insert into ready (
            position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, run_id, tenant
        )
        select i.id, v_channel.channel_id, 0, 0, i.id, v_now, i.payload, p_headers, p_run_id, p_tenant
        from (
            select nextval('position_seq') as id, u.payload from (select unnest(p_payloads) as payload) u
        ) i
        returning ready.message_id, 'inserted'::text;
        {{ ring("'" ~ kind ~ "'", name) | indent }}
        return;
    end if;

    {{ options_check(kind, name, "p_idempotency_key || ':1'") }}
    if p_payloads is null or array_ndims(p_payloads) > 1 then
        perform _bad_argument('p_payloads', left(p_payloads::text, 200), 'Give a flat array of JSON values.');
    elsif array_position(p_payloads, null) is not null then
        perform _bad_argument(
            format('p_payloads[%s]', array_position(p_payloads, null)), null,
            'Give a JSON value; for an empty one, ''null''::jsonb.'
        );
    end if;
    if p_run_id is not null and p_idempotency_key is null and {{ is_stopped("p_run_id") }} then
        return query select null::bigint, 'cancelled'::text from unnest(p_payloads);
        return;
    end if;

    if p_idempotency_key is null and (p_run_at is null or p_run_at <= clock_now()) then
        {{ ring("'" ~ kind ~ "'", name) | indent }}
{%- if kind == "queue" %}
        if p_group_key is not null then
            {{ insert_many(kind, "blocked") | indent }}
            return;
        end if;
{%- endif %}
        {{ insert_many(kind, "ready") }}
        return;
    end if;

    -- Keys and delays take the path of one.
    return query
    select s.*
    from unnest(p_payloads) with ordinality u (payload, ordinal)
    cross join lateral {{ one }}(
        {{ name }}, u.payload,
        p_headers => p_headers, p_run_at => p_run_at, p_priority => p_priority, p_group_key => p_group_key,
        p_run_id => p_run_id, p_tenant => p_tenant,
{%- if kind == "queue" %}
        p_max_attempts => p_max_attempts, p_backoff => p_backoff,
{%- endif %}
        p_idempotency_key => p_idempotency_key || ':' || u.ordinal
    ) s
    order by u.ordinal;
end;
{%- endmacro %}
