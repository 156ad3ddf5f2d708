create or replace function {{ schema }}._incident_note(
    p_routine text, p_channel_id integer, p_sqlstate text, p_message text
) returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
begin
    insert into incident (at, channel_id, routine, sqlstate, message)
    select clock_now(), p_channel_id, p_routine, p_sqlstate, _error_text(p_message)
    where not exists (
        select from (select * from incident order by incident_id desc limit 50) i
        where i.at > clock_now() - interval '1 minute'
            and i.routine = p_routine
            and i.channel_id is not distinct from p_channel_id
            and i.message = _error_text(p_message)
    );
    begin
        -- Of the installation, not of a channel: which routine met it is one of a closed set.
        insert into tally (channel_id, outcome, amount) values (0, 'error.' || p_routine, 1);
    exception
        when others then
            null; -- tally may be what the error is about, and whoever notes it wants to go on
    end;
end;
$$;

comment on function {{ schema }}._incident_note(text, integer, text, text) is
'Note an error that was met and gone on from; the same one at most once a minute, while each is counted. People read them.';
