create or replace function {{ schema }}._json_size(p_value jsonb) returns integer
language sql stable parallel safe
return case
    when pg_column_compression(p_value) is null then pg_column_size(p_value)
    else pg_column_size(p_value #> '{}')
end;

comment on function {{ schema }}._json_size(jsonb) is
'Bytes of a JSON value as it will be handled. A value that comes compressed from a column, as in a trigger, is measured unpacked.';
