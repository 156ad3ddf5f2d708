create or replace function {{ schema }}._cancelled(p_channel_id integer, p_messages {{ schema }}.message[])
returns bigint[]
language sql stable
begin atomic
select coalesce(array_agg(m.message_id), '{}')
from unnest(p_messages) m
left join {{ schema }}.cancel_request r on r.channel_id = p_channel_id and r.message_id = m.message_id
left join {{ schema }}.run s on s.run_id = m.run_id and s.state = 'stopped'
where r.message_id is not null or s.run_id is not null;
end;

comment on function {{ schema }}._cancelled(integer, {{ schema }}.message[]) is
'Which of these leased messages somebody wants stopped, by themselves or with their run: they are not handed out again. An empty array when none.';
