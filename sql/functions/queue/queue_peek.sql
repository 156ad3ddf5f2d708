{% from "macros/message.sql" import message_names %}
{%- set shown = {
    "priority": "m.priority::smallint",
    "payload": "coalesce(m.payload, (select b.payload from body b where b.body_id = m.body_id))",
    "event_id": "coalesce(m.event_id, _event_id(v_channel.event_prefix, m.message_id, m.enqueued_at))",
} -%}
create or replace function {{ schema }}.queue_peek(
    p_queue text, p_limit integer default 10, p_place text default 'ready'
) returns setof {{ schema }}.message
language plpgsql stable rows 10
security definer
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_channel channel;
begin
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'Look at between 1 and 10000 messages at a time.');
    end if;
    select * into v_channel from channel where kind = 'queue' and name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
    case p_place
{%- for place, order in [
    ("ready", "priority, position"), ("scheduled", "due_at, message_id"), ("blocked", "position")
] %}
        when '{{ place }}' then
            return query
            select {{ message_names("m", shown) }}
            from (
                select * from {{ place }} p
                where p.channel_id = v_channel.channel_id
                order by {{ order }}
                limit p_limit
            ) m
            order by {{ order }};
{%- endfor %}
        when 'lease' then
            return query
            select {{ message_names("m", shown) }}
            from (
                select * from lease n
                where n.channel_id = v_channel.channel_id
                order by n.expires_at
                limit p_limit
            ) l
            cross join lateral unnest(_lease_left(l::lease)) with ordinality m
            order by l.expires_at, l.lease_id, m.ordinality
            limit p_limit;
        else
            perform _bad_argument('p_place', p_place, 'The places are ready, scheduled, blocked and lease.');
    end case;
end;
$$;

comment on function {{ schema }}.queue_peek(text, integer, text) is
'Look at messages of a queue where they stand (ready, scheduled, blocked or lease), in the order in which they would leave it. Locks nothing and changes nothing. No rows when nothing stands there. Errors: TG010 bad argument, TG020 no such queue.';
