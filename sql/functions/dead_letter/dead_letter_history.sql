create or replace function {{ schema }}.dead_letter_history(
    p_dead_letter_id bigint, out at timestamptz, out attempt integer, out error text
) returns setof record
language sql stable rows 10
security definer
begin atomic
select (e.value ->> 'at')::timestamptz, (e.value ->> 'attempt')::integer, e.value ->> 'error'
from {{ schema }}.dead_letter d
cross join lateral pg_catalog.jsonb_array_elements(d.errors) with ordinality e
where d.dead_letter_id = p_dead_letter_id
order by e.ordinality;
end;

comment on function {{ schema }}.dead_letter_history(bigint) is
'What a dead letter failed of, attempt by attempt, oldest first: the last of its failures, those of its requeued messages among them. No rows when there is no such entry, or it died without an attempt.';
