/*
 * What every other room stands on: who this installation is, the sequence that orders messages, the tides and floors
 * that let claims start above the dead, counters and the notes of what went wrong.
 */

create table {{ schema }}.installation (
    is_only boolean primary key default true,
    event_prefix text not null,
    created_at timestamptz not null default now(),
    constraint installation_is_single check (is_only),
    constraint installation_prefix_is_half_a_uuid check (event_prefix ~ '^[0-9a-f]{12}8[0-9a-f]{3}$')
);

comment on table {{ schema }}.installation is
'One row: the identity of this installation. event_prefix is the first half of every event_id derived here.';

insert into {{ schema }}.installation (event_prefix)
select substr(h, 1, 12) || '8' || substr(h, 14, 3)
from replace(gen_random_uuid()::text, '-', '') as h;

-- Positions order messages; message_id is the first position a message draws. CACHE 1 and no cycle are part of the
-- proof of the floor (docs/concepts.md); the sequence is never set back by us.
create sequence {{ schema }}.position_seq as bigint cache 1 no cycle;

comment on sequence {{ schema }}.position_seq is
'Draws the position at which a message enters ready. Whoever drew from it holds RowExclusiveLock on it to the end of the transaction: tides are built on that.';

create table {{ schema }}.tide (
    tide_id bigint generated always as identity primary key,
    at timestamptz not null,
    position bigint not null,
    safe_position bigint not null,
    holders text[] not null,
    drew_above bigint[] not null,
    quiet_since timestamptz not null,
    movers text[] not null,
    moved_after timestamptz[] not null,
    timeline text not null,
    outage_from timestamptz,
    outage_until timestamptz,
    is_blind boolean not null,
    resume_at bigint,
    constraint tide_safe_position_not_above_position check (safe_position <= position),
    constraint tide_knows_each_holder check (cardinality(holders) = cardinality(drew_above)),
    constraint tide_knows_each_mover check (cardinality(movers) = cardinality(moved_after))
);

comment on table {{ schema }}.tide is
'One series for the installation, read newest first: the last position drawn, who may still hold one at or below it, and up to where every position has ended. Ticks append at most ten a second and keep the last few.';
comment on column {{ schema }}.tide.position is 'L: last value of position_seq when the tide was read.';
comment on column {{ schema }}.tide.safe_position is 'Every transaction that drew a position up to this one had ended.';
comment on column {{ schema }}.tide.holders is 'Virtual transactions, each with its process, that held RowExclusiveLock on position_seq.';
comment on column {{ schema }}.tide.drew_above is 'Beside each holder: whatever it drew lies above this position.';
comment on column {{ schema }}.tide.quiet_since is 'Every row with an earlier deadline was visible, or its transaction had ended.';
comment on column {{ schema }}.tide.movers is 'Virtual transactions, each with its process, that held RowExclusiveLock on scheduled or lease.';
comment on column {{ schema }}.tide.moved_after is 'Beside each mover: every deadline it wrote lies after this instant.';
comment on column {{ schema }}.tide.outage_from is 'Last tide before the latest restart or failover; outage_until is the first one after it.';
comment on column {{ schema }}.tide.is_blind is 'A prepared transaction held a lock: its owner cannot be followed, so nothing was found safe.';
comment on column {{ schema }}.tide.resume_at is 'position_seq was found set back: a later tide moves it past this, the highest position seen before.';
comment on column {{ schema }}.tide.timeline is 'Start of the server and its WAL timeline: a change means a restart or a failover.';

create table {{ schema }}.floor (
    channel_id integer not null,
    floor_id bigint generated always as identity,
    ticked_at timestamptz not null,
    took interval not null,
    position bigint not null,
    is_quiet boolean not null,
    has_more boolean not null,
    move_limit integer not null,
    priorities smallint[] not null,
    floors bigint[] not null,
    hints bigint[] not null,
    scheduled_from timestamptz not null,
    lease_from timestamptz not null,
    tick_at timestamptz not null,
    grouped_to bigint not null,
    idle_until timestamptz,
    timeline text,
    holders text[],
    drew_above bigint[],
    constraint floor_pkey primary key (channel_id, floor_id),
    constraint floor_has_ten_priorities check (cardinality(floors) = 10 and cardinality(hints) = 10)
);

comment on table {{ schema }}.floor is
'The last tick of each channel, read newest first by every claim. Appended, never updated: a row updated per claim would become the version chain that all claims walk.';
comment on column {{ schema }}.floor.position is 'L of the tide of this tick: positions drawn since then mean there may be something to do.';
comment on column {{ schema }}.floor.is_quiet is 'Nobody held a position then, and nothing stood in ready.';
comment on column {{ schema }}.floor.has_more is 'The tick stopped at its bound of rows or time: the next claim ticks again.';
comment on column {{ schema }}.floor.move_limit is 'Rows that the next tick may move: falls when a tick was cancelled by a timeout, and recovers.';
comment on column {{ schema }}.floor.priorities is 'Priorities in use, in order: 0 and those of channel_priority. Claims probe no others.';
comment on column {{ schema }}.floor.floors is 'By priority + 1: at or below it nothing is left and nothing can appear.';
comment on column {{ schema }}.floor.hints is 'By priority + 1: where claims start; a late committer below it lowers it at the next tick.';
comment on column {{ schema }}.floor.scheduled_from is 'Scans of scheduled start here.';
comment on column {{ schema }}.floor.lease_from is 'Scans of lease by its deadline start here.';
comment on column {{ schema }}.floor.grouped_to is 'Up to here, the group of whatever stands in blocked has its turn with somebody, who hands it on.';
comment on column {{ schema }}.floor.tick_at is 'The next tick is due then: 250 ms after this one, 25 ms where messages of groups come in, at once where there is more, and never sooner than ten times what this one took.';
comment on column {{ schema }}.floor.holders is 'Of the tide of this tick, with drew_above and timeline: below the hints a message can only appear when one of them ends. Null = not known.';
comment on column {{ schema }}.floor.idle_until is 'Nothing can become ready before then unless a position is drawn: a poll may stop here. Null = not known.';

create table {{ schema }}.tally (
    amount bigint not null,
    channel_id integer not null,
    outcome text not null
);

-- No key: it is only ever appended to and read whole. Full identity lets it be deleted from under logical replication.
alter table {{ schema }}.tally replica identity full;

comment on table {{ schema }}.tally is
'Counters: one appended row per channel and outcome in the transaction of the effect; cleanup folds them. The total is the sum. channel_id 0 is the installation.';

create table {{ schema }}.incident (
    incident_id bigint generated always as identity primary key,
    at timestamptz not null,
    channel_id integer,
    routine text not null,
    sqlstate text not null,
    message text not null
);

comment on table {{ schema }}.incident is
'What a tick or a sweep met and went on from: one row an error, trimmed by cleanup. Empty is the ordinary case.';

-- Churning tables: small, rewritten all the time. Vacuum by a fixed number of dead rows instead of a share of a
-- size that swings between nothing and everything, without pauses, and never give the tail back (truncating takes an
-- exclusive lock, and the next burst needs the pages again).
{% for table in ["tide", "floor", "tally"] %}
alter table {{ schema }}.{{ table }} set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);
{% endfor %}
