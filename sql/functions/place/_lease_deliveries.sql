create or replace function {{ schema }}._lease_deliveries(p_lease_id uuid, p_channel_id integer)
returns setof {{ schema }}.delivery
language sql stable
begin atomic
select
    l.lease_id, m.message_id, coalesce(m.event_id, {{ schema }}._event_id(c.event_prefix, m.message_id, m.enqueued_at)),
    m.topic, m.attempts + 1, coalesce(m.max_attempts, c.max_attempts),
    coalesce(m.payload, b.payload), m.headers, m.priority,
    m.group_key, m.job_key, m.run_id, m.tenant, m.barrier, m.epoch, m.member, m.enqueued_at, l.expires_at
from {{ schema }}.lease l
cross join lateral unnest(l.messages) with ordinality m
inner join {{ schema }}.channel c on c.channel_id = p_channel_id
left join {{ schema }}.body b on b.body_id = m.body_id
-- By its id and by no index of the channel: under a pinned horizon that is all leases there ever were.
where l.lease_id = p_lease_id and l.channel_id + 0 = p_channel_id
    and m.ordinality <> all(coalesce(l.settled, '{}'))
order by m.ordinality;
end;

comment on function {{ schema }}._lease_deliveries(uuid, integer) is
'What a lease of a channel still holds, as it was handed out: the answer to a repeated claim. No rows when there is no such lease.';
