create or replace view {{ schema }}.counters as
with addition as (
    select
        d.key,
        sum(d.amount) as amount
    from {{ schema }}.counter_delta d
    where
        d.delta_id > coalesce((
            select f.folded_to from {{ schema }}.counter_fold f
            order by f.fold_id desc limit 1
        ), 0)
    group by d.key
)

select
    c.run_id,
    c.written_at,
    coalesce(c.key, a.key) as key,
    least(greatest(coalesce(c.value, 0) + coalesce(a.amount, 0), 0), 1000000000000000000)::bigint as value
from {{ schema }}.counter c
full join addition a on c.key = a.key;

comment on view {{ schema }}.counters is
'Every counter, with what it says now. written_at: when it was last set, or additions were folded into it; null = not yet.';
