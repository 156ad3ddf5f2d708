create or replace function {{ schema }}._counter_closed(p_run_ids text[]) returns text[]
language sql stable
begin atomic
-- A run that nobody opened has no end that anybody knows of: active.
select coalesce(array_agg(r.run_id), '{}')
from {{ schema }}.run r
where r.run_id = any(p_run_ids) and r.state <> 'open';
end;

comment on function {{ schema }}._counter_closed(text[]) is
'Which of these runs have ended: their counters take no more values. An empty array when none has.';
