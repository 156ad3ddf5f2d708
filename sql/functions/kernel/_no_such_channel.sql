create or replace function {{ schema }}._no_such_channel(p_kind text, p_name text) returns void
language plpgsql stable
set search_path = {{ schema }}, pg_temp
as $$
begin
    raise exception using
        errcode = 'TG020',
        message = format('no %s named %s', p_kind, coalesce(quote_literal(p_name), 'null')),
        hint = case
            when exists (select from channel c where c.name = p_name and c.kind <> p_kind)
                then format('That name is a %s''s.', case p_kind when 'topic' then 'queue' else 'topic' end)
            else format('Create it first: select %I.%I(%L);', current_schema, p_kind || '_create', p_name)
        end;
end;
$$;

comment on function {{ schema }}._no_such_channel(text, text) is
'Raise TG020: no such topic or queue, with the call that makes it as the hint.';
