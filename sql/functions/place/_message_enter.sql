{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._message_enter(p_channel_id integer, p_messages {{ schema }}.message[])
returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * Groups are a queue's matter: in a topic the key only travels. Who enters blocked locks nothing that others touch;
 * the tick finds it there.
 */
declare
    v_is_grouped constant boolean := exists (select from unnest(p_messages) m where m.group_key is not null)
        and exists (select from channel c where c.channel_id = p_channel_id and c.kind = 'queue');
begin
    insert into ready (position, channel_id, {{ message_names() }})
    select nextval('position_seq'), p_channel_id, {{ message_names("m") }}
    from unnest(p_messages) m
    where m.group_key is null or not v_is_grouped;
    if v_is_grouped then
        insert into blocked (position, channel_id, {{ message_names() }})
        select nextval('position_seq'), p_channel_id, {{ message_names("m") }}
        from unnest(p_messages) m
        where m.group_key is not null;
    end if;
end;
$$;

comment on function {{ schema }}._message_enter(integer, {{ schema }}.message[]) is
'Let messages come into a channel, in the order given: into ready, or, those of a group in a queue, into blocked behind what waits there.';
