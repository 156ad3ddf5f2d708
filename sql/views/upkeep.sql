create or replace view {{ schema }}.upkeep as
select distinct on (r.job)
    r.job,
    r.started_at,
    r.succeeded_at,
    r.failed_at,
    r.failure_count,
    r.last_error,
    r.due_at
from {{ schema }}.maintenance_run r
order by r.job asc, r.entry desc;

comment on view {{ schema }}.upkeep is
'When each job of the upkeep last ran and last succeeded, and each part of a cleanup that ever failed (cleanup.<part>). failure_count: failures in a row.';
