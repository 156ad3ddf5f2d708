-- One row: is there a schema of that name, does it hold a ledger, do our roles use it, may we read it.
select
    n.oid is not null as has_schema,
    c.oid is not null as has_ledger,
    coalesce(
        (
            select pg_catalog.has_schema_privilege(r.oid, n.oid, 'usage')
            from pg_catalog.pg_roles as r
            where r.rolname = {{ schema_literal }} || '_producer'
        ),
        false
    ) as has_roles
from (values ({{ schema_literal }})) as asked (name)
left join pg_catalog.pg_namespace as n on asked.name = n.nspname
left join pg_catalog.pg_class as c on n.oid = c.relnamespace and c.relname = 'migration';
