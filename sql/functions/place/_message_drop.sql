create or replace function {{ schema }}._message_drop(p_channel_id integer, p_messages {{ schema }}.message[])
returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
    if exists (select from unnest(p_messages) m where m.barrier is not null) then
        perform _member_end(p_messages, array_fill('discarded'::text, array[cardinality(p_messages)]));
    end if;
    delete from body b using unnest(p_messages) m where b.body_id = m.body_id;
    update dead_letter d set state = 'discarded', resolved_at = clock_now()
    where d.dead_letter_id = any(array(select m.requeued_from from unnest(p_messages) m));
    if exists (select from unnest(p_messages) m where m.group_key is not null or m.job_key is not null) then
        perform _message_end(p_channel_id, p_messages);
    end if;
end;
$$;

comment on function {{ schema }}._message_drop(integer, {{ schema }}.message[]) is
'Lose messages for good, as somebody has asked for; the members they belong to fail, and the dead letters they were requeued from are discarded with them.';
