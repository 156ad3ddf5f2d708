-- One installer at a time per schema; held to the end of the transaction.
do $$
begin
    perform pg_catalog.pg_advisory_xact_lock(
        pg_catalog.hashtextextended('tidegate install ' || {{ schema_literal }}, 0)
    );
    perform pg_catalog.set_config('statement_timeout', '0', true);
end;
$$;
