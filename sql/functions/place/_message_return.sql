{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._message_return(
    p_channel_id integer, p_messages {{ schema }}.message[], p_delay interval, p_max_batch integer default null
) returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
begin
    if p_delay > '0' then
        insert into scheduled (due_at, channel_id, {{ message_names() }})
        select
            greatest(clock_now() + p_delay, clock_now() + interval '1 microsecond'), p_channel_id,
            {{ message_names("m", {"max_batch": "least(m.max_batch, p_max_batch)"}) }}
        from unnest(p_messages) m;
    else
        insert into ready (position, channel_id, {{ message_names() }})
        select
            nextval('position_seq'), p_channel_id,
            {{ message_names("m", {"max_batch": "least(m.max_batch, p_max_batch)"}) }}
        from unnest(p_messages) m;
    end if;
end;
$$;

comment on function {{ schema }}._message_return(integer, {{ schema }}.message[], interval, integer) is
'Put messages back uncharged: into ready behind what waits there, or into scheduled when a delay is given. p_max_batch limits the batches they may be claimed in.';
