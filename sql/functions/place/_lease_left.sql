{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._lease_left(p_lease {{ schema }}.lease) returns {{ schema }}.message[]
language sql stable
begin atomic
select coalesce(array_agg(row({{ message_names("m") }})::{{ schema }}.message order by m.ordinality), '{}')
from unnest(p_lease.messages) with ordinality m
where m.ordinality <> all(coalesce(p_lease.settled, '{}'));
end;

comment on function {{ schema }}._lease_left({{ schema }}.lease) is
'Messages of a lease that are not settled yet, in the order of the claim; an empty array when there are none.';
