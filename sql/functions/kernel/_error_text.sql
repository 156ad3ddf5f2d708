create or replace function {{ schema }}._error_text(p_error text) returns text
language sql immutable parallel safe
return left(coalesce(nullif(btrim(p_error), ''), 'no error given'), 1000);

comment on function {{ schema }}._error_text(text) is 'An error as it is stored: never null or empty, at most 1000 characters.';
