create or replace view {{ schema }}.dead_letter_summary as
select
    d.kind,
    d.channel,
    d.reason,
    d.state,
    count(*) as entries,
    min(d.dead_at) as oldest_at,
    max(d.dead_at) as newest_at
from {{ schema }}.dead_letter d
group by d.kind, d.channel, d.reason, d.state;

comment on view {{ schema }}.dead_letter_summary is 'Dead letters by channel, reason and state.';
