/*
 * Up to where recovery has seen everything, so that its scans do not begin with what vacuum may not remove. Appended,
 * at most once a minute, and the row before it deleted: as with counters, a row that is updated becomes a chain.
 */

create table {{ schema }}.recovery_mark (
    source text collate "C" not null,
    entry bigint generated always as identity,
    scan_from timestamptz not null,
    at timestamptz not null,
    holders text[] not null,
    constraint recovery_mark_pkey primary key (source, entry)
);

comment on table {{ schema }}.recovery_mark is
'Where scans of recovery start, read newest first: one row for barriers, for guards, and for the look below the floors.';
comment on column {{ schema }}.recovery_mark.scan_from is 'Nothing that is left to be looked at lies before.';
comment on column {{ schema }}.recovery_mark.at is 'Read before holders: what those did not write who held nothing then, lies after it.';
comment on column {{ schema }}.recovery_mark.holders is
'Virtual transactions that were writing to the table at that time: once they are gone, all that was due before it is visible.';

alter table {{ schema }}.recovery_mark set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);
