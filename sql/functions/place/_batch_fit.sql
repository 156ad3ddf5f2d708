create or replace function {{ schema }}._batch_fit(p_messages {{ schema }}.message[]) returns integer
language sql immutable
begin atomic
select count(*)::integer
from (
    select bool_and(f.fits) over (order by f.ordinality) as is_kept
    from (
        select
            m.ordinality,
            m.ordinality = 1
            or (
                m.ordinality <= coalesce(min(m.max_batch) over w, m.ordinality)
                and coalesce(sum(m.body_bytes) over w, 0) <= 16777216
            ) as fits
        from unnest(p_messages) with ordinality m
        window w as (order by m.ordinality)
    ) f
) k
where k.is_kept;
end;

comment on function {{ schema }}._batch_fit({{ schema }}.message[]) is
'Length of the longest prefix of candidates that a claim may take: a message that was in a lease that crashed is with no more others than its max_batch allows, and bodies are together at most 16 MB. At least 1.';
