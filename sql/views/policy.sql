create or replace view {{ schema }}.policy as
select
    c.kind,
    c.name,
    c.is_paused,
    c.is_draining,
    c.is_routed,
    c.lease,
    c.max_runtime,
    c.max_attempts,
    c.backoff_base,
    c.backoff_cap,
    c.backoff_factor,
    c.jitter,
    c.max_in_flight,
    c.inline_limit,
    c.archive,
    c.retention,
    c.tenant_required,
    c.doorbell
from {{ schema }}.channel c;

comment on view {{ schema }}.policy is
'What each topic and queue is told to do, by the keys of topic_configure and queue_configure.';
