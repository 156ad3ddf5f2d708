create or replace view {{ schema }}.outcomes as
select
    c.kind,
    c.name,
    t.outcome,
    sum(t.amount)::bigint as total
from {{ schema }}.tally t
inner join {{ schema }}.channel c on c.channel_id = t.channel_id
where t.outcome not like '%.%'
group by c.kind, c.name, t.outcome;

comment on view {{ schema }}.outcomes is
'Counters since the installation, by channel and outcome: acked, dispatched, retried, released, expired, dead_lettered, requeued, discarded, cancelled, purged, stranded. Exact: each was counted in the transaction of its effect.';
