create or replace function {{ schema }}._handler_name(p_handler text) returns text
language sql stable
set quote_all_identifiers = off
begin atomic
select format(
    '%I.%I(%s)', n.nspname, f.proname,
    case
        when f.proargtypes[0] = 'jsonb'::regtype then 'jsonb'
        else quote_ident({{ schema_literal }}) || '.message'
    end
)
from pg_proc f
inner join pg_namespace n on n.oid = f.pronamespace
where f.oid = {{ schema }}._handler_oid(p_handler);
end;

comment on function {{ schema }}._handler_name(text) is
'Signature of a handler as a route stores it, with its schema; null when there is none.';
