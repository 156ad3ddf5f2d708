/* One idempotency store: orchestration claims, callback guards and the consumer's inbox. */

create table {{ schema }}.guard (
    scope text collate "C" not null,
    key text collate "C" not null,
    owner text not null,
    state text not null default 'held',
    claimed_at timestamptz not null,
    expires_at timestamptz,
    finished_at timestamptz,
    run_id text,
    result jsonb,
    renewed_at timestamptz,
    constraint guard_pkey primary key (scope, key),
    constraint guard_state_is_known check (state in ('held', 'done')),
    constraint guard_held_expires check ((state = 'held') = (expires_at is not null)),
    constraint guard_done_has_an_end check ((state = 'done') = (finished_at is not null))
);

create index guard_for_cleanup on {{ schema }}.guard (finished_at) where state = 'done';
create index guard_for_run on {{ schema }}.guard (run_id) where state = 'held' and run_id is not null;

comment on table {{ schema }}.guard is
'Who holds what by scope and key, until when; done rows are tombstones with their result, kept for their retention.';

comment on column {{ schema }}.guard.renewed_at is
'From when its lease was counted: of a claim, or the last renewal. One that is still to come tells of a clock set back.';

-- An inbox writes a row an event and cleanup removes as many: vacuum by a fixed number of dead rows (see migration 0002).
alter table {{ schema }}.guard set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);
