-- One installer at a time per schema, held to the end of the transaction; no name is looked for where others may create.
do $$
begin
    perform pg_catalog.pg_advisory_xact_lock(
        pg_catalog.hashtextextended('tidegate install ' || {{ schema_literal }}, 0)
    );
    perform pg_catalog.set_config('statement_timeout', '0', true);
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
end;
$$;
