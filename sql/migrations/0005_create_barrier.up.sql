/*
 * Barriers: many members arrive, one callback follows.
 *
 * An opening is an epoch, drawn from one sequence: it is never used again, whatever is opened, removed and opened anew
 * under a name. So what belongs to an opening hangs on its epoch alone, and a former one is nobody's concern.
 */

create sequence {{ schema }}.barrier_epoch_seq as bigint cache 1 no cycle;

comment on sequence {{ schema }}.barrier_epoch_seq is
'Draws the epoch of each opening of a barrier. Rising, and no number is used twice.';

create table {{ schema }}.barrier (
    name text collate "C" primary key,
    epoch bigint not null,
    state text not null default 'open',
    outcome text,
    reason text,
    is_sealed boolean not null,
    member_count integer not null,
    policy text not null,
    quorum integer,
    callback_queue text collate "C",
    callback_payload jsonb not null,
    callback_headers jsonb,
    callback_priority smallint not null,
    failure_queue text collate "C",
    failure_payload jsonb not null,
    expire_queue text collate "C",
    inline_limit integer not null,
    run_id text,
    tenant text,
    key text collate "C",
    answer text not null,
    opened_at timestamptz not null,
    expires_at timestamptz not null,
    stall_after interval not null,
    look_at timestamptz not null,
    look_count integer not null default 0,
    kept_at timestamptz,
    resent_at timestamptz,
    closed_at timestamptz,
    constraint barrier_state_is_known check (state in ('open', 'fired', 'fire_failed', 'aborted', 'resolved')),
    constraint barrier_outcome_is_known check (
        outcome in ('completed', 'partial', 'aborted', 'quorum_missed', 'expired')
    ),
    constraint barrier_closed_has_an_outcome check ((state = 'open') = (outcome is null)),
    constraint barrier_closed_has_an_instant check ((state = 'open') = (closed_at is null)),
    constraint barrier_fired_was_sealed check (is_sealed or state not in ('fired', 'fire_failed')),
    constraint barrier_policy_is_known check (policy in ('abort', 'collect', 'quorum')),
    constraint barrier_quorum_goes_with_its_policy check ((policy = 'quorum') = (quorum is not null)),
    constraint barrier_quorum_is_positive check (quorum > 0),
    constraint barrier_member_count_not_negative check (member_count >= 0),
    constraint barrier_name_has_at_most_512_bytes check (octet_length(name) between 1 and 512)
);

-- What is closed is in neither: recovery looks at what is open and due, cleanup at what ended long ago.
create index barrier_for_recovery on {{ schema }}.barrier (look_at) where state in ('open', 'fire_failed');
create index barrier_for_cleanup on {{ schema }}.barrier (closed_at) where state <> 'open';

comment on table {{ schema }}.barrier is
'One row a name, with its latest epoch. Written when it is opened, added to, sealed and closed, never by an arrival.';
comment on column {{ schema }}.barrier.state is
'open | fired (the callback is in its queue) | fire_failed (it is a dead letter) | aborted | resolved (closed without a callback).';
comment on column {{ schema }}.barrier.outcome is
'completed | partial (with failures) | aborted | quorum_missed | expired.';
comment on column {{ schema }}.barrier.inline_limit is 'Results of at most so many bytes travel in the callback.';
comment on column {{ schema }}.barrier.key is 'Which opening this is, so that its repeat is told the same epoch.';
comment on column {{ schema }}.barrier.answer is 'What the opening was told: opened, fired or fire_failed.';
comment on column {{ schema }}.barrier.look_at is
'When recovery should look at it next. Never written in the past: recovery starts its scans from that.';
comment on column {{ schema }}.barrier.look_count is
'How often recovery has asked or failed in a row: each time it comes back later.';
comment on column {{ schema }}.barrier.kept_at is
'When it was last given time: barrier_resolve with keep, or lost members sent again.';
comment on column {{ schema }}.barrier.resent_at is 'When lost members were sent again, which happens once.';

create table {{ schema }}.barrier_epoch (
    epoch bigint primary key,
    name text collate "C" not null,
    open_slots integer not null,
    room text,
    constraint barrier_epoch_open_slots_not_negative check (open_slots >= 0)
) with (fillfactor = 10);

create index barrier_epoch_for_name on {{ schema }}.barrier_epoch (name, epoch);

comment on table {{ schema }}.barrier_epoch is
'One row an opening, former ones until cleanup: the lock under which a barrier is added to, sealed and closed, and how many of its slots still have members outstanding.';

create table {{ schema }}.barrier_range (
    epoch bigint not null,
    first_member integer not null,
    member_count integer not null,
    slot_count integer not null,
    key text collate "C",
    constraint barrier_range_pkey primary key (epoch, first_member),
    constraint barrier_range_one_a_key unique (epoch, key),
    constraint barrier_range_has_members check (member_count > 0),
    constraint barrier_range_slots_have_room check (slot_count between (member_count + 61) / 62 and member_count)
);

comment on table {{ schema }}.barrier_range is
'The members that one open or add made, and over how many slots they are spread. Never updated: a member''s slot does not move.';

create table {{ schema }}.barrier_sent (
    epoch bigint not null,
    sent_at timestamptz not null,
    first_member integer not null,
    queue text collate "C" not null,
    priority smallint not null,
    max_attempts integer,
    headers jsonb,
    message_ids bigint[] not null,
    payloads jsonb[] not null,
    body_ids bigint[],
    constraint barrier_sent_pkey primary key (epoch, first_member),
    constraint barrier_sent_has_a_payload_a_message check (cardinality(message_ids) = cardinality(payloads))
);

comment on table {{ schema }}.barrier_sent is
'What barrier_send has sent, a thousand members a row, so that recovery can send a message again that is nowhere. Written once, in bulk, and read by nobody else.';
comment on column {{ schema }}.barrier_sent.message_ids is 'A message sent again keeps its id and, with sent_at, its event_id.';
comment on column {{ schema }}.barrier_sent.payloads is 'Null where the payload is large: the body that it was written to is not written twice.';

create table {{ schema }}.barrier_slot (
    epoch bigint not null,
    slot integer not null,
    pending bigint not null,
    failed bigint not null default 0,
    arrived_at timestamptz,
    room text,
    constraint barrier_slot_pkey primary key (epoch, slot)
) with (fillfactor = 10);

-- A slot is updated by each of its members. While an old snapshot keeps vacuum away all its versions stay; as long as
-- they stand on one page they hang on one index entry, and whoever looks for the newest reads that page only. Were they
-- spread, each arrival would visit as many pages as there were arrivals before it. So a slot, and an epoch, is made as
-- wide as its versions will be; the first update gives the room away.
{% for table in ["barrier_slot", "barrier_epoch"] %}
alter table {{ schema }}.{{ table }} alter column room set storage plain;
comment on column {{ schema }}.{{ table }}.room is 'Nothing: keeps room on its page for its versions until it is first updated.';
{% endfor %}

comment on table {{ schema }}.barrier_slot is
'A bit for each of up to 62 members. Neighbours stand in different slots, so that they do not wait for each other.';
comment on column {{ schema }}.barrier_slot.slot is 'The lowest member in it.';
comment on column {{ schema }}.barrier_slot.pending is 'Members that have neither arrived nor failed.';
comment on column {{ schema }}.barrier_slot.arrived_at is 'The last arrival or failure in it: progress is read from here.';

create table {{ schema }}.barrier_result (
    epoch bigint not null,
    member integer not null,
    at timestamptz not null,
    result jsonb,
    error text,
    constraint barrier_result_pkey primary key (epoch, member)
);

comment on table {{ schema }}.barrier_result is
'One row an arrival or failure, written once and aggregated once, in the order of members. No CHECK here or on barrier_slot: one is compiled anew at every arrival (decision 0006).';
comment on column {{ schema }}.barrier_result.error is 'What a failed member failed of; null for one that arrived.';

create type {{ schema }}.barrier_opened as (epoch bigint, outcome text);

comment on type {{ schema }}.barrier_opened is
'Answer to an opening. outcome: opened | fired (sealed, without members: the callback is in its queue) | fire_failed (it is a dead letter) | cancelled (its run was stopped: nothing was opened or sent, and the epoch is null).';

create type {{ schema }}.member_result as (member integer, is_failed boolean, result jsonb, error text, at timestamptz);

comment on type {{ schema }}.member_result is 'How a member of a barrier ended.';

create type {{ schema }}.barrier_state as (
    name text,
    epoch bigint,
    state text,
    outcome text,
    reason text,
    policy text,
    is_sealed boolean,
    members integer,
    arrived integer,
    failed integer,
    outstanding integer,
    opened_at timestamptz,
    progress_at timestamptz,
    expires_at timestamptz,
    stalls_at timestamptz,
    closed_at timestamptz,
    run_id text,
    tenant text
);

comment on type {{ schema }}.barrier_state is
'How a barrier stands. members = arrived + failed + outstanding. It is stranded when it is open beyond expires_at or stalls_at.';

-- As in migration 0002: vacuum by a fixed number of dead rows, without pauses, and keep the tail.
{% for table in ["barrier", "barrier_epoch", "barrier_range", "barrier_sent", "barrier_slot", "barrier_result"] %}
alter table {{ schema }}.{{ table }} set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);
{% endfor %}
