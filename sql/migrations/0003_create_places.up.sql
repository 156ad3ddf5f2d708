{% from "macros/message.sql" import message_columns, message_names %}
/*
 * Channels, and the places a message can stand in. A message has no status: it stands in exactly one of
 * ready, scheduled, lease, dead_letter, and the table is its state.
 */

create table {{ schema }}.channel (
    channel_id integer generated always as identity primary key,
    kind text not null,
    name text collate "C" not null,
    is_paused boolean not null default false,
    is_draining boolean not null default false,
    is_routed boolean not null default false,
    event_prefix text not null,
    lease interval not null default '1 minute',
    max_runtime interval not null default '1 hour',
    max_attempts integer not null default 5,
    backoff_base interval not null default '2 seconds',
    backoff_cap interval not null default '5 minutes',
    backoff_factor double precision not null default 2,
    jitter double precision not null default 0.1,
    retention interval not null default '7 days',
    archive boolean not null default false,
    max_in_flight integer,
    inline_limit integer not null default 2048,
    tenant_required boolean not null default false,
    doorbell interval,
    created_at timestamptz not null default now(),
    constraint channel_one_name_a_kind unique (kind, name),
    constraint channel_kind_is_known check (kind in ('topic', 'queue')),
    constraint channel_name_is_plain check (name ~ '^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}$'),
    constraint channel_lease_is_positive check (lease > '0'),
    constraint channel_lease_fits_max_runtime check (lease <= max_runtime),
    constraint channel_max_runtime_within_a_century check (max_runtime <= '100 years'),
    constraint channel_max_attempts_in_range check (max_attempts between 0 and 32767),
    constraint channel_backoff_base_not_negative check (backoff_base >= '0'),
    constraint channel_backoff_cap_not_below_base check (backoff_cap >= backoff_base),
    constraint channel_backoff_cap_within_a_century check (backoff_cap <= '100 years'),
    constraint channel_backoff_factor_from_1_to_10 check (backoff_factor between 1 and 10),
    constraint channel_jitter_is_a_share check (jitter between 0 and 1),
    constraint channel_retention_is_positive check (retention > '0'),
    constraint channel_retention_within_a_century check (retention <= '100 years'),
    constraint channel_max_in_flight_is_positive check (max_in_flight > 0),
    constraint channel_inline_limit_in_range check (inline_limit between 0 and 8192),
    constraint channel_doorbell_within_a_minute check (doorbell between '0' and '1 minute')
);

comment on table {{ schema }}.channel is
'Topics and queues with their policy: configuration, read by every call and updated rarely.';
comment on column {{ schema }}.channel.is_draining is 'Sends are refused; what is there is worked off.';
comment on column {{ schema }}.channel.is_routed is 'A route matches this topic: it is swept, not relayed. Kept by outbox_route, outbox_unroute and topic_create.';
comment on column {{ schema }}.channel.event_prefix is 'Copied from installation, so that a claim needs one lookup.';
comment on column {{ schema }}.channel.max_attempts is 'The failure that brings a message to it is terminal; 0 = for ever.';
comment on column {{ schema }}.channel.backoff_factor is 'By which the delay grows with each failure.';
comment on column {{ schema }}.channel.jitter is 'Share by which a backoff may be shorter or longer.';
comment on column {{ schema }}.channel.max_in_flight is 'At most so many messages leased at once; null = unlimited.';
comment on column {{ schema }}.channel.inline_limit is 'Payloads above so many bytes are written once, to body.';
comment on column {{ schema }}.channel.doorbell is 'What comes in wakes whoever listens, at most once in this interval; null = nobody is woken. The last ring stands in a sequence of the channel''s, doorbell_<channel_id>.';

create table {{ schema }}.channel_priority (
    channel_id integer not null,
    declared_id bigint generated always as identity,
    priority smallint not null,
    constraint channel_priority_pkey primary key (channel_id, declared_id),
    constraint channel_priority_in_range check (priority between 1 and 9)
);

comment on table {{ schema }}.channel_priority is
'Priorities other than 0 that a channel has ever used, so that claims probe no others. Appended by the first message of a priority; not unique on purpose: two first messages must not wait for each other.';

create table {{ schema }}.route (
    route_id bigint generated always as identity primary key,
    topic text collate "C" not null,
    queue_id integer references {{ schema }}.channel,
    handler text,
    created_at timestamptz not null default now(),
    constraint route_has_one_target check ((queue_id is null) <> (handler is null)),
    constraint route_topic_is_name_or_prefix check (topic ~ '^[A-Za-z0-9_][A-Za-z0-9_.:-]*([.][*])?$')
);

create unique index route_one_queue_a_topic on {{ schema }}.route (topic, queue_id) where queue_id is not null;
create unique index route_one_handler_a_topic on {{ schema }}.route (topic, handler) where handler is not null;
create index route_for_queue on {{ schema }}.route (queue_id) where queue_id is not null;

comment on table {{ schema }}.route is
'Where the events of a topic go: a queue or a SQL handler. topic is an exact name, or a prefix with a trailing .*';
comment on column {{ schema }}.route.handler is
'Signature as text, resolved at the call: a stored regprocedure would stop pg_upgrade.';

create type {{ schema }}.message as (
{{ message_columns(constrained=false) }}
);

comment on type {{ schema }}.message is
'A message as it travels between places, and as a lease carries it. payload is null where the body holds it.';

create type {{ schema }}.sent as (message_id bigint, outcome text);

comment on type {{ schema }}.sent is
'Answer to a put or a send. outcome: inserted | deduplicated (message_id is the first one) | replaced (message_id keeps its place, the payload is new) | follow_up (kept until the leased message of its job key ends).';

create type {{ schema }}.delivery as (
    lease_id uuid,
    message_id bigint,
    event_id uuid,
    topic text,
    attempt integer,
    max_attempts integer,
    payload jsonb,
    headers jsonb,
    priority smallint,
    group_key text,
    job_key text,
    run_id text,
    tenant text,
    barrier text,
    epoch bigint,
    member integer,
    enqueued_at timestamptz,
    lease_expires_at timestamptz
);

comment on type {{ schema }}.delivery is
'A message handed out under a lease. attempt counts from 1; topic is where an outbox event came from, null for a plain send. barrier, epoch and member say whose arrival its ack is.';

create type {{ schema }}.extended as (expires_at timestamptz, deadline timestamptz, cancelled bigint[], lost boolean);

comment on type {{ schema }}.extended is
'Answer to an extension. deadline: no extension reaches beyond it (max_runtime). cancelled: messages of the lease that somebody wants stopped. lost = true: this lease is no longer yours, and the rest is null.';

create type {{ schema }}.settled as (acked integer, retried integer, dead_lettered integer, lost boolean);

comment on type {{ schema }}.settled is
'Answer to a settlement. lost = true: this lease is no longer yours, whether you settled it or it was taken back; nothing was changed.';

-- A domain, as its check is compiled once a session; a check of the table's is compiled at every insert, which cost a
-- tenth of a put.
create domain {{ schema }}.priority as smallint
constraint priority_in_range check (value between 0 and 9);

comment on domain {{ schema }}.priority is 'Order among what is ready: 0 goes first, 9 last.';

create table {{ schema }}.ready (
    position bigint not null,
    channel_id integer not null,
{{ message_columns() }},
    constraint ready_pkey primary key (channel_id, priority, position)
);

comment on table {{ schema }}.ready is
'Messages that may be claimed now. The key is drawn anew whenever a message enters, and never updated.';

create table {{ schema }}.scheduled (
    due_at timestamptz not null,
    channel_id integer not null,
{{ message_columns() }},
    constraint scheduled_pkey primary key (channel_id, due_at, message_id)
);

comment on table {{ schema }}.scheduled is
'Messages with a future: delayed sends and retries. A tick moves what is due to ready, or, behind others of its group, to blocked.';

create table {{ schema }}.blocked (
    position bigint not null,
    channel_id integer not null,
{{ message_columns() }},
    constraint blocked_pkey primary key (channel_id, group_key, position)
);

create index blocked_for_arrival on {{ schema }}.blocked (channel_id, position);

comment on table {{ schema }}.blocked is
'Messages of a group that wait for their predecessor. A send only appends here; whose turn it is stands in group_turn.';

create table {{ schema }}.group_turn (
    channel_id integer not null,
    group_key text collate "C" not null,
    turn bigint not null,
    position bigint not null,
    message_id bigint,
    taken_at timestamptz not null,
    constraint group_turn_pkey primary key (channel_id, group_key, turn)
);

comment on table {{ schema }}.group_turn is
'Whose turn it is in a group, read newest first: the one message of it that is ready, leased or waits for a retry. Appended, and the row before it deleted: a row updated by each turn would become a version chain that all of them walk.';
comment on column {{ schema }}.group_turn.position is 'Whatever waits in blocked stands above it.';
comment on column {{ schema }}.group_turn.message_id is 'Null: nobody has the turn. Cleanup removes such rows when they are old.';

create table {{ schema }}.job_key (
    channel_id integer not null,
    key text collate "C" not null,
    message_id bigint not null,
    follow_up {{ schema }}.message,
    follow_up_due_at timestamptz,
    constraint job_key_pkey primary key (channel_id, key)
);

comment on table {{ schema }}.job_key is
'The one live message of each job key. Its row is what sends with that key and the end of that message lock.';
comment on column {{ schema }}.job_key.follow_up is 'Sent while the message was leased: enters when that one has ended.';

-- A message of a key stands in one place: all three are asked in one statement.
{% for table in ["ready", "scheduled", "blocked"] %}
create index {{ table }}_for_job_key on {{ schema }}.{{ table }} (channel_id, job_key) where job_key is not null;
{% endfor %}

create table {{ schema }}.cancel_request (
    channel_id integer not null,
    message_id bigint not null,
    requested_at timestamptz not null,
    constraint cancel_request_pkey primary key (channel_id, message_id)
);

comment on table {{ schema }}.cancel_request is
'Leased messages that somebody wants stopped: queue_extend says so, and they are not handed out again.';

create table {{ schema }}.lease (
    lease_id uuid primary key,
    claimed_at timestamptz not null,
    expires_at timestamptz not null,
    channel_id integer not null,
    message_count integer not null,
    is_plain boolean not null,
    worker text,
    settled integer[],
    messages {{ schema }}.message[] not null
);

create index lease_for_expiry on {{ schema }}.lease (channel_id, expires_at);

comment on table {{ schema }}.lease is
'One row a claim, carrying its messages: settling all of them deletes one row. lease_id is the fencing token.';
comment on column {{ schema }}.lease.message_count is 'Messages not settled yet.';
comment on column {{ schema }}.lease.is_plain is 'Nothing but the row itself has to be looked at when all of it is acked.';
comment on column {{ schema }}.lease.settled is 'Ordinals of messages already settled: messages is never rewritten.';

-- Compression is bought on every claim: the fastest the server has, which is lz4 where it was built with it.
do $$
begin
    if 'lz4' = any((select enumvals from pg_settings where name = 'default_toast_compression')::text[]) then
        alter table {{ schema }}.lease alter column messages set compression lz4;
    end if;
end;
$$;

create table {{ schema }}.body (
    body_id bigint generated always as identity primary key,
    payload jsonb not null
);

comment on table {{ schema }}.body is
'Payloads above the inline limit, written once: places carry the body_id. Each has one owner and goes with it.';

create table {{ schema }}.archive (
    settled_at timestamptz not null,
    channel_id integer not null,
{{ message_columns() }},
    constraint archive_pkey primary key (channel_id, settled_at, message_id)
);

comment on table {{ schema }}.archive is
'Settled messages of channels with archive on; append-only until cleanup purges it by the retention of the channel.';

create table {{ schema }}.idempotency_key (
    channel_id integer not null,
    key text collate "C" not null,
    message_id bigint not null,
    created_at timestamptz not null,
    constraint idempotency_key_pkey primary key (channel_id, key)
);

create index idempotency_key_for_cleanup on {{ schema }}.idempotency_key (created_at);

comment on table {{ schema }}.idempotency_key is
'Keys of puts and sends with the message they first made, kept for their retention whatever became of it.';

create table {{ schema }}.dead_letter (
    dead_letter_id bigint generated always as identity primary key,
    dead_at timestamptz not null,
    channel_id integer not null,
    kind text not null,
    channel text collate "C" not null,
    reason text not null,
    last_error text not null,
    state text not null default 'dead',
    failure_count integer not null default 1,
    requeued_count integer not null default 0,
    last_requeued_at timestamptz,
    resolved_at timestamptz,
    notes jsonb not null default '[]',
{{ message_columns() }},
    constraint dead_letter_reason_is_known check (
        reason in ('exhausted', 'not_retryable', 'expired', 'malformed', 'unknown_handler', 'cancelled', 'purged')
    ),
    constraint dead_letter_state_is_known check (state in ('dead', 'requeued', 'resolved', 'discarded')),
    constraint dead_letter_is_resolved_or_discarded_at check (
        (state in ('resolved', 'discarded')) = (resolved_at is not null)
    ),
    constraint dead_letter_notes_are_a_list check (jsonb_typeof(notes) = 'array'),
    constraint dead_letter_exhausted_was_attempted check (reason <> 'exhausted' or attempts > 0)
);

-- A page of dead letters, with any filters, is a range of one of these for each state and reason (decision 0007). What
-- has no tenant or run is not in theirs.
create index dead_letter_for_page on {{ schema }}.dead_letter (state, reason, dead_at, dead_letter_id);
create index dead_letter_for_channel_page on {{ schema }}.dead_letter (
    channel, state, reason, dead_at, dead_letter_id
);
create index dead_letter_for_tenant_page on {{ schema }}.dead_letter (
    tenant, state, reason, dead_at, dead_letter_id
) where tenant is not null;
create index dead_letter_for_tenant_channel_page on {{ schema }}.dead_letter (
    tenant, channel, state, reason, dead_at, dead_letter_id
) where tenant is not null;
create index dead_letter_for_run_page on {{ schema }}.dead_letter (
    run_id, state, reason, dead_at, dead_letter_id
) where run_id is not null;
-- The planner is to prefer the index with the most keys of a page, also while its statistics are from the time when the
-- table had one channel.
alter table {{ schema }}.dead_letter
    alter column channel set (n_distinct = -1),
    alter column tenant set (n_distinct = -1),
    alter column run_id set (n_distinct = -1);
create index dead_letter_for_job_key on {{ schema }}.dead_letter (channel_id, job_key)
where job_key is not null and state = 'dead';
create index dead_letter_for_cleanup on {{ schema }}.dead_letter (resolved_at)
where state in ('resolved', 'discarded');

comment on table {{ schema }}.dead_letter is
'Messages that ended in failure, from topics and queues alike. No foreign keys: forensics outlive their owners.';
comment on column {{ schema }}.dead_letter.dead_letter_id is 'What the dead_letter_* functions take; a requeued message carries it as requeued_from.';
comment on column {{ schema }}.dead_letter.state is 'dead | requeued (its child is alive) | resolved (its child succeeded) | discarded.';
comment on column {{ schema }}.dead_letter.failure_count is 'How often it landed here: 1, and one more for each child, or later message of its job key, that died.';

-- As in migration 0002: vacuum by a fixed number of dead rows, without pauses, and keep the tail. Analysing is rare:
-- the plans of the claim path are pinned and do not depend on it.
{% for table in [
    "ready", "scheduled", "blocked", "lease", "body", "group_turn", "job_key", "cancel_request", "idempotency_key",
] %}
alter table {{ schema }}.{{ table }} set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);
{% endfor %}
