create or replace function {{ schema }}._lease_left(p_lease {{ schema }}.lease) returns {{ schema }}.message[]
language sql stable
begin atomic
select coalesce(array_agg(u.message order by u.ordinal), '{}')
from (
    select unnest(p_lease.messages) as message, generate_series(1, cardinality(p_lease.messages)) as ordinal
) u
where u.ordinal <> all(coalesce(p_lease.settled, '{}'));
end;

comment on function {{ schema }}._lease_left({{ schema }}.lease) is
'Messages of a lease that are not settled yet, in the order of the claim; an empty array when there are none.';
