create or replace view {{ schema }}.archived as
select
    c.kind,
    c.name,
    a.settled_at,
    a.message_id,
    a.event_id,
    a.attempts,
    a.enqueued_at,
    a.headers,
    a.group_key,
    a.run_id,
    a.tenant,
    coalesce(a.payload, b.payload) as payload
from {{ schema }}.archive a
inner join {{ schema }}.channel c on c.channel_id = a.channel_id
left join {{ schema }}.body b on b.body_id = a.body_id;

comment on view {{ schema }}.archived is
'Messages that topics and queues with archive on have settled, with when; cleanup purges them by the retention of their channel.';
