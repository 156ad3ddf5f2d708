create or replace function {{ schema }}._message_cancel(
    p_channel_id integer, p_messages {{ schema }}.message[], p_note text
) returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
begin
    perform _message_bury(
        p_channel_id, p_messages,
        array_fill('cancelled'::text, array[cardinality(p_messages)]),
        array_fill(p_note, array[cardinality(p_messages)]),
        'discarded'
    );
    delete from cancel_request r using unnest(p_messages) m
    where r.channel_id = p_channel_id and r.message_id = m.message_id;
    insert into tally (channel_id, outcome, amount) values (p_channel_id, 'cancelled', cardinality(p_messages));
end;
$$;

comment on function {{ schema }}._message_cancel(integer, {{ schema }}.message[], text) is
'End messages that somebody cancelled: they are kept as discarded dead letters, which alarm nobody, until their retention.';
