create or replace function {{ schema }}.counter_peek(p_key text) returns bigint
language sql stable
security definer
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
begin atomic
select greatest(
    least(
        coalesce((
            select c.value from {{ schema }}.counter c
            where c.key = p_key
            order by c.entry desc
            limit 1
        ), 0)
        + coalesce((
            select sum(d.amount) from {{ schema }}.counter_delta d
            where d.key = p_key
                and d.delta_id > coalesce((
                    select f.folded_to from {{ schema }}.counter_fold f order by f.fold_id desc limit 1
                ), 0)
        ), 0),
        1000000000000000000
    ),
    0
)::bigint;
end;

comment on function {{ schema }}.counter_peek(text) is
'What a counter says: all that was added and committed, from where it was last set; never below 0. 0 where there is none.';
