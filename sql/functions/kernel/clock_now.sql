create or replace function {{ schema }}.clock_now() returns timestamptz
language sql volatile parallel safe
return clock_timestamp();

comment on function {{ schema }}.clock_now() is
'The one clock: every routine reads it, and tests stand it still by replacing it.';
