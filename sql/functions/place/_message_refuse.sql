{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._message_refuse(p_channel_id integer, p_messages {{ schema }}.message[])
returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * For messages of a stopped run that somebody was about to deliver: they go into a lease that nobody got and that has
 * run out already, and the next tick settles them as cancelled. To do it here would be to wait, with messages in hand,
 * for the rows of their job keys and groups, whose holders may be waiting for these messages.
 */
begin
    insert into lease (
        lease_id, claimed_at, expires_at, channel_id, message_count, is_plain, worker, run_ids, messages
    ) values (
        gen_random_uuid(), clock_now(), clock_now() + interval '1 microsecond', p_channel_id,
        cardinality(p_messages), false, '(nobody: the run is stopped)',
        array(select distinct m.run_id from unnest(p_messages) m), p_messages
    );
end;
$$;

comment on function {{ schema }}._message_refuse(integer, {{ schema }}.message[]) is
'Keep messages of a stopped run, taken from their place, until the next tick settles them as cancelled.';
