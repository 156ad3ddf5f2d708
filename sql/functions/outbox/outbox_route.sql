create or replace function {{ schema }}.outbox_route(
    p_topic text, p_queue text default null, p_handler text default null
) returns bigint
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_route_id bigint;
    v_queue_id integer;
    v_handler text;
begin
    if (p_queue is null) = (p_handler is null) then
        perform _bad_argument(
            'p_queue', p_queue,
            format('Give exactly one of p_queue and p_handler; p_handler is %s.', coalesce(p_handler, 'null'))
        );
    end if;
    if p_topic is null or p_topic !~ '^[A-Za-z0-9_][A-Za-z0-9_.:-]*([.][*])?$' then
        perform _bad_argument('p_topic', p_topic, 'Give the name of a topic, or a prefix with a trailing .*');
    end if;
    -- Topics that are being created and routes that are being made must see each other.
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('outbox_route');
    end if;
    lock table route in share row exclusive mode;
    if p_topic !~ '[*]$' and not exists (select from channel c where c.kind = 'topic' and c.name = p_topic) then
        perform _no_such_channel('topic', p_topic);
    end if;
    if p_queue is not null then
        select c.channel_id into v_queue_id from channel c where c.kind = 'queue' and c.name = p_queue;
        if not found then
            perform _no_such_channel('queue', p_queue);
        end if;
    else
        perform _handler_call(p_handler);
        v_handler := _handler_name(p_handler);
    end if;

    insert into route (topic, queue_id, handler) values (p_topic, v_queue_id, v_handler)
    on conflict do nothing
    returning route_id into v_route_id;
    if not found then
        select r.route_id into v_route_id
        from route r
        where r.topic = p_topic and (r.queue_id = v_queue_id or r.handler = v_handler);
    end if;
    update channel c set is_routed = true
    where c.kind = 'topic' and not c.is_routed and _topic_matches(p_topic, c.name);
    return v_route_id;
end;
$$;

comment on function {{ schema }}.outbox_route(text, text, text) is
'Send the events of a topic, or of every topic under a prefix (orders.*), to a queue or to a SQL handler as well. Returns the route; the same one for a repeat. Events that stand in the topic go there too. A routed topic is swept by outbox_sweep, not relayed. Errors: TG010 bad argument, TG020 no such topic or queue, TG040 unsafe handler, TG041 no such handler.';
