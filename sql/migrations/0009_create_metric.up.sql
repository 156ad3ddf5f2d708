/*
 * Metrics: what the last snapshot found, and marks by which the wait of a message is read from its position.
 *
 * As everywhere, rows are appended and the newest counts: what a scrape reads every few seconds is never updated.
 */

create type {{ schema }}.metric as (name text, type text, labels jsonb, value double precision, help text);

comment on type {{ schema }}.metric is
'A sample: what it measures, counter or gauge, its labels (closed sets and channel names), its value, and what that means.';

create type {{ schema }}.diagnosis as (check_name text, status text, seen text, advice text);

comment on type {{ schema }}.diagnosis is
'What a check found. status: ok | warn | fail. advice: what to do next; null = nothing.';

create table {{ schema }}.metric_snapshot (
    snapshot_id bigint generated always as identity primary key,
    taken_at timestamptz not null,
    took interval not null,
    failed_probes integer not null,
    samples jsonb not null,
    totals jsonb not null,
    constraint metric_snapshot_samples_are_a_list check (jsonb_typeof(samples) = 'array')
);

comment on table {{ schema }}.metric_snapshot is
'Gauges as metrics_snapshot found them, newest first; the rows of a quarter of an hour are kept, for what moved meanwhile.';
comment on column {{ schema }}.metric_snapshot.failed_probes is 'Probes that failed: their samples are absent.';
comment on column {{ schema }}.metric_snapshot.totals is 'Counters at that time, by channel_id and outcome.';

create table {{ schema }}.position_mark (
    position bigint not null,
    at timestamptz not null,
    constraint position_mark_pkey primary key (position, at)
);

comment on table {{ schema }}.position_mark is
'Last value of position_seq at an instant: what stands at or below it has been ready since then at least. A row a snapshot in which the sequence had moved, kept for a week.';

-- As in migration 0002: vacuum by a fixed number of dead rows, without pauses, and keep the tail.
{% for table in ["metric_snapshot", "position_mark"] %}
alter table {{ schema }}.{{ table }} set (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = {{ "50" if table == "metric_snapshot" else "1000" }},
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);
{% endfor %}
