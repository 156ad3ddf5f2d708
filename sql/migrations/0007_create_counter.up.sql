/*
 * Counters, and when which upkeep last ran.
 *
 * Nothing here is ever updated: a row that is, by every sync of a day in which some snapshot stands, becomes a version
 * chain that each of them walks. The newest row counts; whoever appends it deletes the one it follows.
 */

create type {{ schema }}.counted as (key text, value bigint, counted bigint, skew bigint, outcome text);

comment on type {{ schema }}.counted is
'What became of a counter. value: what it says now; counted: what it said before; skew: how far apart these are, or would be. outcome: written | unchanged | clamped (a value below 0 was written as 0) | closed (its run has ended: left as it was) | kept (its leases could not be read).';

-- Whoever draws from it holds RowExclusiveLock on it to the end of the transaction: as with position_seq, this tells up
-- to where every addition has committed or gone.
create sequence {{ schema }}.counter_seq as bigint cache 1 no cycle;

comment on sequence {{ schema }}.counter_seq is 'Numbers additions to counters, in the order in which they are folded.';

create table {{ schema }}.counter (
    key text collate "C" not null,
    entry bigint generated always as identity,
    value numeric not null,
    run_id text,
    written_at timestamptz not null,
    constraint counter_pkey primary key (key, entry),
    constraint counter_key_has_1_to_1000_bytes check (octet_length(key) between 1 and 1000)
);

comment on table {{ schema }}.counter is
'Where each counter stood when its additions were last folded, or it was set. What it says is this and the additions since: see the view counters.';
comment on column {{ schema }}.counter.value is 'May be below 0 while the additions that it was set against are not folded. Exact: read, it is cut to 0 to 10^18.';
comment on column {{ schema }}.counter.run_id is 'The run whose end closes it to counter_sync; null = never closed.';

create table {{ schema }}.counter_delta (
    delta_id bigint not null,
    amount bigint not null,
    key text collate "C" not null,
    constraint counter_delta_pkey primary key (delta_id),
    constraint counter_delta_key_has_1_to_1000_bytes check (octet_length(key) between 1 and 1000)
);

create index counter_delta_for_key on {{ schema }}.counter_delta (key, delta_id);

comment on table {{ schema }}.counter_delta is
'Additions to counters, appended in the transaction of what they count. Cleanup folds them into counter.';

create table {{ schema }}.counter_fold (
    fold_id bigint generated always as identity primary key,
    folded_to bigint not null,
    position bigint not null,
    holders text[] not null
);

comment on table {{ schema }}.counter_fold is 'The last fold: one row, replaced by the next; none before the first.';
comment on column {{ schema }}.counter_fold.folded_to is 'Additions up to this one are in counter; readers start above it.';
comment on column {{ schema }}.counter_fold.position is 'Last value of counter_seq at that time, or earlier while holders stand.';
comment on column {{ schema }}.counter_fold.holders is 'Virtual transactions, each with its process, that may hold additions up to position; once they are gone, it may be folded to.';

create table {{ schema }}.maintenance_run (
    job text collate "C" not null,
    entry bigint generated always as identity,
    due_at timestamptz,
    started_at timestamptz,
    succeeded_at timestamptz,
    failed_at timestamptz,
    failure_count integer not null,
    last_error text,
    constraint maintenance_run_pkey primary key (job, entry),
    constraint maintenance_run_failures_not_negative check (failure_count >= 0),
    constraint maintenance_run_failed_with_an_error check ((failed_at is null) = (last_error is null))
);

comment on table {{ schema }}.maintenance_run is
'When each job of the upkeep, and each part of a cleanup that ever failed, last ran: see the view upkeep.';
comment on column {{ schema }}.maintenance_run.failure_count is 'Failures in a row; 0 after a success.';

create table {{ schema }}.maintenance_setting (
    job text collate "C" primary key,
    every interval,
    arguments jsonb not null,
    is_paused boolean not null,
    constraint maintenance_setting_every_is_positive check (every > '0'),
    constraint maintenance_setting_arguments_are_named check (jsonb_typeof(arguments) = 'object')
);

comment on table {{ schema }}.maintenance_setting is 'What maintenance_configure said of a job; what it did not is the default.';

create type {{ schema }}.maintenance_job as (
    job text,
    statement text,
    every interval,
    is_led boolean,
    due_in interval,
    due_at timestamptz,
    started_at timestamptz,
    succeeded_at timestamptz,
    failure_count integer,
    last_error text
);

comment on type {{ schema }}.maintenance_job is
'A job of the upkeep. statement returns one row: again (there is more), error (what failed in it, null = nothing), systemic (nothing of it succeeded) and result. is_led: for whoever leads maintain, with its epoch. due_in: 0 or less = due now, null = paused.';

-- As in migration 0002: vacuum by a fixed number of dead rows, without pauses, and keep the tail.
{% for table in ["counter", "counter_delta"] %}
alter table {{ schema }}.{{ table }} set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);
{% endfor %}
{% for table in ["counter_fold", "maintenance_run"] %}
alter table {{ schema }}.{{ table }} set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);
{% endfor %}
