create or replace function {{ schema }}._slot_count(p_members integer) returns integer
language sql immutable parallel safe
return greatest((p_members + 61) / 62, least((p_members + 7) / 8, 16));

comment on function {{ schema }}._slot_count(integer) is
'Over how many slots members are spread: at most 62 in one, and 16 slots before any holds more than 8.';
