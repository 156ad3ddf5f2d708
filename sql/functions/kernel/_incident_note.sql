create or replace function {{ schema }}._incident_note(
    p_routine text, p_channel_id integer, p_sqlstate text, p_message text
) returns void
language sql volatile
begin atomic
insert into {{ schema }}.incident (at, channel_id, routine, sqlstate, message)
values ({{ schema }}.clock_now(), p_channel_id, p_routine, p_sqlstate, {{ schema }}._error_text(p_message));
end;

comment on function {{ schema }}._incident_note(text, integer, text, text) is
'Note an error that was met and gone on from; doctor() and people read them.';
