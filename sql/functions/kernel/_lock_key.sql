create or replace function {{ schema }}._lock_key(p_table regclass, p_id integer) returns bigint
language sql immutable parallel safe
return (p_table::oid::bigint << 32) | p_id;

comment on function {{ schema }}._lock_key(regclass, integer) is
'Advisory key of a row of an own table: the oid keeps installations in one database, and other users of advisory locks, apart.';
