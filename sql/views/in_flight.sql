create or replace view {{ schema }}.in_flight as
select
    c.kind,
    c.name,
    l.lease_id,
    l.worker,
    l.claimed_at,
    l.expires_at,
    l.message_count
from {{ schema }}.lease l
inner join {{ schema }}.channel c on c.channel_id = l.channel_id;

comment on view {{ schema }}.in_flight is 'Leases that are out, with how many messages each still holds.';
