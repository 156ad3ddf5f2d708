create or replace function {{ schema }}._candidates_trim(p_ctids tid[]) returns tid[]
language sql stable
set search_path = {{ schema }}, pg_temp
begin atomic
/*
 * The longest prefix in which no message is with more others than its max_batch allows (it was in a lease that
 * crashed), and whose bodies are together at most 16 MB; always at least one. The rest stays where it stands.
 */
select array_agg(m.ctid order by m.priority, m.position)
from (
    select
        r.ctid, r.priority, r.position,
        bool_and(r.is_within) over (order by r.priority, r.position) as is_kept
    from (
        select
            c.ctid, c.priority, c.position,
            row_number() over w = 1
            or (
                row_number() over w <= coalesce(min(c.max_batch) over w, 10000)
                and coalesce(sum(c.body_bytes) over w, 0) <= 16777216
            ) as is_within
        from {{ schema }}.ready c
        where c.ctid = any(p_ctids)
        window w as (order by c.priority, c.position)
    ) r
) m
where m.is_kept;
end;

comment on function {{ schema }}._candidates_trim(tid[]) is
'Cut locked candidates of a claim to the longest prefix that their max_batch and the size of their bodies allow; at least one.';
