create or replace function {{ schema }}._handler_oid(p_handler text) returns oid
language sql stable
set search_path = {{ schema }}, pg_temp
begin atomic
select case
    when strpos(p_handler, '(') > 0 then to_regprocedure(p_handler)
    else coalesce(
        to_regprocedure(p_handler || '(jsonb)'),
        to_regprocedure(p_handler || '(' || quote_ident({{ schema_literal }}) || '.message)')
    )
end::oid;
end;

comment on function {{ schema }}._handler_oid(text) is
'The function that a handler''s name, with or without its argument, means; null when there is none.';
