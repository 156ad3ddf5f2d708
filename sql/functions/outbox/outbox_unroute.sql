create or replace function {{ schema }}.outbox_unroute(
    p_topic text, p_queue text default null, p_handler text default null
) returns boolean
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_is_found boolean;
begin
    if (p_queue is null) = (p_handler is null) then
        perform _bad_argument(
            'p_queue', p_queue,
            format('Give exactly one of p_queue and p_handler; p_handler is %s.', coalesce(p_handler, 'null'))
        );
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('outbox_unroute');
    end if;
    lock table route in share row exclusive mode;
    delete from route r
    where r.topic = p_topic
        and (
            r.queue_id = (select c.channel_id from channel c where c.kind = 'queue' and c.name = p_queue)
            -- by its stored name too, with or without the argument: the function itself may be gone
            or r.handler = _handler_name(p_handler)
            or r.handler = p_handler
            or split_part(r.handler, '(', 1) = p_handler
        );
    v_is_found := found;
    update channel c set is_routed = false
    where c.kind = 'topic' and c.is_routed and not _topic_is_routed(c.name);
    return v_is_found;
end;
$$;

comment on function {{ schema }}.outbox_unroute(text, text, text) is
'Take a route away; false when there was none. Events that still stand in the topic no longer go there. A topic without routes is drained by a relay. Errors: TG010 bad argument.';
