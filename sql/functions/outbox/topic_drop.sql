create or replace function {{ schema }}.topic_drop(p_topic text) returns void
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
set lock_timeout = '2s'
as $$
/*
 * Whoever puts has read channel, and keeps a lock on it to the end of the transaction: the exclusive lock waits for
 * those in flight, and those still to come find no topic. It waits two seconds at most, as others queue up behind it.
 */
declare
    v_channel_id integer;
    v_count bigint;
begin
    lock table channel in access exclusive mode;
    select c.channel_id into v_channel_id from channel c where c.kind = 'topic' and c.name = p_topic;
    if not found then
        perform _no_such_channel('topic', p_topic);
    end if;
    select (select count(*) from ready r where r.channel_id = v_channel_id)
        + (select count(*) from scheduled s where s.channel_id = v_channel_id)
        + (select coalesce(sum(l.message_count), 0) from lease l where l.channel_id = v_channel_id)
    into v_count;
    if v_count > 0 then
        raise exception using
            errcode = 'TG022',
            message = format('topic %L still holds %s event(s)', p_topic, v_count),
            hint = 'Sweep or relay them first.';
    end if;
    delete from channel where channel_id = v_channel_id;
    delete from channel_priority where channel_id = v_channel_id;
    delete from floor where channel_id = v_channel_id;
    delete from idempotency_key where channel_id = v_channel_id;
    delete from route r where r.topic = p_topic;
end;
$$;

comment on function {{ schema }}.topic_drop(text) is
'Drop an empty topic with the routes that name it exactly; dead letters and archived events stay. Errors: TG020 no such topic, TG022 it still holds events, 55P03 a transaction that has put something stayed open: try again.';
