create or replace function {{ schema }}._no_such_channel(p_kind text, p_name text) returns void
language plpgsql stable
set search_path = {{ schema }}, pg_temp
as $$
begin
    raise exception using
        errcode = 'TG020',
        message = format('no %s named %s', p_kind, coalesce(quote_literal(p_name), 'null')),
        hint = format('Create it first: select %I.%I(%L);', current_schema, p_kind || '_create', p_name);
end;
$$;

comment on function {{ schema }}._no_such_channel(text, text) is
'Raise TG020: no such topic or queue, with the call that makes it as the hint.';
