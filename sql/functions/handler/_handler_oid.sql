create or replace function {{ schema }}._handler_oid(p_handler text) returns oid
language plpgsql stable
set search_path = {{ schema }}, pg_temp
as $$
begin
    return case
        when strpos(p_handler, '(') > 0 then to_regprocedure(p_handler)
        else coalesce(
            to_regprocedure(p_handler || '(jsonb)'),
            to_regprocedure(p_handler || '(' || quote_ident({{ schema_literal }}) || '.message)')
        )
    end::oid;
exception
    -- What is no name at all raises, and names nothing.
    when invalid_name or syntax_error or feature_not_supported or invalid_text_representation or undefined_object then
        return null;
end;
$$;

comment on function {{ schema }}._handler_oid(text) is
'The function that a handler''s name, with or without its argument, means; null when there is none.';
