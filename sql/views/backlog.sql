create or replace view {{ schema }}.backlog as
select
    c.kind,
    c.name,
    c.is_paused,
    c.is_draining,
    r.ready,
    r.oldest_ready_at,
    s.scheduled,
    s.next_due_at,
    b.blocked,
    l.leased,
    k.follow_ups
from {{ schema }}.channel c
cross join lateral (
    select count(*) as ready, min(n.enqueued_at) as oldest_ready_at
    from {{ schema }}.ready n
    where n.channel_id = c.channel_id
) r
cross join lateral (
    select count(*) as scheduled, min(n.due_at) as next_due_at
    from {{ schema }}.scheduled n
    where n.channel_id = c.channel_id
) s
cross join lateral (
    select count(*) as blocked
    from {{ schema }}.blocked n
    where n.channel_id = c.channel_id
) b
cross join lateral (
    select count(*) as follow_ups
    from {{ schema }}.job_key n
    where n.channel_id = c.channel_id and n.follow_up is distinct from null
) k
cross join lateral (
    select coalesce(sum(n.message_count), 0) as leased
    from {{ schema }}.lease n
    where n.channel_id = c.channel_id
) l;

comment on view {{ schema }}.backlog is
'What stands in each topic and queue now, counted exactly: for people, not for a scrape every few seconds.';
