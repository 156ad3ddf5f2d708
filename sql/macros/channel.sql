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
        scheduled_from,
            lease_from
        ) values (
            v_channel_id, clock_now(), '0', 0, false, false, 1000, '{0}',
            array_fill(0::bigint, array[10]), array_fill(0::bigint, array[10]), '-infinity', '-infinity'
        );
    end if;
    -- Called again with the same or another policy, it configures: deployments may repeat it.
    perform _channel_configure('{{ kind }}', {{ name }}, p_policy);
end;
{%- endmacro %}
