create or replace function {{ schema }}.dead_letter_payload(p_dead_letter_id bigint) returns jsonb
language sql stable
security definer
begin atomic
select coalesce(d.payload, b.payload)
from {{ schema }}.dead_letter d
left join {{ schema }}.body b on b.body_id = d.body_id
where d.dead_letter_id = p_dead_letter_id;
end;

comment on function {{ schema }}.dead_letter_payload(bigint) is
'The payload of a dead letter, whatever its size; null when there is no such entry.';
