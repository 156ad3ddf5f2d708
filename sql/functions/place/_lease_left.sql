create or replace function {{ schema }}._lease_left(p_lease {{ schema }}.lease) returns {{ schema }}.message[]
language sql stable
begin atomic
select coalesce(array_agg(p_lease.messages[o.ordinal] order by o.ordinal), '{}')
from generate_subscripts(p_lease.messages, 1) as o (ordinal)
where o.ordinal <> all(coalesce(p_lease.settled, '{}'));
end;

comment on function {{ schema }}._lease_left({{ schema }}.lease) is
'Messages of a lease that are not settled yet, in the order of the claim; an empty array when there are none.';
