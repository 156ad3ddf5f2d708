{#- Creating and configuring a channel: the same for topics and queues, but for the default of max_attempts. -#}
{% macro create_body(kind, name, max_attempts) -%}
declare
    v_channel_id integer;
begin
    if {{ name }} is null or {{ name }} !~ '^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}$' then
        perform _bad_argument(
            '{{ name }}', {{ name }}, 'A name has 1 to 128 letters, digits, or _ . : - and does not begin with . : or -'
        );
    end if;
{%- if kind == "topic" %}
    -- Topics that are being created and routes that are being made must see each other.
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('topic_create');
    end if;
    lock table route in share row exclusive mode;
{%- endif %}
    insert into channel (kind, name, max_attempts, event_prefix{{ ", is_routed" if kind == "topic" }})
    select '{{ kind }}', {{ name }}, {{ max_attempts }}, i.event_prefix{{ ", _topic_is_routed(p_topic)" if kind == "topic" }}
    from installation i
    on conflict do nothing
    returning channel_id into v_channel_id;
    if found then
        insert into floor (
            channel_id, ticked_at, took, position, is_quiet, has_more, move_limit, priorities, floors, hints,
            scheduled_from, lease_from, tick_at, grouped_to
        ) values (
            v_channel_id, 'epoch', '0', 0, false, false, 1000, '{0}',
            array_fill(0::bigint, array[10]), array_fill(0::bigint, array[10]), '-infinity', '-infinity', 'epoch', 0
        );
    end if;
    -- Called again with the same or another policy, it configures: deployments may repeat it.
    perform _channel_configure('{{ kind }}', {{ name }}, p_policy);
end;
{%- endmacro %}

{#- Dropping one. -#}
{% macro drop_body(kind, name) -%}
/*
 * Whoever sends has read channel, and keeps a lock on it to the end of the transaction: the exclusive lock waits for
 * those in flight, and those still to come find no {{ kind }}. It waits two seconds at most, as others queue up behind it.
 */
declare
    v_channel_id integer;
    v_count bigint;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('{{ kind }}_drop');
    end if;
    lock table route in share row exclusive mode; -- first, as everywhere
    lock table channel in access exclusive mode;
    select c.channel_id into v_channel_id from channel c where c.kind = '{{ kind }}' and c.name = {{ name }};
    if not found then
        perform _no_such_channel('{{ kind }}', {{ name }});
    end if;
{%- if kind == "queue" %}
    select count(*) into v_count from route r where r.queue_id = v_channel_id;
    if v_count > 0 then
        raise exception using
            errcode = 'TG022',
            message = format('queue %L is the target of %s route(s)', {{ name }}, v_count),
            hint = 'Take them away with outbox_unroute first.';
    end if;
    if p_to is not null then
        perform queue_purge({{ name }}, p_to);
    end if;
{%- endif %}
    select (select count(*) from ready r where r.channel_id = v_channel_id)
        + (select count(*) from scheduled s where s.channel_id = v_channel_id)
        + (select count(*) from blocked b where b.channel_id = v_channel_id)
        + (select coalesce(sum(l.message_count), 0) from lease l where l.channel_id = v_channel_id)
    into v_count;
    if v_count > 0 then
        raise exception using
            errcode = 'TG022',
            message = format('{{ kind }} %L still holds %s message(s)', {{ name }}, v_count),
            hint = {{ "'Sweep or relay them first.'" if kind == "topic"
                else "'Let workers finish them, or say where those that wait go: p_to => ''dead_letter'' or ''discard''.'" }};
    end if;
    delete from channel where channel_id = v_channel_id;
    delete from channel_priority where channel_id = v_channel_id;
    delete from floor where channel_id = v_channel_id;
    delete from idempotency_key where channel_id = v_channel_id;
    delete from job_key where channel_id = v_channel_id;
    delete from group_turn where channel_id = v_channel_id;
    delete from cancel_request where channel_id = v_channel_id;
    if to_regclass('doorbell_' || v_channel_id) is not null then
        execute format('drop sequence doorbell_%s', v_channel_id);
    end if;
{%- if kind == "topic" %}
    delete from route r where r.topic = {{ name }};
{%- endif %}
end;
{%- endmacro %}

{#- Wake whoever listens for the channel in v_channel, where that is wanted. -#}
{% macro ring(kind, name, condition="") -%}
if v_channel.doorbell is not null{{ " and " ~ condition if condition }} then
        perform _doorbell_ring(v_channel.channel_id, {{ kind }}, {{ name }}, v_channel.doorbell);
    end if;
{%- endmacro %}
