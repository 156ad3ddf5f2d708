-- The ledger: what is installed here, by which release. Only `tidegate migrate`, `rollback` and a
-- rendered file write it.

do $$
begin
    -- "create schema if not exists" asks for CREATE on the database even where the schema is there.
    if not exists (select from pg_catalog.pg_namespace where nspname = {{ schema_literal }}) then
        create schema {{ schema }};
    end if;
end;
$$;

create table {{ schema }}.migration (
    migration text not null,
    checksum text not null,
    version text not null,
    applied_at timestamptz not null default clock_timestamp(),
    constraint migration_pkey primary key (migration),
    constraint migration_is_numbered check (migration ~ '^[0-9]{4}_[a-z0-9_]+$'),
    constraint migration_checksum_is_sha256 check (checksum ~ '^[0-9a-f]{64}$')
);

comment on table {{ schema }}.migration is
'One row per applied migration: its name, the SHA-256 of its file, the release that applied it, and when.';

create table {{ schema }}.routine (
    routine text not null,
    kind text not null,
    source text not null,
    definition text not null,
    version text not null,
    applied_at timestamptz not null default clock_timestamp(),
    constraint routine_pkey primary key (routine),
    constraint routine_kind_is_known check (kind in ('routine', 'view')),
    constraint routine_source_is_sha256 check (source ~ '^[0-9a-f]{64}$'),
    constraint routine_definition_is_sha256 check (definition ~ '^[0-9a-f]{64}$')
);

comment on table {{ schema }}.routine is
'One row per installed routine or view: checksums of its file (source) and of what the catalog held right after it was applied (definition), the release that applied it last, and when its definition last changed.';

create type {{ schema }}.installed as (migration integer, version text);

comment on type {{ schema }}.installed is
'What is installed: the number of the newest migration, and the release that applied the routines.';
