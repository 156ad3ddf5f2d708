create or replace function {{ schema }}._bad_argument(p_name text, p_value text, p_rule text) returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
begin
    raise exception using
        errcode = 'TG010',
        message = format('%s is %s', p_name, coalesce(quote_literal(p_value), 'null')),
        hint = p_rule;
end;
$$;

comment on function {{ schema }}._bad_argument(text, text, text) is
'Raise TG010: a bad argument, with the value seen and, as the hint, what is allowed.';
