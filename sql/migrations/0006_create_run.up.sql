/* Runs: an optional record of a business execution, by which its messages are stopped. Leaders: who runs the loops. */

create table {{ schema }}.run (
    run_id text collate "C" primary key,
    parent_id text collate "C",
    state text not null default 'open',
    reason text,
    tenant text,
    fail_on_dead_letter boolean not null default false,
    opened_at timestamptz not null,
    finished_at timestamptz,
    constraint run_state_is_known check (state in ('open', 'completed', 'error', 'stopped')),
    constraint run_finished_has_an_end check ((state <> 'open') = (finished_at is not null)),
    constraint run_is_not_its_own_parent check (parent_id <> run_id)
);

create index run_for_children on {{ schema }}.run (parent_id) where parent_id is not null;
create index run_for_list on {{ schema }}.run (state, opened_at, run_id);
create index run_for_cleanup on {{ schema }}.run (finished_at) where finished_at is not null;

comment on table {{ schema }}.run is
'Business executions, opened or only cancelled: what carries the id of a stopped one is not delivered any more. It must outlive its messages.';
comment on column {{ schema }}.run.state is 'open | completed (final) | error (may still become completed or stopped) | stopped (final: cancelled).';
comment on column {{ schema }}.run.parent_id is 'Fails and stops together with this one; no foreign key, as the parent may be cleaned up first.';
comment on column {{ schema }}.run.fail_on_dead_letter is 'Whether it fails when a message of it dies.';

-- A settlement that buries a message holds its lease, and the run comes before leases in the order of locks: so the
-- dead letter says that its run is to fail, and run_sweep lets it.
alter table {{ schema }}.dead_letter add column fails_run_at timestamptz;
create index dead_letter_for_run_sweep on {{ schema }}.dead_letter (fails_run_at) where fails_run_at is not null;

comment on column {{ schema }}.dead_letter.fails_run_at is
'When run_sweep should let its run fail for it; null when it need not, or has done so.';

-- A cancel finds what waits of a run in whatever channel it is: by the run alone. Partial, so that a message without a
-- run is in none of these, and pays the test of a null.
{% for table in ["ready", "scheduled", "blocked"] %}
create index {{ table }}_for_run on {{ schema }}.{{ table }} (run_id) where run_id is not null;
{% endfor %}
create index job_key_for_run on {{ schema }}.job_key (((follow_up).run_id)) where (follow_up).run_id is not null;

-- Beside the messages, so that nobody unpacks those to learn that none has a run.
alter table {{ schema }}.lease add column run_ids text[];

comment on column {{ schema }}.lease.run_ids is 'Runs of its messages; null when none has one.';

create table {{ schema }}.leader (
    name text collate "C" primary key,
    epoch bigint not null,
    holder text,
    acquired_at timestamptz not null,
    renewed_at timestamptz not null,
    expires_at timestamptz not null,
    constraint leader_epoch_counts_from_1 check (epoch >= 1)
);

comment on table {{ schema }}.leader is
'Who leads, until when, by the clock of the database. The epoch only grows: each new leader has a higher one, and a write that names an older one is refused.';
comment on column {{ schema }}.leader.holder is 'Null: resigned.';

create index barrier_for_run on {{ schema }}.barrier (run_id) where state = 'open' and run_id is not null;

-- Renewed every few seconds: as in migration 0002.
{% for table in ["run", "leader"] %}
alter table {{ schema }}.{{ table }} set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = {{ "5000" if table == "run" else "100" }},
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);
{% endfor %}
comment on type {{ schema }}.sent is
'Answer to a put or a send. outcome: inserted | deduplicated (message_id is the first one) | replaced (message_id keeps its place, the payload is new) | follow_up (kept until the leased message of its job key ends) | cancelled (its run was stopped: nothing was sent, message_id is null).';
