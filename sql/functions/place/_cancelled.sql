create or replace function {{ schema }}._cancelled(p_channel_id integer, p_messages {{ schema }}.message[])
returns bigint[]
language sql stable
begin atomic
select coalesce(array_agg(r.message_id), '{}')
from {{ schema }}.cancel_request r
where r.channel_id = p_channel_id and r.message_id in (select m.message_id from unnest(p_messages) m);
end;

comment on function {{ schema }}._cancelled(integer, {{ schema }}.message[]) is
'Which of these leased messages somebody wants stopped: they are not handed out again. An empty array when none.';
