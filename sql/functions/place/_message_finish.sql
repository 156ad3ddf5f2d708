{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._message_finish(
    p_channel_id integer, p_archive boolean, p_messages {{ schema }}.message[], p_result jsonb default null,
    p_results jsonb default null
) returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * A success leaves behind: the arrival of the member it belonged to, an archived copy where the channel wants one, a
 * resolved dead letter, a turn handed on. Members first: their slots come before all else in the order of locks.
 */
begin
    if exists (select from unnest(p_messages) m where m.barrier is not null) then
        perform _member_end(p_messages, null, p_result, p_results);
    end if;
    if p_archive then
        insert into archive (settled_at, channel_id, {{ message_names() }})
        select
            clock_now(), p_channel_id,
            {{ message_names("m", {
                "event_id": "coalesce(m.event_id, _event_id(i.event_prefix, m.message_id, m.enqueued_at))",
            }) }}
        from unnest(p_messages) m
        cross join installation i;
    else
        delete from body b using unnest(p_messages) m where b.body_id = m.body_id;
    end if;
    if exists (select from unnest(p_messages) m where m.requeued_from is not null) then
        update dead_letter d set state = 'resolved', resolved_at = clock_now()
        where d.dead_letter_id = any(array(select m.requeued_from from unnest(p_messages) m));
    end if;
    if exists (select from unnest(p_messages) m where m.group_key is not null or m.job_key is not null) then
        perform _message_end(p_channel_id, p_messages);
    end if;
end;
$$;

comment on function {{ schema }}._message_finish(integer, boolean, {{ schema }}.message[], jsonb, jsonb) is
'End messages that succeeded: let the members they belong to arrive with their element of p_results or p_result, archive them or drop their bodies, resolve the dead letters they were requeued from, and hand on the turn of their group and their job key.';
