create or replace function {{ schema }}._is_duration(p_interval interval) returns boolean
language sql immutable parallel safe
begin atomic
-- Compared, a month has 30 days: '-2 months 61 days' is above 0, and from the first of September it leads to August.
select p_interval <= interval '100 years'
    and p_interval - m.months + least(m.number * interval '28 days', m.number * interval '31 days') > interval '0'
from (
    select
        date_trunc('month', p_interval) as months,
        12 * extract(year from p_interval) + extract(month from p_interval) as number
) m;
end;

comment on function {{ schema }}._is_duration(interval) is
'Whether an interval leads to a later instant, from whatever instant it is counted, and lasts at most 100 years. Null for null.';
