-- Tidegate VERSION, schema tidegate: installation.
-- One self-contained file; apply it in one transaction:  psql -1 -v ON_ERROR_STOP=1 -f FILE
-- It refuses a schema that it does not fit. Made by: tidegate render

-- ledger/guard.sql
-- One installer at a time per schema, held to the end of the transaction; no name is looked for where others may create.
do $$
begin
    perform pg_catalog.pg_advisory_xact_lock(
        pg_catalog.hashtextextended('tidegate install ' || 'tidegate', 0)
    );
    perform pg_catalog.set_config('statement_timeout', '0', true);
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
end;
$$;


-- What stands in the schema runs with the rights of whoever migrates, and a function that fits a call better than ours
-- would be called instead. So the schema is that role's, nobody else may create anything in it, or has.
do $$
declare
    v_schema oid := (select n.oid from pg_catalog.pg_namespace as n where n.nspname = 'tidegate');
    v_me oid := (select r.oid from pg_catalog.pg_roles as r where r.rolname = current_user);
    v_owner oid := (select n.nspowner from pg_catalog.pg_namespace as n where n.oid = v_schema);
    v_seen text;
    v_statement text;
begin
    if v_owner <> v_me then
        raise exception using
            errcode = 'TG060',
            message = pg_catalog.format(
                'schema %I belongs to %s, and this is %s', 'tidegate', v_owner::pg_catalog.regrole, v_me::pg_catalog.regrole
            ),
            hint = pg_catalog.format(
                'Connect as %s, choose another schema, or run: alter schema %I owner to %s;',
                v_owner::pg_catalog.regrole, 'tidegate', v_me::pg_catalog.regrole
            );
    end if;

    select pg_catalog.string_agg(distinct g.name, ', ' order by g.name)
    into v_seen
    from (
        select case a.grantee when 0 then 'public' else a.grantee::pg_catalog.regrole::text end as name
        from pg_catalog.pg_namespace as n
        cross join lateral pg_catalog.aclexplode(n.nspacl) as a
        where n.oid = v_schema and a.privilege_type = 'CREATE' and a.grantee <> n.nspowner
    ) as g;
    if v_seen is not null then
        raise exception using
            errcode = 'TG060',
            message = pg_catalog.format('others may create in schema %I: %s', 'tidegate', v_seen),
            hint = pg_catalog.format('Run: revoke create on schema %I from %s cascade;', 'tidegate', v_seen);
    end if;

    -- A superuser gains nothing by what he put here.
    select
        pg_catalog.string_agg(pg_catalog.format('%s %s of %s', o.type, o.identity, r.rolname), ', ' order by o.identity),
        pg_catalog.string_agg(pg_catalog.format('drop %s %s;', o.type, o.identity), ' ' order by o.identity)
    into v_seen, v_statement
    from pg_catalog.pg_shdepend as s
    inner join pg_catalog.pg_depend as d on s.classid = d.classid and s.objid = d.objid
    inner join pg_catalog.pg_roles as r on s.refobjid = r.oid and not r.rolsuper
    cross join lateral pg_catalog.pg_identify_object(s.classid, s.objid, 0) as o
    where
        s.dbid = (select b.oid from pg_catalog.pg_database as b where b.datname = pg_catalog.current_database())
        and s.deptype = 'o'
        and s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
        and s.refobjid <> v_me
        and d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
        and d.refobjid = v_schema;
    if v_seen is not null then
        raise exception using
            errcode = 'TG060',
            message = pg_catalog.format('schema %I holds what others made: %s', 'tidegate', v_seen),
            hint = pg_catalog.format('Take it away, or give it to %s: %s', v_me::pg_catalog.regrole, v_statement);
    end if;
end;
$$;


do $$
declare
    v_unfit text;
    v_newest text;
begin
    if exists (
        select from pg_catalog.pg_class as c
        inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
        where n.nspname = 'tidegate' and c.relname = 'migration'
    ) then
        select max(m.migration) into v_newest from tidegate.migration as m;
    end if;
    if v_newest is not null then
        raise exception using
            errcode = 'TG060',
            message = pg_catalog.format(
                'schema %I is installed already, up to migration %s', 'tidegate', v_newest
            ),
            hint = 'render an upgrade with --from '
                || pg_catalog.ltrim(pg_catalog.left(v_newest, 4), '0')
                || ', or use tidegate migrate';
    end if;
end;
$$;

-- migrations/0001_create_ledger.up.sql
-- The ledger: what is installed here, by which release. Only `tidegate migrate`, `rollback` and a
-- rendered file write it.

do $$
begin
    -- "create schema if not exists" asks for CREATE on the database even where the schema is there.
    if not exists (select from pg_catalog.pg_namespace where nspname = 'tidegate') then
        create schema tidegate;
    end if;
end;
$$;

create table tidegate.migration (
    migration text not null,
    checksum text not null,
    version text not null,
    applied_at timestamptz not null default clock_timestamp(),
    constraint migration_pkey primary key (migration),
    constraint migration_is_numbered check (migration ~ '^[0-9]{4}_[a-z0-9_]+$'),
    constraint migration_checksum_is_sha256 check (checksum ~ '^[0-9a-f]{64}$')
);

comment on table tidegate.migration is
'One row per applied migration: its name, the SHA-256 of its file, the release that applied it, and when.';

create table tidegate.routine (
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

comment on table tidegate.routine is
'One row per installed routine or view: checksums of its file (source) and of what the catalog held right after it was applied (definition), the release that applied it last, and when its definition last changed.';

create type tidegate.installed as (migration integer, version text);

comment on type tidegate.installed is
'What is installed: the number of the newest migration, and the release that applied the routines.';

-- ledger/record_migration.sql
insert into tidegate.migration (migration, checksum, version)
values ('0001_create_ledger', 'a5b9eca4a7566fecf8206959d6220c688e3d3a8f137bbd93c5590cd00b1583e5', 'VERSION');

-- migrations/0002_create_kernel.up.sql
/*
 * What every other room stands on: who this installation is, the sequence that orders messages, the tides and floors
 * that let claims start above the dead, counters and the notes of what went wrong.
 */

create table tidegate.installation (
    is_only boolean primary key default true,
    event_prefix text not null,
    created_at timestamptz not null default now(),
    constraint installation_is_single check (is_only),
    constraint installation_prefix_is_half_a_uuid check (event_prefix ~ '^[0-9a-f]{12}8[0-9a-f]{3}$')
);

comment on table tidegate.installation is
'One row: the identity of this installation. event_prefix is the first half of every event_id derived here.';

insert into tidegate.installation (event_prefix)
select substr(h, 1, 12) || '8' || substr(h, 14, 3)
from replace(gen_random_uuid()::text, '-', '') as h;

-- Positions order messages; message_id is the first position a message draws. CACHE 1 and no cycle are part of the
-- proof of the floor (docs/concepts.md); the sequence is never set back by us.
create sequence tidegate.position_seq as bigint cache 1 no cycle;

comment on sequence tidegate.position_seq is
'Draws the position at which a message enters ready. Whoever drew from it holds RowExclusiveLock on it to the end of the transaction: tides are built on that.';

create table tidegate.tide (
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

comment on table tidegate.tide is
'One series for the installation, read newest first: the last position drawn, who may still hold one at or below it, and up to where every position has ended. Ticks append at most ten a second and keep the last few.';
comment on column tidegate.tide.position is 'L: last value of position_seq when the tide was read.';
comment on column tidegate.tide.safe_position is 'Every transaction that drew a position up to this one had ended.';
comment on column tidegate.tide.holders is 'Virtual transactions, each with its process, that held RowExclusiveLock on position_seq.';
comment on column tidegate.tide.drew_above is 'Beside each holder: whatever it drew lies above this position.';
comment on column tidegate.tide.quiet_since is 'Every row with an earlier deadline was visible, or its transaction had ended.';
comment on column tidegate.tide.movers is 'Virtual transactions, each with its process, that held RowExclusiveLock on scheduled or lease.';
comment on column tidegate.tide.moved_after is 'Beside each mover: every deadline it wrote lies after this instant.';
comment on column tidegate.tide.outage_from is 'Last tide before the latest restart or failover; outage_until is the first one after it.';
comment on column tidegate.tide.is_blind is 'A prepared transaction held a lock: its owner cannot be followed, so nothing was found safe.';
comment on column tidegate.tide.resume_at is 'position_seq was found set back: a later tide moves it past this, the highest position seen before.';
comment on column tidegate.tide.timeline is 'Start of the server and its WAL timeline: a change means a restart or a failover.';

create table tidegate.floor (
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

comment on table tidegate.floor is
'The last tick of each channel, read newest first by every claim. Appended, never updated: a row updated per claim would become the version chain that all claims walk.';
comment on column tidegate.floor.position is 'L of the tide of this tick: positions drawn since then mean there may be something to do.';
comment on column tidegate.floor.is_quiet is 'Nobody held a position then, and nothing stood in ready.';
comment on column tidegate.floor.has_more is 'The tick stopped at its bound of rows or time: the next claim ticks again.';
comment on column tidegate.floor.move_limit is 'Rows that the next tick may move: falls when a tick was cancelled by a timeout, and recovers.';
comment on column tidegate.floor.priorities is 'Priorities in use, in order: 0 and those of channel_priority. Claims probe no others.';
comment on column tidegate.floor.floors is 'By priority + 1: at or below it nothing is left and nothing can appear.';
comment on column tidegate.floor.hints is 'By priority + 1: where claims start; a late committer below it lowers it at the next tick.';
comment on column tidegate.floor.scheduled_from is 'Scans of scheduled start here.';
comment on column tidegate.floor.lease_from is 'Scans of lease by its deadline start here.';
comment on column tidegate.floor.grouped_to is 'Up to here, the group of whatever stands in blocked has its turn with somebody, who hands it on.';
comment on column tidegate.floor.tick_at is 'The next tick is due then: 250 ms after this one, 25 ms where messages of groups come in, at once where there is more, and never sooner than ten times what this one took.';
comment on column tidegate.floor.holders is 'Of the tide of this tick, with drew_above and timeline: below the hints a message can only appear when one of them ends. Null = not known.';
comment on column tidegate.floor.idle_until is 'Nothing can become ready before then unless a position is drawn: a poll may stop here. Null = not known.';

create table tidegate.tally (
    amount bigint not null,
    channel_id integer not null,
    outcome text not null
);

-- No key: it is only ever appended to and read whole. Full identity lets it be deleted from under logical replication.
alter table tidegate.tally replica identity full;

comment on table tidegate.tally is
'Counters: one appended row per channel and outcome in the transaction of the effect; cleanup folds them. The total is the sum. channel_id 0 is the installation.';

create table tidegate.incident (
    incident_id bigint generated always as identity primary key,
    at timestamptz not null,
    channel_id integer,
    routine text not null,
    sqlstate text not null,
    message text not null
);

comment on table tidegate.incident is
'What a tick or a sweep met and went on from: one row an error, trimmed by cleanup. Empty is the ordinary case.';

-- Churning tables: small, rewritten all the time. Vacuum by a fixed number of dead rows instead of a share of a
-- size that swings between nothing and everything, without pauses, and never give the tail back (truncating takes an
-- exclusive lock, and the next burst needs the pages again).

alter table tidegate.tide set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.floor set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.tally set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

-- ledger/record_migration.sql
insert into tidegate.migration (migration, checksum, version)
values ('0002_create_kernel', '39fc2c7df4233a74ba94a73b6d4c63431799a6b7293266e833e68e89e4a30b9f', 'VERSION');

-- migrations/0003_create_places.up.sql
/*
 * Channels, and the places a message can stand in. A message has no status: it stands in exactly one of
 * ready, scheduled, lease, dead_letter, and the table is its state.
 */

create table tidegate.channel (
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

comment on table tidegate.channel is
'Topics and queues with their policy: configuration, read by every call and updated rarely.';
comment on column tidegate.channel.is_draining is 'Sends are refused; what is there is worked off.';
comment on column tidegate.channel.is_routed is 'A route matches this topic: it is swept, not relayed. Kept by outbox_route, outbox_unroute and topic_create.';
comment on column tidegate.channel.event_prefix is 'Copied from installation, so that a claim needs one lookup.';
comment on column tidegate.channel.max_attempts is 'The failure that brings a message to it is terminal; 0 = for ever.';
comment on column tidegate.channel.backoff_factor is 'By which the delay grows with each failure.';
comment on column tidegate.channel.jitter is 'Share by which a backoff may be shorter or longer.';
comment on column tidegate.channel.max_in_flight is 'At most so many messages leased at once; null = unlimited.';
comment on column tidegate.channel.inline_limit is 'Payloads above so many bytes are written once, to body.';
comment on column tidegate.channel.doorbell is 'What comes in wakes whoever listens, at most once in this interval; null = nobody is woken. The last ring stands in a sequence of the channel''s, doorbell_<channel_id>.';

create table tidegate.channel_priority (
    channel_id integer not null,
    declared_id bigint generated always as identity,
    priority smallint not null,
    constraint channel_priority_pkey primary key (channel_id, declared_id),
    constraint channel_priority_in_range check (priority between 1 and 9)
);

comment on table tidegate.channel_priority is
'Priorities other than 0 that a channel has ever used, so that claims probe no others. Appended by the first message of a priority; not unique on purpose: two first messages must not wait for each other.';

create table tidegate.route (
    route_id bigint generated always as identity primary key,
    topic text collate "C" not null,
    queue_id integer references tidegate.channel,
    handler text,
    created_at timestamptz not null default now(),
    constraint route_has_one_target check ((queue_id is null) <> (handler is null)),
    constraint route_topic_is_name_or_prefix check (topic ~ '^[A-Za-z0-9_][A-Za-z0-9_.:-]*([.][*])?$')
);

create unique index route_one_queue_a_topic on tidegate.route (topic, queue_id) where queue_id is not null;
create unique index route_one_handler_a_topic on tidegate.route (topic, handler) where handler is not null;
create index route_for_queue on tidegate.route (queue_id) where queue_id is not null;

comment on table tidegate.route is
'Where the events of a topic go: a queue or a SQL handler. topic is an exact name, or a prefix with a trailing .*';
comment on column tidegate.route.handler is
'Signature as text, resolved at the call: a stored regprocedure would stop pg_upgrade.';

create type tidegate.message as (
attempts smallint,
    priority smallint,
    message_id bigint,
    enqueued_at timestamptz,
    payload jsonb,
    headers jsonb,
    event_id uuid,
    body_id bigint,
    body_bytes integer,
    max_attempts integer,
    max_batch integer,
    requeued_from bigint,
    backoff jsonb,
    topic text,
    group_key text collate "C",
    job_key text collate "C",
    run_id text,
    tenant text,
    errors jsonb,
    barrier text collate "C",
    epoch bigint,
    member integer
);

comment on type tidegate.message is
'A message as it travels between places, and as a lease carries it. payload is null where the body holds it.';

create type tidegate.sent as (message_id bigint, outcome text);

comment on type tidegate.sent is
'Answer to a put or a send. outcome: inserted | deduplicated (message_id is the first one) | replaced (message_id keeps its place, the payload is new) | follow_up (kept until the leased message of its job key ends).';

create type tidegate.delivery as (
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

comment on type tidegate.delivery is
'A message handed out under a lease. attempt counts from 1; topic is where an outbox event came from, null for a plain send. barrier, epoch and member say whose arrival its ack is.';

create type tidegate.extended as (expires_at timestamptz, deadline timestamptz, cancelled bigint[], lost boolean);

comment on type tidegate.extended is
'Answer to an extension. deadline: no extension reaches beyond it (max_runtime). cancelled: messages of the lease that somebody wants stopped. lost = true: this lease is no longer yours, and the rest is null.';

create type tidegate.settled as (acked integer, retried integer, dead_lettered integer, lost boolean);

comment on type tidegate.settled is
'Answer to a settlement. lost = true: this lease is no longer yours, whether you settled it or it was taken back; nothing was changed.';

-- A domain, as its check is compiled once a session; a check of the table's is compiled at every insert, which cost a
-- tenth of a put.
create domain tidegate.priority as smallint
constraint priority_in_range check (value between 0 and 9);

comment on domain tidegate.priority is 'Order among what is ready: 0 goes first, 9 last.';

create table tidegate.ready (
    position bigint not null,
    channel_id integer not null,
attempts smallint not null,
    priority tidegate.priority not null,
    message_id bigint not null,
    enqueued_at timestamptz not null,
    payload jsonb,
    headers jsonb,
    event_id uuid,
    body_id bigint,
    body_bytes integer,
    max_attempts integer,
    max_batch integer,
    requeued_from bigint,
    backoff jsonb,
    topic text,
    group_key text collate "C",
    job_key text collate "C",
    run_id text,
    tenant text,
    errors jsonb,
    barrier text collate "C",
    epoch bigint,
    member integer,
    constraint ready_pkey primary key (channel_id, priority, position)
);

comment on table tidegate.ready is
'Messages that may be claimed now. The key is drawn anew whenever a message enters, and never updated.';

create table tidegate.scheduled (
    due_at timestamptz not null,
    channel_id integer not null,
attempts smallint not null,
    priority tidegate.priority not null,
    message_id bigint not null,
    enqueued_at timestamptz not null,
    payload jsonb,
    headers jsonb,
    event_id uuid,
    body_id bigint,
    body_bytes integer,
    max_attempts integer,
    max_batch integer,
    requeued_from bigint,
    backoff jsonb,
    topic text,
    group_key text collate "C",
    job_key text collate "C",
    run_id text,
    tenant text,
    errors jsonb,
    barrier text collate "C",
    epoch bigint,
    member integer,
    constraint scheduled_pkey primary key (channel_id, due_at, message_id)
);

comment on table tidegate.scheduled is
'Messages with a future: delayed sends and retries. A tick moves what is due to ready, or, behind others of its group, to blocked.';

create table tidegate.blocked (
    position bigint not null,
    channel_id integer not null,
attempts smallint not null,
    priority tidegate.priority not null,
    message_id bigint not null,
    enqueued_at timestamptz not null,
    payload jsonb,
    headers jsonb,
    event_id uuid,
    body_id bigint,
    body_bytes integer,
    max_attempts integer,
    max_batch integer,
    requeued_from bigint,
    backoff jsonb,
    topic text,
    group_key text collate "C",
    job_key text collate "C",
    run_id text,
    tenant text,
    errors jsonb,
    barrier text collate "C",
    epoch bigint,
    member integer,
    constraint blocked_pkey primary key (channel_id, group_key, position)
);

create index blocked_for_arrival on tidegate.blocked (channel_id, position);

comment on table tidegate.blocked is
'Messages of a group that wait for their predecessor. A send only appends here; whose turn it is stands in group_turn.';

create table tidegate.group_turn (
    channel_id integer not null,
    group_key text collate "C" not null,
    turn bigint not null,
    position bigint not null,
    message_id bigint,
    taken_at timestamptz not null,
    constraint group_turn_pkey primary key (channel_id, group_key, turn)
);

comment on table tidegate.group_turn is
'Whose turn it is in a group, read newest first: the one message of it that is ready, leased or waits for a retry. Appended, and the row before it deleted: a row updated by each turn would become a version chain that all of them walk.';
comment on column tidegate.group_turn.position is 'Whatever waits in blocked stands above it.';
comment on column tidegate.group_turn.message_id is 'Null: nobody has the turn. Cleanup removes such rows when they are old.';

create table tidegate.job_key (
    channel_id integer not null,
    key text collate "C" not null,
    message_id bigint not null,
    follow_up tidegate.message,
    follow_up_due_at timestamptz,
    constraint job_key_pkey primary key (channel_id, key)
);

comment on table tidegate.job_key is
'The one live message of each job key. Its row is what sends with that key and the end of that message lock.';
comment on column tidegate.job_key.follow_up is 'Sent while the message was leased: enters when that one has ended.';

-- A message of a key stands in one place: all three are asked in one statement.

create index ready_for_job_key on tidegate.ready (channel_id, job_key) where job_key is not null;

create index scheduled_for_job_key on tidegate.scheduled (channel_id, job_key) where job_key is not null;

create index blocked_for_job_key on tidegate.blocked (channel_id, job_key) where job_key is not null;


create table tidegate.cancel_request (
    channel_id integer not null,
    message_id bigint not null,
    requested_at timestamptz not null,
    constraint cancel_request_pkey primary key (channel_id, message_id)
);

comment on table tidegate.cancel_request is
'Leased messages that somebody wants stopped: queue_extend says so, and they are not handed out again.';

create table tidegate.lease (
    lease_id uuid primary key,
    claimed_at timestamptz not null,
    expires_at timestamptz not null,
    channel_id integer not null,
    message_count integer not null,
    is_plain boolean not null,
    worker text,
    settled integer[],
    messages tidegate.message[] not null
);

create index lease_for_expiry on tidegate.lease (channel_id, expires_at);

comment on table tidegate.lease is
'One row a claim, carrying its messages: settling all of them deletes one row. lease_id is the fencing token.';
comment on column tidegate.lease.message_count is 'Messages not settled yet.';
comment on column tidegate.lease.is_plain is 'Nothing but the row itself has to be looked at when all of it is acked.';
comment on column tidegate.lease.settled is 'Ordinals of messages already settled: messages is never rewritten.';

-- Compression is bought on every claim: the fastest the server has, which is lz4 where it was built with it.
do $$
begin
    if 'lz4' = any((select enumvals from pg_settings where name = 'default_toast_compression')::text[]) then
        alter table tidegate.lease alter column messages set compression lz4;
    end if;
end;
$$;

create table tidegate.body (
    body_id bigint generated always as identity primary key,
    payload jsonb not null
);

comment on table tidegate.body is
'Payloads above the inline limit, written once: places carry the body_id. Each has one owner and goes with it.';

create table tidegate.archive (
    settled_at timestamptz not null,
    channel_id integer not null,
attempts smallint not null,
    priority tidegate.priority not null,
    message_id bigint not null,
    enqueued_at timestamptz not null,
    payload jsonb,
    headers jsonb,
    event_id uuid,
    body_id bigint,
    body_bytes integer,
    max_attempts integer,
    max_batch integer,
    requeued_from bigint,
    backoff jsonb,
    topic text,
    group_key text collate "C",
    job_key text collate "C",
    run_id text,
    tenant text,
    errors jsonb,
    barrier text collate "C",
    epoch bigint,
    member integer,
    constraint archive_pkey primary key (channel_id, settled_at, message_id)
);

comment on table tidegate.archive is
'Settled messages of channels with archive on; append-only until cleanup purges it by the retention of the channel.';

create table tidegate.idempotency_key (
    channel_id integer not null,
    key text collate "C" not null,
    message_id bigint not null,
    created_at timestamptz not null,
    constraint idempotency_key_pkey primary key (channel_id, key)
);

create index idempotency_key_for_cleanup on tidegate.idempotency_key (created_at);

comment on table tidegate.idempotency_key is
'Keys of puts and sends with the message they first made, kept for their retention whatever became of it.';

create table tidegate.dead_letter (
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
attempts smallint not null,
    priority tidegate.priority not null,
    message_id bigint not null,
    enqueued_at timestamptz not null,
    payload jsonb,
    headers jsonb,
    event_id uuid,
    body_id bigint,
    body_bytes integer,
    max_attempts integer,
    max_batch integer,
    requeued_from bigint,
    backoff jsonb,
    topic text,
    group_key text collate "C",
    job_key text collate "C",
    run_id text,
    tenant text,
    errors jsonb,
    barrier text collate "C",
    epoch bigint,
    member integer,
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
create index dead_letter_for_page on tidegate.dead_letter (state, reason, dead_at, dead_letter_id);
create index dead_letter_for_channel_page on tidegate.dead_letter (
    channel, state, reason, dead_at, dead_letter_id
);
create index dead_letter_for_tenant_page on tidegate.dead_letter (
    tenant, state, reason, dead_at, dead_letter_id
) where tenant is not null;
create index dead_letter_for_tenant_channel_page on tidegate.dead_letter (
    tenant, channel, state, reason, dead_at, dead_letter_id
) where tenant is not null;
create index dead_letter_for_run_page on tidegate.dead_letter (
    run_id, state, reason, dead_at, dead_letter_id
) where run_id is not null;
-- The planner is to prefer the index with the most keys of a page, also while its statistics are from the time when the
-- table had one channel.
alter table tidegate.dead_letter
    alter column channel set (n_distinct = -1),
    alter column tenant set (n_distinct = -1),
    alter column run_id set (n_distinct = -1);
create index dead_letter_for_job_key on tidegate.dead_letter (channel_id, job_key)
where job_key is not null and state = 'dead';
create index dead_letter_for_cleanup on tidegate.dead_letter (resolved_at)
where state in ('resolved', 'discarded');

comment on table tidegate.dead_letter is
'Messages that ended in failure, from topics and queues alike. No foreign keys: forensics outlive their owners.';
comment on column tidegate.dead_letter.dead_letter_id is 'What the dead_letter_* functions take; a requeued message carries it as requeued_from.';
comment on column tidegate.dead_letter.state is 'dead | requeued (its child is alive) | resolved (its child succeeded) | discarded.';
comment on column tidegate.dead_letter.failure_count is 'How often it landed here: 1, and one more for each child, or later message of its job key, that died.';

-- As in migration 0002: vacuum by a fixed number of dead rows, without pauses, and keep the tail. Analysing is rare:
-- the plans of the claim path are pinned and do not depend on it.

alter table tidegate.ready set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.scheduled set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.blocked set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.lease set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.body set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.group_turn set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.job_key set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.cancel_request set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.idempotency_key set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

-- ledger/record_migration.sql
insert into tidegate.migration (migration, checksum, version)
values ('0003_create_places', '73bd7ca29be6d0867324730f3b5079d2e2d3c77337f3d3ad8460e5d7b02af953', 'VERSION');

-- migrations/0004_create_guard.up.sql
/* One idempotency store: orchestration claims, callback guards and the consumer's inbox. */

create table tidegate.guard (
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

create index guard_for_cleanup on tidegate.guard (finished_at) where state = 'done';
create index guard_for_run on tidegate.guard (run_id) where state = 'held' and run_id is not null;

comment on table tidegate.guard is
'Who holds what by scope and key, until when; done rows are tombstones with their result, kept for their retention.';

comment on column tidegate.guard.renewed_at is
'From when its lease was counted: of a claim, or the last renewal. One that is still to come tells of a clock set back.';

-- An inbox writes a row an event and cleanup removes as many: vacuum by a fixed number of dead rows (see migration 0002).
alter table tidegate.guard set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

-- ledger/record_migration.sql
insert into tidegate.migration (migration, checksum, version)
values ('0004_create_guard', '023e729a251e721f85295995b436894123d5fc2e9db6a77813a6c178f70cf07f', 'VERSION');

-- migrations/0005_create_barrier.up.sql
/*
 * Barriers: many members arrive, one callback follows.
 *
 * An opening is an epoch, drawn from one sequence: it is never used again, whatever is opened, removed and opened anew
 * under a name. So what belongs to an opening hangs on its epoch alone, and a former one is nobody's concern.
 */

create sequence tidegate.barrier_epoch_seq as bigint cache 1 no cycle;

comment on sequence tidegate.barrier_epoch_seq is
'Draws the epoch of each opening of a barrier. Rising, and no number is used twice.';

create table tidegate.barrier (
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
create index barrier_for_recovery on tidegate.barrier (look_at) where state in ('open', 'fire_failed');
create index barrier_for_cleanup on tidegate.barrier (closed_at) where state <> 'open';

comment on table tidegate.barrier is
'One row a name, with its latest epoch. Written when it is opened, added to, sealed and closed, never by an arrival.';
comment on column tidegate.barrier.state is
'open | fired (the callback is in its queue) | fire_failed (it is a dead letter) | aborted | resolved (closed without a callback).';
comment on column tidegate.barrier.outcome is
'completed | partial (with failures) | aborted | quorum_missed | expired.';
comment on column tidegate.barrier.inline_limit is 'Results of at most so many bytes travel in the callback.';
comment on column tidegate.barrier.key is 'Which opening this is, so that its repeat is told the same epoch.';
comment on column tidegate.barrier.answer is 'What the opening was told: opened, fired or fire_failed.';
comment on column tidegate.barrier.look_at is
'When recovery should look at it next. Never written in the past: recovery starts its scans from that.';
comment on column tidegate.barrier.look_count is
'How often recovery has asked or failed in a row: each time it comes back later.';
comment on column tidegate.barrier.kept_at is
'When it was last given time: barrier_resolve with keep, or lost members sent again.';
comment on column tidegate.barrier.resent_at is 'When lost members were sent again, which happens once.';

create table tidegate.barrier_epoch (
    epoch bigint primary key,
    name text collate "C" not null,
    open_slots integer not null,
    room text,
    constraint barrier_epoch_open_slots_not_negative check (open_slots >= 0)
) with (fillfactor = 10);

create index barrier_epoch_for_name on tidegate.barrier_epoch (name, epoch);

comment on table tidegate.barrier_epoch is
'One row an opening, former ones until cleanup: the lock under which a barrier is added to, sealed and closed, and how many of its slots still have members outstanding.';

create table tidegate.barrier_range (
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

comment on table tidegate.barrier_range is
'The members that one open or add made, and over how many slots they are spread. Never updated: a member''s slot does not move.';

create table tidegate.barrier_sent (
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

comment on table tidegate.barrier_sent is
'What barrier_send has sent, a thousand members a row, so that recovery can send a message again that is nowhere. Written once, in bulk, and read by nobody else.';
comment on column tidegate.barrier_sent.message_ids is 'A message sent again keeps its id and, with sent_at, its event_id.';
comment on column tidegate.barrier_sent.payloads is 'Null where the payload is large: the body that it was written to is not written twice.';

create table tidegate.barrier_slot (
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

alter table tidegate.barrier_slot alter column room set storage plain;
comment on column tidegate.barrier_slot.room is 'Nothing: keeps room on its page for its versions until it is first updated.';

alter table tidegate.barrier_epoch alter column room set storage plain;
comment on column tidegate.barrier_epoch.room is 'Nothing: keeps room on its page for its versions until it is first updated.';


comment on table tidegate.barrier_slot is
'A bit for each of up to 62 members. Neighbours stand in different slots, so that they do not wait for each other.';
comment on column tidegate.barrier_slot.slot is 'The lowest member in it.';
comment on column tidegate.barrier_slot.pending is 'Members that have neither arrived nor failed.';
comment on column tidegate.barrier_slot.arrived_at is 'The last arrival or failure in it: progress is read from here.';

create table tidegate.barrier_result (
    epoch bigint not null,
    member integer not null,
    at timestamptz not null,
    result jsonb,
    error text,
    constraint barrier_result_pkey primary key (epoch, member)
);

comment on table tidegate.barrier_result is
'One row an arrival or failure, written once and aggregated once, in the order of members. No CHECK here or on barrier_slot: one is compiled anew at every arrival (decision 0006).';
comment on column tidegate.barrier_result.error is 'What a failed member failed of; null for one that arrived.';

create type tidegate.barrier_opened as (epoch bigint, outcome text);

comment on type tidegate.barrier_opened is
'Answer to an opening. outcome: opened | fired (sealed, without members: the callback is in its queue) | fire_failed (it is a dead letter) | cancelled (its run was stopped: nothing was opened or sent, and the epoch is null).';

create type tidegate.member_result as (member integer, is_failed boolean, result jsonb, error text, at timestamptz);

comment on type tidegate.member_result is 'How a member of a barrier ended.';

create type tidegate.barrier_state as (
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

comment on type tidegate.barrier_state is
'How a barrier stands. members = arrived + failed + outstanding. It is stranded when it is open beyond expires_at or stalls_at.';

-- As in migration 0002: vacuum by a fixed number of dead rows, without pauses, and keep the tail.

alter table tidegate.barrier set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.barrier_epoch set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.barrier_range set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.barrier_sent set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.barrier_slot set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.barrier_result set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

-- ledger/record_migration.sql
insert into tidegate.migration (migration, checksum, version)
values ('0005_create_barrier', '9b4e01106f52a7a4d32e816d118990ea7c23845a0dc43bfaf40fd420b8758aab', 'VERSION');

-- migrations/0006_create_run.up.sql
/* Runs: an optional record of a business execution, by which its messages are stopped. Leaders: who runs the loops. */

create table tidegate.run (
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

create index run_for_children on tidegate.run (parent_id) where parent_id is not null;
create index run_for_list on tidegate.run (state, opened_at, run_id);
create index run_for_cleanup on tidegate.run (finished_at) where finished_at is not null;

comment on table tidegate.run is
'Business executions, opened or only cancelled: what carries the id of a stopped one is not delivered any more. It must outlive its messages.';
comment on column tidegate.run.state is 'open | completed (final) | error (may still become completed or stopped) | stopped (final: cancelled).';
comment on column tidegate.run.parent_id is 'Fails and stops together with this one; no foreign key, as the parent may be cleaned up first.';
comment on column tidegate.run.fail_on_dead_letter is 'Whether it fails when a message of it dies.';

-- A settlement that buries a message holds its lease, and the run comes before leases in the order of locks: so the
-- dead letter says that its run is to fail, and run_sweep lets it.
alter table tidegate.dead_letter add column fails_run_at timestamptz;
create index dead_letter_for_run_sweep on tidegate.dead_letter (fails_run_at) where fails_run_at is not null;

comment on column tidegate.dead_letter.fails_run_at is
'When run_sweep should let its run fail for it; null when it need not, or has done so.';

-- A cancel finds what waits of a run in whatever channel it is: by the run alone. Partial, so that a message without a
-- run is in none of these, and pays the test of a null.

create index ready_for_run on tidegate.ready (run_id) where run_id is not null;

create index scheduled_for_run on tidegate.scheduled (run_id) where run_id is not null;

create index blocked_for_run on tidegate.blocked (run_id) where run_id is not null;

create index job_key_for_run on tidegate.job_key (((follow_up).run_id)) where (follow_up).run_id is not null;

-- Beside the messages, so that nobody unpacks those to learn that none has a run.
alter table tidegate.lease add column run_ids text[];

comment on column tidegate.lease.run_ids is 'Runs of its messages; null when none has one.';

create table tidegate.leader (
    name text collate "C" primary key,
    epoch bigint not null,
    holder text,
    acquired_at timestamptz not null,
    renewed_at timestamptz not null,
    expires_at timestamptz not null,
    constraint leader_epoch_counts_from_1 check (epoch >= 1)
);

comment on table tidegate.leader is
'Who leads, until when, by the clock of the database. The epoch only grows: each new leader has a higher one, and a write that names an older one is refused.';
comment on column tidegate.leader.holder is 'Null: resigned.';

create index barrier_for_run on tidegate.barrier (run_id) where state = 'open' and run_id is not null;

-- Renewed every few seconds: as in migration 0002.

alter table tidegate.run set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.leader set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

comment on type tidegate.sent is
'Answer to a put or a send. outcome: inserted | deduplicated (message_id is the first one) | replaced (message_id keeps its place, the payload is new) | follow_up (kept until the leased message of its job key ends) | cancelled (its run was stopped: nothing was sent, message_id is null).';

-- ledger/record_migration.sql
insert into tidegate.migration (migration, checksum, version)
values ('0006_create_run', '90b6fcf090412573cf817edc2cedb3af2f69d93c08b90e1428e4610526a18900', 'VERSION');

-- migrations/0007_create_counter.up.sql
/*
 * Counters, and when which upkeep last ran.
 *
 * Nothing here is ever updated: a row that is, by every sync of a day in which some snapshot stands, becomes a version
 * chain that each of them walks. The newest row counts; whoever appends it deletes the one it follows.
 */

create type tidegate.counted as (key text, value bigint, counted bigint, skew bigint, outcome text);

comment on type tidegate.counted is
'What became of a counter. value: what it says now; counted: what it said before; skew: how far apart these are, or would be. outcome: written | unchanged | clamped (a value below 0 was written as 0) | closed (its run has ended: left as it was) | kept (its leases could not be read).';

-- Whoever draws from it holds RowExclusiveLock on it to the end of the transaction: as with position_seq, this tells up
-- to where every addition has committed or gone.
create sequence tidegate.counter_seq as bigint cache 1 no cycle;

comment on sequence tidegate.counter_seq is 'Numbers additions to counters, in the order in which they are folded.';

create table tidegate.counter (
    key text collate "C" not null,
    entry bigint generated always as identity,
    value numeric not null,
    run_id text,
    written_at timestamptz not null,
    constraint counter_pkey primary key (key, entry),
    constraint counter_key_has_1_to_1000_bytes check (octet_length(key) between 1 and 1000)
);

comment on table tidegate.counter is
'Where each counter stood when its additions were last folded, or it was set. What it says is this and the additions since: see the view counters.';
comment on column tidegate.counter.value is 'May be below 0 while the additions that it was set against are not folded. Exact: read, it is cut to 0 to 10^18.';
comment on column tidegate.counter.run_id is 'The run whose end closes it to counter_sync; null = never closed.';

create table tidegate.counter_delta (
    delta_id bigint not null,
    amount bigint not null,
    key text collate "C" not null,
    constraint counter_delta_pkey primary key (delta_id),
    constraint counter_delta_key_has_1_to_1000_bytes check (octet_length(key) between 1 and 1000)
);

create index counter_delta_for_key on tidegate.counter_delta (key, delta_id);

comment on table tidegate.counter_delta is
'Additions to counters, appended in the transaction of what they count. Cleanup folds them into counter.';

create table tidegate.counter_fold (
    fold_id bigint generated always as identity primary key,
    folded_to bigint not null,
    position bigint not null,
    holders text[] not null
);

comment on table tidegate.counter_fold is 'The last fold: one row, replaced by the next; none before the first.';
comment on column tidegate.counter_fold.folded_to is 'Additions up to this one are in counter; readers start above it.';
comment on column tidegate.counter_fold.position is 'Last value of counter_seq at that time, or earlier while holders stand.';
comment on column tidegate.counter_fold.holders is 'Virtual transactions, each with its process, that may hold additions up to position; once they are gone, it may be folded to.';

create table tidegate.maintenance_run (
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

comment on table tidegate.maintenance_run is
'When each job of the upkeep, and each part of a cleanup that ever failed, last ran: see the view upkeep.';
comment on column tidegate.maintenance_run.failure_count is 'Failures in a row; 0 after a success.';

create table tidegate.maintenance_setting (
    job text collate "C" primary key,
    every interval,
    arguments jsonb not null,
    is_paused boolean not null,
    constraint maintenance_setting_every_is_positive check (every > '0'),
    constraint maintenance_setting_arguments_are_named check (jsonb_typeof(arguments) = 'object')
);

comment on table tidegate.maintenance_setting is 'What maintenance_configure said of a job; what it did not is the default.';

create type tidegate.maintenance_job as (
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

comment on type tidegate.maintenance_job is
'A job of the upkeep. statement returns one row: again (there is more), error (what failed in it, null = nothing), systemic (nothing of it succeeded) and result. is_led: for whoever leads maintain, with its epoch. due_in: 0 or less = due now, null = paused.';

-- As in migration 0002: vacuum by a fixed number of dead rows, without pauses, and keep the tail.

alter table tidegate.counter set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.counter_delta set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);


alter table tidegate.counter_fold set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.maintenance_run set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

-- ledger/record_migration.sql
insert into tidegate.migration (migration, checksum, version)
values ('0007_create_counter', 'a160720f6053481073d80cef6be8320d7392d16f2e4c96caf0f5c7e62e8e7b26', 'VERSION');

-- migrations/0008_create_recovery.up.sql
/*
 * Up to where recovery has seen everything, so that its scans do not begin with what vacuum may not remove. Appended,
 * at most once a minute, and the row before it deleted: as with counters, a row that is updated becomes a chain.
 */

create table tidegate.recovery_mark (
    source text collate "C" not null,
    entry bigint generated always as identity,
    scan_from timestamptz not null,
    at timestamptz not null,
    holders text[] not null,
    constraint recovery_mark_pkey primary key (source, entry)
);

comment on table tidegate.recovery_mark is
'Where scans of recovery start, read newest first: one row for barriers, for guards, and for the look below the floors.';
comment on column tidegate.recovery_mark.scan_from is 'Nothing that is left to be looked at lies before.';
comment on column tidegate.recovery_mark.at is 'Read before holders: what those did not write who held nothing then, lies after it.';
comment on column tidegate.recovery_mark.holders is
'Virtual transactions that were writing to the table at that time: once they are gone, all that was due before it is visible.';

alter table tidegate.recovery_mark set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

-- ledger/record_migration.sql
insert into tidegate.migration (migration, checksum, version)
values ('0008_create_recovery', '232d36fc4ed1a4d0829dbe62b0cc648a5e05e17de11f39568e4e367bc290bb08', 'VERSION');

-- migrations/0009_create_metric.up.sql
/*
 * Metrics: what the last snapshot found, and marks by which the wait of a message is read from its position.
 *
 * As everywhere, rows are appended and the newest counts: what a scrape reads every few seconds is never updated.
 */

create type tidegate.metric as (name text, type text, labels jsonb, value double precision, help text);

comment on type tidegate.metric is
'A sample: what it measures, counter or gauge, its labels (closed sets and channel names), its value, and what that means.';

create type tidegate.diagnosis as (check_name text, status text, seen text, advice text);

comment on type tidegate.diagnosis is
'What a check found. status: ok | warn | fail. advice: what to do next; null = nothing.';

create table tidegate.metric_snapshot (
    snapshot_id bigint generated always as identity primary key,
    taken_at timestamptz not null,
    took interval not null,
    failed_probes integer not null,
    samples jsonb not null,
    totals jsonb not null,
    constraint metric_snapshot_samples_are_a_list check (jsonb_typeof(samples) = 'array')
);

comment on table tidegate.metric_snapshot is
'Gauges as metrics_snapshot found them, newest first; the rows of a quarter of an hour are kept, for what moved meanwhile.';
comment on column tidegate.metric_snapshot.failed_probes is 'Probes that failed: their samples are absent.';
comment on column tidegate.metric_snapshot.totals is 'Counters at that time, by channel_id and outcome.';

create table tidegate.position_mark (
    position bigint not null,
    at timestamptz not null,
    constraint position_mark_pkey primary key (position, at)
);

comment on table tidegate.position_mark is
'Last value of position_seq at an instant: what stands at or below it has been ready since then at least. A row a snapshot in which the sequence had moved, kept for a week.';

-- As in migration 0002: vacuum by a fixed number of dead rows, without pauses, and keep the tail.

alter table tidegate.metric_snapshot set (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 50,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

alter table tidegate.position_mark set (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

-- ledger/record_migration.sql
insert into tidegate.migration (migration, checksum, version)
values ('0009_create_metric', '5639c3dbb296d7ac5bd183c6930cc3581ddc931390a1f9f4ee27b8dc550bd573', 'VERSION');

-- ledger/check_schema.sql
-- What stands in the schema runs with the rights of whoever migrates, and a function that fits a call better than ours
-- would be called instead. So the schema is that role's, nobody else may create anything in it, or has.
do $$
declare
    v_schema oid := (select n.oid from pg_catalog.pg_namespace as n where n.nspname = 'tidegate');
    v_me oid := (select r.oid from pg_catalog.pg_roles as r where r.rolname = current_user);
    v_owner oid := (select n.nspowner from pg_catalog.pg_namespace as n where n.oid = v_schema);
    v_seen text;
    v_statement text;
begin
    if v_owner <> v_me then
        raise exception using
            errcode = 'TG060',
            message = pg_catalog.format(
                'schema %I belongs to %s, and this is %s', 'tidegate', v_owner::pg_catalog.regrole, v_me::pg_catalog.regrole
            ),
            hint = pg_catalog.format(
                'Connect as %s, choose another schema, or run: alter schema %I owner to %s;',
                v_owner::pg_catalog.regrole, 'tidegate', v_me::pg_catalog.regrole
            );
    end if;

    select pg_catalog.string_agg(distinct g.name, ', ' order by g.name)
    into v_seen
    from (
        select case a.grantee when 0 then 'public' else a.grantee::pg_catalog.regrole::text end as name
        from pg_catalog.pg_namespace as n
        cross join lateral pg_catalog.aclexplode(n.nspacl) as a
        where n.oid = v_schema and a.privilege_type = 'CREATE' and a.grantee <> n.nspowner
    ) as g;
    if v_seen is not null then
        raise exception using
            errcode = 'TG060',
            message = pg_catalog.format('others may create in schema %I: %s', 'tidegate', v_seen),
            hint = pg_catalog.format('Run: revoke create on schema %I from %s cascade;', 'tidegate', v_seen);
    end if;

    -- A superuser gains nothing by what he put here.
    select
        pg_catalog.string_agg(pg_catalog.format('%s %s of %s', o.type, o.identity, r.rolname), ', ' order by o.identity),
        pg_catalog.string_agg(pg_catalog.format('drop %s %s;', o.type, o.identity), ' ' order by o.identity)
    into v_seen, v_statement
    from pg_catalog.pg_shdepend as s
    inner join pg_catalog.pg_depend as d on s.classid = d.classid and s.objid = d.objid
    inner join pg_catalog.pg_roles as r on s.refobjid = r.oid and not r.rolsuper
    cross join lateral pg_catalog.pg_identify_object(s.classid, s.objid, 0) as o
    where
        s.dbid = (select b.oid from pg_catalog.pg_database as b where b.datname = pg_catalog.current_database())
        and s.deptype = 'o'
        and s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
        and s.refobjid <> v_me
        and d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
        and d.refobjid = v_schema;
    if v_seen is not null then
        raise exception using
            errcode = 'TG060',
            message = pg_catalog.format('schema %I holds what others made: %s', 'tidegate', v_seen),
            hint = pg_catalog.format('Take it away, or give it to %s: %s', v_me::pg_catalog.regrole, v_statement);
    end if;
end;
$$;

-- functions/kernel/clock_now.sql
create or replace function tidegate.clock_now() returns timestamptz
language sql volatile parallel safe
return clock_timestamp();

comment on function tidegate.clock_now() is
'The one clock: every routine reads it, and tests stand it still by replacing it.';

-- functions/kernel/_bad_argument.sql
create or replace function tidegate._bad_argument(p_name text, p_value text, p_rule text) returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
begin
    raise exception using
        errcode = 'TG010',
        message = format('%s is %s', p_name, coalesce(quote_literal(p_value), 'null')),
        hint = p_rule;
end;
$$;

comment on function tidegate._bad_argument(text, text, text) is
'Raise TG010: a bad argument, with the value seen and, as the hint, what is allowed.';

-- functions/kernel/_no_such_channel.sql
create or replace function tidegate._no_such_channel(p_kind text, p_name text) returns void
language plpgsql stable
set search_path = tidegate, pg_temp
as $$
begin
    raise exception using
        errcode = 'TG020',
        message = format('no %s named %s', p_kind, coalesce(quote_literal(p_name), 'null')),
        hint = case
            when exists (select from channel c where c.name = p_name and c.kind <> p_kind)
                then format('That name is a %s''s.', case p_kind when 'topic' then 'queue' else 'topic' end)
            else format('Create it first: select %I.%I(%L);', current_schema, p_kind || '_create', p_name)
        end;
end;
$$;

comment on function tidegate._no_such_channel(text, text) is
'Raise TG020: no such topic or queue, with the call that makes it as the hint.';

-- functions/kernel/_require_read_committed.sql
create or replace function tidegate._require_read_committed(p_routine text) returns void
language plpgsql stable
set search_path = tidegate, pg_temp
as $$
begin
    raise exception using
        errcode = 'TG030',
        message = format(
            '%s was called in a %s transaction', p_routine, upper(current_setting('transaction_isolation'))
        ),
        hint = 'Claims and sweeps see what others committed meanwhile: call them in READ COMMITTED, '
            'for example after: set transaction isolation level read committed;';
end;
$$;

comment on function tidegate._require_read_committed(text) is
'Raise TG030: the caller runs at another isolation level than READ COMMITTED. The caller tests, so that the right level costs no call.';

-- functions/kernel/_error_text.sql
create or replace function tidegate._error_text(p_error text) returns text
language sql immutable parallel safe
return left(coalesce(nullif(btrim(p_error), ''), 'no error given'), 1000);

comment on function tidegate._error_text(text) is 'An error as it is stored: never null or empty, at most 1000 characters.';

-- functions/kernel/_json_size.sql
create or replace function tidegate._json_size(p_value jsonb) returns integer
language sql stable parallel safe
return case
    when pg_column_compression(p_value) is null then pg_column_size(p_value)
    else pg_column_size(p_value #> '{}')
end;

comment on function tidegate._json_size(jsonb) is
'Bytes of a JSON value as it will be handled. A value that comes compressed from a column, as in a trigger, is measured unpacked.';

-- functions/kernel/_is_duration.sql
create or replace function tidegate._is_duration(p_interval interval) returns boolean
language sql immutable parallel safe
begin atomic
-- Compared, a month has 30 days: '-2 months 61 days' is above 0, and from the first of September it leads to August.
select p_interval <= interval '100 years'
    and p_interval - m.months + least(m.number * interval '28 days', m.number * interval '31 days') > interval '0'
from (
    select
        date_trunc('month', p_interval) as months,
        12 * extract(year from p_interval) + extract(month from p_interval) as number
) m;
end;

comment on function tidegate._is_duration(interval) is
'Whether an interval leads to a later instant, from whatever instant it is counted, and lasts at most 100 years. Null for null.';

-- functions/kernel/_backoff.sql
create or replace function tidegate._backoff(
    p_base interval, p_cap interval, p_factor double precision, p_jitter double precision, p_attempts integer
) returns interval
language sql volatile parallel safe
return make_interval(
    secs => least(
        extract(epoch from p_cap)::double precision,
        extract(epoch from p_base)::double precision * p_factor ^ least(greatest(p_attempts, 0), 30)
    ) * (1 + p_jitter * (2 * random() - 1))
);

comment on function tidegate._backoff(interval, interval, double precision, double precision, integer) is
'Delay after the failure that follows p_attempts earlier ones: least(cap, base * factor^least(attempts, 30)), give or take the jitter. In seconds as double precision, so no count of attempts overflows.';

-- functions/kernel/_event_id.sql
create or replace function tidegate._event_id(p_event_prefix text, p_message_id bigint, p_enqueued_at timestamptz)
returns uuid
language sql immutable parallel safe
-- A standby that is promoted without the last it was sent draws ids again that are known outside: the milliseconds, in
-- the 22 bits above the id's lowest 40, keep the event that is lost and the one that has its id apart.
return (
    p_event_prefix || to_hex(
        (1::bigint << 63) | int8xor(
            p_message_id,
            ((date_part('epoch', p_enqueued_at - timestamptz '2000-01-01 00:00:00+00') * 1000)::bigint & 4194303) << 40
        )
    )
)::uuid;

comment on function tidegate._event_id(text, bigint, timestamptz) is
'Version-8 UUID of the installation (first half) and a message_id with its time (second half, under the variant bit): the identity of an event whose producer gave none. Neither changes as long as the event lives.';

-- functions/kernel/_lock_key.sql
create or replace function tidegate._lock_key(p_table regclass, p_id integer) returns bigint
language sql immutable parallel safe
return (p_table::oid::bigint << 32) | p_id;

comment on function tidegate._lock_key(regclass, integer) is
'Advisory key of a row of an own table: the oid keeps installations in one database, and other users of advisory locks, apart.';

-- functions/kernel/_incident_note.sql
create or replace function tidegate._incident_note(
    p_routine text, p_channel_id integer, p_sqlstate text, p_message text
) returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
begin
    insert into incident (at, channel_id, routine, sqlstate, message)
    select clock_now(), p_channel_id, p_routine, p_sqlstate, _error_text(p_message)
    where not exists (
        select from (select * from incident order by incident_id desc limit 50) i
        where i.at > clock_now() - interval '1 minute'
            and i.routine = p_routine
            and i.channel_id is not distinct from p_channel_id
            and i.message = _error_text(p_message)
    );
    begin
        -- Of the installation, not of a channel: which routine met it is one of a closed set.
        insert into tally (channel_id, outcome, amount) values (0, 'error.' || p_routine, 1);
    exception
        when others then
            null; -- tally may be what the error is about, and whoever notes it wants to go on
    end;
end;
$$;

comment on function tidegate._incident_note(text, integer, text, text) is
'Note an error that was met and gone on from; the same one at most once a minute, while each is counted. People read them.';

-- functions/kernel/_maintenance_note.sql
create or replace function tidegate._maintenance_note(
    p_job text, p_error text, p_due_at timestamptz default null
) returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
set enable_seqscan = off
set jit = off
as $$
/* Two at once count a failure once: nobody waits here for anybody. */
declare
    v_now constant timestamptz := clock_now();
    v_last maintenance_run;
begin
    select * into v_last from maintenance_run r where r.job = p_job order by r.entry desc limit 1;
    insert into maintenance_run (job, due_at, started_at, succeeded_at, failed_at, failure_count, last_error)
    values (
        p_job, coalesce(p_due_at, v_last.due_at), v_last.started_at,
        case when p_error is null then v_now else v_last.succeeded_at end,
        case when p_error is null then v_last.failed_at else v_now end,
        case when p_error is null then 0 else coalesce(v_last.failure_count, 0) + 1 end,
        case when p_error is null then v_last.last_error else _error_text(p_error) end
    );
    delete from maintenance_run where ctid = any(array(
        select r.ctid from maintenance_run r where r.job = p_job and r.entry = v_last.entry for update skip locked
    ));
end;
$$;

comment on function tidegate._maintenance_note(text, text, timestamptz) is
'Note how a job of the upkeep, or a part of one, ended: an error, or null for success; and when it is due next, null for as before.';

-- functions/kernel/_doorbell_ring.sql
create or replace function tidegate._doorbell_ring(
    p_channel_id integer, p_kind text, p_name text, p_interval interval
) returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * NOTIFY takes a lock of the whole server's at commit, so that those who notify commit one after the other. Hence the
 * throttle: the instant of the last ring stands in a sequence, which everybody sees at once and which needs no row.
 * Two that look at the same moment may both ring; never does the throttle keep anybody waiting.
 *
 * A ring is heard when its transaction commits, and who is throttled relies on the ring of another. What that means
 * for a message that commits at c, put less than p_interval after a ring that was heard at r:
 *   c < r     it is there when the ring is heard.
 *   c > r     nobody is told any more. Whoever was woken polls on, at pauses that double from 5 ms: one of his polls
 *             falls between c and c + (c - r) + 5 ms, and c - r is at most p_interval and what the transaction still
 *             took after the put. His ordinary pause bounds it, too.
 *   no r      the one who was to ring is still open, or was rolled back (with a savepoint, too): the next message put
 *             after p_interval rings; if none comes, it is the ordinary poll that finds this one.
 * So the floor is polling, always, and p_interval should be short: what it costs is a commit that waits for others,
 * once an interval. A clock that was set back rings.
 */
declare
    v_sequence constant regclass := to_regclass('doorbell_' || p_channel_id);
    v_now constant bigint := extract(epoch from clock_now()) * 1000000;
    v_since bigint;
begin
    if current_setting('tidegate.doorbell', true) = 'off' then
        return;
    end if;
    if p_interval > '0' and v_sequence is not null then
        v_since := v_now - pg_sequence_last_value(v_sequence);
        if v_since >= 0 and v_since < extract(epoch from p_interval) * 1000000 then
            return;
        end if;
        perform setval(v_sequence, v_now);
    end if;
    perform pg_notify('tidegate', p_kind || ' ' || p_name);
end;
$$;

comment on function tidegate._doorbell_ring(integer, text, text, interval) is
'Wake whoever listens for a channel, when this transaction commits, unless somebody did within the interval: NOTIFY on the channel that is named like the schema, payload ''queue'' or ''topic'' and the name. Does nothing where tidegate.doorbell is off.';

-- functions/kernel/_priorities.sql
create or replace function tidegate._priorities(p_channel_id integer) returns smallint[]
language sql stable
begin atomic
select array(
    select 0::smallint
    union
    select p.priority from tidegate.channel_priority p where p.channel_id = p_channel_id
    order by 1
);
end;

comment on function tidegate._priorities(integer) is 'Priorities in use in a channel, in order; 0 always is.';

-- functions/kernel/_priority_declare.sql
create or replace function tidegate._priority_declare(p_channel_id integer, p_priorities smallint[]) returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * The first message of a priority announces it, once in the life of a channel. Nothing here is unique, so two first
 * messages do not wait for each other. Claims read priorities off the newest floor: it is repeated with the new one,
 * and a tick that overtakes this transaction takes it up from channel_priority after the commit.
 */
begin
    insert into channel_priority (channel_id, priority)
    select p_channel_id, n.priority
    from (select distinct u.priority from unnest(p_priorities) as u (priority)) n
    where n.priority > 0 and not exists (
        select from channel_priority p where p.channel_id = p_channel_id and p.priority = n.priority
    );
    if found then
        insert into floor (
            channel_id, ticked_at, took, position, is_quiet, has_more, move_limit, priorities, floors, hints,
            scheduled_from, lease_from, tick_at, grouped_to
        )
        select
            f.channel_id, f.ticked_at, f.took, f.position, false, f.has_more, f.move_limit, _priorities(p_channel_id),
            f.floors, f.hints, f.scheduled_from, f.lease_from, f.tick_at, f.grouped_to
        from floor f
        where f.channel_id = p_channel_id
        order by f.floor_id desc
        limit 1;
    end if;
end;
$$;

comment on function tidegate._priority_declare(integer, smallint[]) is
'Make priorities known to the claims of a channel before its first messages of them enter.';

-- functions/kernel/schema_version.sql
create or replace function tidegate.schema_version() returns tidegate.installed
language plpgsql stable parallel safe
security definer set search_path = tidegate, pg_temp
as $$
begin
    return (
        select row(
            (select max(left(m.migration, 4)::integer) from migration as m),
            (select max(r.version) from routine as r)
        )::installed
    );
end;
$$;

comment on function tidegate.schema_version() is
'What is installed here: the number of the newest migration and the release that applied the routines. Drivers ask it before they work.';

-- functions/kernel/_tide_forget.sql
create or replace function tidegate._tide_forget() returns bigint
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * The sequence stands below the newest tide: a logical copy carries no sequences, or somebody called setval. What
 * was drawn since may lie below every floor, so they all become 0. The sequence must then move past everything seen,
 * so that positions and message ids stay unique. That is not undone by a rollback, where forgetting is: so it is left
 * to the next tide, which finds the number to move past committed.
 */
declare
    v_highest bigint;
begin
    select greatest(
        (select max(t.position) from tide t),
        (select max(greatest(r.position, r.message_id)) from ready r),
        (select max(s.message_id) from scheduled s),
        (select max(greatest(b.position, b.message_id)) from blocked b),
        (select max(d.message_id) from dead_letter d)
    ) into v_highest;
    delete from tide where ctid = any(array(select t.ctid from tide t for update skip locked));
    insert into floor (
        channel_id, ticked_at, took, position, is_quiet, has_more, move_limit, priorities, floors, hints,
        scheduled_from, lease_from, tick_at, grouped_to
    )
    select
        c.channel_id, 'epoch', '0', 0, false, true, 1000, _priorities(c.channel_id),
        array_fill(0::bigint, array[10]), array_fill(0::bigint, array[10]), '-infinity', '-infinity',
        'epoch', 0
    from channel c;
    perform _incident_note(
        '_tide_forget', null, 'TG032',
        'position_seq was set back: all floors were forgotten, and it moves on from ' || v_highest
    );
    return v_highest;
end;
$$;

comment on function tidegate._tide_forget() is
'Start over after position_seq was set back: forget all tides, and set every floor and hint to 0. Returns the highest position seen before, past which the sequence is to be moved.';

-- functions/kernel/_tide_forget_deadlines.sql
create or replace function tidegate._tide_forget_deadlines() returns void
language sql volatile
begin atomic
insert into tidegate.floor (
    channel_id, ticked_at, took, position, is_quiet, has_more, move_limit, priorities, floors, hints,
        scheduled_from, lease_from, tick_at, grouped_to
)
select
    f.channel_id, 'epoch', '0', f.position, false, true, f.move_limit, f.priorities, f.floors, f.hints,
        '-infinity', '-infinity', 'epoch', f.grouped_to
from tidegate.channel c
cross join lateral (
    select * from tidegate.floor n where n.channel_id = c.channel_id order by n.floor_id desc limit 1
) f;
select tidegate._incident_note(
    '_tide_forget_deadlines', null, 'TG033', 'the clock was set back: all deadlines are looked at again'
);
end;

comment on function tidegate._tide_forget_deadlines() is
'Start over after the clock was set back: every scan of deadlines begins at the very first.';

-- functions/kernel/_tide_advance.sql
create or replace function tidegate._tide_advance() returns tidegate.tide
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * Reads, in this order: the newest tide (an MVCC snapshot), L (not MVCC, so never older than that snapshot), the
 * clock, and only then who holds RowExclusiveLock on the sequence and on the two tables ordered by a deadline.
 *
 * nextval takes that lock before it draws and keeps it to the end of the top transaction, so:
 * - whoever holds it now and did not hold it at an earlier tide has drawn only above the L of that tide;
 * - whoever does not hold it now, and draws later, draws above the L read here.
 * Hence everything up to the least of what the present holders are known to have drawn above has ended, and a
 * statement that takes its snapshot after this one sees what became of it (a lock is released after its transaction
 * has become visible). The same holds for deadlines, which are never written in the past (see _tick).
 * Who ticks in a transaction that has written is a holder like any other: what he sees of his own, others do not yet.
 * A prepared transaction changes its virtual transaction over a restart: while one holds a lock, nothing is safe.
 * A crash of one backend numbers them anew for all, and nothing else tells of it: so a holder is known by its process
 * too, or one of before would seem to go on in a namesake of after, and what it left would not be looked for.
 */
declare
    v_last tide;
    v_tide tide;
    v_last_at timestamptz;
    v_is_writer constant boolean := pg_current_xact_id_if_assigned() is not null;
begin
    select * into v_last from tide order by tide_id desc limit 1;
    v_last_at := nullif(v_last.at, '-infinity');
    select last_value - (not is_called)::integer into v_tide.position from position_seq;
    v_tide.at := clock_now();

    if v_tide.position <= v_last.resume_at then
        -- With room to spare, so that what others draw meanwhile stays below.
        perform setval('position_seq', v_last.resume_at + 100000);
    elsif v_tide.position < v_last.position then
        v_tide.resume_at := _tide_forget();
        v_last := null;
    elsif v_tide.at < v_last.at then
        -- The clock was set back: deadlines written since may lie below every mark.
        perform _tide_forget_deadlines();
        v_last.movers := '{}';
        v_last.moved_after := '{}';
        v_last.quiet_since := '-infinity';
        v_last.at := '-infinity';
    elsif v_tide.at < v_last.at + interval '100 ms' then
        return v_last; -- young enough, and what it found safe stays safe
    end if;

    begin
        with held as (
            select
                l.relation = 'position_seq'::regclass as is_holder,
                concat_ws('@', l.virtualtransaction, l.pid) as name,
                bool_or(l.pid is null) as is_prepared
            from pg_locks l
            where l.locktype = 'relation'
                and l.relation in ('position_seq'::regclass, 'scheduled'::regclass, 'lease'::regclass)
                and l.database = (select d.oid from pg_database d where d.datname = current_database())
                and l.mode = 'RowExclusiveLock'
                and (l.pid is distinct from pg_backend_pid() or v_is_writer)
            group by 1, 2
        ), known as (
            select
                h.*,
                coalesce(v_last.drew_above[array_position(v_last.holders, h.name)], v_last.position, 0) as drew_above,
                coalesce(
                    v_last.moved_after[array_position(v_last.movers, h.name)], v_last.at, '-infinity'
                ) as moved_after
            from held h
        )
        select
            coalesce(array_agg(k.name) filter (where k.is_holder), '{}'),
            coalesce(array_agg(k.drew_above) filter (where k.is_holder), '{}'),
            coalesce(min(k.drew_above) filter (where k.is_holder), v_tide.position),
            coalesce(array_agg(k.name) filter (where not k.is_holder), '{}'),
            coalesce(array_agg(k.moved_after) filter (where not k.is_holder), '{}'),
            coalesce(min(k.moved_after) filter (where not k.is_holder), v_tide.at),
            coalesce(bool_or(k.is_prepared), false)
        into
            v_tide.holders, v_tide.drew_above, v_tide.safe_position,
            v_tide.movers, v_tide.moved_after, v_tide.quiet_since,
            v_tide.is_blind
        from known k;
    exception
        when insufficient_privilege then
            -- Who may not look at pg_locks proves nothing: what was known stays, or else a tide that claims nothing.
            if v_last.tide_id is not null then
                return v_last;
            end if;
            v_tide.at := '-infinity';
            v_tide.position := 0;
            v_tide.safe_position := 0;
            v_tide.quiet_since := '-infinity';
            v_tide.holders := '{}';
            v_tide.drew_above := '{}';
            v_tide.movers := '{}';
            v_tide.moved_after := '{}';
            v_tide.is_blind := false;
    end;

    if v_tide.is_blind then
        v_tide.safe_position := coalesce(v_last.safe_position, 0);
        v_tide.quiet_since := coalesce(v_last.quiet_since, '-infinity');
    else
        v_tide.safe_position := greatest(v_tide.safe_position, v_last.safe_position);
    end if;

    begin
        v_tide.timeline := extract(epoch from pg_postmaster_start_time())::text
            || ' ' || left(pg_walfile_name(pg_current_wal_lsn()), 8);
    exception
        when others then
            v_tide.timeline := 'unknown'; -- a hosted server that forbids or lacks these: no outage is ever seen
    end;
    if v_tide.timeline is distinct from v_last.timeline then
        v_tide.outage_from := v_last_at;
        v_tide.outage_until := v_tide.at;
    else
        v_tide.outage_from := v_last.outage_from;
        v_tide.outage_until := v_last.outage_until;
    end if;

    insert into tide (
        at, position, safe_position, holders, drew_above, quiet_since, movers, moved_after, timeline, outage_from,
        outage_until, is_blind, resume_at
    ) values (
        v_tide.at, v_tide.position, v_tide.safe_position, v_tide.holders, v_tide.drew_above,
        v_tide.quiet_since, v_tide.movers, v_tide.moved_after, v_tide.timeline, v_tide.outage_from,
        v_tide.outage_until, v_tide.is_blind, v_tide.resume_at
    ) returning tide_id into v_tide.tide_id;

    -- A few seconds of tides are kept for the hint. The range is bounded below, so that this never walks what an
    -- old snapshot keeps vacuum from removing; rows that another tick is at are skipped.
    delete from tide where ctid = any(array(
        select t.ctid from tide t
        where t.tide_id between v_tide.tide_id - 128 and v_tide.tide_id - 64
        for update skip locked
    ));

    return v_tide;
end;
$$;

comment on function tidegate._tide_advance() is
'Read the tide and append it: the last position drawn, who may still hold one, and up to where every position has ended. Returns the newest tide as it is when that is less than 100 ms old.';

-- functions/place/_channel_configure.sql
create or replace function tidegate._channel_configure(p_kind text, p_name text, p_policy jsonb) returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
declare
    v_known constant text[] := array[
        'lease', 'max_runtime', 'max_attempts', 'backoff_base', 'backoff_cap', 'backoff_factor', 'jitter',
        'retention', 'archive', 'max_in_flight', 'inline_limit', 'tenant_required', 'doorbell'
    ];
    v_unknown text;
    v_rule text;
    v_sequence text;
begin
    if jsonb_typeof(p_policy) is distinct from 'object' then
        perform _bad_argument(
            'p_policy', p_policy::text, 'A policy is a JSON object, for example {"lease": "30 seconds"}.'
        );
    end if;
    select k into v_unknown from jsonb_object_keys(p_policy) k where k <> all(v_known) limit 1;
    if found then
        perform _bad_argument('a key of p_policy', v_unknown, 'The keys are ' || array_to_string(v_known, ', ') || '.');
    end if;
    select k into v_unknown from unnest(array['lease', 'max_runtime', 'retention']) k
    where not _is_duration((p_policy ->> k)::interval);
    if found then
        perform _bad_argument(
            'p_policy', p_policy::text, format('%s is a positive interval, at most 100 years.', v_unknown)
        );
    end if;

    update channel c
    set lease = coalesce((p_policy ->> 'lease')::interval, c.lease),
        max_runtime = coalesce((p_policy ->> 'max_runtime')::interval, c.max_runtime),
        max_attempts = coalesce((p_policy ->> 'max_attempts')::integer, c.max_attempts),
        backoff_base = coalesce((p_policy ->> 'backoff_base')::interval, c.backoff_base),
        backoff_cap = coalesce((p_policy ->> 'backoff_cap')::interval, c.backoff_cap),
        backoff_factor = coalesce((p_policy ->> 'backoff_factor')::double precision, c.backoff_factor),
        jitter = coalesce((p_policy ->> 'jitter')::double precision, c.jitter),
        retention = coalesce((p_policy ->> 'retention')::interval, c.retention),
        archive = coalesce((p_policy ->> 'archive')::boolean, c.archive),
        -- null is a value here, and with doorbell: no limit, no doorbell
        max_in_flight = case
            when p_policy ? 'max_in_flight' then (p_policy ->> 'max_in_flight')::integer else c.max_in_flight
        end,
        inline_limit = coalesce((p_policy ->> 'inline_limit')::integer, c.inline_limit),
        tenant_required = coalesce((p_policy ->> 'tenant_required')::boolean, c.tenant_required),
        doorbell = case when p_policy ? 'doorbell' then (p_policy ->> 'doorbell')::interval else c.doorbell end
    where c.kind = p_kind and c.name = p_name and p_policy <> '{}';
    if not found and not exists (select from channel c where c.kind = p_kind and c.name = p_name) then
        perform _no_such_channel(p_kind, p_name);
    end if;

    -- Where the last ring is kept. It belongs to the column, and goes with the channel or the installation.
    if p_policy ->> 'doorbell' is not null then
        select format('doorbell_%s', c.channel_id) into v_sequence
        from channel c
        where c.kind = p_kind and c.name = p_name;
        if to_regclass(v_sequence) is null then
            execute format('create sequence %I as bigint minvalue 0 owned by channel.doorbell', v_sequence);
            execute format(
                'comment on sequence %I is %L', v_sequence,
                'When the doorbell of this channel was last rung, in microseconds of the epoch.'
            );
        end if;
    end if;
exception
    when check_violation then
        get stacked diagnostics v_rule = constraint_name;
        perform _bad_argument(
            'p_policy', p_policy::text,
            case v_rule
                when 'channel_lease_fits_max_runtime' then 'lease may not be above max_runtime.'
                when 'channel_max_attempts_in_range' then 'max_attempts is 1 to 32767, or 0 for ever.'
                when 'channel_backoff_base_not_negative' then 'backoff_base is not below 0.'
                when 'channel_backoff_cap_not_below_base'
                    then 'backoff_cap (5 minutes unless set) may not be below backoff_base.'
                when 'channel_backoff_cap_within_a_century' then 'backoff_cap is at most 100 years.'
                when 'channel_backoff_factor_from_1_to_10' then 'backoff_factor is 1 to 10.'
                when 'channel_jitter_is_a_share' then 'jitter is a share, 0 to 1.'
                when 'channel_max_in_flight_is_positive' then 'max_in_flight is above 0, or null for no limit.'
                when 'channel_doorbell_within_a_minute'
                    then 'doorbell is 0 to 1 minute, as in "10 ms", or null for none.'
                when 'channel_inline_limit_in_range' then 'inline_limit is 0 to 8192 bytes.'
                else format('It breaks the rule %s.', v_rule)
            end
        );
    when data_exception then
        perform _bad_argument('p_policy', p_policy::text, sqlerrm);
end;
$$;

comment on function tidegate._channel_configure(text, text, jsonb) is
'Apply a policy to a channel: keys given change, the others stay. Errors: TG010 unknown key or bad value, TG020 no such channel.';

-- functions/place/_specs_check.sql
create or replace function tidegate._specs_check(p_specs jsonb, p_known text[]) returns setof jsonb
language plpgsql stable rows 100
set search_path = tidegate, pg_temp
as $$
declare
    v_spec jsonb;
    v_unknown text;
begin
    if jsonb_typeof(p_specs) is distinct from 'array' then
        perform _bad_argument(
            'p_specs', left(p_specs::text, 200), 'Give a JSON array of objects: [{"payload": {"id": 1}}]'
        );
    end if;
    for v_spec in select s.value from jsonb_array_elements(p_specs) s loop
        if jsonb_typeof(v_spec) <> 'object' or not v_spec ? 'payload' then
            perform _bad_argument(
                'an element of p_specs', left(v_spec::text, 200), 'Each is an object with a payload.'
            );
        end if;
        select k into v_unknown from jsonb_object_keys(v_spec) k where k <> all(p_known) limit 1;
        if found then
            perform _bad_argument(
                'a key of p_specs', v_unknown, 'The keys are ' || array_to_string(p_known, ', ') || '.'
            );
        end if;
        return next v_spec;
    end loop;
end;
$$;

comment on function tidegate._specs_check(jsonb, text[]) is
'The elements of a list of specs, each checked to be an object with a payload and known keys only. Errors: TG010.';

-- functions/place/_backoff_check.sql
create or replace function tidegate._backoff_check(p_backoff jsonb) returns void
language plpgsql stable
set search_path = tidegate, pg_temp
as $$
declare
    v_is_good boolean;
begin
    if jsonb_typeof(p_backoff) = 'object' and p_backoff - array['base', 'cap', 'factor', 'jitter'] = '{}' then
        v_is_good := coalesce((p_backoff ->> 'base')::interval between '0' and '100 years', true)
            and coalesce((p_backoff ->> 'cap')::interval between '0' and '100 years', true)
            and coalesce((p_backoff ->> 'cap')::interval >= (p_backoff ->> 'base')::interval, true)
            and coalesce((p_backoff ->> 'factor')::double precision between 1 and 10, true)
            and coalesce((p_backoff ->> 'jitter')::double precision between 0 and 1, true);
    end if;
    if v_is_good is not true then
        perform _bad_argument(
            'p_backoff', left(p_backoff::text, 200),
            'Give {"base": "2 s", "cap": "5 min", "factor": 2, "jitter": 0.1} or some of it: '
                || 'cap not below base, factor 1 to 10, jitter 0 to 1.'
        );
    end if;
exception
    when data_exception then
        perform _bad_argument('p_backoff', left(p_backoff::text, 200), sqlerrm);
end;
$$;

comment on function tidegate._backoff_check(jsonb) is 'Raise TG010 unless p_backoff is a usable backoff of a message.';

-- functions/place/_has_turn.sql
create or replace function tidegate._has_turn(p_channel_id integer, p_group_key text, p_message_id bigint)
returns boolean
language sql stable
begin atomic
select coalesce((
    select t.message_id from tidegate.group_turn t
    where t.channel_id = p_channel_id and t.group_key = p_group_key
    order by t.turn desc
    limit 1
) = p_message_id, false);
end;

comment on function tidegate._has_turn(integer, text, bigint) is
'Whether it is this message''s turn in its group: a retry comes back to ready, where one that was only delayed joins blocked.';

-- functions/place/_turn_seize.sql
create or replace function tidegate._turn_seize(p_channel_id integer, p_group_key text, p_message_id bigint)
returns boolean
language plpgsql volatile
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * For who ends messages of groups and waits for nobody: what it locks here, _message_end needs. That is the turn, and,
 * where the message has it, the row of the next one in blocked, which a send by its job key may be replacing. What is
 * left for that stays where it is, with the turn; what comes in below it meanwhile is in nobody's hands.
 */
declare
    v_turn group_turn;
    v_next bigint;
begin
    select * into v_turn from group_turn t
    where t.channel_id = p_channel_id and t.group_key = p_group_key
    order by t.turn desc
    limit 1
    for update skip locked;
    if not found then
        return not exists (
            select from group_turn t where t.channel_id = p_channel_id and t.group_key = p_group_key
        );
    end if;
    if v_turn.message_id is distinct from p_message_id then
        return true;
    end if;
    v_next := (
        select b.position from blocked b
            where true and b.channel_id = p_channel_id
                and (b.group_key, b.position) > (p_group_key, v_turn.position)
                and b.group_key <= p_group_key
            order by b.group_key, b.position
            limit 1
    );
    if v_next is null then
        return true;
    end if;
    perform from blocked b
    where b.channel_id = p_channel_id and b.group_key = p_group_key and b.position = v_next
    for update skip locked;
    return found;
end;
$$;

comment on function tidegate._turn_seize(integer, text, bigint) is
'Lock the turn of a message''s group and, where the message has it, the one that is to have it next, if nobody else has them; true also where there is nothing to lock.';

-- functions/place/_message_enter.sql
create or replace function tidegate._message_enter(p_channel_id integer, p_messages tidegate.message[])
returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * Groups are a queue's matter: in a topic the key only travels. Who enters blocked locks nothing that others touch;
 * the tick finds it there.
 */
declare
    v_is_grouped constant boolean := exists (select from unnest(p_messages) m where m.group_key is not null)
        and exists (select from channel c where c.channel_id = p_channel_id and c.kind = 'queue');
begin
    insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
    select nextval('position_seq'), p_channel_id, m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors, m.barrier, m.epoch, m.member
    from unnest(p_messages) m
    where m.group_key is null or not v_is_grouped;
    if v_is_grouped then
        insert into blocked (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
        select nextval('position_seq'), p_channel_id, m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors, m.barrier, m.epoch, m.member
        from unnest(p_messages) m
        where m.group_key is not null;
    end if;
end;
$$;

comment on function tidegate._message_enter(integer, tidegate.message[]) is
'Let messages come into a channel, in the order given: into ready, or, those of a group in a queue, into blocked behind what waits there.';

-- functions/place/_message_return.sql
create or replace function tidegate._message_return(
    p_channel_id integer, p_messages tidegate.message[], p_delay interval, p_max_batch integer default null
) returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
begin
    if p_delay > '0' then
        insert into scheduled (due_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
        select
            greatest(clock_now() + p_delay, clock_now() + interval '1 microsecond'), p_channel_id,
            m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, least(m.max_batch, p_max_batch), m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors, m.barrier, m.epoch, m.member
        from unnest(p_messages) m;
    else
        insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
        select
            nextval('position_seq'), p_channel_id,
            m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, least(m.max_batch, p_max_batch), m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors, m.barrier, m.epoch, m.member
        from unnest(p_messages) m;
    end if;
end;
$$;

comment on function tidegate._message_return(integer, tidegate.message[], interval, integer) is
'Put messages back uncharged: into ready behind what waits there, or into scheduled when a delay is given. p_max_batch limits the batches they may be claimed in.';

-- functions/place/_message_end.sql
create or replace function tidegate._message_end(p_channel_id integer, p_messages tidegate.message[])
returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * For messages that have come to their end, by success, death or cancel: the follow-up of a job key enters, and the
 * turn of a group goes to the next one in blocked. Follow-ups first: one may be that next one.
 *
 * The rows of keys and turns are locked in order, and what stands behind them is looked at in a later statement, so in
 * a snapshot that sees whatever came in before the lock. An older snapshot would not, and is refused. Who ended while
 * he waited in blocked locks no turn: whoever holds that one may be waiting for his row.
 * Rows are reached one by one and then by their ctid, so that no plan, whenever it was made, reads the whole table.
 */
declare
    v_keys tid[];
    v_follow_ups message[];
    v_turns tid[];
    v_groups text[];
    v_numbers bigint[];
    v_marks bigint[];
    v_nexts tid[];
    v_positions bigint[];
    v_holders bigint[];
    v_is_gone boolean;
begin
    select array_agg(k.row_id) into v_keys
    from (
        select j.row_id
        from (
            select distinct m.job_key collate "C" as job_key, m.message_id from unnest(p_messages) m
            where m.job_key is not null
            order by 1
        ) e
        cross join lateral (
            select n.ctid as row_id from job_key n
            where n.channel_id = p_channel_id and n.key = e.job_key and n.message_id = e.message_id
            limit 1
            for update
        ) j
    ) k;
    if v_keys is not null then
        select array_agg(j.follow_up order by (j.follow_up).message_id) into v_follow_ups
        from job_key j
        where j.ctid = any(v_keys) and j.follow_up is distinct from null
            and coalesce(j.follow_up_due_at <= clock_now(), true);
        insert into scheduled (due_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
        select
            greatest(j.follow_up_due_at, clock_now() + interval '1 microsecond'), p_channel_id,
            (j.follow_up).attempts, (j.follow_up).priority, (j.follow_up).message_id, (j.follow_up).enqueued_at, (j.follow_up).payload, (j.follow_up).headers, (j.follow_up).event_id, (j.follow_up).body_id, (j.follow_up).body_bytes, (j.follow_up).max_attempts, (j.follow_up).max_batch, (j.follow_up).requeued_from, (j.follow_up).backoff, (j.follow_up).topic, (j.follow_up).group_key, (j.follow_up).job_key, (j.follow_up).run_id, (j.follow_up).tenant, (j.follow_up).errors, (j.follow_up).barrier, (j.follow_up).epoch, (j.follow_up).member
        from job_key j
        where j.ctid = any(v_keys) and j.follow_up is distinct from null
            and j.follow_up_due_at > clock_now();
        if found then
            -- A poll that knows the queue to be idle until a later deadline looks again.
            perform nextval('position_seq');
        end if;
        delete from job_key j
        where j.ctid = any(v_keys) and j.follow_up is not distinct from null;
        update job_key j
        set message_id = (j.follow_up).message_id, follow_up = null, follow_up_due_at = null
        where j.ctid = any(v_keys);
        if v_follow_ups is not null then
            perform _message_enter(p_channel_id, v_follow_ups);
        end if;
    end if;

    if not exists (select from unnest(p_messages) m where m.group_key is not null)
        or not exists (select from channel c where c.channel_id = p_channel_id and c.kind = 'queue')
    then
        return;
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('what ends messages with a group key');
    end if;
    select array_agg(l.row_id), array_agg(l.group_key), array_agg(l.turn), array_agg(l.position)
    into v_turns, v_groups, v_numbers, v_marks
    from (
        select t.*
        from (
            select distinct m.group_key, m.message_id from unnest(p_messages) m
            where m.group_key is not null
            order by m.group_key
        ) e
        cross join lateral (
            select n.turn, n.message_id from group_turn n
            where n.channel_id = p_channel_id and n.group_key = e.group_key
            order by n.turn desc
            limit 1
        ) h
        cross join lateral (
            select n.ctid as row_id, n.group_key, n.turn, n.position from group_turn n
            where n.channel_id = p_channel_id and n.group_key = e.group_key and n.turn = h.turn
                and n.message_id = e.message_id
            limit 1
            for update
        ) t
        where h.message_id = e.message_id
    ) l;
    if v_turns is null then
        return; -- none of them had the turn: they ended while they waited
    end if;

    -- Found, and gone when its row is reached (a cancel, a replacement with a delay): looked for again.
    loop
        select
            array_agg(n.row_id order by t.ordinality), array_agg(n.position order by t.ordinality),
            array_agg(n.message_id order by t.ordinality), bool_or(f.position is not null and n.row_id is null)
        into v_nexts, v_positions, v_holders, v_is_gone
        from unnest(v_groups, v_marks) with ordinality t (group_key, position, ordinality)
        left join lateral (
            select b.position from blocked b
            where true and b.channel_id = p_channel_id
                and (b.group_key, b.position) > (t.group_key, t.position)
                and b.group_key <= t.group_key
            order by b.group_key, b.position
            limit 1
        ) f on true
        left join lateral (
            select b.ctid as row_id, b.position, b.message_id from blocked b
            where b.channel_id = p_channel_id and b.group_key = t.group_key and b.position = f.position
            limit 1
            for update
        ) n on true;
        exit when v_is_gone is not true;
    end loop;

    with former as (
        delete from group_turn where ctid = any(v_turns)
    ), given as (
        insert into group_turn (channel_id, group_key, turn, position, message_id, taken_at)
        select
            p_channel_id, t.group_key, t.turn + 1, coalesce(t.next_position, t.position), t.holder, clock_now()
        from unnest(v_groups, v_numbers, v_marks, v_positions, v_holders)
            as t (group_key, turn, position, next_position, holder)
    ), taken as (
        delete from blocked where ctid = any(v_nexts) returning *
    )
    insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
    select nextval('position_seq'), n.channel_id, n.attempts, n.priority, n.message_id, n.enqueued_at, n.payload, n.headers, n.event_id, n.body_id, n.body_bytes, n.max_attempts, n.max_batch, n.requeued_from, n.backoff, n.topic, n.group_key, n.job_key, n.run_id, n.tenant, n.errors, n.barrier, n.epoch, n.member
    from (select * from taken order by position) n;
end;
$$;

comment on function tidegate._message_end(integer, tidegate.message[]) is
'Hand over what messages of a group or of a job key held when they end: the turn to the next of the group, the key to its follow-up. Errors: TG030 when a message has a group key and the caller is not READ COMMITTED.';

-- functions/place/_message_bury.sql
create or replace function tidegate._message_bury(
    p_channel_id integer,
    p_messages tidegate.message[],
    p_reasons text[],
    p_errors text[],
    p_state text default 'dead'
) returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * Each message gets an entry of its own, but for two: one that came from a dead letter goes back into that entry, and
 * one whose job key has an entry that is still dead lands in it, with its payload as the newest. Of two that would land
 * in the same entry only the first does: the other gets its own. What is purged has not failed and takes no entry's
 * place: a purge, unlike a failure, would let an older payload win over the newest.
 */
declare
    v_now timestamptz := clock_now();
begin
    if exists (select from unnest(p_messages) m where m.barrier is not null) then
        perform _member_end(
            p_messages,
            array(
                select concat_ws(': ', p_reasons[m.ordinality], p_errors[m.ordinality])
                from unnest(p_messages) with ordinality m
                order by m.ordinality
            )
        );
    end if;
    -- Entries are locked in order of their ids, as whoever requeues or discards them does.
    perform from dead_letter d
    where d.dead_letter_id = any(array(select m.requeued_from from unnest(p_messages) m))
        or (
            d.channel_id = p_channel_id and d.state = 'dead' and p_state = 'dead' -- a cancel lands in nobody's entry
            and d.job_key = any(array(
                select m.job_key from unnest(p_messages) with ordinality m where p_reasons[m.ordinality] <> 'purged'
            ))
        )
    order by d.dead_letter_id
    for update;

    with fallen as (
        select
            m.*, p_reasons[m.ordinality] as reason, _error_text(p_errors[m.ordinality]) as error,
            coalesce(
                (select d.dead_letter_id from dead_letter d where d.dead_letter_id = m.requeued_from),
                (
                    select d.dead_letter_id from dead_letter d
                    where d.channel_id = p_channel_id and d.job_key = m.job_key and d.state = 'dead'
                        and p_state = 'dead' and p_reasons[m.ordinality] <> 'purged'
                    order by d.dead_letter_id desc
                    limit 1
                )
            ) as entry_id,
            c.kind, c.name as channel, c.event_prefix
        from unnest(p_messages) with ordinality m
        cross join channel c
        where c.channel_id = p_channel_id
    ), judged as (
        select
            f.*,
            f.entry_id is not null
            and row_number() over (partition by f.entry_id order by f.ordinality) = 1 as has_entry,
            case
                when f.run_id is not null and p_state = 'dead' and f.reason <> 'purged'
                    and exists (
                        select from run r where r.run_id = f.run_id and r.fail_on_dead_letter and r.state = 'open'
                    )
                    then v_now
            end as fails_run_at
        from fallen f
    ), landed as (
        update dead_letter d
        set state = p_state, resolved_at = case when p_state = 'discarded' then v_now end,
            dead_at = v_now,
            failure_count = d.failure_count + (p_state = 'dead')::integer, reason = j.reason, last_error = j.error,
            attempts = j.attempts, priority = j.priority, message_id = j.message_id, enqueued_at = j.enqueued_at,
            payload = j.payload, headers = j.headers, body_id = j.body_id, body_bytes = j.body_bytes,
            event_id = coalesce(j.event_id, _event_id(j.event_prefix, j.message_id, j.enqueued_at)),
            max_attempts = j.max_attempts, backoff = j.backoff, topic = j.topic, group_key = j.group_key,
            run_id = j.run_id, tenant = j.tenant, fails_run_at = j.fails_run_at,
            errors = case
                when j.requeued_from is not null then j.errors -- it has carried the history along
                else (
                    select jsonb_agg(e.error order by e.ordinality)
                    from (
                        select * from jsonb_array_elements(
                            coalesce(d.errors, '[]') || coalesce(j.errors, '[]')
                        ) with ordinality n (error, ordinality)
                        order by n.ordinality desc
                        limit 10
                    ) e
                )
            end
        from judged j, dead_letter former
        where j.has_entry and d.dead_letter_id = j.entry_id and former.dead_letter_id = d.dead_letter_id
        returning former.body_id
    ), freed as (
        delete from body b using landed l where b.body_id = l.body_id
    )
    insert into dead_letter (
        dead_at, channel_id, kind, channel, reason, last_error, state, resolved_at, fails_run_at,
        attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member
    )
    select
        v_now, p_channel_id, j.kind, j.channel, j.reason, j.error,
        p_state, case when p_state = 'discarded' then v_now end, j.fails_run_at,
        j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, coalesce(j.event_id, _event_id(j.event_prefix, j.message_id, j.enqueued_at)), j.body_id, j.body_bytes, j.max_attempts, j.max_batch, null, j.backoff, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors, j.barrier, j.epoch, j.member
    from judged j
    where not j.has_entry
    order by j.ordinality;

    if p_state = 'dead' then
        insert into tally (amount, channel_id, outcome)
        select count(*), p_channel_id, 'dead_letter.' || r.reason from unnest(p_reasons) r (reason) group by r.reason;
    end if;

    if exists (select from unnest(p_messages) m where m.group_key is not null or m.job_key is not null) then
        perform _message_end(p_channel_id, p_messages);
    end if;
end;
$$;

comment on function tidegate._message_bury(integer, tidegate.message[], text[], text[], text) is
'Make messages dead letters, each with its reason and error, which run beside them, and fail the members they belong to; p_state is dead or, where nobody needs to look at them, discarded.';

-- functions/place/_message_cancel.sql
create or replace function tidegate._message_cancel(
    p_channel_id integer, p_messages tidegate.message[], p_note text
) returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
begin
    perform _message_bury(
        p_channel_id, p_messages,
        array_fill('cancelled'::text, array[cardinality(p_messages)]),
        array_fill(p_note, array[cardinality(p_messages)]),
        'discarded'
    );
    delete from cancel_request r using unnest(p_messages) m
    where r.channel_id = p_channel_id and r.message_id = m.message_id;
    insert into tally (channel_id, outcome, amount) values (p_channel_id, 'cancelled', cardinality(p_messages));
end;
$$;

comment on function tidegate._message_cancel(integer, tidegate.message[], text) is
'End messages that somebody cancelled: they are kept as discarded dead letters, which alarm nobody, until their retention.';

-- functions/place/_message_drop.sql
create or replace function tidegate._message_drop(p_channel_id integer, p_messages tidegate.message[])
returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
    if exists (select from unnest(p_messages) m where m.barrier is not null) then
        perform _member_end(p_messages, array_fill('discarded'::text, array[cardinality(p_messages)]));
    end if;
    delete from body b using unnest(p_messages) m where b.body_id = m.body_id;
    update dead_letter d set state = 'discarded', resolved_at = clock_now()
    where d.dead_letter_id = any(array(select m.requeued_from from unnest(p_messages) m));
    if exists (select from unnest(p_messages) m where m.group_key is not null or m.job_key is not null) then
        perform _message_end(p_channel_id, p_messages);
    end if;
end;
$$;

comment on function tidegate._message_drop(integer, tidegate.message[]) is
'Lose messages for good, as somebody has asked for; the members they belong to fail, and the dead letters they were requeued from are discarded with them.';

-- functions/place/_message_fail.sql
create or replace function tidegate._message_fail(
    p_channel_id integer,
    p_messages tidegate.message[],
    p_errors text[],
    p_final text[],
    p_delays interval[],
    p_reason text default 'exhausted',
    out retried integer,
    out dead_lettered integer
)
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * The charge, the error and the next place of each message change together, whatever crashes.
 * The arrays after p_messages run beside it. p_final: the reason of a failure that no retry can mend, or null;
 * p_delays: null stands for the backoff of the message, or else of its channel. A verdict of its own ends a message's
 * max_batch. A retry keeps its group's turn: nobody overtakes it.
 */
declare
    v_now timestamptz := clock_now();
    v_dead message[];
    v_reasons text[];
    v_errors text[];
begin
    with failed as (
        select
            least(m.attempts + 1, 32767)::smallint as attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, null::integer as max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, case
                    when jsonb_array_length(m.errors) >= 10 then m.errors - 0 else coalesce(m.errors, '[]')
                end
                || jsonb_build_object(
                    'at', v_now, 'attempt', m.attempts + 1, 'error', _error_text(p_errors[m.ordinality])
                ) as errors, m.barrier, m.epoch, m.member,
            _error_text(p_errors[m.ordinality]) as error,
            p_final[m.ordinality] as final,
            m.attempts + 1 >= nullif(coalesce(m.max_attempts, c.max_attempts), 0) as is_exhausted,
            -- One absurd delay must not undo the settlement of the others.
            least(
                coalesce(
                    p_delays[m.ordinality],
                    _backoff(
                        coalesce((m.backoff ->> 'base')::interval, c.backoff_base),
                        coalesce((m.backoff ->> 'cap')::interval, c.backoff_cap),
                        coalesce((m.backoff ->> 'factor')::double precision, c.backoff_factor),
                        coalesce((m.backoff ->> 'jitter')::double precision, c.jitter),
                        m.attempts
                    )
                ),
                '100 years'
            ) as delay,
            m.ordinality as ordinal
        from unnest(p_messages) with ordinality m
        cross join channel c
        where c.channel_id = p_channel_id
    ), judged as (
        select f.*, f.final is not null or f.is_exhausted is true as is_dead from failed f
    ), delayed as (
        insert into scheduled (due_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
        select greatest(v_now + j.delay, clock_now() + interval '1 microsecond'), p_channel_id, j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, j.event_id, j.body_id, j.body_bytes, j.max_attempts, j.max_batch, j.requeued_from, j.backoff, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors, j.barrier, j.epoch, j.member
        from judged j
        where not j.is_dead and j.delay > '0'
        returning 1
    ), entered as (
        insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
        select nextval('position_seq'), p_channel_id, j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, j.event_id, j.body_id, j.body_bytes, j.max_attempts, j.max_batch, j.requeued_from, j.backoff, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors, j.barrier, j.epoch, j.member
        from (select * from judged order by ordinal) j
        where not j.is_dead and j.delay <= '0'
        returning 1
    )
    select
        (select count(*) from delayed) + (select count(*) from entered),
        array_agg(row(j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, j.event_id, j.body_id, j.body_bytes, j.max_attempts, j.max_batch, j.requeued_from, j.backoff, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors, j.barrier, j.epoch, j.member)::message), array_agg(coalesce(j.final, p_reason)), array_agg(j.error)
    into retried, v_dead, v_reasons, v_errors
    from (select * from judged where is_dead order by ordinal) j;
    dead_lettered := coalesce(cardinality(v_dead), 0);
    if dead_lettered > 0 then
        perform _message_bury(p_channel_id, v_dead, v_reasons, v_errors);
    end if;
end;
$$;

comment on function tidegate._message_fail(
    integer, tidegate.message[], text[], text[], interval[], text
) is
'Charge messages with a failed delivery: each is retried after its delay or, when that was its last attempt or the error is final, buried. Returns how many of each.';

-- functions/place/_message_finish.sql
create or replace function tidegate._message_finish(
    p_channel_id integer, p_archive boolean, p_messages tidegate.message[], p_result jsonb default null,
    p_results jsonb default null
) returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * A success leaves behind: the arrival of the member it belonged to, an archived copy where the channel wants one, a
 * resolved dead letter, a turn handed on. Members first: their slots come before all else in the order of locks.
 */
begin
    if exists (select from unnest(p_messages) m where m.barrier is not null) then
        perform _member_end(p_messages, null, p_result, p_results);
    end if;
    if p_archive then
        insert into archive (settled_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
        select
            clock_now(), p_channel_id,
            m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, coalesce(m.event_id, _event_id(i.event_prefix, m.message_id, m.enqueued_at)), m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors, m.barrier, m.epoch, m.member
        from unnest(p_messages) m
        cross join installation i;
    else
        delete from body b using unnest(p_messages) m where b.body_id = m.body_id;
    end if;
    if exists (select from unnest(p_messages) m where m.requeued_from is not null) then
        update dead_letter d set state = 'resolved', resolved_at = clock_now()
        where d.dead_letter_id = any(array(select m.requeued_from from unnest(p_messages) m));
    end if;
    if exists (select from unnest(p_messages) m where m.group_key is not null or m.job_key is not null) then
        perform _message_end(p_channel_id, p_messages);
    end if;
end;
$$;

comment on function tidegate._message_finish(integer, boolean, tidegate.message[], jsonb, jsonb) is
'End messages that succeeded: let the members they belong to arrive with their element of p_results or p_result, archive them or drop their bodies, resolve the dead letters they were requeued from, and hand on the turn of their group and their job key.';

-- functions/place/_batch_fit.sql
create or replace function tidegate._batch_fit(p_messages tidegate.message[]) returns integer
language sql immutable
begin atomic
select count(*)::integer
from (
    select bool_and(f.fits) over (order by f.ordinality) as is_kept
    from (
        select
            m.ordinality,
            m.ordinality = 1
            or (
                m.ordinality <= coalesce(min(m.max_batch) over w, m.ordinality)
                and coalesce(sum(m.body_bytes) over w, 0) <= 16777216
            ) as fits
        from unnest(p_messages) with ordinality m
        window w as (order by m.ordinality)
    ) f
) k
where k.is_kept;
end;

comment on function tidegate._batch_fit(tidegate.message[]) is
'Length of the longest prefix of candidates that a claim may take: a message that was in a lease that crashed is with no more others than its max_batch allows, and bodies are together at most 16 MB. At least 1.';

-- functions/place/_lease_left.sql
create or replace function tidegate._lease_left(p_lease tidegate.lease) returns tidegate.message[]
language sql stable
begin atomic
select coalesce(array_agg(u.message order by u.ordinal), '{}')
from (
    select unnest(p_lease.messages) as message, generate_series(1, cardinality(p_lease.messages)) as ordinal
) u
where u.ordinal <> all(coalesce(p_lease.settled, '{}'));
end;

comment on function tidegate._lease_left(tidegate.lease) is
'Messages of a lease that are not settled yet, in the order of the claim; an empty array when there are none.';

-- functions/place/_cancelled.sql
create or replace function tidegate._cancelled(p_channel_id integer, p_messages tidegate.message[])
returns bigint[]
language sql stable
begin atomic
select coalesce(array_agg(m.message_id), '{}')
from unnest(p_messages) m
left join tidegate.cancel_request r on r.channel_id = p_channel_id and r.message_id = m.message_id
left join tidegate.run s on s.run_id = m.run_id and s.state = 'stopped'
where r.message_id is not null or s.run_id is not null;
end;

comment on function tidegate._cancelled(integer, tidegate.message[]) is
'Which of these leased messages somebody wants stopped, by themselves or with their run: they are not handed out again. An empty array when none.';

-- functions/place/_message_refuse.sql
create or replace function tidegate._message_refuse(p_channel_id integer, p_messages tidegate.message[])
returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * For messages of a stopped run that somebody was about to deliver: they go into a lease that nobody got and that has
 * run out already, and the next tick settles them as cancelled. To do it here would be to wait, with messages in hand,
 * for the rows of their job keys and groups, whose holders may be waiting for these messages.
 */
begin
    insert into lease (
        lease_id, claimed_at, expires_at, channel_id, message_count, is_plain, worker, run_ids, messages
    ) values (
        gen_random_uuid(), clock_now(), clock_now() + interval '1 microsecond', p_channel_id,
        cardinality(p_messages), false, '(nobody: the run is stopped)',
        array(select distinct m.run_id from unnest(p_messages) m), p_messages
    );
end;
$$;

comment on function tidegate._message_refuse(integer, tidegate.message[]) is
'Keep messages of a stopped run, taken from their place, until the next tick settles them as cancelled.';

-- functions/place/_ready_refuse.sql
create or replace function tidegate._ready_refuse(p_channel_id integer, p_ctids tid[]) returns tid[]
language plpgsql volatile
set search_path = tidegate, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * Called when one of these has a run, after all of them were locked: in this later snapshot every cancel that has
 * committed meanwhile is seen.
 */
declare
    v_refused tid[];
    v_messages message[];
begin
    with refused as (
        delete from ready r
        where r.ctid = any(p_ctids) and r.run_id is not null and exists (select from run s where s.run_id = r.run_id and s.state = 'stopped')
        returning r.ctid as row_id, r.*
    )
    select array_agg(f.row_id), array_agg(row(f.attempts, f.priority, f.message_id, f.enqueued_at, f.payload, f.headers, f.event_id, f.body_id, f.body_bytes, f.max_attempts, f.max_batch, f.requeued_from, f.backoff, f.topic, f.group_key, f.job_key, f.run_id, f.tenant, f.errors, f.barrier, f.epoch, f.member)::message order by f.priority, f.position)
    into v_refused, v_messages
    from refused f;
    if v_refused is null then
        return p_ctids;
    end if;
    perform _message_refuse(p_channel_id, v_messages);
    return (
        select array_agg(c.row_id order by c.ordinality)
        from unnest(p_ctids) with ordinality c (row_id, ordinality)
        where c.row_id <> all(v_refused)
    );
end;
$$;

comment on function tidegate._ready_refuse(integer, tid[]) is
'Take those of a stopped run out of locked messages of a channel that are about to be delivered. Returns the others, in their order, or null when there are none.';

-- functions/place/_lease_deliveries.sql
create or replace function tidegate._lease_deliveries(p_lease_id uuid, p_channel_id integer)
returns setof tidegate.delivery
language sql stable
begin atomic
select
    l.lease_id, m.message_id, coalesce(m.event_id, tidegate._event_id(c.event_prefix, m.message_id, m.enqueued_at)),
    m.topic, m.attempts + 1, coalesce(m.max_attempts, c.max_attempts),
    coalesce(m.payload, b.payload), m.headers, m.priority,
    m.group_key, m.job_key, m.run_id, m.tenant, m.barrier, m.epoch, m.member, m.enqueued_at, l.expires_at
from tidegate.lease l
cross join lateral unnest(l.messages) with ordinality m
inner join tidegate.channel c on c.channel_id = p_channel_id
left join tidegate.body b on b.body_id = m.body_id
-- By its id and by no index of the channel: under a pinned horizon that is all leases there ever were.
where l.lease_id = p_lease_id and l.channel_id + 0 = p_channel_id
    and m.ordinality <> all(coalesce(l.settled, '{}'))
order by m.ordinality;
end;

comment on function tidegate._lease_deliveries(uuid, integer) is
'What a lease of a channel still holds, as it was handed out: the answer to a repeated claim. No rows when there is no such lease.';

-- functions/place/_lease_settle.sql
create or replace function tidegate._lease_settle(
    p_lease_id uuid, p_done bigint[], p_failed jsonb, p_released bigint[] default '{}', p_retry_in interval default '0',
    p_result jsonb default null, p_results jsonb default null
) returns tidegate.settled
language plpgsql volatile
set search_path = tidegate, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * The lock on the lease row decides every race: the later of two settlements, or a tick that takes the lease back,
 * waits (or skips), and then finds what is left, or nothing.
 * p_done, p_released: null = all that is left and not named elsewhere. Ids that are not in the lease change nothing.
 *
 * The messages are unpacked once, in a select list: a function in FROM would copy each of them first. Whether one was
 * settled before is asked last, and of few: the ordinals grow with every part that is settled.
 */
declare
    v_lease lease;
    v_channel channel;
    v_done message[];
    v_failed message[];
    v_released message[];
    v_cancelled message[];
    v_settled integer[];
    v_unwanted bigint[] := '{}';
    v_errors text[];
    v_final text[];
    v_delays interval[];
    v_both bigint;
    v_answer settled := row(0, 0, 0, false);
begin
    select l.channel_id, l.message_count, l.is_plain, l.settled, l.run_ids
    into v_lease.channel_id, v_lease.message_count, v_lease.is_plain, v_lease.settled, v_lease.run_ids
    from lease l
    where l.lease_id = p_lease_id
    for update;
    if not found then
        if current_setting('transaction_isolation') <> 'read committed' then
            raise exception using
                errcode = 'TG030',
                message = format('lease %s is not to be seen in this %s snapshot',
                    p_lease_id, upper(current_setting('transaction_isolation'))),
                hint = 'It is lost, or was claimed after the snapshot was taken: settle in READ COMMITTED to tell.';
        end if;
        v_answer.lost := true;
        return v_answer;
    end if;

    if v_lease.is_plain and p_failed = '[]' and p_released = '{}' then
        -- Nothing but the row itself has to be looked at.
        if v_lease.settled is null and (
            p_done is null or cardinality(p_done) = v_lease.message_count and p_done = array(
                select (u.message).message_id
                from (select unnest(l.messages) as message from lease l where l.lease_id = p_lease_id) u
            )
        ) then
            v_answer.acked := v_lease.message_count; -- all of them, named in the order of the claim
        else
            select array_agg(u.ordinal) into v_settled
            from (select unnest(l.messages) as message, generate_series(1, cardinality(l.messages)) as ordinal
                from lease l where l.lease_id = p_lease_id) u
            where case
                when (u.message).message_id = any(p_done) or p_done is null
                    then u.ordinal = any(v_lease.settled) is not true
            end;
            v_answer.acked := coalesce(cardinality(v_settled), 0);
        end if;
    else
        select * into v_channel from channel where channel_id = v_lease.channel_id;
        if v_lease.run_ids is not null
            or exists (select from cancel_request r where r.channel_id = v_lease.channel_id)
        then
            v_unwanted := (
                select _cancelled(l.channel_id, l.messages) from lease l where l.lease_id = p_lease_id
            );
        end if;
        with failure as (
            select distinct on (f.message_id) f.*
            from jsonb_to_recordset(p_failed)
                as f (message_id bigint, error text, retryable boolean, retry_in interval, reason text)
            order by f.message_id
        ), named as (
            select
                u.ordinal, u.message, f.error, f.retry_in,
                coalesce(f.reason, case when not f.retryable then 'not_retryable' end) as final,
                case
                    when f.message_id is not null then 'failed'
                    when (u.message).message_id = any(p_done) then 'done'
                    when (u.message).message_id = any(p_released) then 'released'
                    when p_done is null then 'done'
                    when p_released is null then 'released'
                end as verdict
            from (select unnest(l.messages) as message, generate_series(1, cardinality(l.messages)) as ordinal
                from lease l where l.lease_id = p_lease_id) u
            left join failure f on f.message_id = (u.message).message_id
        ), judged as (
            select
                n.ordinal, n.message, n.error, n.retry_in, n.final,
                case
                    when n.verdict is null or n.ordinal = any(v_lease.settled) then null
                    -- What somebody wants stopped does not come back.
                    when n.verdict <> 'done' and (n.message).message_id = any(v_unwanted) then 'cancelled'
                    else n.verdict
                end as verdict
            from named n
        )
        select
            array_agg(j.message) filter (where j.verdict = 'done' and not v_lease.is_plain),
            count(*) filter (where j.verdict = 'done'),
            array_agg(j.message) filter (where j.verdict = 'released'),
            array_agg(j.message) filter (where j.verdict = 'failed'),
            array_agg(j.error) filter (where j.verdict = 'failed'),
            array_agg(j.final) filter (where j.verdict = 'failed'),
            array_agg(j.retry_in) filter (where j.verdict = 'failed'),
            array_agg(j.message) filter (where j.verdict = 'cancelled'),
            array_agg(j.ordinal) filter (where j.verdict is not null),
            min((j.message).message_id) filter (where j.verdict = 'failed' and (j.message).message_id = any(p_done))
        into v_done, v_answer.acked, v_released, v_failed, v_errors, v_final, v_delays, v_cancelled, v_settled, v_both
        from (select * from judged order by ordinal) j;
        if v_both is not null then
            perform _bad_argument(
                'p_failed', v_both::text, 'A message is either done or failed: this one is named in p_done too.'
            );
        end if;

        if not v_lease.is_plain and (v_failed is not null or v_cancelled is not null)
            and exists (select from unnest(v_done || v_failed || v_cancelled) m where m.barrier is not null)
        then
            perform _member_lock(v_done || v_failed || v_cancelled, true);
        end if;
        if v_done is not null then
            perform _message_finish(v_channel.channel_id, v_channel.archive, v_done, p_result, p_results);
        end if;
        if v_released is not null then
            perform _message_return(v_channel.channel_id, v_released, p_retry_in);
            if v_channel.doorbell is not null and p_retry_in <= '0' then
                perform _doorbell_ring(v_channel.channel_id, v_channel.kind, v_channel.name, v_channel.doorbell);
            end if;
        end if;
        if v_failed is not null then
            select f.retried, f.dead_lettered into v_answer.retried, v_answer.dead_lettered
            from _message_fail(v_channel.channel_id, v_failed, v_errors, v_final, v_delays) f;
        end if;
        if v_cancelled is not null then
            perform _message_cancel(v_channel.channel_id, v_cancelled, 'cancelled while it was leased');
            v_answer.dead_lettered := v_answer.dead_lettered + cardinality(v_cancelled);
        end if;
    end if;

    if v_settled is null and v_answer.acked = 0 then
        return v_answer;
    elsif coalesce(cardinality(v_settled), v_answer.acked) = v_lease.message_count then
        delete from lease where lease_id = p_lease_id;
    else
        update lease
        set settled = v_lease.settled || v_settled, message_count = v_lease.message_count - cardinality(v_settled)
        where lease_id = p_lease_id;
    end if;

    insert into tally (channel_id, outcome, amount)
    select v_lease.channel_id, o.outcome, o.amount
    from (values
        ('acked', v_answer.acked), ('retried', v_answer.retried),
        ('dead_lettered', v_answer.dead_lettered - coalesce(cardinality(v_cancelled), 0)),
        ('released', coalesce(cardinality(v_released), 0))
    ) as o (outcome, amount)
    where o.amount > 0;

    -- A release is no failure, but its messages are among those given back.
    v_answer.retried := v_answer.retried + coalesce(cardinality(v_released), 0);
    return v_answer;
end;
$$;

comment on function tidegate._lease_settle(uuid, bigint[], jsonb, bigint[], interval, jsonb, jsonb) is
'Settle messages of a lease as done, failed or released, those of members with their element of p_results, by message_id, or else with p_result; what is named in none of them stays leased. Answers lost when the lease is gone, and then changes nothing.';

-- functions/place/_failed_check.sql
create or replace function tidegate._failed_check(p_failed jsonb) returns void
language plpgsql stable
set search_path = tidegate, pg_temp
as $$
declare
    v_known constant text[] := array['message_id', 'error', 'retryable', 'retry_in', 'reason'];
    v_entry jsonb;
begin
    if jsonb_typeof(p_failed) is distinct from 'array' then
        perform _bad_argument(
            'p_failed', p_failed::text, 'Give a JSON array: [{"message_id": 3, "error": "smtp 550"}]'
        );
    end if;
    select f.value into v_entry
    from jsonb_array_elements(p_failed) f
    where case
        when jsonb_typeof(f.value) <> 'object' then true
        else (
            jsonb_typeof(f.value -> 'message_id') = 'number' and f.value - v_known = '{}'
            and coalesce(f.value ->> 'reason' in ('not_retryable', 'malformed', 'unknown_handler'), true)
        ) is not true
    end
    limit 1;
    if found then
        perform _bad_argument('an entry of p_failed', left(v_entry::text, 200), case
            when jsonb_typeof(v_entry) <> 'object' or jsonb_typeof(v_entry -> 'message_id') is distinct from 'number'
                then 'Each entry is an object with a message_id, a number.'
            when v_entry - v_known <> '{}' then 'Its keys are ' || array_to_string(v_known, ', ') || '.'
            else 'A reason says why no retry can help: not_retryable, malformed or unknown_handler.'
        end);
    end if;
end;
$$;

comment on function tidegate._failed_check(jsonb) is
'Raise TG010 unless p_failed is a JSON array of failures. Values of the wrong type raise what their cast raises (22P02, 22007) where they are read.';

-- functions/place/_scheduled_promote.sql
create or replace function tidegate._scheduled_promote(p_channel_id integer, p_from timestamptz, p_limit integer)
returns integer
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * Rows that others hold are skipped. If the set cannot be moved as one, its rows are moved one by one, and one that
 * still cannot be is put off by a minute, so that it never stands in the way of the others.
 */
declare
    v_now timestamptz := clock_now();
    v_is_queue constant boolean := exists (
        select from channel c where c.channel_id = p_channel_id and c.kind = 'queue'
    );
    v_moved integer;
    v_looked_at integer;
    v_message_id bigint;
begin
    begin
        with due as (
            delete from scheduled where ctid = any(array(
                select s.ctid from scheduled s
                where s.channel_id = p_channel_id and s.due_at >= p_from and s.due_at <= v_now
                order by s.due_at, s.message_id
                limit p_limit
                for update skip locked
            )) returning *
        ), judged as (
            select
                d.*,
                d.group_key is not null and v_is_queue
                and not _has_turn(d.channel_id, d.group_key, d.message_id) as must_wait
            from (select * from due order by due_at, message_id) d
        ), entered as (
            insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
            select nextval('position_seq'), j.channel_id, j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, j.event_id, j.body_id, j.body_bytes, j.max_attempts, j.max_batch, j.requeued_from, j.backoff, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors, j.barrier, j.epoch, j.member
            from judged j
            where not j.must_wait
            returning 1
        ), waiting as (
            insert into blocked (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
            select nextval('position_seq'), j.channel_id, j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, j.event_id, j.body_id, j.body_bytes, j.max_attempts, j.max_batch, j.requeued_from, j.backoff, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors, j.barrier, j.epoch, j.member
            from judged j
            where j.must_wait
            returning 1
        )
        select (select count(*) from entered) + (select count(*) from waiting) into v_moved;
        return v_moved;
    exception
        when others then
            perform _incident_note('_scheduled_promote', p_channel_id, sqlstate, sqlerrm);
    end;

    v_looked_at := 0;
    for v_message_id in
        select s.message_id from scheduled s
        where s.channel_id = p_channel_id and s.due_at >= p_from and s.due_at <= v_now
        order by s.due_at, s.message_id
        limit least(p_limit, 100)
        for update skip locked
    loop
        begin
            with due as (
                delete from scheduled
                    where channel_id = p_channel_id and due_at between p_from and v_now and message_id = v_message_id
                    returning *
            ), judged as (
                select
                    d.*,
                    d.group_key is not null and v_is_queue
                    and not _has_turn(d.channel_id, d.group_key, d.message_id) as must_wait
                from (select * from due order by due_at, message_id) d
            ), entered as (
                insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
                select nextval('position_seq'), j.channel_id, j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, j.event_id, j.body_id, j.body_bytes, j.max_attempts, j.max_batch, j.requeued_from, j.backoff, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors, j.barrier, j.epoch, j.member
                from judged j
                where not j.must_wait
                returning 1
            ), waiting as (
                insert into blocked (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
                select nextval('position_seq'), j.channel_id, j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, j.event_id, j.body_id, j.body_bytes, j.max_attempts, j.max_batch, j.requeued_from, j.backoff, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors, j.barrier, j.epoch, j.member
                from judged j
                where j.must_wait
                returning 1
            )
            select (select count(*) from entered) + (select count(*) from waiting) into v_moved;
        exception
            when others then
                update scheduled set due_at = greatest(v_now, clock_now()) + interval '1 minute'
                where channel_id = p_channel_id and due_at between p_from and v_now and message_id = v_message_id;
                perform _incident_note(
                    '_scheduled_promote', p_channel_id, sqlstate,
                    format('message %s was put off by a minute: %s', v_message_id, sqlerrm)
                );
        end;
        v_looked_at := v_looked_at + 1;
    end loop;
    return v_looked_at;
end;
$$;

comment on function tidegate._scheduled_promote(integer, timestamptz, integer) is
'Move up to p_limit due messages of a channel from scheduled to ready, or to blocked where others of their group go first, in order of becoming due. Returns how many were looked at; 0 when nothing is due.';

-- functions/place/_group_advance.sql
create or replace function tidegate._group_advance(
    p_channel_id integer, p_from bigint, p_safe bigint, p_recent bigint, p_limit integer,
    out grouped_to bigint, out arrived integer, out has_more boolean
)
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * Gives the turn to whoever came into a group that nobody holds. Of the messages that came in above p_from only the
 * first of each group matters.
 *
 * What keeps a message from being overlooked: behind grouped_to, every group with something in blocked has a holder,
 * and whoever ends that holder looks for the next one in a snapshot taken after he has locked the turn. So the lock is
 * asked for here, in a snapshot that sees the message. Got, and held: its holder ends later than this, and will see
 * what is seen here; the lock is let go at once, so that no settlement waits for the claim that ticks. Got, and free:
 * the turn is given. Not got: somebody is at it now, and grouped_to stays below the message until he is done.
 * Nobody waits here, so nobody who acks waits for a producer.
 *
 * One that drew its position early and committed late stands below its group's holder: the mark from which the next
 * one is looked for is taken back to it.
 *
 * A producer or a settlement that stays open keeps grouped_to where it is, and what waits above it in held groups is
 * looked at again by each tick. So that nobody starves behind many of those, pages follow each other for a while, and
 * then comes what was drawn lately, above p_recent. The first of a group on a later page need not be its first: that
 * one may stand between the pages, or on an earlier one, where its group was in somebody's hands and is free by now.
 * So there the first is looked for in the group itself, in the snapshot that finds it free.
 */
declare
    v_stop constant timestamptz := clock_timestamp() + interval '25 ms';
    v_from bigint := p_from;
    v_cut bigint;
    v_sure_to bigint := p_safe;
    v_amount integer;
    v_groups text[];
    v_firsts bigint[];
    v_last bigint;
    v_turns bigint[];
    v_holders bigint[];
    v_marks bigint[];
    v_sure text[];
    v_locked text[];
    v_may_begin boolean;
    v_rows tid[];
    v_groups_free text[];
    v_firsts_free bigint[];
    v_ids_free bigint[];
    v_turns_free bigint[];
    v_given text[];
begin
    arrived := 0;
    has_more := false;
    loop
        select array_agg(h.group_key), array_agg(h.first), max(h.last), sum(h.amount)
        into v_groups, v_firsts, v_last, v_amount
        from (
            select a.group_key, min(a.position) as first, max(a.position) as last, count(*) as amount
            from (
                select b.position, b.group_key from blocked b
                where b.channel_id = p_channel_id and b.position > v_from
                order by b.position
                limit p_limit
            ) a
            group by a.group_key
            order by a.group_key
        ) h;
        exit when v_amount is null;
        arrived := arrived + v_amount;

        select
            array_agg(t.turn order by u.ordinality), array_agg(t.message_id order by u.ordinality),
            array_agg(t.position order by u.ordinality),
            array_agg(coalesce(f.position, u.first) order by u.ordinality)
        into v_turns, v_holders, v_marks, v_firsts
        from unnest(v_groups, v_firsts) with ordinality u (group_key, first, ordinality)
        left join lateral (
            select n.turn, n.message_id, n.position from group_turn n
            where n.channel_id = p_channel_id and n.group_key = u.group_key
            order by n.turn desc
            limit 1
        ) t on true
        left join lateral (
            select b.position from blocked b
            where v_from > p_from and (t.message_id is null or t.position >= u.first) and b.channel_id = p_channel_id
                and (b.group_key, b.position) > (u.group_key, p_from)
                and b.group_key <= u.group_key
            order by b.group_key, b.position
            limit 1
        ) f on true;

        -- Held, and nothing to change: asked for and let go.
        v_sure := '{}';
        if exists (select from unnest(v_holders) h (id) where h.id is not null) then
            begin
                select coalesce(array_agg(l.group_key), '{}') into v_sure
                from unnest(v_groups, v_firsts, v_turns, v_holders, v_marks)
                    as u (group_key, first, turn, holder, mark)
                cross join lateral (
                    select n.group_key from group_turn n
                    where n.channel_id = p_channel_id and n.group_key = u.group_key and n.turn = u.turn
                        and n.message_id is not null
                    limit 1
                    for update skip locked
                ) l
                where u.holder is not null and u.mark < u.first;
                raise exception 'let go';
            exception
                when raise_exception then
                    null; -- what was found is kept, the locks are not
            end;
        end if;

        -- Free, or held with a late one below its mark: locked to the end.
        select coalesce(array_agg(l.group_key), '{}') into v_locked
        from unnest(v_groups, v_firsts, v_turns, v_holders, v_marks) as u (group_key, first, turn, holder, mark)
        cross join lateral (
            select n.group_key from group_turn n
            where n.channel_id = p_channel_id and n.group_key = u.group_key and n.turn = u.turn
            limit 1
            for update skip locked
        ) l
        where u.turn is not null and (u.holder is null or u.mark >= u.first);

        if exists (
            select from unnest(v_groups, v_holders) u (group_key, holder)
            where u.holder is not null and u.group_key = any(v_locked)
        ) then
            update group_turn t
            set position = u.first - 1
            from unnest(v_groups, v_firsts, v_turns, v_holders, v_marks) as u (group_key, first, turn, holder, mark)
            where t.channel_id = p_channel_id and t.group_key = u.group_key and t.turn = u.turn
                and u.holder is not null and u.mark >= u.first and u.group_key = any(v_locked);
        end if;

        -- Two that begin a group at once would wait for each other's first row: one at a time, and nobody waits for it.
        v_may_begin := array_position(v_turns, null) is null
            or pg_try_advisory_xact_lock(_lock_key('group_turn'::regclass, p_channel_id));

        -- Locked here and moved in the next statement, whose snapshot sees each as it was locked: one that was replaced
        -- a moment ago has a version that this statement would lock and not find.
        select
            array_agg(c.row_id), array_agg(c.group_key), array_agg(c.first), array_agg(c.message_id), array_agg(c.turn)
        into v_rows, v_groups_free, v_firsts_free, v_ids_free, v_turns_free
        from (
            select b.row_id, u.group_key, u.first, b.message_id, coalesce(u.turn, 0) + 1 as turn
            from unnest(v_groups, v_firsts, v_turns, v_holders) as u (group_key, first, turn, holder)
            cross join lateral (
                select n.ctid as row_id, n.message_id from blocked n
                where n.channel_id = p_channel_id and n.group_key = u.group_key and n.position = u.first
                limit 1
                for update skip locked
            ) b
            where u.holder is null and (u.turn is null and v_may_begin or u.group_key = any(v_locked))
        ) c;

        with candidate as (
            select c.*
            from unnest(v_rows, v_groups_free, v_firsts_free, v_ids_free, v_turns_free)
                as c (row_id, group_key, first, message_id, turn)
        ), given as (
            insert into group_turn (channel_id, group_key, turn, position, message_id, taken_at)
            select p_channel_id, c.group_key, c.turn, c.first, c.message_id, clock_now()
            from candidate c
            order by c.group_key
            on conflict do nothing
            returning group_turn.group_key, group_turn.turn
        ), former as (
            delete from group_turn where ctid = any(array(
                select f.row_id
                from given g
                cross join lateral (
                    select n.ctid as row_id from group_turn n
                    where n.channel_id = p_channel_id and n.group_key = g.group_key and n.turn = g.turn - 1
                    limit 1
                ) f
            ))
        ), taken as (
            delete from blocked where ctid = any(array(
                select c.row_id from candidate c inner join given g on g.group_key = c.group_key
            ))
            returning *
        ), entered as (
            insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
            select nextval('position_seq'), t.channel_id, t.attempts, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, t.max_attempts, t.max_batch, t.requeued_from, t.backoff, t.topic, t.group_key, t.job_key, t.run_id, t.tenant, t.errors, t.barrier, t.epoch, t.member
            from (select * from taken order by position) t
            returning ready.group_key
        )
        select coalesce(array_agg(e.group_key), '{}') into v_given from entered e;

        select least(v_sure_to, min(u.first) - 1) into v_sure_to
        from unnest(v_groups, v_firsts, v_holders) as u (group_key, first, holder)
        where not (
            u.group_key = any(v_given) or u.group_key = any(v_sure)
            or (u.holder is not null and u.group_key = any(v_locked))
        );

        exit when v_amount < p_limit;
        v_from := v_last;
        if v_cut is null and (v_sure_to >= v_last or clock_timestamp() > v_stop) then
            v_cut := v_last;
            has_more := true;
            -- A page without doubt is enough: the next tick goes on from there.
            exit when v_sure_to >= v_last or v_last >= p_recent;
            v_from := p_recent;
        elsif clock_timestamp() > v_stop + interval '10 ms' then
            has_more := true;
            v_cut := coalesce(v_cut, v_last);
            exit;
        end if;
    end loop;
    grouped_to := greatest(p_from, least(v_sure_to, v_cut));
end;
$$;

comment on function tidegate._group_advance(integer, bigint, bigint, bigint, integer) is
'Look at messages of groups that came into a queue above p_from, p_limit at a time, and let the first of each group without a holder enter ready. p_safe: positions up to it are visible or gone; p_recent: what was drawn above it is looked at even when there is too much before it. Returns up to where every group is known to be in somebody''s hands, how many messages were looked at, and whether there are more.';

-- functions/place/_idempotency_keys_lock.sql
create or replace function tidegate._idempotency_keys_lock(p_kind text, p_channel text, p_specs jsonb[])
returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * For who sends several in one call: two that bring the same new keys in different orders would wait for each other.
 * The shorter comes first: so the elements of an array, whose keys are one with their places behind it, are in order
 * as they are. These come before job keys, as in each send.
 *
 * A key that is used is final and needs no lock. Any other is inserted and deleted again: who wants it waits for the
 * end of the transaction that did so. That leaves it to each message to use its key, or not.
 */
declare
    v_keys constant text[] := array(
        select distinct s.spec ->> 'idempotency_key' from unnest(p_specs) s (spec)
        where octet_length(s.spec ->> 'idempotency_key') <= 512
    );
begin
    insert into idempotency_key (channel_id, key, message_id, created_at)
    select c.channel_id, k.key, 0, clock_now()
    from unnest(v_keys) k (key)
    inner join channel c on c.kind = p_kind and c.name = p_channel
    order by octet_length(k.key), k.key collate "C"
    on conflict do nothing;
    if found then
        delete from idempotency_key i
        using channel c
        where c.kind = p_kind and c.name = p_channel and i.channel_id = c.channel_id and i.key = any(v_keys)
            and i.message_id = 0;
    end if;
end;
$$;

comment on function tidegate._idempotency_keys_lock(text, text, jsonb[]) is
'Lock the idempotency keys of these specs that are not used yet in a channel, in order, until the transaction ends.';

-- functions/place/_job_keys_lock.sql
create or replace function tidegate._job_keys_lock(p_queue text, p_specs jsonb[]) returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * Job keys come before messages in the order of locks, and among each other in their own. For who sends several in one
 * call: whoever settles a message of one of them holds its key, and may wait for one that was replaced here before.
 *
 * One statement goes along all of them, whoever uses them. The update of none locks the row that is there; a key that
 * nobody uses is inserted and deleted again, which also keeps others waiting for it until this transaction ends.
 */
declare
    v_keys constant text[] := array(
        select distinct s.spec ->> 'job_key' from unnest(p_specs) s (spec)
        where octet_length(s.spec ->> 'job_key') <= 512
    );
begin
    insert into job_key (channel_id, key, message_id)
    select c.channel_id, k.key, 0
    from unnest(v_keys) k (key)
    inner join channel c on c.kind = 'queue' and c.name = p_queue
    order by k.key collate "C"
    on conflict (channel_id, key) do update set message_id = 0 where false;
    if found then
        delete from job_key j
        using channel c
        where c.kind = 'queue' and c.name = p_queue and j.channel_id = c.channel_id and j.key = any(v_keys)
            and j.message_id = 0;
    end if;
end;
$$;

comment on function tidegate._job_keys_lock(text, jsonb[]) is
'Lock the job keys of these specs of a queue, in order, until the transaction ends: those of which a message is alive, and the others.';

-- functions/place/_keyed_send.sql
create or replace function tidegate._keyed_send(
    p_channel_id integer, p_mode text, p_due_at timestamptz, p_message tidegate.message
) returns tidegate.sent
language plpgsql volatile
set search_path = tidegate, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * Sends with one job key, and the end of its message, take turns by the lock of the key's row. Claims and ticks do not
 * take it: so where the message stands is asked of all places in one statement, which sees it in exactly one, and if it
 * has gone from there when its row is reached, asked again. If it stands in none of them it is leased, or about to
 * come back from a lease: a follow-up is then in order too.
 */
declare
    v_key job_key;
    v_old message;
    v_new message;
    v_place text;
    v_from timestamptz;
    v_due_at timestamptz;
    v_position bigint;
    v_stays boolean;
begin
    if octet_length(p_message.job_key) > 512 then
        perform _bad_argument(
            'p_job_key', left(p_message.job_key, 100), 'A key has at most 512 bytes; hash a longer one.'
        );
    end if;
    loop
        insert into job_key (channel_id, key, message_id)
        values (p_channel_id, p_message.job_key, p_message.message_id)
        on conflict do nothing;
        if found then
            if p_due_at > clock_now() then
                insert into scheduled (due_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
                select
                    greatest(p_due_at, clock_now() + interval '1 microsecond'), p_channel_id,
                    p_message.attempts, p_message.priority, p_message.message_id, p_message.enqueued_at, p_message.payload, p_message.headers, p_message.event_id, p_message.body_id, p_message.body_bytes, p_message.max_attempts, p_message.max_batch, p_message.requeued_from, p_message.backoff, p_message.topic, p_message.group_key, p_message.job_key, p_message.run_id, p_message.tenant, p_message.errors, p_message.barrier, p_message.epoch, p_message.member;
            else
                perform _message_enter(p_channel_id, array[p_message]);
            end if;
            return row(p_message.message_id, 'inserted')::sent;
        end if;
        select * into v_key from job_key
        where channel_id = p_channel_id and key = p_message.job_key
        for update;
        exit when found;
    end loop;

    if p_mode = 'dedupe' then
        delete from body where body_id = p_message.body_id;
        return row(v_key.message_id, 'deduplicated')::sent;
    end if;

    loop
        select w.place, w.due_at, w.due_at, w.position, (w.message).attempts, (w.message).priority, (w.message).message_id, (w.message).enqueued_at, (w.message).payload, (w.message).headers, (w.message).event_id, (w.message).body_id, (w.message).body_bytes, (w.message).max_attempts, (w.message).max_batch, (w.message).requeued_from, (w.message).backoff, (w.message).topic, (w.message).group_key, (w.message).job_key, (w.message).run_id, (w.message).tenant, (w.message).errors, (w.message).barrier, (w.message).epoch, (w.message).member
        into v_place, v_from, v_due_at, v_position, v_old.attempts, v_old.priority, v_old.message_id, v_old.enqueued_at, v_old.payload, v_old.headers, v_old.event_id, v_old.body_id, v_old.body_bytes, v_old.max_attempts, v_old.max_batch, v_old.requeued_from, v_old.backoff, v_old.topic, v_old.group_key, v_old.job_key, v_old.run_id, v_old.tenant, v_old.errors, v_old.barrier, v_old.epoch, v_old.member
        from (
            
            select
                'ready' as place, row(p.attempts, p.priority, p.message_id, p.enqueued_at, p.payload, p.headers, p.event_id, p.body_id, p.body_bytes, p.max_attempts, p.max_batch, p.requeued_from, p.backoff, p.topic, p.group_key, p.job_key, p.run_id, p.tenant, p.errors, p.barrier, p.epoch, p.member)::message as message,
                null::timestamptz as due_at, p.position
            from ready p
            where p.channel_id = p_channel_id and p.job_key = p_message.job_key and p.message_id = v_key.message_id
            union all
            select
                'scheduled' as place, row(p.attempts, p.priority, p.message_id, p.enqueued_at, p.payload, p.headers, p.event_id, p.body_id, p.body_bytes, p.max_attempts, p.max_batch, p.requeued_from, p.backoff, p.topic, p.group_key, p.job_key, p.run_id, p.tenant, p.errors, p.barrier, p.epoch, p.member)::message as message,
                p.due_at, null::bigint as position
            from scheduled p
            where p.channel_id = p_channel_id and p.job_key = p_message.job_key and p.message_id = v_key.message_id
            union all
            select
                'blocked' as place, row(p.attempts, p.priority, p.message_id, p.enqueued_at, p.payload, p.headers, p.event_id, p.body_id, p.body_bytes, p.max_attempts, p.max_batch, p.requeued_from, p.backoff, p.topic, p.group_key, p.job_key, p.run_id, p.tenant, p.errors, p.barrier, p.epoch, p.member)::message as message,
                null::timestamptz as due_at, p.position
            from blocked p
            where p.channel_id = p_channel_id and p.job_key = p_message.job_key and p.message_id = v_key.message_id
        ) w;
        exit when not found;
        if v_old.group_key is distinct from p_message.group_key then
            perform _bad_argument(
                'p_group_key', p_message.group_key,
                format('The waiting message of job key %L is in %s: one key, one group.', p_message.job_key,
                    coalesce(format('group %L', v_old.group_key), 'no group'))
            );
        end if;

        v_new := row(p_message.attempts, p_message.priority, v_old.message_id, v_old.enqueued_at, p_message.payload, p_message.headers, coalesce(p_message.event_id, v_old.event_id), p_message.body_id, p_message.body_bytes, p_message.max_attempts, p_message.max_batch, v_old.requeued_from, p_message.backoff, v_old.topic, p_message.group_key, p_message.job_key, p_message.run_id, p_message.tenant, p_message.errors, p_message.barrier, p_message.epoch, p_message.member)::message;
        if p_mode = 'replace' then
            v_stays := p_due_at is null or p_due_at <= clock_now();
            v_due_at := p_due_at;
        else
            v_stays := true;
        end if;
        -- A place is left only where it does not fit any more: who is replaced again and again keeps his turn.
        if v_place = 'ready' and v_stays and v_new.priority = v_old.priority then
            update ready set (attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member) = (select v_new.attempts, v_new.priority, v_new.message_id, v_new.enqueued_at, v_new.payload, v_new.headers, v_new.event_id, v_new.body_id, v_new.body_bytes, v_new.max_attempts, v_new.max_batch, v_new.requeued_from, v_new.backoff, v_new.topic, v_new.group_key, v_new.job_key, v_new.run_id, v_new.tenant, v_new.errors, v_new.barrier, v_new.epoch, v_new.member)
            where channel_id = p_channel_id and priority = v_old.priority and position = v_position;
        elsif v_place = 'blocked' and v_stays then
            update blocked set (attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member) = (select v_new.attempts, v_new.priority, v_new.message_id, v_new.enqueued_at, v_new.payload, v_new.headers, v_new.event_id, v_new.body_id, v_new.body_bytes, v_new.max_attempts, v_new.max_batch, v_new.requeued_from, v_new.backoff, v_new.topic, v_new.group_key, v_new.job_key, v_new.run_id, v_new.tenant, v_new.errors, v_new.barrier, v_new.epoch, v_new.member)
            where channel_id = p_channel_id and group_key = v_old.group_key and position = v_position;
        else
            if v_place = 'ready' then
                delete from ready
                where channel_id = p_channel_id and priority = v_old.priority and position = v_position;
            elsif v_place = 'blocked' then
                delete from blocked
                where channel_id = p_channel_id and group_key = v_old.group_key and position = v_position;
            else
                delete from scheduled
                where channel_id = p_channel_id and due_at = v_from and message_id = v_old.message_id;
            end if;
            if found then
                if v_due_at > clock_now() then
                    insert into scheduled (due_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
                    select
                        greatest(v_due_at, clock_now() + interval '1 microsecond'), p_channel_id,
                        v_new.attempts, v_new.priority, v_new.message_id, v_new.enqueued_at, v_new.payload, v_new.headers, v_new.event_id, v_new.body_id, v_new.body_bytes, v_new.max_attempts, v_new.max_batch, v_new.requeued_from, v_new.backoff, v_new.topic, v_new.group_key, v_new.job_key, v_new.run_id, v_new.tenant, v_new.errors, v_new.barrier, v_new.epoch, v_new.member;
                elsif v_place = 'ready' or _has_turn(p_channel_id, v_new.group_key, v_new.message_id) then
                    perform _message_return(p_channel_id, array[v_new], '0');
                else
                    perform _message_enter(p_channel_id, array[v_new]);
                end if;
                delete from body where body_id = v_old.body_id;
                return row(v_old.message_id, 'replaced')::sent;
            end if;
            continue;
        end if;
        if found then
            delete from body where body_id = v_old.body_id;
            return row(v_old.message_id, 'replaced')::sent;
        end if;
    end loop;

    v_new := p_message;
    if v_key.follow_up is distinct from null then
        v_new.message_id := (v_key.follow_up).message_id;
        delete from body where body_id = (v_key.follow_up).body_id;
    end if;
    update job_key
    set follow_up = v_new,
        follow_up_due_at = case
            when p_mode = 'preserve_run_at' and follow_up is distinct from null then follow_up_due_at else p_due_at
        end
    where channel_id = p_channel_id and key = p_message.job_key;
    return row(v_new.message_id, 'follow_up')::sent;
end;
$$;

comment on function tidegate._keyed_send(integer, text, timestamptz, tidegate.message) is
'Send a message with a job key: inserted when no message of that key is alive; else, by mode and by where that one stands, replaced, deduplicated or kept as its follow_up. A payload given up is one that the outcome says was replaced.';

-- functions/place/_lease_expire.sql
create or replace function tidegate._lease_expire(p_channel_id integer, p_from timestamptz, p_limit integer)
returns integer
language plpgsql volatile
set search_path = tidegate, pg_temp
set lock_timeout = '100ms'
as $$
/*
 * Fairness: a message that was alone in its lease is charged; a crowd comes back unharmed in halved batches, so that
 * what kills its worker is cornered in log2(n) crashes. Nobody is charged or halved for an outage: when the server
 * restarted or failed over while the lease ran, and nothing ticked for longer than a lease, its holder never had a
 * chance to settle.
 *
 * Each lease is a subtransaction: one that cannot be taken back is put off by a minute and holds up no other. So is
 * one whose end waits for somebody: a producer may hold its job key for as long as his transaction is open.
 * A holder that settles at the same time holds the row's lock: it is skipped here, and wins.
 */
declare
    v_now timestamptz := clock_now();
    v_stop timestamptz := clock_timestamp() + interval '50 ms';
    v_tide tide;
    v_lease lease;
    v_left message[];
    v_unwanted bigint[];
    v_cancelled message[];
    v_is_spared boolean;
    v_retried integer;
    v_dead integer;
    v_taken integer := 0;
begin
    select * into v_tide from tide order by tide_id desc limit 1;
    for v_lease in
        select * from lease l
        where l.channel_id = p_channel_id and l.expires_at >= p_from and l.expires_at <= v_now
        order by l.expires_at
        limit least(p_limit, 100)
        for update skip locked
    loop
        begin
            v_is_spared := v_lease.claimed_at < v_tide.outage_until
                and v_lease.expires_at > v_tide.outage_from
                and v_tide.outage_until - v_tide.outage_from > v_lease.expires_at - v_lease.claimed_at;
            delete from lease where lease_id = v_lease.lease_id;
            v_left := _lease_left(v_lease);
            v_unwanted := _cancelled(p_channel_id, v_left);
            if v_unwanted <> '{}' then
                -- What somebody wants stopped does not come back.
                select
                    array_agg(row(m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors, m.barrier, m.epoch, m.member)::message) filter (where m.message_id = any(v_unwanted)),
                    array_agg(row(m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors, m.barrier, m.epoch, m.member)::message order by m.ordinality)
                        filter (where m.message_id <> all(v_unwanted))
                into v_cancelled, v_left
                from unnest(v_left) with ordinality m;
                perform _message_cancel(p_channel_id, v_cancelled, 'cancelled while it was leased');
            end if;
            insert into tally (channel_id, outcome, amount)
            select p_channel_id, o.outcome, o.amount
            from (values
                ('expired', cardinality(v_left)),
                (
                    case
                        when v_is_spared then 'lease.spared'
                        when cardinality(v_lease.messages) = 1 then 'lease.charged'
                        else 'lease.halved'
                    end, 1
                )
            ) as o (outcome, amount)
            where v_left is not null;
            if cardinality(v_lease.messages) = 1 and v_is_spared is not true then
                select f.retried, f.dead_lettered into v_retried, v_dead
                from _message_fail(
                    p_channel_id, v_left,
                    array[format('lease expired: worker %s did not settle', coalesce(v_lease.worker, '(unnamed)'))],
                    null, null, 'expired'
                ) f;
                insert into tally (channel_id, outcome, amount)
                select p_channel_id, o.outcome, o.amount
                from (values ('retried', v_retried), ('dead_lettered', v_dead)) as o (outcome, amount)
                where o.amount > 0;
            else
                perform _message_return(
                    p_channel_id, v_left, '0',
                    case when v_is_spared is not true then greatest(cardinality(v_left) / 2, 1) end
                );
            end if;
        exception
            when others then
                update lease set expires_at = greatest(v_now, clock_now()) + interval '1 minute'
                where lease_id = v_lease.lease_id;
                perform _incident_note(
                    '_lease_expire', p_channel_id, sqlstate,
                    format('lease %s was put off by a minute: %s', v_lease.lease_id, sqlerrm)
                );
        end;
        v_taken := v_taken + 1;
        exit when clock_timestamp() > v_stop;
    end loop;
    return v_taken;
end;
$$;

comment on function tidegate._lease_expire(integer, timestamptz, integer) is
'Take back expired leases of a channel. Returns how many were looked at; 0 when none has expired.';

-- functions/place/_tick.sql
create or replace function tidegate._tick(p_channel_id integer) returns bigint[]
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * One turn of the machine for one channel: a tide, due messages to ready, expired leases taken back, turns given in
 * groups that nobody holds, and a new floor row. Bounded in rows, and the taking back of leases in time too; it always
 * gets its turn, however slow the rest is.
 *
 * Who ticks: whoever gets the advisory lock, or anybody once the last tick is five seconds old (its holder hangs).
 * Two ticks at once are harmless: rows are moved under their locks, and any floor proven once stays true.
 *
 * Order matters. The tide comes first; the lowest live position of each priority is read afterwards, in a later
 * snapshot, in which everything that the tide found safe is visible or gone. Rows that an uncommitted claim has
 * deleted still count as live there.
 *
 * All of it is one subtransaction: whatever goes wrong is noted, the old floor is carried on, and the caller's claim
 * goes on. A timeout cuts what the next tick may move, until it fits.
 */
declare
    v_started timestamptz := clock_timestamp();
    v_floor floor;
    v_tide tide;
    v_reach bigint;
    v_look_from bigint;
    v_live bigint;
    v_any_live boolean := false;
    v_is_leased boolean;
    v_advance record;
    v_now timestamptz;
    v_pause interval := '250 ms';
    v_moved integer;
    v_priority smallint;
    v_deadline timestamptz;
begin
    select * into v_floor from floor where channel_id = p_channel_id order by floor_id desc limit 1;
    if not pg_try_advisory_xact_lock(_lock_key('floor'::regclass, p_channel_id))
        and clock_now() between v_floor.ticked_at and v_floor.ticked_at + interval '5 seconds'
    then
        return null;
    end if;

    begin
        v_tide := _tide_advance();
        select * into v_floor from floor where channel_id = p_channel_id order by floor_id desc limit 1;

        v_moved := _scheduled_promote(
            p_channel_id, v_floor.scheduled_from - interval '1 minute', v_floor.move_limit
        );
        v_floor.has_more := v_moved = v_floor.move_limit;
        v_moved := _lease_expire(p_channel_id, v_floor.lease_from - interval '1 minute', v_floor.move_limit);
        v_floor.has_more := v_floor.has_more or v_moved >= least(v_floor.move_limit, 100);

        -- Hints may run ahead of what is proven, but only past transactions that have been open for a second.
        select t.position into v_reach
        from tide t
        where t.tide_id > v_tide.tide_id - 64 and t.at < v_tide.at - interval '1 second'
        order by t.tide_id desc
        limit 1;
        v_reach := greatest(v_reach, v_tide.safe_position);

        select * into v_advance
        from _group_advance(
            p_channel_id, v_floor.grouped_to, v_tide.safe_position, least(v_reach, v_floor.position),
            v_floor.move_limit
        );
        v_floor.grouped_to := v_advance.grouped_to;
        v_floor.has_more := v_floor.has_more or v_advance.has_more;
        if v_advance.arrived > 0 then
            v_pause := '25 ms';
        end if;

        -- What the last tick has seen below its hints is gone. Since then only those can have left something there who
        -- held a position at that time and have ended: so that is how far down the look goes, and while a transaction
        -- stays open, however long, nobody walks over what was consumed beside it.
        v_look_from := 0;
        if v_floor.timeline = v_tide.timeline and v_tide.timeline <> 'unknown' and not v_tide.is_blind then
            select min(h.drew_above) into v_look_from
            from unnest(v_floor.holders, v_floor.drew_above) h (name, drew_above)
            where h.name <> all(v_tide.holders);
        end if;

        v_floor.priorities := _priorities(p_channel_id);
        foreach v_priority in array v_floor.priorities loop
            v_live := (
                select r.position from ready r
                where r.channel_id = p_channel_id and r.priority = v_priority
                    and r.position > greatest(
                        v_floor.floors[v_priority + 1], least(v_look_from, v_floor.hints[v_priority + 1])
                    )
                order by r.position
                limit 1
            );
            v_any_live := v_any_live or v_live is not null;
            v_floor.floors[v_priority + 1] := greatest(
                v_floor.floors[v_priority + 1], least(v_tide.safe_position, v_live - 1)
            );
            v_floor.hints[v_priority + 1] := greatest(
                v_floor.floors[v_priority + 1], least(v_reach, v_live - 1)
            );
        end loop;

        -- Ready, then leased, then scheduled: the order in which a message may go on without a position drawn, so
        -- that none passes by unseen.
        select l.expires_at into v_deadline
        from lease l
        where l.channel_id = p_channel_id and l.expires_at >= v_floor.lease_from - interval '1 minute'
        order by l.expires_at
        limit 1;
        v_is_leased := found;
        v_floor.lease_from := least(v_tide.quiet_since, v_deadline);

        select s.due_at into v_deadline
        from scheduled s
        where s.channel_id = p_channel_id and s.due_at >= v_floor.scheduled_from - interval '1 minute'
        order by s.due_at
        limit 1;
        v_floor.scheduled_from := least(v_tide.quiet_since, v_deadline);
        v_floor.idle_until := coalesce(v_deadline, 'infinity');

        v_floor.position := v_tide.position;
        v_floor.timeline := case when not v_tide.is_blind then v_tide.timeline end;
        v_floor.holders := v_tide.holders;
        v_floor.drew_above := v_tide.drew_above;
        -- Quiet: until a position is drawn, or something is due, no tick has anything to do. One in whose group
        -- somebody was handing over just now is looked for again.
        v_floor.is_quiet := not v_any_live and cardinality(v_tide.holders) = 0
            and v_floor.grouped_to >= v_tide.position;
        -- Idle: nothing ready, leased or on its way, so until the next deadline nothing comes but by a position drawn.
        if not v_floor.is_quiet or v_tide.is_blind or cardinality(v_tide.movers) > 0 or v_floor.has_more
            or v_is_leased
        then
            v_floor.idle_until := null;
        end if;
        v_floor.move_limit := least(v_floor.move_limit * 2, 1000);
    exception
        when others or query_canceled then
            perform _incident_note('_tick', p_channel_id, sqlstate, sqlerrm);
            select * into v_floor from floor where channel_id = p_channel_id order by floor_id desc limit 1;
            v_floor.has_more := true;
            v_floor.idle_until := null;
            v_floor.move_limit := greatest(v_floor.move_limit / 8, 1);
    end;

    -- What counts as its duration is bounded: a tick that waited for somebody's lock must not silence the next ones.
    v_now := clock_now();
    v_floor.took := greatest('0', least(clock_timestamp() - v_started, '500 ms'));
    insert into floor (
        channel_id, ticked_at, took, position, is_quiet, has_more, move_limit, priorities, floors, hints,
        scheduled_from, lease_from, tick_at, grouped_to, idle_until, timeline, holders, drew_above
    ) values (
        p_channel_id, v_now, v_floor.took,
        v_floor.position, v_floor.is_quiet, v_floor.has_more, v_floor.move_limit, v_floor.priorities, v_floor.floors,
        v_floor.hints, v_floor.scheduled_from, v_floor.lease_from,
        v_now + greatest(case when v_floor.has_more then '0' else v_pause end, 10 * v_floor.took),
        v_floor.grouped_to, v_floor.idle_until, v_floor.timeline, v_floor.holders, v_floor.drew_above
    );
    -- The row this one follows. Skipped where another tick is at it: two ticks never wait for each other.
    delete from floor where ctid = any(array(
        select f.ctid from floor f
        where f.channel_id = p_channel_id and f.floor_id = v_floor.floor_id
        for update skip locked
    ));

    return v_floor.hints;
end;
$$;

comment on function tidegate._tick(integer) is
'Move what is due and expired in a channel, and raise its floors and hints. Returns the hints by priority + 1, or null when somebody else is ticking.';

-- functions/place/_stranded_replace.sql
create or replace function tidegate._stranded_replace(p_limit integer) returns integer
language plpgsql volatile
set search_path = tidegate, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * The net below the proof. By it nothing stands at or below a floor; but a sequence that was set back by less than
 * what was drawn until the next tick cannot be told from one that was not, nor can a clock that was set back, and right
 * again by the next tick. What is found enters anew. This walks over what vacuum has not removed yet, so it is no
 * claim's work but that of a cleanup every few minutes.
 */
declare
    v_floor floor;
    v_priority smallint;
    v_found integer;
    v_total integer := 0;
begin
    for v_floor in
        select f.*
        from channel c
        cross join lateral (
            select * from floor n where n.channel_id = c.channel_id order by n.floor_id desc limit 1
        ) f
    loop
        foreach v_priority in array v_floor.priorities loop
            with stranded as (
                delete from ready where ctid = any(array(
                    select r.ctid from ready r
                    where r.channel_id = v_floor.channel_id and r.priority = v_priority
                        and r.position <= v_floor.floors[v_priority + 1]
                    order by r.position
                    limit p_limit
                    for update skip locked
                )) returning *
            )
            insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
            select nextval('position_seq'), s.channel_id, s.attempts, s.priority, s.message_id, s.enqueued_at, s.payload, s.headers, s.event_id, s.body_id, s.body_bytes, s.max_attempts, s.max_batch, s.requeued_from, s.backoff, s.topic, s.group_key, s.job_key, s.run_id, s.tenant, s.errors, s.barrier, s.epoch, s.member
            from (select * from stranded order by position) s;
            get diagnostics v_found = row_count;
            if v_found > 0 then
                insert into tally (amount, channel_id, outcome) values (v_found, v_floor.channel_id, 'stranded');
                perform _incident_note(
                    '_stranded_replace', v_floor.channel_id, 'TG034',
                    'messages stood below the floor and were put back: was position_seq set back?'
                );
                v_total := v_total + v_found;
            end if;
        end loop;

        -- The same for groups: by the proof, the first that waits in each, where it stands at or below grouped_to,
        -- stands above the mark of a holder. Else the next tick looks at all of them again.
        with recursive waiting as (
            (
                select b.group_key, b.position from blocked b
                where b.channel_id = v_floor.channel_id
                order by b.group_key, b.position
                limit 1
            )
            union all
            select n.group_key, n.position
            from waiting w
            cross join lateral (
                select b.group_key, b.position from blocked b
                where b.channel_id = v_floor.channel_id and b.group_key > w.group_key
                order by b.group_key, b.position
                limit 1
            ) n
        )
        select count(*) into v_found
        from waiting w
        where w.position <= v_floor.grouped_to
            and not coalesce((
                select t.message_id is not null and t.position < w.position from group_turn t
                where t.channel_id = v_floor.channel_id and t.group_key = w.group_key
                order by t.turn desc
                limit 1
            ), false);
        if v_found > 0 then
            insert into floor (
                channel_id, ticked_at, took, position, is_quiet, has_more, move_limit, priorities, floors, hints,
                scheduled_from, lease_from, tick_at, grouped_to
            ) values (
                v_floor.channel_id, 'epoch', '0', v_floor.position, false, true, v_floor.move_limit,
                v_floor.priorities, v_floor.floors, v_floor.hints, v_floor.scheduled_from, v_floor.lease_from,
                'epoch', 0
            );
            insert into tally (amount, channel_id, outcome) values (v_found, v_floor.channel_id, 'stranded');
            perform _incident_note(
                '_stranded_replace', v_floor.channel_id, 'TG034',
                'groups waited for nobody and are looked at again: was position_seq set back?'
            );
            v_total := v_total + v_found;
        end if;

        -- And for deadlines: what is due, or has run out, below the marks from which ticks look for it.
        select count(*) into v_found
        from (
            select from scheduled p
            where p.channel_id = v_floor.channel_id and p.due_at <= clock_now()
                and p.due_at < v_floor.scheduled_from - interval '1 minute'
            limit p_limit
        ) n;
        if v_found > 0 then
            v_found := _scheduled_promote(v_floor.channel_id, '-infinity', v_found);
            insert into tally (amount, channel_id, outcome) values (v_found, v_floor.channel_id, 'stranded');
            perform _incident_note(
                '_stranded_replace', v_floor.channel_id, 'TG033',
                'what was due stood below the mark of scheduled and was moved: was the clock set back?'
            );
            v_total := v_total + v_found;
        end if;
        select count(*) into v_found
        from (
            select from lease p
            where p.channel_id = v_floor.channel_id and p.expires_at <= clock_now()
                and p.expires_at < v_floor.lease_from - interval '1 minute'
            limit p_limit
        ) n;
        if v_found > 0 then
            v_found := _lease_expire(v_floor.channel_id, '-infinity', v_found);
            insert into tally (amount, channel_id, outcome) values (v_found, v_floor.channel_id, 'stranded');
            perform _incident_note(
                '_stranded_replace', v_floor.channel_id, 'TG033',
                'what was due stood below the mark of lease and was moved: was the clock set back?'
            );
            v_total := v_total + v_found;
        end if;
    end loop;
    return v_total;
end;
$$;

comment on function tidegate._stranded_replace(integer) is
'Find messages at or below the floor of their channel, up to p_limit a priority, and let them enter ready anew; find groups whose next one was overlooked, and let the next tick look again; find what is due, and leases that have run out, below the marks of deadlines, and move them as a tick does. Returns how many; 0 is the ordinary case.';

-- functions/guard/_guard_check.sql
create or replace function tidegate._guard_check(p_scope text, p_key text, p_owner text, p_lease interval)
returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
begin
    if p_scope is null or p_key is null or p_owner is null then
        perform _bad_argument(
            case when p_scope is null then 'p_scope' when p_key is null then 'p_key' else 'p_owner' end, null,
            'A guard is held by scope, key and owner.'
        );
    end if;
    if '' in (p_scope, p_key, p_owner) then
        perform _bad_argument(
            case when p_scope = '' then 'p_scope' when p_key = '' then 'p_key' else 'p_owner' end, '',
            'Everybody whose variable is unset would hold it.'
        );
    end if;
    if octet_length(p_scope) + octet_length(p_key) > 1024 then
        perform _bad_argument(
            'p_scope and p_key', left(p_scope || ' ' || p_key, 100),
            'Together they have at most 1024 bytes; hash a longer key.'
        );
    end if;
    if _is_duration(p_lease) is not true then
        perform _bad_argument(
            'p_lease', p_lease::text, 'A lease lasts a positive time, for example interval ''5 minutes''.'
        );
    end if;
end;
$$;

comment on function tidegate._guard_check(text, text, text, interval) is
'Raise TG010 unless these name a guard, its owner and a lease.';

-- functions/guard/guard_claim.sql
create or replace function tidegate.guard_claim(
    p_scope text,
    p_key text,
    p_owner text,
    p_lease interval default '5 minutes',
    p_run_id text default null,
    out outcome text,
    out result jsonb,
    out is_repeat boolean
)
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
/*
 * The unique key decides among racers: all but one wait for it to commit or abort, and then look at what is there.
 * The row is read under its lock, in a statement of its own, so that a take-over sees the latest deadline.
 *
 * A run that has ended comes first: nobody begins anything for it, whatever the row says, and the tombstone is put
 * back where retention has taken it. Only what somebody else still works on is left to him.
 *
 * A lease that was counted from an instant after now tells that the clock was set back. It lasts as long from now, as
 * its holder may be at work: so nobody waits for the hour that has been already, and nothing is done twice for it.
 */
declare
    v_now timestamptz;
    v_guard guard;
begin
    perform _guard_check(p_scope, p_key, p_owner, p_lease);
    if octet_length(p_run_id) > 512 then -- they stand in indexes
        perform _bad_argument('p_run_id', left(p_run_id, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    is_repeat := false;
    if p_run_id is not null
        and exists (select from run r where r.run_id = p_run_id and r.state in ('completed', 'error', 'stopped'))
    then
        v_now := clock_now();
        select g.owner = p_owner into is_repeat from guard g where g.scope = p_scope and g.key = p_key;
        insert into guard as g (scope, key, owner, state, claimed_at, finished_at, run_id)
        values (p_scope, p_key, p_owner, 'done', v_now, v_now, p_run_id)
        on conflict (scope, key) do update
        set owner = p_owner, state = 'done', finished_at = v_now, expires_at = null, run_id = p_run_id
        where g.state = 'held' and (g.owner = p_owner or g.expires_at <= v_now);
        select g.result into result from guard g where g.scope = p_scope and g.key = p_key;
        is_repeat := coalesce(is_repeat, false);
        outcome := 'terminal';
        return;
    end if;
    loop
        v_now := clock_now();
        insert into guard (scope, key, owner, claimed_at, renewed_at, expires_at, run_id)
        values (p_scope, p_key, p_owner, v_now, v_now, v_now + p_lease, p_run_id)
        on conflict do nothing;
        if found then
            outcome := 'won';
            return;
        end if;
        select * into v_guard from guard g where g.scope = p_scope and g.key = p_key for update;
        exit when found; -- else it was released meanwhile: try again
    end loop;

    v_now := clock_now();
    is_repeat := v_guard.owner = p_owner;
    if v_guard.state = 'done' then
        outcome := 'done';
        result := v_guard.result;
    elsif v_guard.owner = p_owner or v_guard.expires_at <= v_now then
        update guard
        set owner = p_owner, claimed_at = v_now, renewed_at = v_now, expires_at = v_now + p_lease,
            run_id = coalesce(p_run_id, run_id)
        where scope = p_scope and key = p_key;
        outcome := 'won';
    else
        if v_guard.renewed_at > v_now then
            update guard set renewed_at = v_now, expires_at = v_now + (expires_at - renewed_at)
            where scope = p_scope and key = p_key;
        end if;
        outcome := 'held';
    end if;
end;
$$;

comment on function tidegate.guard_claim(text, text, text, interval, text) is
'Win the right to do something once. outcome: won (also for a repeat by the same owner, and for a take-over once the holder''s lease has passed), held (somebody else has it; if the clock was set back since, for its lease from this call on), done (finished before: result is the first one''s), terminal (the run has ended: nothing is to be done, and a tombstone stands). is_repeat: this owner had it, or finished it, before: a retry, not somebody else''s duplicate. Errors: TG010 bad argument.';

-- functions/guard/guard_renew.sql
create or replace function tidegate.guard_renew(
    p_scope text,
    p_key text,
    p_owner text,
    p_lease interval default '5 minutes',
    out outcome text,
    out expires_at timestamptz
)
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
/* A lease that has run out is still its owner's until somebody takes it over: whoever gets to the row first wins. */
begin
    perform _guard_check(p_scope, p_key, p_owner, p_lease);
    update guard g
    set renewed_at = clock_now(), expires_at = clock_now() + p_lease
    where g.scope = p_scope and g.key = p_key and g.owner = p_owner and g.state = 'held'
    returning 'renewed', g.expires_at into outcome, expires_at;
    if not found then
        select case when g.state = 'done' and g.owner = p_owner then 'done' else 'lost' end into outcome
        from guard g where g.scope = p_scope and g.key = p_key;
        outcome := coalesce(outcome, 'lost');
    end if;
end;
$$;

comment on function tidegate.guard_renew(text, text, text, interval) is
'Keep a guard: it is now held for p_lease from now. outcome: renewed, done (this owner has finished it), or lost (somebody else has it, or nobody): stop then, expires_at is null. Errors: TG010 bad argument.';

-- functions/guard/guard_finish.sql
create or replace function tidegate.guard_finish(
    p_scope text, p_key text, p_owner text, p_result jsonb default null
) returns text
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
begin
    perform _guard_check(p_scope, p_key, p_owner, '1 minute');
    -- A tombstone that was made meanwhile, as the run had ended, has no result: what was done is not to be lost.
    update guard
    set state = 'done', finished_at = coalesce(finished_at, clock_now()), expires_at = null, result = p_result
    where scope = p_scope and key = p_key and owner = p_owner
        and (state = 'held' or (result is null and p_result is not null));
    if found then
        return 'done';
    end if;
    perform from guard where scope = p_scope and key = p_key and owner = p_owner and state = 'done';
    return case when found then 'done' else 'lost' end;
end;
$$;

comment on function tidegate.guard_finish(text, text, text, jsonb) is
'Finish what a guard protects: it leaves a tombstone with the result until retention. Answers done, also to a repeat by the same owner (the first result stays), and when its run has ended meanwhile, or lost when somebody else holds or finished it, or nobody does. Errors: TG010 bad argument.';

-- functions/guard/guard_release.sql
create or replace function tidegate.guard_release(p_scope text, p_key text, p_owner text) returns text
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_guard guard;
begin
    perform _guard_check(p_scope, p_key, p_owner, '1 minute');
    delete from guard g where g.scope = p_scope and g.key = p_key and g.owner = p_owner and g.state = 'held';
    if found then
        return 'released';
    end if;
    select * into v_guard from guard g where g.scope = p_scope and g.key = p_key;
    return case
        when not found then 'released'
        when v_guard.state = 'done' and v_guard.owner = p_owner then 'done'
        else 'lost'
    end;
end;
$$;

comment on function tidegate.guard_release(text, text, text) is
'Give a guard back unfinished, so that the next claim wins. Answers released, also when there is none (a repeat); done when this owner has finished it, which stands; lost, and does nothing, when somebody else has it. Errors: TG010 bad argument.';

-- functions/guard/inbox_accept.sql
create or replace function tidegate.inbox_accept(p_consumer text, p_event_id uuid) returns boolean
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
begin
    if p_consumer is null or p_event_id is null then
        perform _bad_argument(
            case when p_consumer is null then 'p_consumer' else 'p_event_id' end, null,
            'An inbox remembers events by consumer and event_id.'
        );
    end if;
    insert into guard (scope, key, owner, state, claimed_at, finished_at)
    values ('inbox:' || p_consumer, p_event_id::text, p_consumer, 'done', clock_now(), clock_now())
    on conflict do nothing;
    return found;
end;
$$;

comment on function tidegate.inbox_accept(text, uuid) is
'Accept an event in the consumer''s own transaction: true the first time, false for a duplicate. Of two at once the second waits for the first to end. Remembered until retention. Errors: TG010 bad argument.';

-- functions/guard/_guards_retire.sql
create or replace function tidegate._guards_retire(p_run_ids text[]) returns integer
language plpgsql volatile
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * Orphans: claimed for a run that has ended since, and their lease has run out. That the run has ended is the only
 * sign that is taken: one that is not known may never have been opened. All of it is asked in the writing statement,
 * under the lock of the row; a holder that is alive finishes, renews or is skipped. A lease that was counted from an
 * instant after now is over, too: the clock was set back. Its holder, if alive, still finishes it, as any tombstone.
 */
declare
    v_retired integer;
begin
    update guard g
    set state = 'done', finished_at = clock_now(), expires_at = null
    where g.ctid = any(array(
        select n.ctid from guard n
        where n.run_id = any(p_run_ids) and n.state = 'held'
        order by n.scope, n.key
        for update skip locked
    ))
        and g.state = 'held' and (g.expires_at <= clock_now() or g.renewed_at > clock_now())
        and exists (
            select from run r where r.run_id = g.run_id and r.state in ('completed', 'error', 'stopped')
        );
    get diagnostics v_retired = row_count;
    insert into tally (channel_id, outcome, amount) select 0, 'recovered.guards', v_retired where v_retired > 0;
    return v_retired;
end;
$$;

comment on function tidegate._guards_retire(text[]) is
'Make tombstones of the guards that were held for these runs, where a run has ended and the lease has run out. Returns how many; 0 when there are none.';

-- functions/barrier/_slot_count.sql
create or replace function tidegate._slot_count(p_members integer) returns integer
language sql immutable parallel safe
return greatest((p_members + 61) / 62, least((p_members + 7) / 8, 16));

comment on function tidegate._slot_count(integer) is
'Over how many slots members are spread: at most 62 in one, and 16 slots before any holds more than 8.';

-- functions/barrier/_barrier_event_id.sql
create or replace function tidegate._barrier_event_id(
    p_event_prefix text, p_epoch bigint, p_opened_at timestamptz, p_what text
) returns uuid
language sql immutable parallel safe
return (
    with digest as (
        select encode(sha256(convert_to(
            p_event_prefix || '/' || p_epoch || '/'
            || extract(epoch from p_opened_at - timestamptz '2000-01-01 00:00:00+00') || '/' || p_what,
            'UTF8'
        )), 'hex') as hex
    )

    select (substr(d.hex, 1, 12) || '8' || substr(d.hex, 14, 3) || '8' || substr(d.hex, 18, 15))::uuid from digest d
);

comment on function tidegate._barrier_event_id(text, bigint, timestamptz, text) is
'Version-8 UUID of what an epoch of a barrier says, callback or failure: however often it is said, it is the same event. An epoch that is drawn again after a failover says others, as it was opened at another time.';

-- functions/barrier/_no_such_barrier.sql
create or replace function tidegate._no_such_barrier(p_name text, p_epoch bigint) returns void
language plpgsql stable
set search_path = tidegate, pg_temp
as $$
begin
    raise exception using
        errcode = 'TG080',
        message = format(
            'no barrier %s with epoch %s', coalesce(quote_literal(p_name), 'null'), coalesce(p_epoch::text, 'null')
        ),
        hint = coalesce(
            (select format('Its epoch is %s.', b.epoch) from barrier b where b.name = p_name),
            format('Open it first: select * from %I.barrier_open(%L, 3);', current_schema, p_name)
        );
end;
$$;

comment on function tidegate._no_such_barrier(text, bigint) is
'Raise TG080: no such barrier, or it never had that epoch, with its epoch or the call that opens it as the hint.';

-- functions/barrier/_barrier_grow.sql
create or replace function tidegate._barrier_grow(
    p_epoch bigint, p_first_member integer, p_count integer, p_key text default null
) returns integer
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * Member m of a range of k slots, first member f, stands in slot f + (m - f) mod k, as bit (m - f) / k: neighbours,
 * who tend to arrive together, stand apart.
 */
declare
    v_slots constant integer := _slot_count(p_count);
begin
    insert into barrier_range (epoch, first_member, member_count, slot_count, key)
    values (p_epoch, p_first_member, p_count, v_slots, p_key);
    insert into barrier_slot (epoch, slot, pending, room)
    select p_epoch, p_first_member + n.slot, (1::bigint << n.members) - 1, repeat(' ', 6 * n.members)
    from (select s as slot, (p_count - s - 1) / v_slots + 1 as members from generate_series(0, v_slots - 1) s) n;
    return v_slots;
end;
$$;

comment on function tidegate._barrier_grow(bigint, integer, integer, text) is
'Make the slots of further members. Returns how many slots, which the caller adds to those open.';

-- functions/barrier/_barrier_standing.sql
create or replace function tidegate._barrier_standing(p_name text, p_epoch bigint, p_member integer default null)
returns text
language plpgsql stable
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
    v_barrier barrier;
    v_pending bigint;
begin
    select * into v_barrier from barrier b where b.name = p_name;
    if v_barrier.epoch is null or p_epoch is null or p_epoch > v_barrier.epoch then
        return 'unknown';
    end if;
    if p_epoch < v_barrier.epoch then
        return 'stale';
    end if;
    if p_member is not null then
        select s.pending & (1::bigint << ((p_member - r.first_member) / r.slot_count)) into v_pending
        from (
            select * from barrier_range n
            where n.epoch = p_epoch and n.first_member <= p_member
            order by n.first_member desc
            limit 1
        ) r
        inner join barrier_slot s
            on s.epoch = p_epoch and s.slot = r.first_member + (p_member - r.first_member) % r.slot_count
        where p_member < r.first_member + r.member_count;
        if not found then
            return 'unknown';
        elsif v_pending = 0 then
            return 'duplicate';
        end if;
    end if;
    return case when v_barrier.state = 'open' then 'open' else 'closed' end;
end;
$$;

comment on function tidegate._barrier_standing(text, bigint, integer) is
'Why a call about an epoch, or a member of it, changes nothing: unknown (no such barrier, epoch or member), stale (it was opened anew), duplicate (that member has arrived or failed) or closed; open when none of them holds.';

-- functions/barrier/_barrier_reason.sql
create or replace function tidegate._barrier_reason(p_barrier tidegate.barrier) returns text
language plpgsql stable
set search_path = tidegate, pg_temp
as $$
declare
    v_outstanding integer;
begin
    select coalesce(sum(bit_count(s.pending::bit(64))), 0) into v_outstanding
    from barrier_slot s where s.epoch = p_barrier.epoch;
    return case
        when v_outstanding > 0
            then format('incomplete: %s of %s members outstanding', v_outstanding, p_barrier.member_count)
        when not p_barrier.is_sealed
            then format('never sealed: all of its %s members had arrived', p_barrier.member_count)
    end;
end;
$$;

comment on function tidegate._barrier_reason(tidegate.barrier) is
'Why an open barrier has not fired: members are outstanding, or it was never sealed. Null when neither holds.';

-- functions/barrier/_barrier_message.sql
create or replace function tidegate._barrier_message(p_barrier tidegate.barrier, p_with_results boolean)
returns tidegate.message
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * results has an element for each member, in their order, whatever its shape: that of member n is the n-th, and null
 * where it failed. Both lists are null together when they are larger than the barrier allows.
 */
declare
    v_is_fired constant boolean := p_barrier.state in ('fired', 'fire_failed');
    v_failed integer;
    v_outstanding integer;
    v_bytes bigint;
    v_results jsonb;
    v_failures jsonb;
    v_prefix text;
    v_payload jsonb;
begin
    select coalesce(sum(bit_count(s.failed::bit(64))), 0), coalesce(sum(bit_count(s.pending::bit(64))), 0)
    into v_failed, v_outstanding
    from barrier_slot s where s.epoch = p_barrier.epoch;
    if p_with_results then
        select coalesce(sum(_json_size(r.result)), 0) + coalesce(sum(octet_length(r.error)), 0) into v_bytes
        from barrier_result r where r.epoch = p_barrier.epoch;
    end if;
    if v_bytes <= p_barrier.inline_limit then
        if v_is_fired then
            select coalesce(jsonb_agg(r.result order by r.member), '[]') into v_results
            from barrier_result r where r.epoch = p_barrier.epoch;
        end if;
        v_failures := '[]';
        if v_failed > 0 then
            select jsonb_agg(jsonb_build_object('member', r.member, 'error', r.error) order by r.member)
            into v_failures
            from barrier_result r where r.epoch = p_barrier.epoch and r.error is not null;
        end if;
    end if;
    select i.event_prefix into v_prefix from installation i;
    v_payload := jsonb_build_object(
        'barrier', p_barrier.name, 'epoch', p_barrier.epoch, 'outcome', p_barrier.outcome,
        'reason', p_barrier.reason, 'members', p_barrier.member_count,
        'arrived', p_barrier.member_count - v_failed - v_outstanding, 'failed', v_failed,
        'results', v_results, 'failures', v_failures,
        'payload', case when v_is_fired then p_barrier.callback_payload else p_barrier.failure_payload end
    );
    return row(0, p_barrier.callback_priority, nextval('position_seq'), clock_now(), v_payload, p_barrier.callback_headers, _barrier_event_id(
            v_prefix, p_barrier.epoch, p_barrier.opened_at, case when v_is_fired then 'callback' else 'failure' end
        ), null, null, null, null, null, null, null, null, null, p_barrier.run_id, p_barrier.tenant, null, null, null, null)::message;
end;
$$;

comment on function tidegate._barrier_message(tidegate.barrier, boolean) is
'What a closed barrier says: its callback or, where it was aborted, its failure message, with the results as far as they are wanted and not too large.';

-- functions/barrier/_barrier_tell.sql
create or replace function tidegate._barrier_tell(p_barrier tidegate.barrier, p_queue text) returns text
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * In a subtransaction: what cannot be said must not undo the arrival that brought it about, as every repeat of that
 * arrival would fail in the same way. The message is kept as a dead letter, without results, which stay in the barrier;
 * where even that fails, a callback is in its barrier only, for recovery to fire again. What a repeat may mend
 * (deadlocks, locks, resources, shutdown) is raised, and the arrival with it.
 */
declare
    v_channel channel;
    v_message message;
    v_size integer;
    v_error text;
begin
    begin
        select * into v_channel from channel c where c.kind = 'queue' and c.name = p_queue;
        if not found then
            perform _no_such_channel('queue', p_queue);
        end if;
        v_message := _barrier_message(p_barrier, true);
        v_size := _json_size(v_message.payload);
        if v_size > v_channel.inline_limit then
            insert into body (payload) values (v_message.payload) returning body_id into v_message.body_id;
            v_message.payload := null;
            v_message.body_bytes := v_size;
        end if;
        perform _priority_declare(v_channel.channel_id, array[v_message.priority]);
        perform _message_enter(v_channel.channel_id, array[v_message]);
        if v_channel.doorbell is not null then
            perform _doorbell_ring(v_channel.channel_id, 'queue', v_channel.name, v_channel.doorbell);
        end if;
        return null;
    exception
        when others then
            if left(sqlstate, 2) in ('40', '53', '55', '57', '58') then
                raise;
            end if;
            v_error := format('[%s] %s', sqlstate, sqlerrm);
    end;

    begin
        v_message := _barrier_message(p_barrier, false);
        if v_channel.channel_id is not null then
            perform _message_bury(v_channel.channel_id, array[v_message], array['not_retryable'], array[v_error]);
        else
            insert into dead_letter (
                dead_at, channel_id, kind, channel, reason, last_error, fails_run_at, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member
            )
            select
                clock_now(), 0, 'queue', p_queue, 'not_retryable', _error_text(v_error),
                case
                when v_message.run_id is not null
                    and exists (
                        select from run r where r.run_id = v_message.run_id and r.fail_on_dead_letter and r.state = 'open'
                    )
                    then clock_now()
            end,
                v_message.attempts, v_message.priority, v_message.message_id, v_message.enqueued_at, v_message.payload, v_message.headers, v_message.event_id, v_message.body_id, v_message.body_bytes, v_message.max_attempts, v_message.max_batch, v_message.requeued_from, v_message.backoff, v_message.topic, v_message.group_key, v_message.job_key, v_message.run_id, v_message.tenant, v_message.errors, v_message.barrier, v_message.epoch, v_message.member;
        end if;
    exception
        when others then
            if left(sqlstate, 2) in ('40', '53', '55', '57', '58') then
                raise;
            end if;
            v_error := format('%s; nor could it be kept: [%s] %s', v_error, sqlstate, sqlerrm);
    end;
    return v_error;
end;
$$;

comment on function tidegate._barrier_tell(tidegate.barrier, text) is
'Let what a barrier says into its queue. Returns null, or the error that made it a dead letter instead; the error says so where it is none. Errors: those that a repeat may mend (classes 40, 53, 55, 57, 58).';

-- functions/barrier/_barrier_close.sql
create or replace function tidegate._barrier_close(
    p_name text, p_epoch bigint, p_state text, p_outcome text, p_reason text default null
) returns text
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * The one way from open to any other state, in one update under the lock of the epoch, which the caller holds: whoever
 * comes second finds the state changed. An epoch that is not the barrier's any more is left alone, and so is one that
 * is to be fired before it was sealed.
 */
declare
    v_barrier barrier;
    v_queue text;
    v_error text;
begin
    update barrier
    set state = p_state, reason = p_reason, closed_at = clock_now(),
        outcome = coalesce(p_outcome, case
            when exists (select from barrier_slot s where s.epoch = p_epoch and s.failed <> 0) then 'partial'
            else 'completed'
        end)
    where name = p_name and epoch = p_epoch and state = 'open' and (is_sealed or p_state <> 'fired')
    returning * into v_barrier;
    if not found then
        return null;
    end if;
    v_queue := case p_state when 'fired' then v_barrier.callback_queue when 'aborted' then v_barrier.failure_queue end;
    if v_queue is null then
        return p_state;
    end if;
    v_error := _barrier_tell(v_barrier, v_queue);
    if v_error is null then
        return p_state;
    end if;
    perform _incident_note('_barrier_close', null, substr(v_error, 2, 5), v_error);
    update barrier
    set state = case p_state when 'fired' then 'fire_failed' else p_state end,
        reason = concat_ws('; ', p_reason, v_error),
        look_at = clock_now() -- recovery fires a callback again; a failure message is told once
    where name = p_name and epoch = p_epoch;
    return case p_state when 'fired' then 'fire_failed' else p_state end;
end;
$$;

comment on function tidegate._barrier_close(text, bigint, text, text, text) is
'Close a barrier and let its callback or failure message into its queue. Returns the state it is in then, fire_failed when its callback became a dead letter; null, having changed nothing, when it is not open, not to be fired yet, or was opened anew.';

-- functions/barrier/_quorum_is_missed.sql
create or replace function tidegate._quorum_is_missed(p_name text, p_epoch bigint) returns boolean
language sql volatile
begin atomic
select b.is_sealed and b.quorum > b.member_count - coalesce(
    (
        select sum(pg_catalog.bit_count(s.failed::bit(64)))
        from tidegate.barrier_slot s
        where s.epoch = p_epoch
    ), 0
)
from tidegate.barrier b
where b.name = p_name and b.epoch = p_epoch and b.policy = 'quorum';
end;

comment on function tidegate._quorum_is_missed(text, bigint) is
'Whether so many members of a sealed barrier have failed that its quorum cannot be reached. Null when it has none.';

-- functions/barrier/_barrier_settle.sql
create or replace function tidegate._barrier_settle(
    p_name text, p_epoch bigint, p_member integer, p_result jsonb, p_error text
) returns text
language plpgsql volatile
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * Locks, here and wherever a barrier is touched: slots by (epoch, slot), then the row of the epoch, then the barrier,
 * then what enters its queue. Each is taken by a statement of its own, so that the next one reads in a snapshot that
 * was taken after the wait and sees what the former holder committed.
 *
 * Why a barrier cannot be full and silent: a member counts as arrived when its bit is cleared. Under the lock of the
 * slot one arrival sees the slot empty, and that one takes the slot off open_slots in the same transaction. Sealing
 * locks the same row. So those who empty a slot and the one who seals form a line, and each sees what all before it
 * have done. The last of them finds open_slots = 0 and the barrier sealed, and closes it before it commits. If its
 * transaction does not commit, then neither do its bit and its share of open_slots, or its seal: the last one is still
 * to come. Who comes after it finds the state changed, or his bit cleared.
 *
 * Results are aggregated by that last one after it has the row of the epoch: by then every other arrival has committed.
 */
declare
    v_is_failed constant boolean := p_error is not null;
    v_range record;
    v_bit bigint;
    v_pending bigint;
    v_open integer;
    v_state text;
begin
    select b.policy, b.quorum, b.run_id, r.first_member, r.member_count, r.slot_count into v_range
    from barrier b
    cross join lateral (
        select * from barrier_range n
        where n.epoch = b.epoch and n.first_member <= p_member
        order by n.first_member desc
        limit 1
    ) r
    where b.name = p_name and b.epoch = p_epoch and b.state = 'open'
        and p_member < r.first_member + r.member_count;
    if not found then
        return _barrier_standing(p_name, p_epoch, coalesce(p_member, 0));
    end if;

    if v_range.run_id is not null and exists (select from run s where s.run_id = v_range.run_id and s.state = 'stopped') then
        return 'closed'; -- it was opened while its run was cancelled, which did not see it
    end if;

    v_bit := 1::bigint << ((p_member - v_range.first_member) / v_range.slot_count);
    update barrier_slot
    set pending = pending & ~v_bit, failed = case when v_is_failed then failed | v_bit else failed end,
        arrived_at = clock_now(), room = null
    where epoch = p_epoch and slot = v_range.first_member + (p_member - v_range.first_member) % v_range.slot_count
        and pending & v_bit <> 0
    returning pending into v_pending;
    if not found then
        return _barrier_standing(p_name, p_epoch, p_member); -- duplicate, or the epoch was removed a moment ago
    end if;
    insert into barrier_result (epoch, member, at, result, error)
    values (p_epoch, p_member, clock_now(), p_result, p_error);

    if v_pending = 0 then
        update barrier_epoch set open_slots = open_slots - 1, room = null where epoch = p_epoch
        returning open_slots into v_open;
    elsif v_is_failed and v_range.policy <> 'collect' then
        perform from barrier_epoch e where e.epoch = p_epoch for update;
    else
        return case when v_is_failed then 'failed' else 'arrived' end;
    end if;

    if v_is_failed and v_range.policy = 'abort' then
        v_state := _barrier_close(
            p_name, p_epoch, 'aborted', 'aborted', format('member %s failed: %s', p_member, p_error)
        );
    elsif v_is_failed and v_range.policy = 'quorum' and _quorum_is_missed(p_name, p_epoch) then
        v_state := _barrier_close(
            p_name, p_epoch, 'aborted', 'quorum_missed',
            format('the quorum of %s is out of reach: member %s failed: %s', v_range.quorum, p_member, p_error)
        );
    elsif v_open = 0 then
        v_state := _barrier_close(p_name, p_epoch, 'fired', null);
    end if;
    if v_state is not null then
        return v_state;
    end if;
    -- Not the last one, or not sealed yet; or the barrier was closed or opened anew after this call had looked at it.
    select
        case
            when b.epoch <> p_epoch then 'stale'
            when b.state <> 'open' then 'closed'
            when v_is_failed then 'failed'
            else 'arrived'
        end
    into v_state
    from barrier b where b.name = p_name;
    return coalesce(v_state, 'unknown');
end;
$$;

comment on function tidegate._barrier_settle(text, bigint, integer, jsonb, text) is
'Let a member arrive or, with an error, fail, and close the barrier if that was what it waited for. Returns arrived or failed, or else fired, fire_failed or aborted for the one that closed it, or why nothing changed: duplicate, stale, closed, unknown.';

-- functions/barrier/_member_lock.sql
create or replace function tidegate._member_lock(p_messages tidegate.message[], p_with_epochs boolean)
returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * In the order of _barrier_settle: who settles several members at once, of several barriers, must not cross others.
 * Members of a barrier that is closed, or whose run was stopped, change nothing there, and never will: they are passed
 * over, so that a cancel of the run waits for none of them.
 */
declare
    v_members message[];
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('a settlement of members of a barrier');
    end if;
    v_members := array(
        select m from unnest(p_messages) m
        where m.barrier is not null and exists (
            select from barrier b
            where b.name = m.barrier and b.epoch = m.epoch and b.state = 'open'
                and (b.run_id is null or not exists (select from run s where s.run_id = b.run_id and s.state = 'stopped'))
        )
    );
    if v_members = '{}' then
        return;
    end if;
    perform
    from (
        select m.epoch, r.first_member + (m.member - r.first_member) % r.slot_count as slot
        from unnest(v_members) m
        cross join lateral (
            select * from barrier_range n
            where n.epoch = m.epoch and n.first_member <= m.member
            order by n.first_member desc
            limit 1
        ) r
        group by 1, 2
        order by 1, 2
    ) w
    cross join lateral (
        select from barrier_slot s where s.epoch = w.epoch and s.slot = w.slot limit 1 for update
    ) l;
    if p_with_epochs then
        perform
        from (
            select distinct m.epoch from unnest(v_members) m order by m.epoch
        ) w
        cross join lateral (
            select from barrier_epoch e where e.epoch = w.epoch limit 1 for update
        ) l;
    end if;
end;
$$;

comment on function tidegate._member_lock(tidegate.message[], boolean) is
'Lock the slots of members that messages belong to and, where some arrive and others fail in one transaction, the epochs. Errors: TG030 not READ COMMITTED.';

-- functions/barrier/_member_seize.sql
create or replace function tidegate._member_seize(p_name text, p_epoch bigint, p_member integer) returns boolean
language plpgsql volatile
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * For who ends the messages of members and waits for nobody: what it locks here, it needs when they end. The barrier
 * too: who opens it anew holds that row only, and to close it would be to wait for him.
 */
declare
    v_slot integer;
begin
    if not exists (
            select from barrier b
            where b.name = p_name and b.epoch = p_epoch and b.state = 'open'
                and (b.run_id is null or not exists (select from run s where s.run_id = b.run_id and s.state = 'stopped'))
        ) then
        return true;
    end if;
    select r.first_member + (p_member - r.first_member) % r.slot_count into v_slot
    from barrier_range r
    where r.epoch = p_epoch and r.first_member <= p_member
    order by r.first_member desc
    limit 1;
    perform from barrier_slot s where s.epoch = p_epoch and s.slot = v_slot for update skip locked;
    if not found and exists (select from barrier_slot s where s.epoch = p_epoch and s.slot = v_slot) then
        return false;
    end if;
    perform
    from barrier_epoch e
    inner join barrier b on b.name = e.name
    where e.epoch = p_epoch
    for update skip locked;
    return found or not exists (select from barrier_epoch e where e.epoch = p_epoch);
end;
$$;

comment on function tidegate._member_seize(text, bigint, integer) is
'Lock the slot and the epoch of a member, and its barrier, if nobody else has them; true also where there is nothing to lock, as the barrier is closed or its run was stopped.';

-- functions/barrier/_member_end.sql
create or replace function tidegate._member_end(
    p_messages tidegate.message[], p_errors text[] default null, p_result jsonb default null,
    p_results jsonb default null
) returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * Called by the routines that end messages, before they touch anything else that has its place after slots in the order
 * of locks. What the barrier answers is nobody's concern here: a member of a former epoch, or of a closed barrier, has
 * ended all the same.
 */
declare
    v_member record;
begin
    perform _member_lock(p_messages, false);
    for v_member in
        select m.message_id, m.barrier, m.epoch, m.member, p_errors[m.ordinality] as error
        from unnest(p_messages) with ordinality m
        where m.barrier is not null
        order by m.epoch, m.member
    loop
        perform _barrier_settle(
            v_member.barrier, v_member.epoch, v_member.member,
            case when p_errors is null then coalesce(p_results -> v_member.message_id::text, p_result) end,
            case when p_errors is not null then _error_text(v_member.error) end
        );
    end loop;
end;
$$;

comment on function tidegate._member_end(tidegate.message[], text[], jsonb, jsonb) is
'Let the members that messages belong to arrive with their results (p_results by message_id, or else p_result) or, where p_errors runs beside the messages, fail: in the transaction in which these end. Errors: TG030 not READ COMMITTED.';

-- functions/barrier/_barrier_open.sql
create or replace function tidegate._barrier_open(
    p_name text,
    p_members integer,
    p_callback_queue text,
    p_callback_payload jsonb,
    p_policy text,
    p_quorum integer,
    p_failure_queue text,
    p_failure_payload jsonb,
    p_expire_queue text,
    p_expires_in interval,
    p_stall_after interval,
    p_run_id text,
    p_tenant text,
    p_sealed boolean,
    p_callback_headers jsonb,
    p_callback_priority integer,
    p_inline_limit integer,
    p_key text,
    out epoch bigint,
    out outcome text,
    out is_repeat boolean
)
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
#variable_conflict use_column
/*
 * A former epoch is left where it is: whoever arrives there finds the barrier's epoch changed, and cleanup removes it.
 * So an opening waits only for another opening of that name, or for what closes the barrier at this moment.
 */
declare
    v_now timestamptz;
    v_former barrier;
    v_epoch bigint;
    v_queue text;
    v_needs_tenant boolean;
    v_answer text := 'opened';
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('barrier_open');
    end if;
    if p_name is null or octet_length(p_name) not between 1 and 512 then
        perform _bad_argument('p_name', left(p_name, 100), 'A name has 1 to 512 bytes.');
    elsif p_members is null or p_members not between 0 and 1000000 then
        perform _bad_argument('p_members', p_members::text, 'Open with 0 to 1000000 members; barrier_add adds more.');
    elsif p_policy is null or p_policy not in ('abort', 'collect', 'quorum') then
        perform _bad_argument('p_policy', p_policy, 'The policies are abort, collect and quorum.');
    elsif (p_policy = 'quorum') <> (p_quorum is not null) then
        perform _bad_argument('p_quorum', p_quorum::text, 'It goes with the policy quorum, and only with that.');
    elsif p_quorum < 1 or (p_sealed and p_quorum > p_members) then
        perform _bad_argument('p_quorum', p_quorum::text, 'At least 1 and at most as many as there are members.');
    elsif p_sealed is null then
        perform _bad_argument('p_sealed', null, 'True, or false when barrier_add is to follow.');
    elsif p_callback_payload is null or p_failure_payload is null then
        perform _bad_argument(
            case when p_callback_payload is null then 'p_callback_payload' else 'p_failure_payload' end, null,
            'Give a JSON value; for an empty one, ''null''::jsonb.'
        );
    elsif jsonb_typeof(p_callback_headers) <> 'object' or _json_size(p_callback_headers) > 8192 then
        perform _bad_argument(
            'p_callback_headers', left(p_callback_headers::text, 200), 'Headers are a JSON object of at most 8 kB.'
        );
    elsif p_callback_priority is null or p_callback_priority not between 0 and 9 then
        perform _bad_argument(
            'p_callback_priority', p_callback_priority::text, 'A priority is a number from 0 (first) to 9 (last).'
        );
    elsif p_inline_limit is null or p_inline_limit not between 0 and 67108864 then
        perform _bad_argument(
            'p_inline_limit', p_inline_limit::text, 'Bytes of results that the callback may carry: 0 to 67108864.'
        );
    elsif _is_duration(p_expires_in) is not true then
        perform _bad_argument('p_expires_in', p_expires_in::text, 'Give a positive interval, at most 100 years.');
    elsif _is_duration(p_stall_after) is not true then
        perform _bad_argument('p_stall_after', p_stall_after::text, 'Give a positive interval, at most 100 years.');
    end if;
    if octet_length(p_key) > 512 then -- they stand in indexes
        perform _bad_argument('p_key', left(p_key, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if octet_length(p_run_id) > 512 then -- they stand in indexes
        perform _bad_argument('p_run_id', left(p_run_id, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if octet_length(p_tenant) > 512 then -- they stand in indexes
        perform _bad_argument('p_tenant', left(p_tenant, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    foreach v_queue in array array[p_callback_queue, p_failure_queue, p_expire_queue] loop
        if v_queue is not null then
            select c.tenant_required into v_needs_tenant from channel c where c.kind = 'queue' and c.name = v_queue;
            if not found then
                perform _no_such_channel('queue', v_queue);
            elsif v_needs_tenant and p_tenant is null then
                perform _bad_argument('p_tenant', null, format('Queue %s requires a tenant.', v_queue));
            end if;
        end if;
    end loop;

    is_repeat := false;
    loop
        select * into v_former from barrier b where b.name = p_name for update;
        if v_former.key = p_key then
            epoch := v_former.epoch;
            outcome := v_former.answer;
            is_repeat := true;
            return;
        end if;
        if p_run_id is not null and exists (select from run s where s.run_id = p_run_id and s.state = 'stopped') then
            outcome := 'cancelled';
            return;
        end if;
        -- Drawn under the lock, so it is above the former one; unless the sequence was set back, as in a logical copy:
        -- then it goes on above all that are here.
        v_epoch := nextval('barrier_epoch_seq');
        if v_former.epoch >= v_epoch or exists (select from barrier_epoch e where e.epoch = v_epoch) then
            perform setval('barrier_epoch_seq', (select max(e.epoch) from barrier_epoch e));
            v_epoch := nextval('barrier_epoch_seq');
        end if;
        v_now := clock_now();
        insert into barrier as b (
            name, epoch, is_sealed, member_count, policy, quorum, callback_queue, callback_payload, callback_headers,
            callback_priority, failure_queue, failure_payload, expire_queue, inline_limit, run_id, tenant, key, answer,
            opened_at, expires_at, stall_after, look_at
        ) values (
            p_name, v_epoch, p_sealed, p_members, p_policy, p_quorum, p_callback_queue, p_callback_payload,
            p_callback_headers, p_callback_priority, p_failure_queue, p_failure_payload, p_expire_queue, p_inline_limit,
            p_run_id, p_tenant, p_key, 'opened', v_now, v_now + p_expires_in, p_stall_after,
            least(v_now + p_expires_in, v_now + p_stall_after)
        )
        on conflict (name) do update
        set epoch = excluded.epoch, is_sealed = excluded.is_sealed, member_count = excluded.member_count,
            policy = excluded.policy, quorum = excluded.quorum, callback_queue = excluded.callback_queue,
            callback_payload = excluded.callback_payload, callback_headers = excluded.callback_headers,
            callback_priority = excluded.callback_priority, failure_queue = excluded.failure_queue,
            failure_payload = excluded.failure_payload, expire_queue = excluded.expire_queue,
            inline_limit = excluded.inline_limit, run_id = excluded.run_id, tenant = excluded.tenant,
            key = excluded.key, answer = excluded.answer, opened_at = excluded.opened_at,
            expires_at = excluded.expires_at, stall_after = excluded.stall_after, look_at = excluded.look_at,
            state = 'open', outcome = null, reason = null, closed_at = null, kept_at = null, resent_at = null,
            look_count = 0
        where b.epoch = v_former.epoch;
        exit when found; -- else somebody opened it for the first time a moment ago
    end loop;

    insert into barrier_epoch (epoch, name, open_slots, room)
    values (v_epoch, p_name, 0, repeat(' ', least(750, p_members / 8)));
    if p_members > 0 then
        update barrier_epoch e set open_slots = _barrier_grow(v_epoch, 1, p_members) where e.epoch = v_epoch;
    end if;
    if p_members = 0 and p_sealed then
        v_answer := _barrier_close(p_name, v_epoch, 'fired', null);
        update barrier b set answer = v_answer where b.name = p_name;
    end if;
    epoch := v_epoch;
    outcome := v_answer;
end;
$$;

comment on function tidegate._barrier_open(
    text, integer, text, jsonb, text, integer, text, jsonb, text, interval, interval, text, text, boolean, jsonb, integer, integer, text
) is
'Open a barrier under an epoch of its own. is_repeat: the key was that of the latest opening, of which this is the answer; nothing was changed. outcome cancelled, without an epoch: its run was stopped, and nothing was opened. Errors: TG010 bad argument, TG020 no such queue, TG030 not READ COMMITTED.';

-- functions/barrier/_members_send.sql
create or replace function tidegate._members_send(
    p_name text, p_epoch bigint, p_first_member integer, p_queue text, p_payloads jsonb[], p_headers jsonb,
    p_priority integer, p_max_attempts integer, p_run_id text, p_tenant text
) returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
declare
    v_now constant timestamptz := clock_now();
    v_channel channel;
    v_messages message[];
begin
    select * into v_channel from channel c where c.kind = 'queue' and c.name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    elsif v_channel.is_draining then
        raise exception using
            errcode = 'TG023',
            message = format('queue %L is draining and takes no more messages', p_queue),
            hint = 'Send elsewhere, or let it take messages again with queue_resume.';
    elsif v_channel.tenant_required and p_tenant is null then
        perform _bad_argument('p_tenant', null, format('Queue %s requires a tenant.', p_queue));
    elsif array_position(p_payloads, null) is not null then
        perform _bad_argument(
            format('p_payloads[%s]', array_position(p_payloads, null)), null,
            'Give a JSON value; for an empty one, ''null''::jsonb.'
        );
    elsif jsonb_typeof(p_headers) <> 'object' or _json_size(p_headers) > 8192 then
        perform _bad_argument('p_headers', left(p_headers::text, 200), 'Headers are a JSON object of at most 8 kB.');
    elsif p_priority is null or p_priority not between 0 and 9 then
        perform _bad_argument('p_priority', p_priority::text, 'A priority is a number from 0 (first) to 9 (last).');
    elsif p_max_attempts not between 0 and 32767 then
        perform _bad_argument('p_max_attempts', p_max_attempts::text, 'Give 1 to 32767, or 0 for ever.');
    end if;
    if p_payloads = '{}' then
        return;
    end if;
    perform _priority_declare(v_channel.channel_id, array[p_priority]::smallint[]);

    with input as materialized (
        select
            u.ordinality, u.payload, nextval('position_seq') as id, _json_size(u.payload) as bytes,
            case when _json_size(u.payload) > v_channel.inline_limit then nextval('body_body_id_seq') end as body_id
        from unnest(p_payloads) with ordinality u (payload, ordinality)
    ), large as (
        insert into body (body_id, payload) overriding system value
        select i.body_id, i.payload from input i where i.body_id is not null
    )
    select array_agg(row(0, p_priority, i.id, v_now, case when i.body_id is null then i.payload end, p_headers, null, i.body_id, case when i.body_id is not null then i.bytes end, p_max_attempts, null, null, null, null, null, null, p_run_id, p_tenant, null, p_name, p_epoch, p_first_member + i.ordinality::integer - 1)::message order by i.ordinality)
    into v_messages
    from input i;
    perform _message_enter(v_channel.channel_id, v_messages);
    if v_channel.doorbell is not null then
        perform _doorbell_ring(v_channel.channel_id, 'queue', v_channel.name, v_channel.doorbell);
    end if;
    insert into barrier_sent (
        epoch, sent_at, first_member, queue, priority, max_attempts, headers, message_ids, payloads, body_ids
    )
    select
        p_epoch, v_now, min(m.member), p_queue, p_priority, p_max_attempts, p_headers,
        array_agg(m.message_id order by m.member), array_agg(m.payload order by m.member),
        case when count(m.body_id) > 0 then array_agg(m.body_id order by m.member) end
    from unnest(v_messages) m
    group by (m.member - p_first_member) / 1000;
end;
$$;

comment on function tidegate._members_send(
    text, bigint, integer, text, jsonb[], jsonb, integer, integer, text, text
) is
'Send the messages of members to a queue, from p_first_member on. Errors: TG010 bad argument, TG020 no such queue, TG023 it is draining.';

-- functions/barrier/_members_resend.sql
create or replace function tidegate._members_resend(p_barrier tidegate.barrier, p_limit integer)
returns integer
language plpgsql volatile
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * Lost is who is outstanding and whose message is nowhere. Both are asked in one statement, so in one snapshot, and
 * whatever moves a message or ends it does so in one transaction: a message on its way is seen where it was, with its
 * member outstanding, or where it is. A dead one is none of these, as its member has failed with it; nor is one in
 * blocked, as members have no group. Where nothing is kept to be sent, as after barrier_open, nobody is lost.
 *
 * This reads what waits in the queue, and what is leased of it, below the floor and the marks of deadlines too, where
 * nothing should be unless sequence or clock were set back: once a stranded barrier. An index would be every message's
 * to keep up.
 *
 * The caller holds the epoch. A message keeps its message_id, and so its event_id, and the same large payload, as
 * long as that is there: else it cannot be sent again.
 */
declare
    v_queue text;
    v_channel channel;
    v_messages message[];
begin
    select n.queue into v_queue from barrier_sent n where n.epoch = p_barrier.epoch order by n.first_member limit 1;
    select * into v_channel from channel c where c.kind = 'queue' and c.name = v_queue;
    if not found then
        return 0;
    end if;
    with outstanding as materialized (
        select s.slot + b.bit * r.slot_count as member
        from barrier_slot s
        cross join lateral (
            select * from barrier_range n
            where n.epoch = s.epoch and n.first_member <= s.slot
            order by n.first_member desc
            limit 1
        ) r
        cross join generate_series(0, 61) b (bit)
        where s.epoch = p_barrier.epoch and s.pending & (1::bigint << b.bit) <> 0
    ), present as materialized (
        select r.member
        from ready r
        where r.channel_id = v_channel.channel_id and r.epoch = p_barrier.epoch
        union all
        select s.member
        from scheduled s
        where s.channel_id = v_channel.channel_id and s.epoch = p_barrier.epoch
        union all
        select m.member
        from lease l
        cross join unnest(l.messages) m
        where l.channel_id = v_channel.channel_id and m.epoch = p_barrier.epoch
    ), sent as materialized (
        select
            n.priority, n.max_attempts, n.headers, n.first_member + u.number::integer - 1 as member, u.message_id,
            n.sent_at, u.payload, u.body_id
        from barrier_sent n
        cross join unnest(n.message_ids, n.payloads, n.body_ids) with ordinality
            as u (message_id, payload, body_id, number)
        where n.epoch = p_barrier.epoch
    ), lost as (
        select s.*, _json_size(y.payload) as body_bytes, i.event_prefix
        from outstanding o
        inner join sent s on s.member = o.member
        left join body y on y.body_id = s.body_id
        cross join installation i
        where not exists (select from present p where p.member = o.member)
            and (s.body_id is null or y.body_id is not null)
        order by s.member
        limit p_limit
    )
    select array_agg(row(0, l.priority, l.message_id, clock_now(), l.payload, l.headers, _event_id(l.event_prefix, l.message_id, l.sent_at), l.body_id, l.body_bytes, l.max_attempts, null, null, null, null, null, null, p_barrier.run_id, p_barrier.tenant, null, p_barrier.name, p_barrier.epoch, l.member)::message order by l.member)
    into v_messages
    from lost l;
    if v_messages is null then
        return 0;
    end if;
    if v_channel.tenant_required and p_barrier.tenant is null then
        perform _bad_argument('p_tenant', null, format('Queue %s requires a tenant.', v_queue));
    end if;
    perform _priority_declare(
        v_channel.channel_id, array(select distinct m.priority::smallint from unnest(v_messages) m)
    );
    perform _message_enter(v_channel.channel_id, v_messages);
    if v_channel.doorbell is not null then
        perform _doorbell_ring(v_channel.channel_id, 'queue', v_channel.name, v_channel.doorbell);
    end if;
    return cardinality(v_messages);
end;
$$;

comment on function tidegate._members_resend(tidegate.barrier, integer) is
'Send the messages of outstanding members again that are nowhere, up to p_limit. Returns how many; 0 when none is lost, or nothing was kept that could be sent.';

-- functions/barrier/barrier_open.sql
create or replace function tidegate.barrier_open(
    p_name text,
    p_members integer,
    p_callback_queue text default null,
    p_callback_payload jsonb default '{}',
    p_policy text default 'abort',
    p_quorum integer default null,
    p_failure_queue text default null,
    p_failure_payload jsonb default '{}',
    p_expire_queue text default null,
    p_expires_in interval default '6 hours',
    p_stall_after interval default '2.5 hours',
    p_run_id text default null,
    p_tenant text default null,
    p_sealed boolean default true,
    p_callback_headers jsonb default null,
    p_callback_priority integer default 0,
    p_inline_limit integer default 1048576,
    p_key text default null
) returns tidegate.barrier_opened
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_opened barrier_opened;
begin
    select o.epoch, o.outcome into v_opened
    from _barrier_open(
        p_name, p_members,
        p_callback_queue => p_callback_queue,
        p_callback_payload => p_callback_payload,
        p_policy => p_policy,
        p_quorum => p_quorum,
        p_failure_queue => p_failure_queue,
        p_failure_payload => p_failure_payload,
        p_expire_queue => p_expire_queue,
        p_expires_in => p_expires_in,
        p_stall_after => p_stall_after,
        p_run_id => p_run_id,
        p_tenant => p_tenant,
        p_sealed => p_sealed,
        p_callback_headers => p_callback_headers,
        p_callback_priority => p_callback_priority,
        p_inline_limit => p_inline_limit,
        p_key => p_key
    ) o;
    return v_opened;
end;
$$;

comment on function tidegate.barrier_open(
    text, integer, text, jsonb, text, integer, text, jsonb, text, interval, interval, text, text, boolean, jsonb, integer, integer, text
) is
'Open a barrier of members 1 to p_members; when the last has arrived, p_callback_payload is sent to p_callback_queue with their results. The same name again begins a new epoch: calls of the former one are told stale. Without members a sealed barrier fires at once (outcome fired); one opened with p_sealed false waits for barrier_add and barrier_seal. p_policy: abort (the first failure ends it), collect (failures are among the results), quorum (p_quorum must arrive). p_failure_queue hears when it is aborted, unless its run was stopped. It is stranded after p_expires_in, or p_stall_after without an arrival. Results of up to p_inline_limit bytes travel in the callback. p_key makes the call repeatable: the same one again answers the first epoch, and opens and sends nothing, whatever else it says. For a run that was stopped nothing is opened: outcome cancelled. Errors: TG010 bad argument, TG020 no such queue, TG030 not READ COMMITTED.';

-- functions/barrier/barrier_send.sql
create or replace function tidegate.barrier_send(
    p_name text,
    p_queue text,
    p_payloads jsonb[],
    p_callback_queue text default null,
    p_callback_payload jsonb default '{}',
    p_policy text default 'abort',
    p_quorum integer default null,
    p_failure_queue text default null,
    p_failure_payload jsonb default '{}',
    p_expire_queue text default null,
    p_expires_in interval default '6 hours',
    p_stall_after interval default '2.5 hours',
    p_run_id text default null,
    p_tenant text default null,
    p_sealed boolean default true,
    p_callback_headers jsonb default null,
    p_callback_priority integer default 0,
    p_inline_limit integer default 1048576,
    p_key text default null,
    p_headers jsonb default null,
    p_priority integer default 0,
    p_max_attempts integer default null
) returns tidegate.barrier_opened
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
/* Counted in and sent in one transaction: nobody can arrive at a barrier that does not expect him. */
declare
    v_opened record;
    v_answer barrier_opened;
begin
    if p_payloads is null or array_ndims(p_payloads) > 1 then
        perform _bad_argument('p_payloads', left(p_payloads::text, 200), 'Give a flat array of JSON values.');
    end if;
    select * into v_opened
    from _barrier_open(
        p_name, cardinality(p_payloads),
        p_callback_queue => p_callback_queue,
        p_callback_payload => p_callback_payload,
        p_policy => p_policy,
        p_quorum => p_quorum,
        p_failure_queue => p_failure_queue,
        p_failure_payload => p_failure_payload,
        p_expire_queue => p_expire_queue,
        p_expires_in => p_expires_in,
        p_stall_after => p_stall_after,
        p_run_id => p_run_id,
        p_tenant => p_tenant,
        p_sealed => p_sealed,
        p_callback_headers => p_callback_headers,
        p_callback_priority => p_callback_priority,
        p_inline_limit => p_inline_limit,
        p_key => p_key
    );
    v_answer := row(v_opened.epoch, v_opened.outcome);
    if not v_opened.is_repeat and v_opened.outcome <> 'cancelled' then
        perform _members_send(
            p_name, v_opened.epoch, 1, p_queue, p_payloads, p_headers, p_priority, p_max_attempts, p_run_id, p_tenant
        );
    end if;
    return v_answer;
end;
$$;

comment on function tidegate.barrier_send(
    text, text, jsonb[], text, jsonb, text, integer, text, jsonb, text, interval, interval, text, text, boolean, jsonb, integer, integer, text, jsonb, integer, integer
) is
'Open a barrier and send a message for each member to p_queue: payload n is member n. A member arrives when its message is acked, with the result of queue_ack, and fails when its message dies or is cancelled. p_headers, p_priority and p_max_attempts are the messages''; the other options are those of barrier_open. Errors: TG010 bad argument, TG020 no such queue, TG023 the queue is draining, TG030 not READ COMMITTED.';

-- functions/barrier/barrier_add.sql
create or replace function tidegate.barrier_add(
    p_name text, p_epoch bigint, p_count integer, p_key text default null
) returns integer
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_barrier barrier;
    v_first integer;
    v_standing text;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('barrier_add');
    end if;
    if p_count is null or p_count not between 1 and 1000000 then
        perform _bad_argument('p_count', p_count::text, 'Add 1 to 1000000 members at a time.');
    elsif octet_length(p_key) > 512 then
        perform _bad_argument('p_key', left(p_key, 100), 'A key has at most 512 bytes; hash a longer one.');
    end if;
    perform from barrier_epoch e where e.epoch = p_epoch and e.name = p_name for update;
    select * into v_barrier from barrier b where b.name = p_name and b.epoch = p_epoch for update;
    if p_key is not null and v_barrier.epoch is not null then
        select r.first_member into v_first from barrier_range r where r.epoch = p_epoch and r.key = p_key;
        if found then
            return v_first;
        end if;
    end if;
    if v_barrier.state is distinct from 'open' then
        v_standing := _barrier_standing(p_name, p_epoch);
        if v_standing = 'unknown' then
            perform _no_such_barrier(p_name, p_epoch);
        end if;
        return null;
    elsif v_barrier.is_sealed then
        raise exception using
            errcode = 'TG081',
            message = format('barrier %L is sealed: it takes no more members', p_name),
            hint = 'Open it with p_sealed => false, add, and then call barrier_seal.';
    elsif v_barrier.member_count + p_count > 100000000 then
        perform _bad_argument('p_count', p_count::text, 'A barrier has at most 100000000 members.');
    end if;
    v_first := v_barrier.member_count + 1;
    update barrier_epoch
    set open_slots = open_slots + _barrier_grow(p_epoch, v_first, p_count, p_key)
    where epoch = p_epoch;
    update barrier set member_count = member_count + p_count where name = p_name and epoch = p_epoch;
    return v_first;
end;
$$;

comment on function tidegate.barrier_add(text, bigint, integer, text) is
'Add members to a barrier that is not sealed yet. Returns the number of the first new one; null, having changed nothing, when the barrier is closed or was opened anew. p_key makes the call repeatable: the same one again answers the first number. Errors: TG010 bad argument, TG030 not READ COMMITTED, TG080 no such barrier or epoch, TG081 it is sealed.';

-- functions/barrier/barrier_seal.sql
create or replace function tidegate.barrier_seal(p_name text, p_epoch bigint) returns text
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_open integer;
    v_state text;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('barrier_seal');
    end if;
    select e.open_slots into v_open from barrier_epoch e where e.epoch = p_epoch and e.name = p_name for update;
    update barrier set is_sealed = true
    where name = p_name and epoch = p_epoch and state = 'open' and not is_sealed;
    if not found then
        v_state := _barrier_standing(p_name, p_epoch);
        return case v_state when 'open' then 'duplicate' else v_state end;
    end if;
    if _quorum_is_missed(p_name, p_epoch) then
        return _barrier_close(
            p_name, p_epoch, 'aborted', 'quorum_missed', 'sealed with a quorum that is out of reach'
        );
    elsif v_open = 0 then
        return _barrier_close(p_name, p_epoch, 'fired', null);
    end if;
    return 'sealed';
end;
$$;

comment on function tidegate.barrier_seal(text, bigint) is
'Say that no member will be added. Returns sealed; fired when all have arrived already, or none was added (fire_failed when the callback became a dead letter); aborted when its quorum is out of reach; or duplicate, closed, stale or unknown, having changed nothing. Errors: TG030 not READ COMMITTED.';

-- functions/barrier/barrier_arrive.sql
create or replace function tidegate.barrier_arrive(
    p_name text, p_epoch bigint, p_member integer, p_result jsonb default null
) returns text
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('barrier_arrive');
    end if;
    return _barrier_settle(p_name, p_epoch, p_member, p_result, null);
end;
$$;

comment on function tidegate.barrier_arrive(text, bigint, integer, jsonb) is
'Say that a member is done, with its result, in the caller''s transaction; keep that short, as others of its slot wait for it. Returns arrived, or fired for the last one: the callback then enters its queue with this commit (fire_failed: it became a dead letter). Or, having changed nothing: duplicate (it has arrived or failed before), stale (the barrier was opened anew), closed (also when its run was stopped), or unknown (no such barrier, epoch or member). Errors: TG030 not READ COMMITTED.';

-- functions/barrier/barrier_fail.sql
create or replace function tidegate.barrier_fail(
    p_name text, p_epoch bigint, p_member integer, p_error text default null
) returns text
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('barrier_fail');
    end if;
    return _barrier_settle(p_name, p_epoch, p_member, null, _error_text(p_error));
end;
$$;

comment on function tidegate.barrier_fail(text, bigint, integer, text) is
'Say that a member has failed for good. Returns failed; aborted when that ended the barrier (policy abort, or a quorum out of reach); fired (or fire_failed) when it was the last one of a barrier that takes failures; or, having changed nothing, duplicate, stale, closed or unknown, as barrier_arrive. Errors: TG030 not READ COMMITTED.';

-- functions/barrier/barrier_abort.sql
create or replace function tidegate.barrier_abort(p_name text, p_epoch bigint, p_reason text default null)
returns text
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('barrier_abort');
    end if;
    perform from barrier_epoch e where e.epoch = p_epoch and e.name = p_name for update;
    return coalesce(
        _barrier_close(p_name, p_epoch, 'aborted', 'aborted', coalesce(left(p_reason, 1000), 'aborted')),
        _barrier_standing(p_name, p_epoch)
    );
end;
$$;

comment on function tidegate.barrier_abort(text, bigint, text) is
'End an open barrier: it will not fire, later arrivals are told closed, and its failure queue hears the reason. Returns aborted to the one that did it; closed, stale or unknown to all others, having changed nothing. Errors: TG030 not READ COMMITTED.';

-- functions/barrier/barrier_status.sql
create or replace function tidegate.barrier_status(p_name text) returns setof tidegate.barrier_state
language plpgsql stable rows 1
security definer
set search_path = tidegate, pg_temp
as $$
begin
    return query
    select
        b.name,
        b.epoch,
        b.state,
        b.outcome,
        b.reason,
        b.policy,
        b.is_sealed,
        b.member_count as members,
        b.member_count - s.failed - s.outstanding as arrived,
        s.failed,
        s.outstanding,
        b.opened_at,
        s.progress_at,
        b.expires_at,
        greatest(b.opened_at, s.progress_at, b.kept_at) + b.stall_after as stalls_at,
        b.closed_at,
        b.run_id,
        b.tenant
    from barrier b
    cross join lateral (
        select
            coalesce(sum(bit_count(n.failed::bit(64))), 0)::integer as failed,
            coalesce(sum(bit_count(n.pending::bit(64))), 0)::integer as outstanding,
            max(n.arrived_at) as progress_at
        from barrier_slot n
        where n.epoch = b.epoch
    ) s
    where b.name = p_name;
end;
$$;

comment on function tidegate.barrier_status(text) is
'How the latest epoch of a barrier stands: state, outcome, members arrived, failed and outstanding, deadlines. No rows when there is no such barrier. It reads a row for 62 members.';

-- functions/barrier/barrier_results.sql
create or replace function tidegate.barrier_results(
    p_name text, p_epoch bigint, p_after integer default 0, p_limit integer default 1000
) returns setof tidegate.member_result
language plpgsql stable rows 1000
security definer
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'Read between 1 and 10000 results at a time.');
    end if;
    return query
    select r.member, r.error is not null, r.result, r.error, r.at
    from barrier_epoch e
    cross join lateral (
        select * from barrier_result n
        where n.epoch = e.epoch and n.member > p_after
        order by n.member
        limit p_limit
    ) r
    where e.epoch = p_epoch and e.name = p_name
    order by r.member;
end;
$$;

comment on function tidegate.barrier_results(text, bigint, integer, integer) is
'Results of the members of an epoch above p_after, in their order: a page. Those of a former epoch are there until cleanup removes them. No rows when there are none, or no such barrier. Errors: TG010 bad p_limit.';

-- functions/barrier/barrier_resolve.sql
create or replace function tidegate.barrier_resolve(p_name text, p_epoch bigint, p_outcome text) returns text
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
/* An answer is about one epoch: one that comes after the barrier was opened anew is told stale and changes nothing. */
declare
    v_now timestamptz;
    v_barrier barrier;
    v_event_id uuid;
    v_error text;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('barrier_resolve');
    end if;
    if p_outcome is null or p_outcome not in ('failed', 'completed', 'keep', 'fire') then
        perform _bad_argument('p_outcome', p_outcome, 'The outcomes are failed, completed, keep and fire.');
    end if;
    perform from barrier_epoch e where e.epoch = p_epoch and e.name = p_name for update;
    select * into v_barrier from barrier b where b.name = p_name and b.epoch = p_epoch for update;
    if not found then
        return _barrier_standing(p_name, p_epoch);
    end if;

    if p_outcome = 'keep' and v_barrier.state = 'open' then
        v_now := clock_now();
        update barrier
        set kept_at = v_now, look_at = v_now + stall_after, expires_at = greatest(expires_at, v_now + stall_after),
            look_count = 0, resent_at = null
        where name = p_name;
        return 'kept';
    elsif p_outcome = 'completed' then
        if v_barrier.state = 'open' then
            perform _barrier_close(p_name, p_epoch, 'resolved', 'completed', 'said to be completed elsewhere');
            return 'completed';
        end if;
        return case v_barrier.state when 'resolved' then 'completed' else 'closed' end;
    elsif p_outcome = 'failed' then
        if v_barrier.state = 'open' then
            perform _barrier_close(p_name, p_epoch, 'aborted', 'expired', _barrier_reason(v_barrier));
            return 'failed';
        end if;
        return case when v_barrier.state = 'aborted' and v_barrier.outcome = 'expired' then 'failed' else 'closed' end;
    elsif p_outcome = 'fire' and v_barrier.state in ('fired', 'fire_failed') then
        if v_barrier.state = 'fired' then
            return 'fired';
        end if;
        select _barrier_event_id(i.event_prefix, p_epoch, v_barrier.opened_at, 'callback') into v_event_id
        from installation i;
        -- Locked first, and asked in a statement of its own: who requeues it at this moment has committed by then.
        perform from dead_letter d
        where d.channel = v_barrier.callback_queue and d.event_id = v_event_id
        order by d.dead_letter_id
        for update;
        if exists (
            select from dead_letter d
            where d.channel = v_barrier.callback_queue and d.event_id = v_event_id
                and (d.requeued_count > 0 or d.state in ('requeued', 'resolved'))
        ) then
            update barrier set state = 'fired', reason = null where name = p_name;
            return 'fired'; -- somebody has requeued the dead letter: it has been on its way, whatever became of it
        end if;
        update dead_letter d
        set state = 'discarded', resolved_at = clock_now(),
            notes = d.notes || jsonb_build_object(
                'at', clock_now(), 'by', session_user, 'did', 'discard', 'note', 'its barrier fires it again'
            )
        where d.channel = v_barrier.callback_queue and d.state = 'dead'
            and d.reason = 'not_retryable' and d.event_id = v_event_id;
        v_barrier.reason := null;
        v_error := _barrier_tell(v_barrier, v_barrier.callback_queue);
        update barrier
        set state = case when v_error is null then 'fired' else 'fire_failed' end, reason = v_error
        where name = p_name;
        return case when v_error is null then 'fired' else 'fire_failed' end;
    end if;
    return _barrier_standing(p_name, p_epoch);
end;
$$;

comment on function tidegate.barrier_resolve(text, bigint, text) is
'Answer what is to become of a stranded barrier. p_outcome failed: it is aborted as expired, and its failure queue hears what was outstanding; completed: it is closed without a callback, as its work was finished elsewhere; keep: it lives, and is looked at again after its stall_after; fire: the callback that became a dead letter enters its queue once more. Returns failed, completed, kept or fired, also to a repeat; fire_failed when it failed again; or, having changed nothing, closed, open, stale or unknown. Errors: TG010 bad p_outcome, TG030 not READ COMMITTED.';

-- functions/barrier/_barrier_trim.sql
create or replace function tidegate._barrier_trim(p_limit integer, p_before timestamptz) returns integer
language plpgsql volatile
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * First the barriers that were closed long ago; then, of epochs that are no barrier's any more, results, slots, ranges
 * and what was sent, and at last the row of the epoch, when nothing hangs on it. An arrival at a former epoch that is
 * under way holds a slot, which is skipped, and its epoch is left for the next pass. Every row that goes is counted:
 * less than p_limit of them tells that no more is left than others hold.
 */
declare
    v_limit integer := p_limit;
    v_epoch bigint;
    v_removed integer;
    v_count integer;
begin
    delete from barrier where ctid = any(array(
        select b.ctid from barrier b
        where b.state <> 'open' and b.state <> 'fire_failed' and b.closed_at < p_before
        order by b.closed_at limit p_limit for update skip locked
    ));
    get diagnostics v_removed = row_count;
    for v_epoch in
        select e.epoch from barrier_epoch e
        where not exists (select from barrier b where b.name = e.name and b.epoch = e.epoch)
        order by e.epoch
        limit p_limit
        for update of e skip locked
    loop
        exit when v_limit <= 0;
        if v_limit > 0 then
            delete from barrier_slot where ctid = any(array(
                select n.ctid from barrier_slot n where n.epoch = v_epoch limit v_limit for update skip locked
            ));
            get diagnostics v_count = row_count;
            v_limit := v_limit - v_count;
        end if;
        if v_limit > 0 then
            delete from barrier_result where ctid = any(array(
                select n.ctid from barrier_result n where n.epoch = v_epoch limit v_limit for update skip locked
            ));
            get diagnostics v_count = row_count;
            v_limit := v_limit - v_count;
        end if;
        if v_limit > 0 then
            delete from barrier_sent where ctid = any(array(
                select n.ctid from barrier_sent n where n.epoch = v_epoch limit v_limit for update skip locked
            ));
            get diagnostics v_count = row_count;
            v_limit := v_limit - v_count;
        end if;
        if v_limit > 0 then
            delete from barrier_range where ctid = any(array(
                select n.ctid from barrier_range n where n.epoch = v_epoch limit v_limit for update skip locked
            ));
            get diagnostics v_count = row_count;
            v_limit := v_limit - v_count;
        end if;
        delete from barrier_epoch e
        where e.epoch = v_epoch
            and not exists (select from barrier_slot n where n.epoch = v_epoch)
            and not exists (select from barrier_result n where n.epoch = v_epoch)
            and not exists (select from barrier_sent n where n.epoch = v_epoch)
            and not exists (select from barrier_range n where n.epoch = v_epoch);
        get diagnostics v_count = row_count;
        v_limit := v_limit - v_count;
    end loop;
    return v_removed + p_limit - v_limit;
end;
$$;

comment on function tidegate._barrier_trim(integer, timestamptz) is
'Remove barriers closed before p_before, and what is left of former epochs, up to p_limit rows of each. Returns how many rows went; less than p_limit when there was no more to remove, 0 when there was nothing.';

-- functions/counter/_counter_closed.sql
create or replace function tidegate._counter_closed(p_run_ids text[]) returns text[]
language sql stable
begin atomic
-- A run that nobody opened has no end that anybody knows of: active.
select coalesce(array_agg(r.run_id), '{}')
from tidegate.run r
where r.run_id = any(p_run_ids) and r.state <> 'open';
end;

comment on function tidegate._counter_closed(text[]) is
'Which of these runs have ended: their counters take no more values. An empty array when none has.';

-- functions/counter/_counter_write.sql
create or replace function tidegate._counter_write(
    p_keys text[], p_values bigint[], p_run_ids text[]
) returns setof tidegate.counted
language plpgsql volatile rows 1000
set search_path = tidegate, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * All that writes to counter, this and the fold, does so under one advisory lock, taken before the statement that
 * reads: no two of them can wait for each other in a circle. Additions take no lock and wait for nobody.
 *
 * A value is set against the additions not folded yet: what is added by transactions still open comes on top. A counter
 * that says the value already is not written.
 */
declare
    v_now constant timestamptz := clock_now();
    v_folded_to bigint;
    v_closed text[];
begin
    perform pg_advisory_xact_lock(_lock_key('counter'::regclass, 0));
    v_folded_to := coalesce((select f.folded_to from counter_fold f order by f.fold_id desc limit 1), 0);
    v_closed := _counter_closed(array(
        select p.run_id from unnest(p_run_ids) as p (run_id) where p.run_id is not null
        union
        select b.run_id
        from unnest(p_keys) as p (key)
        cross join lateral (
            select c.run_id from counter c where c.key = p.key order by c.entry desc limit 1
        ) b
        where b.run_id is not null
    ));

    return query
    with asked as (
        select
            p.key,
            greatest(p.value, 0) as value,
            p.value < 0 as is_clamped,
            coalesce(p.run_id, b.run_id) as run_id,
            p.run_id is not null and p.run_id is distinct from b.run_id as is_moved,
            b.ctid as former,
            coalesce(b.value, 0) as base,
            coalesce(b.value, 0) + a.added as counted
        from unnest(p_keys, p_values, p_run_ids) as p (key, value, run_id)
        left join lateral (
            select c.ctid, c.value, c.run_id from counter c where c.key = p.key order by c.entry desc limit 1
        ) b on true
        cross join lateral (
            select coalesce(sum(d.amount), 0) as added
            from counter_delta d
            where d.key = p.key and d.delta_id > v_folded_to
        ) a
    ), judged as (
        select
            a.*,
            case
                when a.run_id = any(v_closed) then 'closed'
                when a.is_clamped then 'clamped'
                when a.value <> a.counted or a.is_moved then 'written'
                else 'unchanged'
            end as outcome
        from asked a
    ), changed as (
        select j.* from judged j
        where j.outcome in ('written', 'clamped') and (j.value <> j.counted or j.is_moved)
    ), written as (
        insert into counter (key, value, run_id, written_at)
        select c.key, c.base + c.value - c.counted, c.run_id, v_now from changed c order by c.key
    ), replaced as (
        delete from counter where ctid = any(array(select c.former from changed c where c.former is not null))
    )
    select
        j.key,
        case when j.outcome = 'closed' then j.said else j.value end,
        j.said,
        least(abs(j.value - j.counted), 1000000000000000000)::bigint,
        j.outcome
    from (select n.*, least(greatest(n.counted, 0), 1000000000000000000)::bigint as said from judged n) j
    order by j.key;
end;
$$;

comment on function tidegate._counter_write(text[], bigint[], text[]) is
'Set counters to values, each at most once. Returns a row a counter, in order of their keys.';

-- functions/counter/_counter_fold.sql
create or replace function tidegate._counter_fold(p_limit integer) returns integer
language plpgsql volatile
set search_path = tidegate, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * Readers take the last fold and the additions above it, so an addition may be folded only once everything numbered
 * below it has committed or gone; otherwise a late one would stand below the mark, unread. The proof is that of floors:
 * the last number drawn first, then who holds the lock that drawing takes. Who held none then holds none of these.
 * Where somebody did, that mark is kept until they are gone.
 *
 * Whatever a sequence that was set back numbered below the mark is folded with the rest.
 */
declare
    v_now constant timestamptz := clock_now();
    v_last counter_fold;
    v_fold counter_fold;
    v_is_blind boolean;
    v_folded integer;
    v_highest bigint;
begin
    if not pg_try_advisory_xact_lock(_lock_key('counter'::regclass, 0)) then
        return 0;
    end if;
    select * into v_last from counter_fold f order by f.fold_id desc limit 1;
    if not found then
        v_last.folded_to := 0;
        v_last.position := 0;
        v_last.holders := '{}';
    end if;
    v_fold.position := coalesce(pg_sequence_last_value('counter_seq'), 0);
    if v_fold.position < v_last.position then
        v_fold.position := setval('counter_seq', v_last.position);
    end if;
    select
        coalesce(array_agg(distinct concat_ws('@', l.virtualtransaction, l.pid)), '{}'),
        coalesce(bool_or(l.pid is null), false)
    into v_fold.holders, v_is_blind
    from pg_locks l
    where l.locktype = 'relation'
        and l.relation = 'counter_seq'::regclass
        and l.database = (select d.oid from pg_database d where d.datname = current_database())
        and l.mode = 'RowExclusiveLock'
        and l.pid is distinct from pg_backend_pid();

    v_fold.folded_to := v_last.folded_to;
    if v_is_blind or v_fold.holders && v_last.holders then
        v_fold.position := v_last.position;
        v_fold.holders := v_last.holders;
    elsif v_fold.holders = '{}' then
        v_fold.folded_to := v_fold.position;
    else
        v_fold.folded_to := greatest(v_last.folded_to, v_last.position);
    end if;

    with folded as (
        delete from counter_delta where delta_id = any(array(
            select d.delta_id from counter_delta d
            where d.delta_id <= v_fold.folded_to
            order by d.delta_id
            limit p_limit
        )) returning *
    ), added as (
        select f.key, sum(f.amount) as amount from folded f group by f.key
    ), summed as (
        select
            a.key, b.ctid as former, b.run_id, coalesce(b.value, 0) + a.amount as value
        from added a
        left join lateral (
            select c.ctid, c.value, c.run_id from counter c where c.key = a.key order by c.entry desc limit 1
        ) b on true
    ), written as (
        insert into counter (key, value, run_id, written_at)
        select s.key, s.value, s.run_id, v_now from summed s order by s.key
    ), replaced as (
        delete from counter where ctid = any(array(select s.former from summed s where s.former is not null))
    )
    select count(*), max(f.delta_id) into v_folded, v_highest from folded f;
    if v_folded = p_limit then
        v_fold.folded_to := greatest(v_last.folded_to, v_highest);
    end if;

    if (v_fold.folded_to, v_fold.position, v_fold.holders)
        is distinct from (v_last.folded_to, v_last.position, v_last.holders)
    then
        insert into counter_fold (folded_to, position, holders)
        values (v_fold.folded_to, v_fold.position, v_fold.holders);
        delete from counter_fold where fold_id = v_last.fold_id;
    end if;
    return v_folded;
end;
$$;

comment on function tidegate._counter_fold(integer) is
'Fold additions to counters, up to p_limit. Returns how many; 0 when there are none, those that there are may not be folded yet, or somebody else is writing counters.';

-- functions/counter/counter_add.sql
create or replace function tidegate.counter_add(p_key text, p_amount bigint default 1) returns void
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
/*
 * One appended row: no two callers ever wait for each other, whatever they add to and in which order. What is added in
 * a transaction that is rolled back was never added.
 */
begin
    if (octet_length(p_key) between 1 and 1000) is not true then
        perform _bad_argument('p_key', left(p_key, 100), 'A counter is named by 1 to 1000 bytes.');
    end if;
    if (p_amount between -1e15 and 1e15) is not true then
        perform _bad_argument('p_amount', p_amount::text, 'Add between -10^15 and 10^15 at a time.');
    end if;
    if p_amount <> 0 then
        insert into counter_delta (delta_id, amount, key) values (nextval('counter_seq'), p_amount, p_key);
    end if;
end;
$$;

comment on function tidegate.counter_add(text, bigint) is
'Add to a counter, in the transaction of what is counted; a negative amount takes away. Makes the counter where there is none. Errors: TG010 bad argument.';

-- functions/counter/counter_peek.sql
create or replace function tidegate.counter_peek(p_key text) returns bigint
language sql stable
security definer
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
begin atomic
select greatest(
    least(
        coalesce((
            select c.value from tidegate.counter c
            where c.key = p_key
            order by c.entry desc
            limit 1
        ), 0)
        + coalesce((
            select sum(d.amount) from tidegate.counter_delta d
            where d.key = p_key
                and d.delta_id > coalesce((
                    select f.folded_to from tidegate.counter_fold f order by f.fold_id desc limit 1
                ), 0)
        ), 0),
        1000000000000000000
    ),
    0
)::bigint;
end;

comment on function tidegate.counter_peek(text) is
'What a counter says: all that was added and committed, from where it was last set; never below 0. 0 where there is none.';

-- functions/counter/counter_sync.sql
create or replace function tidegate.counter_sync(p_values jsonb) returns setof tidegate.counted
language plpgsql volatile rows 1000
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_keys text[];
    v_values numeric[];
    v_run_ids text[];
    v_bad record;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('counter_sync');
    end if;
    if jsonb_typeof(p_values) = 'object' then
        for v_bad in
            select e.key, e.value from jsonb_each(p_values) e where jsonb_typeof(e.value) <> 'number' limit 1
        loop
            perform _bad_argument(
                'p_values', left(v_bad.key, 100) || ': ' || left(v_bad.value::text, 100), 'Values are whole numbers.'
            );
        end loop;
        select array_agg(e.key), array_agg(e.value::text::numeric) into v_keys, v_values
        from jsonb_each(p_values) e;
    elsif jsonb_typeof(p_values) = 'array' then
        for v_bad in
            select e.value
            from jsonb_array_elements(p_values) as e (value)
            where (
                jsonb_typeof(e.value) = 'object' and jsonb_typeof(e.value -> 'key') = 'string'
                and jsonb_typeof(e.value -> 'value') = 'number'
                and coalesce(jsonb_typeof(e.value -> 'run_id'), 'null') in ('string', 'null')
                and e.value - '{key,value,run_id}'::text[] = '{}'
            ) is not true
            limit 1
        loop
            perform _bad_argument(
                'p_values', left(v_bad.value::text, 100),
                'Write each as {"key": "…", "value": 12}, with "run_id": "…" where the end of a run closes it.'
            );
        end loop;
        select array_agg(e.value ->> 'key'), array_agg((e.value ->> 'value')::numeric), array_agg(e.value ->> 'run_id')
        into v_keys, v_values, v_run_ids
        from jsonb_array_elements(p_values) as e (value);
    else
        perform _bad_argument(
            'p_values', left(p_values::text, 100),
            'Give values by key, {"orders.open": 12}, or a list of {"key": "…", "value": 12, "run_id": "…"}.'
        );
    end if;
    if cardinality(v_keys) > 10000 then
        perform _bad_argument(
            'p_values', cardinality(v_keys) || ' counters', 'Set at most 10000 in one call, so that none takes long.'
        );
    end if;
    for v_bad in
        select p.key, p.value, count(*) over (partition by p.key) > 1 as is_repeated
        from unnest(v_keys, v_values) as p (key, value)
        order by 3 desc, (octet_length(p.key) between 1 and 1000) is not true desc,
            (p.value = trunc(p.value) and abs(p.value) <= 1e15) is not true desc
        limit 1
    loop
        if v_bad.is_repeated then
            perform _bad_argument('p_values', left(v_bad.key, 100), 'Name each counter once.');
        elsif octet_length(v_bad.key) not between 1 and 1000 then
            perform _bad_argument('p_values', left(v_bad.key, 100), 'A counter is named by 1 to 1000 bytes.');
        elsif v_bad.value <> trunc(v_bad.value) or abs(v_bad.value) > 1e15 then
            perform _bad_argument(
                'p_values', left(v_bad.key, 100) || ': ' || left(v_bad.value::text, 100),
                'Values are whole numbers up to 10^15.'
            );
        end if;
    end loop;

    return query select * from _counter_write(v_keys, v_values::bigint[], v_run_ids);
end;
$$;

comment on function tidegate.counter_sync(jsonb) is
'Set counters to what somebody else counted: {"key": value, …}, or [{"key", "value", "run_id"}, …] where the end of a run closes its counters. Values below 0 are written as 0. Returns a row a counter: what it says now, what it said before, how far apart they were. No rows for an empty object. Syncs wait for each other: call it in a transaction of its own. Errors: TG010 bad argument (at most 10000 at a time), TG030 not READ COMMITTED.';

-- functions/counter/counter_reconcile.sql
create or replace function tidegate.counter_reconcile(
    p_by text[] default '{channel,run,tenant}',
    p_prefix text default 'leased'
) returns setof tidegate.counted
language plpgsql volatile rows 100
security definer
set search_path = tidegate, pg_temp
as $$
/*
 * What is leased is read from the leases themselves, so that no count can drift. A kind of counters that cannot be read
 * keeps what it said, and the others go on.
 */
declare
    v_by text;
    v_from text;
    v_keys text[];
    v_values bigint[];
    v_counted counted[];
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('counter_reconcile');
    end if;
    if p_by is null or p_by = '{}' or not p_by <@ '{channel,run,tenant}' then
        perform _bad_argument('p_by', p_by::text, 'Count by any of channel, run and tenant.');
    end if;
    if (octet_length(p_prefix) between 1 and 100) is not true then
        perform _bad_argument(
            'p_prefix', left(p_prefix, 100), 'The names of these counters begin with 1 to 100 bytes.'
        );
    end if;
    if not pg_try_advisory_xact_lock(_lock_key('counter'::regclass, 1)) then
        return;
    end if;
    foreach v_by in array array(select distinct b.by from unnest(p_by) as b (by) order by b.by) loop
        v_from := p_prefix || '.' || v_by || '.';
        begin
            if v_by = 'channel' then
                select array_agg(v_from || c.kind || '.' || c.name), array_agg(o.held) into v_keys, v_values
                from (select l.channel_id, sum(l.message_count) as held from lease l group by l.channel_id) o
                inner join channel c on c.channel_id = o.channel_id;
            else
                select array_agg(v_from || o.name), array_agg(o.held) into v_keys, v_values
                from (
                    select case v_by when 'run' then m.run_id else m.tenant end as name, count(*) as held
                    from lease l
                    cross join unnest(l.messages) with ordinality as m
                    where not m.ordinality = any(coalesce(l.settled, '{}'))
                    group by 1
                ) o
                where o.name is not null;
            end if;
            with live as (
                -- A name may be longer than a key.
                select
                    case
                        when octet_length(u.key) <= 1000 then u.key
                        else left(u.key, 200) || '…' || md5(u.key)
                    end as key,
                    u.held
                from unnest(v_keys, v_values) as u (key, held)
            ), gone as (
                select c.key from counter c
                where c.key >= v_from and c.key < left(v_from, -1) || '/'
                    and c.value <> 0 and not exists (select from live n where n.key = c.key)
            )
            select array_agg(a.key), array_agg(a.held) into v_keys, v_values
            from (select n.key, n.held from live n union all select g.key, 0 from gone g) a;
            v_counted := array(select w from _counter_write(v_keys, v_values, null) w);
        exception
            when others or query_canceled then
                perform _incident_note('counter_reconcile', null, sqlstate, v_by || ': ' || sqlerrm);
                v_counted := array[row(v_from, null, null, null, 'kept')::counted];
        end;
        return query select * from unnest(v_counted);
    end loop;
end;
$$;

comment on function tidegate.counter_reconcile(text[], text) is
'Set the counters leased.channel.<kind>.<name>, leased.run.<run_id> and leased.tenant.<tenant> to what is leased now; those of which nothing is leased any more become 0. Returns a row a counter, as counter_sync does; outcome kept, once for the kind, where leases could not be read: the error is in incident. No rows when nothing is and was leased, or somebody else is at it. Errors: TG010 bad argument, TG030 not READ COMMITTED.';

-- functions/leader/leader_acquire.sql
create or replace function tidegate.leader_acquire(
    p_name text,
    p_holder text,
    p_lease interval default '10 seconds',
    out outcome text,
    out epoch bigint,
    out holder text,
    out expires_at timestamptz
)
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
/*
 * The clock of the database is the only one. A lease that was renewed after now is free too: the clock has been set
 * back, and nobody waits for an hour that has been already.
 *
 * The same holder gets its epoch again while it leads; after its lease has run out it gets a new one, as it may be
 * another process of the same name by then.
 */
declare
    v_now timestamptz;
    v_leader leader;
begin
    if p_name is null or p_holder is null or '' in (p_name, p_holder) then
        perform _bad_argument(
            case when coalesce(p_name, '') = '' then 'p_name' else 'p_holder' end,
            case when coalesce(p_name, '') = '' then p_name else p_holder end,
            'A leader has a name, which is what it leads, and a holder, who does.'
        );
    end if;
    if _is_duration(p_lease) is not true then
        perform _bad_argument(
            'p_lease', p_lease::text, 'A lease lasts a positive time, for example interval ''10 seconds''.'
        );
    end if;
    insert into leader as l (name, epoch, holder, acquired_at, renewed_at, expires_at)
    select p_name, 1, p_holder, clock_now(), clock_now(), clock_now() + p_lease
    where not exists (select from leader n where n.name = p_name) -- a conflict waits for who has the row
    on conflict do nothing
    returning 'won', l.epoch, l.holder, l.expires_at into outcome, epoch, holder, expires_at;
    if found then
        return;
    end if;

    select * into v_leader from leader l where l.name = p_name for update skip locked;
    if not found then
        -- Somebody is about to acquire, renew or resign: nobody waits for him.
        select 'held', l.holder, l.expires_at into outcome, holder, expires_at from leader l where l.name = p_name;
        return;
    end if;
    v_now := clock_now();
    if v_leader.holder is null or v_now >= v_leader.expires_at or v_now < v_leader.renewed_at then
        v_leader.epoch := v_leader.epoch + 1;
        v_leader.acquired_at := v_now;
    elsif v_leader.holder <> p_holder then
        outcome := 'held';
        holder := v_leader.holder;
        expires_at := v_leader.expires_at;
        return;
    end if;
    update leader l
    set epoch = v_leader.epoch, holder = p_holder, acquired_at = v_leader.acquired_at, renewed_at = v_now,
        expires_at = v_now + p_lease
    where l.name = p_name
    returning 'won', l.epoch, l.holder, l.expires_at into outcome, epoch, holder, expires_at;
end;
$$;

comment on function tidegate.leader_acquire(text, text, interval) is
'Lead p_name for p_lease, if nobody does or the leader''s lease has passed. outcome: won, with an epoch higher than any before (the same again for a repeat while it leads), or held: epoch is null, and holder and expires_at are the leader''s. Errors: TG010 bad argument.';

-- functions/leader/leader_renew.sql
create or replace function tidegate.leader_renew(
    p_name text, p_epoch bigint, p_lease interval default '10 seconds'
) returns boolean
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
/* By the epoch: a lease that has run out is still its leader's until the next epoch begins. */
begin
    if _is_duration(p_lease) is not true then
        perform _bad_argument(
            'p_lease', p_lease::text, 'A lease lasts a positive time, for example interval ''10 seconds''.'
        );
    end if;
    update leader l
    set renewed_at = clock_now(), expires_at = clock_now() + p_lease
    where l.name = p_name and l.epoch = p_epoch and l.holder is not null;
    return found;
end;
$$;

comment on function tidegate.leader_renew(text, bigint, interval) is
'Go on leading for p_lease from now. false: this epoch is over, or was resigned; stop before the next write. Errors: TG010 bad argument.';

-- functions/leader/leader_resign.sql
create or replace function tidegate.leader_resign(p_name text, p_epoch bigint) returns boolean
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
/* The row stays: the next epoch counts on from it. */
begin
    update leader l
    set holder = null, expires_at = least(l.expires_at, clock_now())
    where l.name = p_name and l.epoch = p_epoch;
    return found;
end;
$$;

comment on function tidegate.leader_resign(text, bigint) is
'Stop leading, so that the next one need not wait for the lease. true also for a repeat; false, and nothing done, when this epoch is over.';

-- functions/leader/_leader_check.sql
create or replace function tidegate._leader_check(p_name text, p_epoch bigint) returns boolean
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * For the statement that writes: volatile, so it looks in a snapshot of its own, which sees whoever has taken over by
 * then. It locks nothing: a leader that was stopped in the middle of a transaction must not keep the next one from
 * taking over. A write that had begun before the take-over is ordered before it, and rests on the locks of its rows, as
 * every write does; the next one is refused.
 */
declare
    v_leader leader;
begin
    if p_epoch is null then
        return true;
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('a write with an epoch');
    end if;
    select * into v_leader from leader l where l.name = p_name;
    if v_leader.epoch = p_epoch and v_leader.holder is not null then
        return true;
    end if;
    raise exception using
        errcode = 'TG090',
        message = format(
            'epoch %s of leader %L is over: %s', p_epoch, p_name,
            case
                when v_leader.name is null then 'there is no such leader'
                when v_leader.epoch = p_epoch then 'it was resigned'
                else format('now it is %s, of %s', v_leader.epoch, coalesce(v_leader.holder, 'nobody'))
            end
        ),
        hint = 'Stop, and call leader_acquire before writing again.';
end;
$$;

comment on function tidegate._leader_check(text, bigint) is
'True while this epoch leads, or when none is given; called by the statement that writes. Errors: TG030 not READ COMMITTED, TG090 the epoch is over.';

-- functions/dead_letter/_dead_letter_newest.sql
create or replace function tidegate._dead_letter_newest(
    p_channel text,
    p_reason text,
    p_tenant text,
    p_run_id text,
    p_state text,
    p_from_at timestamptz,
    p_from_id bigint,
    p_to_at timestamptz,
    p_to_id bigint,
    p_limit integer
) returns bigint[]
language plpgsql stable
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_states constant text[] := case
        when p_state is null then array['dead', 'requeued', 'resolved', 'discarded'] else array[p_state]
    end;
    v_reasons constant text[] := case
        when p_reason is null then array['exhausted', 'not_retryable', 'expired', 'malformed', 'unknown_handler', 'cancelled', 'purged'] else array[p_reason]
    end;
begin
    if p_run_id is not null then
        return array(
            select p.dead_letter_id
            from unnest(v_states) s (state)
            cross join unnest(v_reasons) r (reason)
            cross join lateral (
                select n.dead_at, n.dead_letter_id from dead_letter n
                where n.state = s.state and n.reason = r.reason
                    and n.run_id = p_run_id
                    and (p_tenant is null or n.tenant = p_tenant)
                    and (p_channel is null or n.channel = p_channel)
                    and (n.dead_at, n.dead_letter_id) > (p_from_at, p_from_id)
                    and (n.dead_at, n.dead_letter_id) < (p_to_at, p_to_id)
                order by n.dead_at desc, n.dead_letter_id desc
                limit p_limit
            ) p
            order by p.dead_at desc, p.dead_letter_id desc
            limit p_limit
        );
    elsif p_tenant is not null and p_channel is not null then
        return array(
            select p.dead_letter_id
            from unnest(v_states) s (state)
            cross join unnest(v_reasons) r (reason)
            cross join lateral (
                select n.dead_at, n.dead_letter_id from dead_letter n
                where n.state = s.state and n.reason = r.reason
                    and n.tenant = p_tenant
                    and n.channel = p_channel
                    and (n.dead_at, n.dead_letter_id) > (p_from_at, p_from_id)
                    and (n.dead_at, n.dead_letter_id) < (p_to_at, p_to_id)
                order by n.dead_at desc, n.dead_letter_id desc
                limit p_limit
            ) p
            order by p.dead_at desc, p.dead_letter_id desc
            limit p_limit
        );
    elsif p_tenant is not null then
        return array(
            select p.dead_letter_id
            from unnest(v_states) s (state)
            cross join unnest(v_reasons) r (reason)
            cross join lateral (
                select n.dead_at, n.dead_letter_id from dead_letter n
                where n.state = s.state and n.reason = r.reason
                    and n.tenant = p_tenant
                    and (n.dead_at, n.dead_letter_id) > (p_from_at, p_from_id)
                    and (n.dead_at, n.dead_letter_id) < (p_to_at, p_to_id)
                order by n.dead_at desc, n.dead_letter_id desc
                limit p_limit
            ) p
            order by p.dead_at desc, p.dead_letter_id desc
            limit p_limit
        );
    elsif p_channel is not null then
        return array(
            select p.dead_letter_id
            from unnest(v_states) s (state)
            cross join unnest(v_reasons) r (reason)
            cross join lateral (
                select n.dead_at, n.dead_letter_id from dead_letter n
                where n.state = s.state and n.reason = r.reason
                    and n.channel = p_channel
                    and (n.dead_at, n.dead_letter_id) > (p_from_at, p_from_id)
                    and (n.dead_at, n.dead_letter_id) < (p_to_at, p_to_id)
                order by n.dead_at desc, n.dead_letter_id desc
                limit p_limit
            ) p
            order by p.dead_at desc, p.dead_letter_id desc
            limit p_limit
        );
    else
        return array(
            select p.dead_letter_id
            from unnest(v_states) s (state)
            cross join unnest(v_reasons) r (reason)
            cross join lateral (
                select n.dead_at, n.dead_letter_id from dead_letter n
                where n.state = s.state and n.reason = r.reason
                    and (n.dead_at, n.dead_letter_id) > (p_from_at, p_from_id)
                    and (n.dead_at, n.dead_letter_id) < (p_to_at, p_to_id)
                order by n.dead_at desc, n.dead_letter_id desc
                limit p_limit
            ) p
            order by p.dead_at desc, p.dead_letter_id desc
            limit p_limit
        );
    end if;
end;
$$;

comment on function tidegate._dead_letter_newest(
    text, text, text, text, text, timestamptz, bigint, timestamptz, bigint, integer
) is
'Ids of dead letters, newest first, that match the filters and stand between two pairs of dead_at and dead_letter_id, both excluded. An empty array when there are none.';

-- functions/dead_letter/_dead_letter_oldest.sql
create or replace function tidegate._dead_letter_oldest(
    p_channel text,
    p_reason text,
    p_tenant text,
    p_run_id text,
    p_state text,
    p_from_at timestamptz,
    p_from_id bigint,
    p_to_at timestamptz,
    p_to_id bigint,
    p_limit integer
) returns bigint[]
language plpgsql stable
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_states constant text[] := case
        when p_state is null then array['dead', 'requeued', 'resolved', 'discarded'] else array[p_state]
    end;
    v_reasons constant text[] := case
        when p_reason is null then array['exhausted', 'not_retryable', 'expired', 'malformed', 'unknown_handler', 'cancelled', 'purged'] else array[p_reason]
    end;
begin
    if p_run_id is not null then
        return array(
            select p.dead_letter_id
            from unnest(v_states) s (state)
            cross join unnest(v_reasons) r (reason)
            cross join lateral (
                select n.dead_at, n.dead_letter_id from dead_letter n
                where n.state = s.state and n.reason = r.reason
                    and n.run_id = p_run_id
                    and (p_tenant is null or n.tenant = p_tenant)
                    and (p_channel is null or n.channel = p_channel)
                    and (n.dead_at, n.dead_letter_id) > (p_from_at, p_from_id)
                    and (n.dead_at, n.dead_letter_id) < (p_to_at, p_to_id)
                order by n.dead_at asc, n.dead_letter_id asc
                limit p_limit
            ) p
            order by p.dead_at asc, p.dead_letter_id asc
            limit p_limit
        );
    elsif p_tenant is not null and p_channel is not null then
        return array(
            select p.dead_letter_id
            from unnest(v_states) s (state)
            cross join unnest(v_reasons) r (reason)
            cross join lateral (
                select n.dead_at, n.dead_letter_id from dead_letter n
                where n.state = s.state and n.reason = r.reason
                    and n.tenant = p_tenant
                    and n.channel = p_channel
                    and (n.dead_at, n.dead_letter_id) > (p_from_at, p_from_id)
                    and (n.dead_at, n.dead_letter_id) < (p_to_at, p_to_id)
                order by n.dead_at asc, n.dead_letter_id asc
                limit p_limit
            ) p
            order by p.dead_at asc, p.dead_letter_id asc
            limit p_limit
        );
    elsif p_tenant is not null then
        return array(
            select p.dead_letter_id
            from unnest(v_states) s (state)
            cross join unnest(v_reasons) r (reason)
            cross join lateral (
                select n.dead_at, n.dead_letter_id from dead_letter n
                where n.state = s.state and n.reason = r.reason
                    and n.tenant = p_tenant
                    and (n.dead_at, n.dead_letter_id) > (p_from_at, p_from_id)
                    and (n.dead_at, n.dead_letter_id) < (p_to_at, p_to_id)
                order by n.dead_at asc, n.dead_letter_id asc
                limit p_limit
            ) p
            order by p.dead_at asc, p.dead_letter_id asc
            limit p_limit
        );
    elsif p_channel is not null then
        return array(
            select p.dead_letter_id
            from unnest(v_states) s (state)
            cross join unnest(v_reasons) r (reason)
            cross join lateral (
                select n.dead_at, n.dead_letter_id from dead_letter n
                where n.state = s.state and n.reason = r.reason
                    and n.channel = p_channel
                    and (n.dead_at, n.dead_letter_id) > (p_from_at, p_from_id)
                    and (n.dead_at, n.dead_letter_id) < (p_to_at, p_to_id)
                order by n.dead_at asc, n.dead_letter_id asc
                limit p_limit
            ) p
            order by p.dead_at asc, p.dead_letter_id asc
            limit p_limit
        );
    else
        return array(
            select p.dead_letter_id
            from unnest(v_states) s (state)
            cross join unnest(v_reasons) r (reason)
            cross join lateral (
                select n.dead_at, n.dead_letter_id from dead_letter n
                where n.state = s.state and n.reason = r.reason
                    and (n.dead_at, n.dead_letter_id) > (p_from_at, p_from_id)
                    and (n.dead_at, n.dead_letter_id) < (p_to_at, p_to_id)
                order by n.dead_at asc, n.dead_letter_id asc
                limit p_limit
            ) p
            order by p.dead_at asc, p.dead_letter_id asc
            limit p_limit
        );
    end if;
end;
$$;

comment on function tidegate._dead_letter_oldest(
    text, text, text, text, text, timestamptz, bigint, timestamptz, bigint, integer
) is
'Ids of dead letters, oldest first, that match the filters and stand between two pairs of dead_at and dead_letter_id, both excluded. An empty array when there are none.';

-- functions/dead_letter/dead_letter_list.sql
create or replace function tidegate.dead_letter_list(
    p_channel text default null,
    p_reason text default null,
    p_tenant text default null,
    p_run_id text default null,
    p_state text default 'dead',
    p_since timestamptz default null,
    p_until timestamptz default null,
    p_after_id bigint default null,
    p_limit integer default 50,
    p_after_at timestamptz default null
) returns setof tidegate.dead_letter
language plpgsql stable rows 50
security definer
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/* Newest first is by dead_at: what died again comes to the top. One pair says where the page begins and p_until. */
declare
    v_ids bigint[];
    v_to_at timestamptz := p_after_at;
    v_to_id bigint := p_after_id;
begin
    
    if p_state not in ('dead', 'requeued', 'resolved', 'discarded') then
        perform _bad_argument('p_state', p_state, 'The states are dead, requeued, resolved, discarded; null is any.');
    end if;
    if p_reason not in ('exhausted', 'not_retryable', 'expired', 'malformed', 'unknown_handler', 'cancelled', 'purged') then
        perform _bad_argument('p_reason', p_reason, 'The reasons are exhausted, not_retryable, expired, malformed, unknown_handler, cancelled, purged; null is any.');
    end if;
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'List between 1 and 10000 entries at a time.');
    end if;
    if p_after_id is null and p_after_at is not null then
        perform _bad_argument('p_after_id', null, 'p_after_at is the dead_at that belongs to p_after_id: give both.');
    elsif p_after_id is not null and p_after_at is null then
        select d.dead_at into v_to_at from dead_letter d where d.dead_letter_id = p_after_id;
        if not found then
            perform _bad_argument(
                'p_after_id', p_after_id::text,
                'That entry is gone: give the dead_at it was listed with as p_after_at, or list from the top.'
            );
        end if;
    end if;
    if v_to_id is null or v_to_at >= p_until then
        v_to_at := coalesce(p_until, 'infinity');
        v_to_id := 0;
    end if;
    v_ids := _dead_letter_newest(
        p_channel, p_reason, p_tenant, p_run_id, p_state,
        coalesce(p_since, '-infinity'), 0, v_to_at, v_to_id, p_limit
    );
    return query
    select d.* from dead_letter d
    where d.dead_letter_id = any(v_ids)
    order by d.dead_at desc, d.dead_letter_id desc;
end;
$$;

comment on function tidegate.dead_letter_list(
    text, text, text, text, text, timestamptz, timestamptz, bigint, integer, timestamptz
) is
'Dead letters, newest death first, by channel, reason, tenant, run, state (dead unless given; null = any) and time of death; a filter that is null matches all. Page on with p_after_id = the last dead_letter_id seen, and p_after_at = its dead_at, so that it need not stand where it stood. No rows when nothing matches. A payload above the inline limit is null here: see dead_letter_peek. Errors: TG010 bad limit, unknown state or reason, a p_after_id that is gone.';

-- functions/dead_letter/_dead_letter_count.sql
create or replace function tidegate._dead_letter_count(
    p_channel text default null,
    p_reason text default null,
    p_tenant text default null,
    p_run_id text default null,
    p_state text default 'dead',
    p_since timestamptz default null,
    p_until timestamptz default null
) returns setof bigint
language plpgsql stable rows 1
set search_path = tidegate, pg_temp
set plan_cache_mode = force_custom_plan
as $$
/*
 * A plan for the values at hand: a filter that is null vanishes from it, and the rest is what a bare count would be. A
 * set, though of one row, because `return query` is the one statement of PL/pgSQL that runs in parallel.
 */
begin
    return query
    select count(*) from dead_letter d
    where (p_channel is null or d.channel = p_channel)
        and (p_reason is null or d.reason = p_reason)
        and (p_tenant is null or d.tenant = p_tenant)
        and (p_run_id is null or d.run_id = p_run_id)
        and (p_state is null or d.state = p_state)
        and (p_since is null or d.dead_at >= p_since)
        and (p_until is null or d.dead_at < p_until);
end;
$$;

comment on function tidegate._dead_letter_count(
    text, text, text, text, text, timestamptz, timestamptz
) is
'One row: how many dead letters match.';

-- functions/dead_letter/dead_letter_count.sql
create or replace function tidegate.dead_letter_count(
    p_channel text default null,
    p_reason text default null,
    p_tenant text default null,
    p_run_id text default null,
    p_state text default 'dead',
    p_since timestamptz default null,
    p_until timestamptz default null
) returns bigint
language plpgsql stable
security definer
set search_path = tidegate, pg_temp
as $$
begin
    
    if p_state not in ('dead', 'requeued', 'resolved', 'discarded') then
        perform _bad_argument('p_state', p_state, 'The states are dead, requeued, resolved, discarded; null is any.');
    end if;
    if p_reason not in ('exhausted', 'not_retryable', 'expired', 'malformed', 'unknown_handler', 'cancelled', 'purged') then
        perform _bad_argument('p_reason', p_reason, 'The reasons are exhausted, not_retryable, expired, malformed, unknown_handler, cancelled, purged; null is any.');
    end if;
    return (
        select c.count
        from _dead_letter_count(p_channel, p_reason, p_tenant, p_run_id, p_state, p_since, p_until) c (count)
    );
end;
$$;

comment on function tidegate.dead_letter_count(
    text, text, text, text, text, timestamptz, timestamptz
) is
'How many dead letters match the filters of dead_letter_list, whatever its page. Errors: TG010 unknown state or reason.';

-- functions/dead_letter/dead_letter_peek.sql
create or replace function tidegate.dead_letter_peek(p_dead_letter_id bigint)
returns setof tidegate.dead_letter
language plpgsql stable rows 1
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_entry dead_letter;
begin
    select * into v_entry from dead_letter d where d.dead_letter_id = p_dead_letter_id;
    if found then
        if v_entry.body_id is not null then
            v_entry.payload := (select b.payload from body b where b.body_id = v_entry.body_id);
        end if;
        return next v_entry;
    end if;
end;
$$;

comment on function tidegate.dead_letter_peek(bigint) is
'One dead letter with its payload, whatever its size. No row when there is no such entry.';

-- functions/dead_letter/dead_letter_payload.sql
create or replace function tidegate.dead_letter_payload(p_dead_letter_id bigint) returns jsonb
language sql stable
security definer
begin atomic
select coalesce(d.payload, b.payload)
from tidegate.dead_letter d
left join tidegate.body b on b.body_id = d.body_id
where d.dead_letter_id = p_dead_letter_id;
end;

comment on function tidegate.dead_letter_payload(bigint) is
'The payload of a dead letter, whatever its size; null when there is no such entry.';

-- functions/dead_letter/dead_letter_history.sql
create or replace function tidegate.dead_letter_history(
    p_dead_letter_id bigint, out at timestamptz, out attempt integer, out error text
) returns setof record
language sql stable rows 10
security definer
begin atomic
select (e.value ->> 'at')::timestamptz, (e.value ->> 'attempt')::integer, e.value ->> 'error'
from tidegate.dead_letter d
cross join lateral pg_catalog.jsonb_array_elements(d.errors) with ordinality e
where d.dead_letter_id = p_dead_letter_id
order by e.ordinality;
end;

comment on function tidegate.dead_letter_history(bigint) is
'What a dead letter failed of, attempt by attempt, oldest first: the last of its failures, those of its requeued messages among them. No rows when there is no such entry, or it died without an attempt.';

-- functions/dead_letter/dead_letter_stats.sql
create or replace function tidegate.dead_letter_stats(
    out facet text,
    out name text,
    out entries bigint,
    out dead bigint,
    out requeued bigint,
    out resolved bigint,
    out discarded bigint,
    out requeues bigint,
    out oldest_at timestamptz,
    out newest_at timestamptz,
    out dead_since timestamptz
) returns setof record
language plpgsql stable rows 50
security definer
set search_path = tidegate, pg_temp
as $$
#variable_conflict use_column
/*
 * Rows, which a person reads in psql and a program anywhere: each facet answers the same questions about its entries.
 * The table is read once, into one row for each different ending; those are few enough to be cut in four ways.
 */
begin
    return query
    with ending as (
        select
            d.reason, d.kind, d.channel, left(split_part(d.last_error, E'\n', 1), 120) as error,
            count(*) as entries,
            count(*) filter (where d.state = 'dead') as dead,
            count(*) filter (where d.state = 'requeued') as requeued,
            count(*) filter (where d.state = 'resolved') as resolved,
            count(*) filter (where d.state = 'discarded') as discarded,
            sum(d.requeued_count) as requeues,
            min(d.dead_at) as oldest_at,
            max(d.dead_at) as newest_at,
            min(d.dead_at) filter (where d.state = 'dead') as dead_since
        from dead_letter d
        group by d.reason, d.kind, d.channel, 4
    ), counted as (
        select
            case grouping(e.reason, e.channel, r.error) when 7 then 1 when 3 then 2 when 5 then 3 else 4 end as cut,
            e.kind, coalesce(e.reason, e.channel, r.error) as name,
            sum(e.entries)::bigint as entries, sum(e.dead)::bigint as dead, sum(e.requeued)::bigint as requeued,
            sum(e.resolved)::bigint as resolved, sum(e.discarded)::bigint as discarded,
            sum(e.requeues)::bigint as requeues,
            min(e.oldest_at) as oldest_at, max(e.newest_at) as newest_at, min(e.dead_since) as dead_since
        from ending e
        cross join lateral (select regexp_replace(e.error, '[0-9]+', '#', 'g') as error) r
        group by grouping sets ((), (e.reason), (e.kind, e.channel), (r.error))
    ), ranked as (
        select c.*, row_number() over (partition by c.cut order by c.dead desc, c.entries desc, c.name) as place
        from counted c
    )
    select
        (array['total', 'reason', r.kind, 'error'])[r.cut], r.name,
        coalesce(r.entries, 0), coalesce(r.dead, 0), coalesce(r.requeued, 0), coalesce(r.resolved, 0),
        coalesce(r.discarded, 0), coalesce(r.requeues, 0), r.oldest_at, r.newest_at, r.dead_since
    from ranked r
    where r.cut < 4 or r.place <= 10
    order by r.cut, r.place;
end;
$$;

comment on function tidegate.dead_letter_stats() is
'Dead letters in numbers: a row for all of them (facet total), one for each reason and each channel (facet queue or topic), most dead first, and one for each of the ten commonest errors, numbers in them shown as #. Each says how many entries there are, how many of them are dead, requeued, resolved and discarded, how often they were requeued, the oldest and the newest death, and since when something is dead that nobody has taken care of. Without dead letters only the total, of 0. It reads the whole table.';

-- functions/dead_letter/_dead_letter_requeue.sql
create or replace function tidegate._dead_letter_requeue(
    p_dead_letter_ids bigint[],
    p_reset_attempts boolean,
    p_note text,
    p_waits boolean,
    p_from timestamptz default null,
    p_every interval default null,
    out dead_letter_id bigint,
    out message_id bigint,
    out outcome text
) returns setof record
language plpgsql volatile rows 100
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
/*
 * The entry stays and its child carries its id: the state is requeued exactly while the child is alive.
 *
 * Job keys first, in order, as everywhere. Whoever holds the row of a key has the only live message of that key: so
 * nobody's death lands in an entry whose key was got here, and an entry whose key somebody else has is left alone.
 * Then the entries that are dead, in order of their ids: nobody settles a child of those, so no settlement is waited
 * for. Of two requeues at once the second finds nothing left to lock; one that does not wait takes other entries. What
 * was not locked is read afterwards, in a new snapshot.
 *
 * A pace makes nobody wait either: the n-th message is due n - 1 steps of p_every after p_from.
 *
 * A plan made while the table was one page must do when it is large: entries are found by their ids, so they are
 * looked up one by one (limit 1), and conditions on the state are written so that no index of it is chosen (is true).
 */
declare
    v_now constant timestamptz := clock_now();
    v_keyed bigint[];
    v_keyed_children bigint[];
    v_locked bigint[];
    v_requeued bigint[];
    v_children bigint[];
    v_batch record;
begin
    with wanted as materialized (
        select k.*, nextval('position_seq') as child
        from (
            select d.dead_letter_id, d.channel_id, d.job_key
            from unnest(p_dead_letter_ids) with ordinality i (id, ordinality)
            cross join lateral (select * from dead_letter n where n.dead_letter_id = i.id limit 1) d
            inner join channel c on c.channel_id = d.channel_id
            where d.state = 'dead' and d.job_key is not null
            order by d.channel_id, d.job_key, i.ordinality
        ) k
    ), got as (
        insert into job_key (channel_id, key, message_id)
        select w.channel_id, w.job_key, w.child from wanted w
        on conflict do nothing
        returning job_key.message_id
    )
    select array_agg(w.dead_letter_id), array_agg(w.child) into v_keyed, v_keyed_children
    from wanted w
    inner join got g on g.message_id = w.child;

    if p_waits then
        select array_agg(l.dead_letter_id) into v_locked
        from (
            select d.dead_letter_id from dead_letter d
            where d.dead_letter_id = any(p_dead_letter_ids) and (d.state = 'dead') is true
                and (d.job_key is null or d.dead_letter_id in (select unnest(v_keyed)))
            order by d.dead_letter_id
            for update of d
        ) l;
    else
        select array_agg(l.dead_letter_id) into v_locked
        from (
            select d.dead_letter_id from dead_letter d
            where d.dead_letter_id = any(p_dead_letter_ids) and (d.state = 'dead') is true
                and (d.job_key is null or d.dead_letter_id in (select unnest(v_keyed)))
            order by d.dead_letter_id
            for update of d skip locked
        ) l;
    end if;
    -- A key whose entry somebody else has taken meanwhile is given back.
    delete from job_key k
    using unnest(v_keyed, v_keyed_children) u (id, child)
    cross join lateral (select * from dead_letter n where n.dead_letter_id = u.id limit 1) d
    where not exists (select from unnest(v_locked) l (id) where l.id = u.id)
        and k.channel_id = d.channel_id and k.key = d.job_key and k.message_id = u.child;

    for v_batch in
        with wanted as (
            select i.id, min(i.ordinality) as ordinality
            from unnest(p_dead_letter_ids) with ordinality i (id, ordinality)
            inner join unnest(v_locked) l (id) on l.id = i.id
            group by i.id
        ), chosen as materialized (
            select
                e.*, n.event_prefix, row_number() over (order by w.ordinality) as ordinal,
                coalesce(u.child, nextval('position_seq')) as child,
                case when e.body_id is not null then nextval('body_body_id_seq') end as own_body_id
            from wanted w
            cross join lateral (select * from dead_letter n where n.dead_letter_id = w.id limit 1) e
            inner join channel c on c.channel_id = e.channel_id
            left join unnest(v_keyed, v_keyed_children) u (id, child) on u.id = w.id
            cross join installation n
        ), copied as (
            insert into body (body_id, payload) overriding system value
            select h.own_body_id, b.payload
            from chosen h
            inner join body b on b.body_id = h.body_id
        ), marked as (
            update dead_letter d
            set state = 'requeued', requeued_count = d.requeued_count + 1, last_requeued_at = v_now,
                notes = d.notes || jsonb_build_object(
                    'at', v_now, 'by', session_user, 'did', 'requeue', 'note', p_note
                )
            where d.dead_letter_id = any(array(select h.dead_letter_id from chosen h))
        ), counted as (
            insert into tally (channel_id, outcome, amount)
            select h.channel_id, 'requeued', count(*) from chosen h group by h.channel_id
        )
        select
            h.channel_id,
            array_agg(h.dead_letter_id order by h.ordinal) as ids,
            array_agg(h.child order by h.ordinal) as children,
            array_agg(coalesce(p_from + p_every * (h.ordinal - 1), '-infinity') order by h.ordinal) as due,
            array_agg(row(case when p_reset_attempts then 0 else h.attempts end, h.priority, h.child, h.enqueued_at, h.payload, h.headers, coalesce(h.event_id, _event_id(h.event_prefix, h.message_id, h.enqueued_at)), h.own_body_id, h.body_bytes, h.max_attempts, null, h.dead_letter_id, h.backoff, h.topic, h.group_key, h.job_key, h.run_id, h.tenant, h.errors, h.barrier, h.epoch, h.member)::message order by h.ordinal) as messages
        from chosen h
        group by h.channel_id
        order by h.channel_id
    loop
        insert into scheduled (due_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
        select
            greatest(d.due_at, clock_now() + interval '1 microsecond'), v_batch.channel_id, m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors, m.barrier, m.epoch, m.member
        from unnest(v_batch.messages) with ordinality m
        inner join unnest(v_batch.due) with ordinality d (due_at, ordinality) on d.ordinality = m.ordinality
        where d.due_at > v_now;
        perform _message_enter(v_batch.channel_id, e.messages)
        from (
            select array_agg(row(m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors, m.barrier, m.epoch, m.member)::message order by m.ordinality) as messages
            from unnest(v_batch.messages) with ordinality m
            inner join unnest(v_batch.due) with ordinality d (due_at, ordinality) on d.ordinality = m.ordinality
            where d.due_at <= v_now
        ) e
        where e.messages is not null;
        perform _doorbell_ring(c.channel_id, c.kind, c.name, c.doorbell)
        from channel c
        where c.channel_id = v_batch.channel_id and c.doorbell is not null;
        v_requeued := v_requeued || v_batch.ids;
        v_children := v_children || v_batch.children;
    end loop;

    return query
    select
        w.id, u.child,
        case
            when u.id is not null then 'requeued'
            when d.dead_letter_id is null then 'unknown'
            when d.state <> 'dead' then 'already_' || d.state
            when c.channel_id is null then 'no_channel'
            when d.job_key is not null and not exists (select from unnest(v_keyed) k (id) where k.id = w.id)
                then 'key_in_use'
            -- Its child was alive when this looked, and has died since; or somebody is at it, who is not waited for.
            when p_waits then 'already_requeued'
            else 'busy'
        end
    from (
        select i.id, min(i.ordinality) as ordinality
        from unnest(p_dead_letter_ids) with ordinality i (id, ordinality)
        group by i.id
    ) w
    left join unnest(v_requeued, v_children) u (id, child) on u.id = w.id
    left join lateral (select * from dead_letter n where n.dead_letter_id = w.id limit 1) d on true
    left join channel c on c.channel_id = d.channel_id
    order by w.ordinality;
end;
$$;

comment on function tidegate._dead_letter_requeue(bigint[], boolean, text, boolean, timestamptz, interval) is
'Send dead letters back to where they died; one row an id, in the order given. p_waits: wait for entries that others hold, or pass them over as busy. With p_from and p_every the messages become due one step after the other.';

-- functions/dead_letter/dead_letter_requeue.sql
create or replace function tidegate.dead_letter_requeue(
    p_dead_letter_ids bigint[],
    p_reset_attempts boolean default true,
    p_note text default null,
    out dead_letter_id bigint,
    out message_id bigint,
    out outcome text
) returns setof record
language plpgsql volatile rows 100
security definer
set search_path = tidegate, pg_temp
as $$
begin
    return query
    select * from _dead_letter_requeue(p_dead_letter_ids, coalesce(p_reset_attempts, true), p_note, p_waits => true);
end;
$$;

comment on function tidegate.dead_letter_requeue(bigint[], boolean, text) is
'Send dead letters back to where they died, in one transaction, with their priority, group, job key, headers and identity; attempts start at 0 unless p_reset_attempts is false. One row an id: requeued, already_requeued (its message is still alive), already_resolved, already_discarded, key_in_use (another message with its job key is alive: it stays dead), no_channel (it was dropped), or unknown. A paused or draining channel takes them too. The success of the message resolves the entry; its death returns it. Not for REPEATABLE READ: two requeues at once then raise 40001.';

-- functions/dead_letter/dead_letter_requeue_matching.sql
create or replace function tidegate.dead_letter_requeue_matching(
    p_channel text default null,
    p_reason text default null,
    p_tenant text default null,
    p_run_id text default null,
    p_since timestamptz default null,
    p_until timestamptz default null,
    p_limit integer default 1000,
    p_per_second double precision default null,
    p_dry_run boolean default false,
    p_reset_attempts boolean default true,
    p_note text default null,
    out requeued integer,
    out key_in_use integer,
    out no_channel integer,
    out busy integer,
    out last_due_at timestamptz
)
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * Oldest death first, in steps, until p_limit have gone back or there are no more: what cannot go back is passed over
 * and counted, so it never stands in the way of what can. A repeat takes the next ones: those that went back are no
 * longer dead, and if they die again they are the youngest.
 *
 * A dry run judges in the same way and writes nothing. For it a key counts as in use once it has been taken.
 */
declare
    v_now constant timestamptz := clock_now();
    v_every interval;
    v_from_at timestamptz := coalesce(p_since, '-infinity');
    v_from_id bigint := 0;
    v_to_at constant timestamptz := coalesce(p_until, 'infinity');
    v_limit integer;
    v_ids bigint[];
    v_free bigint[];
    v_taken bigint[] := '{}';
    v_step record;
begin
    
    if p_reason not in ('exhausted', 'not_retryable', 'expired', 'malformed', 'unknown_handler', 'cancelled', 'purged') then
        perform _bad_argument('p_reason', p_reason, 'The reasons are exhausted, not_retryable, expired, malformed, unknown_handler, cancelled, purged; null is any.');
    end if;
    if p_limit is null or p_limit not between 1 and 100000 then
        perform _bad_argument('p_limit', p_limit::text, 'Requeue between 1 and 100000 dead letters at a time.');
    end if;
    if p_per_second is not null and (p_per_second between 0.001 and 1000000) is not true then
        perform _bad_argument('p_per_second', p_per_second::text, 'Give 0.001 to 1000000, or null: all at once.');
    end if;

    v_every := interval '1 second' / p_per_second;
    requeued := 0;
    key_in_use := 0;
    no_channel := 0;
    busy := 0;
    loop
        v_limit := least(p_limit - requeued, 1000);
        v_ids := _dead_letter_oldest(
            p_channel, p_reason, p_tenant, p_run_id, 'dead', v_from_at, v_from_id, v_to_at, 0, v_limit
        );
        exit when v_ids = '{}';

        with seen as (
            select distinct d.channel_id, d.job_key from dead_letter d
            where d.dead_letter_id = any(v_taken) and d.job_key is not null
        ), judged as (
            select
                i.id, i.ordinality,
                case
                    when c.channel_id is null then 'no_channel'
                    when d.job_key is not null and (
                        exists (select from job_key k where k.channel_id = d.channel_id and k.key = d.job_key)
                        or exists (select from seen s where s.channel_id = d.channel_id and s.job_key = d.job_key)
                        or row_number() over (partition by d.channel_id, d.job_key order by i.ordinality) > 1
                    ) then 'key_in_use'
                    else 'free'
                end as outcome
            from unnest(v_ids) with ordinality i (id, ordinality)
            cross join lateral (select * from dead_letter n where n.dead_letter_id = i.id limit 1) d
            left join channel c on c.channel_id = d.channel_id
        )
        select
            array_agg(j.id order by j.ordinality) filter (where j.outcome = 'free'),
            key_in_use + count(*) filter (where j.outcome = 'key_in_use'),
            no_channel + count(*) filter (where j.outcome = 'no_channel')
        into v_free, key_in_use, no_channel
        from judged j;

        if p_dry_run then
            v_taken := v_taken || v_free;
            requeued := coalesce(cardinality(v_taken), 0);
        elsif v_free is not null then
            select
                count(*) filter (where r.outcome = 'requeued') as requeued,
                count(*) filter (where r.outcome = 'key_in_use') as key_in_use,
                count(*) filter (where r.outcome = 'no_channel') as no_channel,
                count(*) filter (where r.outcome not in ('requeued', 'key_in_use', 'no_channel')) as busy
            into v_step
            from _dead_letter_requeue(
                v_free, coalesce(p_reset_attempts, true), p_note, false, v_now + v_every * requeued, v_every
            ) r;
            requeued := requeued + v_step.requeued;
            key_in_use := key_in_use + v_step.key_in_use;
            no_channel := no_channel + v_step.no_channel;
            busy := busy + v_step.busy;
        end if;

        exit when requeued = p_limit or cardinality(v_ids) < v_limit;
        select d.dead_at, d.dead_letter_id into v_from_at, v_from_id
        from dead_letter d
        where d.dead_letter_id = v_ids[v_limit];
    end loop;
    if requeued > 0 then
        last_due_at := coalesce(v_now + v_every * (requeued - 1), v_now);
    end if;
end;
$$;

comment on function tidegate.dead_letter_requeue_matching(
    text, text, text, text, timestamptz, timestamptz, integer, double precision, boolean, boolean, text
) is
'Requeue the dead letters that match the filters of dead_letter_list, oldest death first, up to p_limit; no filter means all. Call again while requeued equals p_limit: each call takes the next ones. p_per_second spreads them: they become due at that pace from now, the last at last_due_at. p_dry_run changes nothing and says how many would go. Passed over, and left dead: key_in_use (a live message has the job key), no_channel (it was dropped), busy (somebody else is at it). Errors: TG010 unknown reason, a limit or pace out of range.';

-- functions/dead_letter/dead_letter_put.sql
create or replace function tidegate.dead_letter_put(p_channel text, p_specs jsonb, p_kind text default 'queue')
returns setof tidegate.sent
language plpgsql volatile rows 100
security definer
set search_path = tidegate, pg_temp
as $$
/*
 * For what died before it came here. The messages never stood in a place, so nobody can have claimed one: they are made
 * here and buried in one go, as any other death is. When each failed stands in its history; dead_at is when it landed.
 */
declare
    v_channel channel;
    v_specs constant jsonb[] := array(
        select s.spec from _specs_check(p_specs, array[
            'payload', 'error', 'reason', 'attempts', 'failed_at', 'enqueued_at', 'headers', 'priority', 'group_key',
            'job_key', 'idempotency_key', 'event_id', 'run_id', 'tenant', 'max_attempts', 'backoff'
        ]) s (spec)
    );
    v_spec jsonb;
    v_id bigint;
    v_first bigint;
    v_body_id bigint;
    v_size integer;
    v_attempts integer;
    v_priority integer;
    v_reason text;
    v_long text;
    v_answers sent[] := '{}';
    v_messages message[] := '{}';
    v_reasons text[] := '{}';
    v_errors text[] := '{}';
begin
    if p_kind is null or p_kind not in ('queue', 'topic') then
        perform _bad_argument('p_kind', p_kind, 'A channel is a queue or a topic.');
    end if;
    select * into v_channel from channel c where c.kind = p_kind and c.name = p_channel;
    if not found then
        perform _no_such_channel(p_kind, p_channel);
    end if;
    if cardinality(v_specs) > 1 then
        perform _idempotency_keys_lock(p_kind, p_channel, v_specs);
    end if;
    foreach v_spec in array v_specs loop
        v_attempts := coalesce((v_spec ->> 'attempts')::integer, 0);
        if v_attempts not between 0 and 32767 then
            perform _bad_argument('attempts', v_attempts::text, 'Give how many deliveries failed: 0 to 32767.');
        end if;
        v_reason := coalesce(v_spec ->> 'reason', case when v_attempts > 0 then 'exhausted' else 'not_retryable' end);
        if v_reason not in ('exhausted', 'not_retryable', 'expired', 'malformed', 'unknown_handler')
            or v_reason = 'exhausted' and v_attempts = 0
        then
            perform _bad_argument(
                'reason', v_reason,
                'The reasons are exhausted (of at least one attempt), not_retryable, expired, malformed and'
                ' unknown_handler.'
            );
        end if;
        v_priority := coalesce((v_spec ->> 'priority')::integer, 0);
        if v_priority not between 0 and 9 then
            perform _bad_argument('priority', v_priority::text, 'A priority is a number from 0 (first) to 9 (last).');
        end if;
        if (v_spec ->> 'max_attempts')::integer not between 0 and 32767 then
            perform _bad_argument('max_attempts', v_spec ->> 'max_attempts', 'Give 1 to 32767, or 0 for ever.');
        end if;
        if v_channel.tenant_required and v_spec ->> 'tenant' is null then
            perform _bad_argument('tenant', null, format('%s %s requires a tenant.', initcap(p_kind), p_channel));
        end if;
        if jsonb_typeof(nullif(v_spec -> 'headers', 'null')) <> 'object' or _json_size(v_spec -> 'headers') > 8192 then
            perform _bad_argument(
                'headers', left(v_spec ->> 'headers', 200), 'Headers are a JSON object of at most 8 kB.'
            );
        end if;
        perform _backoff_check(nullif(v_spec -> 'backoff', 'null')) where v_spec -> 'backoff' <> 'null';
        select t.name into v_long
        from unnest(array['group_key', 'job_key', 'idempotency_key', 'run_id', 'tenant']) t (name)
        where octet_length(v_spec ->> t.name) > 512
        limit 1;
        if found then -- they stand in indexes
            perform _bad_argument(v_long, left(v_spec ->> v_long, 100), 'It has at most 512 bytes; hash a longer one.');
        end if;

        v_id := nextval('position_seq');
        if v_spec ->> 'idempotency_key' is not null then
            -- As in a send: the second of two at once waits here, and finds what is final.
            v_first := null;
            loop
                insert into idempotency_key (channel_id, key, message_id, created_at)
                values (v_channel.channel_id, v_spec ->> 'idempotency_key', v_id, clock_now())
                on conflict do nothing;
                exit when found;
                select k.message_id into v_first
                from idempotency_key k
                where k.channel_id = v_channel.channel_id and k.key = v_spec ->> 'idempotency_key';
                exit when found;
            end loop;
            if v_first is not null then
                v_answers := v_answers || row(v_first, 'deduplicated')::sent;
                continue;
            end if;
        end if;
        v_size := _json_size(v_spec -> 'payload');
        v_body_id := null;
        if v_size > v_channel.inline_limit then
            insert into body (payload) values (v_spec -> 'payload') returning body_id into v_body_id;
        end if;
        if v_priority > 0 then -- a requeue puts it where claims have to look
            perform _priority_declare(v_channel.channel_id, array[v_priority]::smallint[]);
        end if;
        if exists (select from unnest(v_messages) m where m.job_key = v_spec ->> 'job_key') then
            -- Of one key the later lands in the entry of the earlier, as if they had died one after the other.
            perform _message_bury(v_channel.channel_id, v_messages, v_reasons, v_errors);
            v_messages := '{}';
            v_reasons := '{}';
            v_errors := '{}';
        end if;
        v_answers := v_answers || row(v_id, 'inserted')::sent;
        v_reasons := v_reasons || v_reason;
        v_errors := v_errors || coalesce(v_spec ->> 'error', '');
        v_messages := v_messages || row(v_attempts, v_priority, v_id, coalesce((v_spec ->> 'enqueued_at')::timestamptz, clock_now()), case when v_body_id is null then v_spec -> 'payload' end, nullif(v_spec -> 'headers', 'null'), (v_spec ->> 'event_id')::uuid, v_body_id, case when v_body_id is not null then v_size end, (v_spec ->> 'max_attempts')::integer, null, null, nullif(v_spec -> 'backoff', 'null'), null, v_spec ->> 'group_key', v_spec ->> 'job_key', v_spec ->> 'run_id', v_spec ->> 'tenant', jsonb_build_array(jsonb_build_object(
                'at', coalesce((v_spec ->> 'failed_at')::timestamptz, clock_now()), 'attempt', v_attempts,
                'error', _error_text(v_spec ->> 'error')
            )), null, null, null)::message;
    end loop;
    if v_messages <> '{}' then
        perform _message_bury(v_channel.channel_id, v_messages, v_reasons, v_errors);
    end if;
    return query select a.message_id, a.outcome from unnest(v_answers) with ordinality a order by a.ordinality;
end;
$$;

comment on function tidegate.dead_letter_put(text, jsonb, text) is
'Bring in messages that died elsewhere, as dead letters of a queue (or, with p_kind topic, of a topic) that can be requeued or discarded as any other: a JSON array of objects with payload and error, reason (exhausted, not_retryable, expired, malformed, unknown_handler), attempts, failed_at and enqueued_at, and, as in queue_send, headers, priority, group_key, job_key, idempotency_key, event_id, run_id, tenant, max_attempts, backoff. One answer an element, in order: inserted, or, for an idempotency key used before on this channel, deduplicated with the first message_id. Errors: TG010 bad argument, TG020 no such channel; a value of the wrong type raises what its cast raises (22P02, 22007).';

-- functions/dead_letter/dead_letter_discard.sql
create or replace function tidegate.dead_letter_discard(
    p_dead_letter_ids bigint[], p_reason text, out dead_letter_id bigint, out outcome text
) returns setof record
language plpgsql volatile rows 100
security definer
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_locked bigint[];
begin
    if coalesce(btrim(p_reason), '') = '' then
        perform _bad_argument(
            'p_reason', p_reason, 'Say why nobody needs these messages any more; it is kept with them.'
        );
    end if;
    -- As in dead_letter_requeue: only dead entries are locked.
    select array_agg(l.dead_letter_id) into v_locked
    from (
        select d.dead_letter_id from dead_letter d
        where d.dead_letter_id = any(p_dead_letter_ids) and (d.state = 'dead') is true
        order by d.dead_letter_id
        for update
    ) l;

    return query
    with discarded as (
        update dead_letter d
        set state = 'discarded', resolved_at = clock_now(),
            notes = d.notes || jsonb_build_object(
                'at', clock_now(), 'by', session_user, 'did', 'discard', 'note', p_reason
            )
        where d.dead_letter_id = any(v_locked)
        returning d.dead_letter_id, d.channel_id
    ), counted as (
        insert into tally (channel_id, outcome, amount)
        select d.channel_id, 'discarded', count(*) from discarded d group by d.channel_id
        returning 1
    )
    select
        w.id,
        case
            when d.dead_letter_id is null then 'unknown'
            when d.dead_letter_id = any(v_locked) then 'discarded'
            else 'already_' || case d.state when 'dead' then 'requeued' else d.state end
        end
    from (
        select i.id, min(i.ordinality) as ordinal
        from unnest(p_dead_letter_ids) with ordinality i (id, ordinality)
        group by i.id
    ) w
    left join lateral (select * from dead_letter n where n.dead_letter_id = w.id limit 1) d on true
    order by w.ordinal;
end;
$$;

comment on function tidegate.dead_letter_discard(bigint[], text) is
'Give up dead letters, with a reason that is kept; cleanup removes them after their retention. One row an id: discarded, already_requeued, already_resolved, already_discarded, or unknown. Errors: TG010 no reason.';

-- functions/dead_letter/dead_letter_discard_matching.sql
create or replace function tidegate.dead_letter_discard_matching(
    p_note text,
    p_channel text default null,
    p_reason text default null,
    p_tenant text default null,
    p_run_id text default null,
    p_since timestamptz default null,
    p_until timestamptz default null,
    p_limit integer default 1000,
    p_dry_run boolean default false
) returns bigint
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/* As a sweep does, it skips what others hold: the pages after those entries are looked at too. */
declare
    v_now constant timestamptz := clock_now();
    v_from_at timestamptz := coalesce(p_since, '-infinity');
    v_from_id bigint := 0;
    v_to_at constant timestamptz := coalesce(p_until, 'infinity');
    v_limit integer;
    v_ids bigint[];
    v_step bigint;
    v_discarded bigint := 0;
begin
    
    if p_reason not in ('exhausted', 'not_retryable', 'expired', 'malformed', 'unknown_handler', 'cancelled', 'purged') then
        perform _bad_argument('p_reason', p_reason, 'The reasons are exhausted, not_retryable, expired, malformed, unknown_handler, cancelled, purged; null is any.');
    end if;
    if coalesce(btrim(p_note), '') = '' then
        perform _bad_argument(
            'p_note', p_note, 'Say why nobody needs these messages any more; it is kept with them.'
        );
    end if;
    if p_limit is null or p_limit not between 1 and 100000 then
        perform _bad_argument('p_limit', p_limit::text, 'Discard between 1 and 100000 dead letters at a time.');
    end if;
    loop
        v_limit := p_limit - v_discarded;
        v_ids := _dead_letter_oldest(
            p_channel, p_reason, p_tenant, p_run_id, 'dead', v_from_at, v_from_id, v_to_at, 0, v_limit
        );
        if p_dry_run then
            return cardinality(v_ids);
        end if;
        with locked as (
            select d.dead_letter_id from dead_letter d
            where d.dead_letter_id = any(v_ids) and (d.state = 'dead') is true
            order by d.dead_letter_id
            for update skip locked
        ), discarded as (
            update dead_letter d
            set state = 'discarded', resolved_at = v_now,
                notes = d.notes || jsonb_build_object('at', v_now, 'by', session_user, 'did', 'discard', 'note', p_note)
            where d.dead_letter_id = any(array(select l.dead_letter_id from locked l))
            returning d.channel_id
        ), counted as (
            insert into tally (channel_id, outcome, amount)
            select d.channel_id, 'discarded', count(*) from discarded d group by d.channel_id
        )
        select count(*) into v_step from discarded;
        v_discarded := v_discarded + v_step;
        exit when v_discarded = p_limit or cardinality(v_ids) < v_limit;
        select d.dead_at, d.dead_letter_id into v_from_at, v_from_id
        from dead_letter d
        where d.dead_letter_id = v_ids[v_limit];
    end loop;
    return v_discarded;
end;
$$;

comment on function tidegate.dead_letter_discard_matching(
    text, text, text, text, text, timestamptz, timestamptz, integer, boolean
) is
'Give up the dead letters that match the filters of dead_letter_list, oldest death first, up to p_limit, for a reason that is kept with them (p_note); no filter means all. Cleanup removes them after their retention. Returns how many were discarded, or with p_dry_run would be; 0 when nothing matches. Entries that somebody else is at are left. Errors: TG010 no note, unknown reason, bad limit.';

-- functions/handler/_handler_oid.sql
create or replace function tidegate._handler_oid(p_handler text) returns oid
language plpgsql stable
set search_path = tidegate, pg_temp
as $$
begin
    return case
        when strpos(p_handler, '(') > 0 then to_regprocedure(p_handler)
        else coalesce(
            to_regprocedure(p_handler || '(jsonb)'),
            to_regprocedure(p_handler || '(' || quote_ident('tidegate') || '.message)')
        )
    end::oid;
exception
    -- What is no name at all raises, and names nothing.
    when invalid_name or syntax_error or feature_not_supported or invalid_text_representation or undefined_object then
        return null;
end;
$$;

comment on function tidegate._handler_oid(text) is
'The function that a handler''s name, with or without its argument, means; null when there is none.';

-- functions/handler/_handler_name.sql
create or replace function tidegate._handler_name(p_handler text) returns text
language sql stable
set quote_all_identifiers = off
begin atomic
select format(
    '%I.%I(%s)', n.nspname, f.proname,
    case
        when f.proargtypes[0] = 'jsonb'::regtype then 'jsonb'
        else quote_ident('tidegate') || '.message'
    end
)
from pg_proc f
inner join pg_namespace n on n.oid = f.pronamespace
where f.oid = tidegate._handler_oid(p_handler);
end;

comment on function tidegate._handler_name(text) is
'Signature of a handler as a route stores it, with its schema; null when there is none.';

-- functions/handler/_handler_call.sql
create or replace function tidegate._handler_call(p_handler text) returns text
language plpgsql stable
set search_path = tidegate, pg_temp
as $$
/*
 * A handler runs with the rights of the installation's owner, as whom this function runs. Whoever owns it could
 * change it at any moment, also to SECURITY INVOKER and also in the middle of a sweep: so it belongs to that owner or
 * to a superuser. It pins its search_path, so that nobody else can change what its names mean.
 */
declare
    v_oid oid := _handler_oid(p_handler);
    v_name text := _handler_name(p_handler); -- as one writes it anywhere, with schemas
    v_function pg_proc;
    v_argument oid;
begin
    if v_oid is null then
        raise exception using
            errcode = 'TG041',
            message = format('no handler %s', coalesce(quote_literal(p_handler), 'null')),
            hint = 'Name a function with its schema, taking one jsonb (the payload) or one '
                || current_schema || '.message, for example billing.on_order(jsonb). If a route names a function that '
                || 'is gone, bring it back, or take the route away with outbox_unroute.';
    end if;
    select * into v_function from pg_proc where oid = v_oid;
    v_argument := v_function.proargtypes[0];
    if v_function.prokind <> 'f' or v_function.pronargs <> 1
        or v_argument not in ('jsonb'::regtype, 'message'::regtype)
        or v_function.prorettype <> 'void'::regtype or v_function.proretset
    then
        raise exception using
            errcode = 'TG041',
            message = format('%s is no handler', v_name),
            hint = format('A handler takes one jsonb or one %I.message and returns void.', current_schema);
    end if;
    if not exists (select from unnest(v_function.proconfig) s where starts_with(s, 'search_path=')) then
        raise exception using
            errcode = 'TG040',
            message = format('handler %s has no search_path of its own', v_name),
            hint = format('alter function %s set search_path = %s, pg_temp;',
                v_name,
                (select quote_ident(n.nspname) from pg_namespace n where n.oid = v_function.pronamespace));
    end if;
    if not exists (
        select from pg_roles o where o.oid = v_function.proowner and (o.rolname = current_user or o.rolsuper)
    ) then
        raise exception using
            errcode = 'TG040',
            message = format('handler %s belongs to %s, who would gain the rights of %s',
                v_name, v_function.proowner::regrole, current_user),
            hint = format('When you have read what it does: alter function %s owner to %I;', v_name, current_user);
    end if;
    if not has_function_privilege(v_oid, 'execute') or not has_schema_privilege(v_function.pronamespace, 'usage') then
        raise exception using
            errcode = 'TG040',
            message = format('%s may not execute handler %s', current_user, v_name),
            hint = format('grant usage on schema %s to %I; grant execute on function %s to %I;',
                v_function.pronamespace::regnamespace, current_user, v_name, current_user);
    end if;
    return format(
        'select %s(%s)', v_oid::regproc, case when v_argument = 'jsonb'::regtype then '($1).payload' else '$1' end
    );
end;
$$;

comment on function tidegate._handler_call(text) is
'The statement that calls a handler with a message as $1, after checking that it is one and is safe to call. Errors: TG040 unsafe handler, TG041 no such handler.';

-- functions/handler/_handler_run.sql
create or replace function tidegate._handler_run(
    p_calls text[],
    p_messages tidegate.message[],
    p_may_check boolean,
    out reached integer,
    out failed integer[],
    out errors text[],
    out finals text[]
)
language plpgsql volatile
set search_path = tidegate, pg_temp
set plan_cache_mode = auto
set enable_seqscan = on
set enable_bitmapscan = on
set jit = off
as $$
/*
 * First all messages in one subtransaction; if any raises, each in one of its own, and only those that raise have
 * failed.
 *
 * What sweeps pin for their own plans is not forced on handlers. They are marked, so that a sweep within a sweep is
 * refused: locks of its own transaction would not stop it. Nor does a claim of theirs tick, to which what is worked on
 * here would seem gone.
 *
 * A plain SET in a handler outlives it. That of search_path would decide what the caller's names mean, here and for
 * the rest of his session, and only a rollback undoes it: so it fails the message.
 *
 * Deferred constraints are checked where they can still be told apart, but only when the caller is the first to write
 * in its transaction (p_may_check): it would else fire the caller's own deferred triggers, before PostgreSQL 18 with
 * our rights. Unchecked, they fail the transaction at its commit.
 *
 * Time: each pass stops calling handlers after half of what is left of statement_timeout, and leaves the rest where
 * it stands, so slow handlers still make progress. A handler that is cancelled by the timeout has therefore had at
 * least that long for itself: it is charged, and ends the pass. So does any other cancel, which cannot be told from
 * one that a handler passes on from elsewhere, and would otherwise stop the topic or queue for ever.
 */
declare
    v_path constant text := current_setting('search_path');
    v_tick constant text := coalesce(current_setting('tidegate.tick', true), '');
    v_call text;
    v_message message;
    v_ordinal integer := 0;
    v_is_isolated boolean := false;
    v_end timestamptz := 'infinity';
    v_stop timestamptz := 'infinity';
begin
    reached := cardinality(p_messages);
    failed := '{}';
    errors := '{}';
    finals := '{}';
    if current_setting('statement_timeout') <> '0' then
        v_end := statement_timestamp() + current_setting('statement_timeout')::interval;
        v_stop := clock_timestamp() + (v_end - clock_timestamp()) / 2;
    end if;
    perform set_config('tidegate.handling', 'on', true), set_config('tidegate.tick', 'off', true);

    begin
        foreach v_message in array p_messages loop
            if clock_timestamp() > v_stop then
                reached := v_ordinal;
                exit;
            end if;
            v_ordinal := v_ordinal + 1;
            foreach v_call in array p_calls loop
                execute v_call using v_message;
                if pg_catalog.current_setting('search_path') operator(pg_catalog.<>) v_path then
                    raise exception using
                        errcode = 'TG040',
                        message = 'the handler set search_path for good: use set local, or its function head';
                end if;
            end loop;
        end loop;
        if p_may_check then
            set constraints all immediate; -- what handlers deferred is checked while it can still be undone
        end if;
    exception
        when query_canceled then
            failed := array[v_ordinal];
            errors := array[sqlerrm];
            finals := array[null::text];
            reached := 0; -- what the others did is undone, uncharged, and done again by a later call
        when others or assert_failure then
            v_is_isolated := true;
    end;

    if v_is_isolated then
        if v_end <> 'infinity' then
            v_stop := clock_timestamp() + (v_end - clock_timestamp()) / 2;
        end if;
        v_ordinal := 0;
        reached := cardinality(p_messages);
        foreach v_message in array p_messages loop
            if clock_timestamp() > v_stop and v_ordinal > 0 then
                reached := v_ordinal;
                exit;
            end if;
            v_ordinal := v_ordinal + 1;
            begin
                foreach v_call in array p_calls loop
                    execute v_call using v_message;
                    if pg_catalog.current_setting('search_path') operator(pg_catalog.<>) v_path then
                        raise exception using
                            errcode = 'TG040',
                            message = 'the handler set search_path for good: use set local, or its function head';
                    end if;
                end loop;
                if p_may_check then
                    set constraints all immediate;
                end if;
            exception
                when query_canceled then
                    failed := failed || v_ordinal;
                    errors := errors || sqlerrm;
                    finals := finals || null::text;
                    reached := v_ordinal;
                    exit;
                when others or assert_failure then
                    failed := failed || v_ordinal;
                    errors := errors || sqlerrm;
                    finals := finals || case when sqlstate = 'TG042' then 'not_retryable' end;
            end;
        end loop;
    end if;
    perform set_config('tidegate.handling', 'off', true), set_config('tidegate.tick', v_tick, true);
end;
$$;

comment on function tidegate._handler_run(text[], tidegate.message[], boolean) is
'Call handlers with each message: all or, when one raises, each by itself. reached: how many were tried, from the first; failed: the ordinals of those that raised, beside their errors and the reason of a failure that is final (TG042). What is neither reached nor failed was not touched.';

-- functions/queue/queue_create.sql
create or replace function tidegate.queue_create(p_queue text, p_policy jsonb default '{}') returns void
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_channel_id integer;
begin
    if p_queue is null or p_queue !~ '^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}$' then
        perform _bad_argument(
            'p_queue', p_queue, 'A name has 1 to 128 letters, digits, or _ . : - and does not begin with . : or -'
        );
    end if;
    insert into channel (kind, name, max_attempts, event_prefix)
    select 'queue', p_queue, 5, i.event_prefix
    from installation i
    on conflict do nothing
    returning channel_id into v_channel_id;
    if found then
        insert into floor (
            channel_id, ticked_at, took, position, is_quiet, has_more, move_limit, priorities, floors, hints,
            scheduled_from, lease_from, tick_at, grouped_to
        ) values (
            v_channel_id, 'epoch', '0', 0, false, false, 1000, '{0}',
            array_fill(0::bigint, array[10]), array_fill(0::bigint, array[10]), '-infinity', '-infinity', 'epoch', 0
        );
    end if;
    -- Called again with the same or another policy, it configures: deployments may repeat it.
    perform _channel_configure('queue', p_queue, p_policy);
end;
$$;

comment on function tidegate.queue_create(text, jsonb) is
'Create a queue; on one that exists, apply the policy. Keys as in queue_configure; max_attempts is 5 unless given. Errors: TG010 bad name, unknown key or bad value.';

-- functions/queue/queue_configure.sql
create or replace function tidegate.queue_configure(p_queue text, p_policy jsonb) returns void
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
begin
    perform _channel_configure('queue', p_queue, p_policy);
end;
$$;

comment on function tidegate.queue_configure(text, jsonb) is
'Change the policy of a queue: lease, max_runtime, max_attempts (0 = for ever), backoff_base, backoff_cap, backoff_factor, jitter (a share), retention (of archived messages), archive, max_in_flight (null = unlimited), inline_limit (bytes), tenant_required, doorbell (least interval between two wake-ups of whoever listens; null = none; a transaction that rings cannot be prepared, one with tidegate.doorbell off does not ring). Keys not given stay as they are. Errors: TG010 unknown key or bad value, TG020 no such queue.';

-- functions/queue/queue_pause.sql
create or replace function tidegate.queue_pause(p_queue text) returns void
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
begin
    update channel set is_paused = true where kind = 'queue' and name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
end;
$$;

comment on function tidegate.queue_pause(text) is
'Stop handing out what stands in a queue; what comes in is kept, and leases run on. A repeat changes nothing. Errors: TG020 no such queue.';

-- functions/queue/queue_resume.sql
create or replace function tidegate.queue_resume(p_queue text) returns void
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
begin
    update channel set is_paused = false, is_draining = false where kind = 'queue' and name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
end;
$$;

comment on function tidegate.queue_resume(text) is
'Hand out again what stands in a paused queue, and take messages again in a draining one. A repeat changes nothing. Errors: TG020 no such queue.';

-- functions/queue/queue_drain.sql
create or replace function tidegate.queue_drain(p_queue text) returns void
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
begin
    update channel set is_draining = true where kind = 'queue' and name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
end;
$$;

comment on function tidegate.queue_drain(text) is
'Take no more messages: sends are refused with TG023 (but for repeats under an idempotency key), topics routed here wait, and workers finish what is there, retries and requeued dead letters included. queue_resume ends it. A repeat changes nothing. Errors: TG020 no such queue.';

-- functions/queue/queue_purge.sql
create or replace function tidegate.queue_purge(p_queue text, p_to text default 'dead_letter') returns bigint
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
/*
 * In batches, so that memory stays bounded, in one transaction. From behind: first the follow-ups, then what waits in
 * blocked, so that nothing is handed a turn only to be purged in its turn. What others hold at the moment is skipped:
 * a message, its job key, the turn of its group, who is to have that next, or the barrier of its member. So a purge
 * waits for nobody, and no two can wait for each other.
 */
declare
    v_channel_id integer;
    v_messages message[];
    v_purged bigint := 0;
begin
    if p_to is null or p_to not in ('dead_letter', 'discard') then
        perform _bad_argument('p_to', p_to, 'Messages go to dead_letter, or, to lose them, discard.');
    end if;
    select c.channel_id into v_channel_id from channel c where c.kind = 'queue' and c.name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;


    loop
        with taken as (
            select j.key, j.follow_up from job_key j
            where j.channel_id = v_channel_id and j.follow_up is distinct from null
            order by j.key
            limit 1000
            for update skip locked
        ), emptied as (
            update job_key j set follow_up = null, follow_up_due_at = null
            from taken t
            where j.channel_id = v_channel_id and j.key = t.key
        )
        select array_agg(t.follow_up) into v_messages from taken t;
        exit when v_messages is null;
        if p_to = 'dead_letter' then
            perform _message_bury(
                v_channel_id, v_messages,
                array_fill('purged'::text, array[cardinality(v_messages)]),
                array_fill('the queue was purged'::text, array[cardinality(v_messages)])
            );
        else
            perform _message_drop(v_channel_id, v_messages);
        end if;
        v_purged := v_purged + cardinality(v_messages);
    end loop;

    loop
        with taken as (
            delete from blocked where ctid = any(array(
                select p.ctid from blocked p
                where p.channel_id = v_channel_id
                    and (
                        p.job_key is null
                        or not exists (
                            select from job_key j where j.channel_id = v_channel_id and j.key = p.job_key
                        )
                        or exists (
                            select from job_key j where j.channel_id = v_channel_id and j.key = p.job_key
                            for update skip locked
                        )
                    )
                    and (p.group_key is null or _turn_seize(v_channel_id, p.group_key, p.message_id))
                    and (p.barrier is null or _member_seize(p.barrier, p.epoch, p.member))
                limit 1000
                for update skip locked
            )) returning *
        )
        select array_agg(row(t.attempts, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, t.max_attempts, t.max_batch, t.requeued_from, t.backoff, t.topic, t.group_key, t.job_key, t.run_id, t.tenant, t.errors, t.barrier, t.epoch, t.member)::message order by t.message_id) into v_messages from taken t;
        exit when v_messages is null;
        if p_to = 'dead_letter' then
            perform _message_bury(
                v_channel_id, v_messages,
                array_fill('purged'::text, array[cardinality(v_messages)]),
                array_fill('the queue was purged'::text, array[cardinality(v_messages)])
            );
        else
            perform _message_drop(v_channel_id, v_messages);
        end if;
        v_purged := v_purged + cardinality(v_messages);
    end loop;

    loop
        with taken as (
            delete from scheduled where ctid = any(array(
                select p.ctid from scheduled p
                where p.channel_id = v_channel_id
                    and (
                        p.job_key is null
                        or not exists (
                            select from job_key j where j.channel_id = v_channel_id and j.key = p.job_key
                        )
                        or exists (
                            select from job_key j where j.channel_id = v_channel_id and j.key = p.job_key
                            for update skip locked
                        )
                    )
                    and (p.group_key is null or _turn_seize(v_channel_id, p.group_key, p.message_id))
                    and (p.barrier is null or _member_seize(p.barrier, p.epoch, p.member))
                limit 1000
                for update skip locked
            )) returning *
        )
        select array_agg(row(t.attempts, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, t.max_attempts, t.max_batch, t.requeued_from, t.backoff, t.topic, t.group_key, t.job_key, t.run_id, t.tenant, t.errors, t.barrier, t.epoch, t.member)::message order by t.message_id) into v_messages from taken t;
        exit when v_messages is null;
        if p_to = 'dead_letter' then
            perform _message_bury(
                v_channel_id, v_messages,
                array_fill('purged'::text, array[cardinality(v_messages)]),
                array_fill('the queue was purged'::text, array[cardinality(v_messages)])
            );
        else
            perform _message_drop(v_channel_id, v_messages);
        end if;
        v_purged := v_purged + cardinality(v_messages);
    end loop;

    loop
        with taken as (
            delete from ready where ctid = any(array(
                select p.ctid from ready p
                where p.channel_id = v_channel_id
                    and (
                        p.job_key is null
                        or not exists (
                            select from job_key j where j.channel_id = v_channel_id and j.key = p.job_key
                        )
                        or exists (
                            select from job_key j where j.channel_id = v_channel_id and j.key = p.job_key
                            for update skip locked
                        )
                    )
                    and (p.group_key is null or _turn_seize(v_channel_id, p.group_key, p.message_id))
                    and (p.barrier is null or _member_seize(p.barrier, p.epoch, p.member))
                limit 1000
                for update skip locked
            )) returning *
        )
        select array_agg(row(t.attempts, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, t.max_attempts, t.max_batch, t.requeued_from, t.backoff, t.topic, t.group_key, t.job_key, t.run_id, t.tenant, t.errors, t.barrier, t.epoch, t.member)::message order by t.message_id) into v_messages from taken t;
        exit when v_messages is null;
        if p_to = 'dead_letter' then
            perform _message_bury(
                v_channel_id, v_messages,
                array_fill('purged'::text, array[cardinality(v_messages)]),
                array_fill('the queue was purged'::text, array[cardinality(v_messages)])
            );
        else
            perform _message_drop(v_channel_id, v_messages);
        end if;
        v_purged := v_purged + cardinality(v_messages);
    end loop;

    if v_purged > 0 then
        insert into tally (channel_id, outcome, amount) values (v_channel_id, 'purged', v_purged);
    end if;
    return v_purged;
end;
$$;

comment on function tidegate.queue_purge(text, text) is
'Empty a queue of all that waits: into dead letters with reason purged, from where it can be requeued, or, with p_to discard, for good. Leased messages stay. Returns how many were purged; 0 when nothing waits. Errors: TG010 bad p_to, TG020 no such queue, TG030 a message has a group key, and the caller is not READ COMMITTED.';

-- functions/queue/queue_drop.sql
create or replace function tidegate.queue_drop(p_queue text, p_to text default null) returns void
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
set lock_timeout = '2s'
as $$
/*
 * Whoever sends has read channel, and keeps a lock on it to the end of the transaction: the exclusive lock waits for
 * those in flight, and those still to come find no queue. It waits two seconds at most, as others queue up behind it.
 */
declare
    v_channel_id integer;
    v_count bigint;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('queue_drop');
    end if;
    lock table route in share row exclusive mode; -- first, as everywhere
    lock table channel in access exclusive mode;
    select c.channel_id into v_channel_id from channel c where c.kind = 'queue' and c.name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
    select count(*) into v_count from route r where r.queue_id = v_channel_id;
    if v_count > 0 then
        raise exception using
            errcode = 'TG022',
            message = format('queue %L is the target of %s route(s)', p_queue, v_count),
            hint = 'Take them away with outbox_unroute first.';
    end if;
    if p_to is not null then
        perform queue_purge(p_queue, p_to);
    end if;
    select (select count(*) from ready r where r.channel_id = v_channel_id)
        + (select count(*) from scheduled s where s.channel_id = v_channel_id)
        + (select count(*) from blocked b where b.channel_id = v_channel_id)
        + (select coalesce(sum(l.message_count), 0) from lease l where l.channel_id = v_channel_id)
    into v_count;
    if v_count > 0 then
        raise exception using
            errcode = 'TG022',
            message = format('queue %L still holds %s message(s)', p_queue, v_count),
            hint = 'Let workers finish them, or say where those that wait go: p_to => ''dead_letter'' or ''discard''.';
    end if;
    delete from channel where channel_id = v_channel_id;
    delete from channel_priority where channel_id = v_channel_id;
    delete from floor where channel_id = v_channel_id;
    delete from idempotency_key where channel_id = v_channel_id;
    delete from job_key where channel_id = v_channel_id;
    delete from group_turn where channel_id = v_channel_id;
    delete from cancel_request where channel_id = v_channel_id;
    if to_regclass('doorbell_' || v_channel_id) is not null then
        execute format('drop sequence doorbell_%s', v_channel_id);
    end if;
end;
$$;

comment on function tidegate.queue_drop(text, text) is
'Drop a queue: an empty one, or, with p_to (dead_letter or discard, as in queue_purge), one whose messages all wait; dead letters and archived messages stay. Commit at once: until then every call of every channel waits. Errors: TG010 bad p_to, TG020 no such queue, TG022 it still holds messages or is routed to, TG030 not READ COMMITTED, 55P03 a transaction that has used a channel stayed open: try again.';

-- functions/queue/queue_send.sql
create or replace function tidegate.queue_send(
    p_queue text,
    p_payload jsonb,
    p_headers jsonb default null,
    p_run_at timestamptz default null,
    p_priority integer default 0,
    p_group_key text default null,
    p_job_key text default null,
    p_key_mode text default 'replace',
    p_idempotency_key text default null,
    p_event_id uuid default null,
    p_run_id text default null,
    p_tenant text default null,
    p_max_attempts integer default null,
    p_backoff jsonb default null
) returns tidegate.sent
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_channel record;
    v_sent sent;
    v_body_id bigint;
    v_size integer;
begin
    select c.channel_id, c.inline_limit, c.tenant_required, c.doorbell, c.is_draining
    into v_channel
    from channel c
    where c.kind = 'queue' and c.name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
    if p_priority = 0 and p_run_at is null and p_idempotency_key is null and p_group_key is null and p_run_id is null
        and current_setting('transaction_isolation') = 'read committed'
        and coalesce(octet_length(p_tenant) <= 512, not v_channel.tenant_required)
        and (p_headers is null or (jsonb_typeof(p_headers) = 'object' and _json_size(p_headers) <= 8192))
        and p_max_attempts is null and p_backoff is null and not v_channel.is_draining
        and _json_size(p_payload) <= v_channel.inline_limit and p_job_key is null and p_key_mode = 'replace'
    then
        v_sent := row(nextval('position_seq'), 'inserted');
        insert into ready (
            position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, run_id, tenant
        ) values (
            v_sent.message_id, v_channel.channel_id, 0, 0, v_sent.message_id, clock_now(), p_payload, p_headers,
            p_event_id, p_run_id, p_tenant
        );
        if v_channel.doorbell is not null then
            perform _doorbell_ring(v_channel.channel_id, 'queue', p_queue, v_channel.doorbell);
        end if;
        return v_sent;
    end if;

    if current_setting('transaction_isolation') <> 'read committed' then
        -- An old snapshot may show a channel that was dropped since: its lock raises 40001 then.
        perform from channel c where c.channel_id = v_channel.channel_id for key share;
    end if;
    if p_priority is null or p_priority not between 0 and 9 then
        perform _bad_argument('p_priority', p_priority::text, 'A priority is a number from 0 (first) to 9 (last).');
    end if;
    if v_channel.tenant_required and p_tenant is null then
        perform _bad_argument('p_tenant', p_tenant, format('%s %s requires a tenant.', initcap('queue'), p_queue));
    end if;
    if jsonb_typeof(p_headers) <> 'object' or _json_size(p_headers) > 8192 then
        perform _bad_argument('p_headers', left(p_headers::text, 200), 'Headers are a JSON object of at most 8 kB.');
    end if;
    if p_max_attempts not between 0 and 32767 then
        perform _bad_argument('p_max_attempts', p_max_attempts::text, 'Give 1 to 32767, or 0 for ever.');
    end if;
    if p_backoff is not null then
        perform _backoff_check(p_backoff);
    end if;
    -- A repeat of what came in before is answered as ever.
    if v_channel.is_draining and not exists (
        select from idempotency_key k where k.channel_id = v_channel.channel_id and k.key = p_idempotency_key
    ) then
        raise exception using
            errcode = 'TG023',
            message = format('queue %L is draining and takes no more messages', p_queue),
            hint = 'Send elsewhere, or let it take messages again with queue_resume.';
    end if;
    if octet_length(p_idempotency_key) > 512 then -- they stand in indexes
        perform _bad_argument('p_idempotency_key', left(p_idempotency_key, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if octet_length(p_group_key) > 512 then -- they stand in indexes
        perform _bad_argument('p_group_key', left(p_group_key, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if octet_length(p_run_id) > 512 then -- they stand in indexes
        perform _bad_argument('p_run_id', left(p_run_id, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if octet_length(p_tenant) > 512 then -- they stand in indexes
        perform _bad_argument('p_tenant', left(p_tenant, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if p_run_at > clock_now() + interval '100 years' then
        perform _bad_argument('p_run_at', p_run_at::text, 'Give an instant of the next 100 years, or null for now.');
    end if;
    if p_priority > 0 then
        perform _priority_declare(v_channel.channel_id, array[p_priority]::smallint[]);
    end if;
    if p_key_mode is null or p_key_mode not in ('replace', 'preserve_run_at', 'dedupe') then
        perform _bad_argument('p_key_mode', p_key_mode, 'The modes are replace, preserve_run_at and dedupe.');
    elsif p_key_mode <> 'replace' and p_job_key is null then
        perform _bad_argument('p_key_mode', p_key_mode, 'Without a p_job_key there is nothing that it could mean.');
    end if;
    if p_payload is null then
        perform _bad_argument('p_payload', null, 'Give a JSON value; for an empty one, ''null''::jsonb.');
    end if;
    if p_run_id is not null and exists (select from run s where s.run_id = p_run_id and s.state = 'stopped') then
        select k.message_id, 'deduplicated' into v_sent
        from idempotency_key k
        where k.channel_id = v_channel.channel_id and k.key = p_idempotency_key;
        if not found then
            v_sent := row(null, 'cancelled');
        end if;
        return v_sent;
    end if;
    v_size := _json_size(p_payload);
    v_sent := row(nextval('position_seq'), 'inserted');
    if p_idempotency_key is not null then
        -- Of two that use a key at once, the second waits here for the first to end: whatever it finds then is final.
        loop
            insert into idempotency_key (channel_id, key, message_id, created_at)
            values (v_channel.channel_id, p_idempotency_key, v_sent.message_id, clock_now())
            on conflict do nothing;
            exit when found;
            select k.message_id, 'deduplicated' into v_sent
            from idempotency_key k
            where k.channel_id = v_channel.channel_id and k.key = p_idempotency_key;
            if found then
                return v_sent;
            end if;
            v_sent.message_id := nextval('position_seq');
            v_sent.outcome := 'inserted';
        end loop;
    end if;
    if v_channel.doorbell is not null and (p_run_at is null or p_run_at <= clock_now()) then
        perform _doorbell_ring(v_channel.channel_id, 'queue', p_queue, v_channel.doorbell);
    end if;
    if v_size > v_channel.inline_limit then
        insert into body (payload) values (p_payload) returning body_id into v_body_id;
    end if;
    if p_job_key is not null then
        v_sent := _keyed_send(
            v_channel.channel_id, p_key_mode, p_run_at,
            row(0, p_priority, v_sent.message_id, clock_now(), case when v_body_id is null then p_payload end, p_headers, p_event_id, v_body_id, case when v_body_id is not null then v_size end, p_max_attempts, null, null, p_backoff, null, p_group_key, p_job_key, p_run_id, p_tenant, null, null, null, null)::message
        );
        if p_idempotency_key is not null then
            update idempotency_key set message_id = v_sent.message_id
            where channel_id = v_channel.channel_id and key = p_idempotency_key;
        end if;
        return v_sent;
    end if;

    if p_run_at > clock_now() then
        insert into scheduled (
            due_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id,
            body_bytes, max_attempts, backoff, group_key, run_id, tenant
        ) values (
            greatest(p_run_at, clock_now() + interval '1 microsecond'), v_channel.channel_id, 0, p_priority, v_sent.message_id, clock_now(),
            case when v_body_id is null then p_payload end, p_headers, p_event_id, v_body_id,
            case when v_body_id is not null then v_size end,
            p_max_attempts, p_backoff, p_group_key, p_run_id, p_tenant
        );
    elsif p_group_key is not null then
        insert into blocked (
            position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id,
            body_bytes, max_attempts, backoff, group_key, run_id, tenant
        ) values (
            v_sent.message_id, v_channel.channel_id, 0, p_priority, v_sent.message_id, clock_now(),
            case when v_body_id is null then p_payload end, p_headers, p_event_id, v_body_id,
            case when v_body_id is not null then v_size end,
            p_max_attempts, p_backoff, p_group_key, p_run_id, p_tenant
        );
    else
        insert into ready (
            position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id,
            body_bytes, max_attempts, backoff, group_key, run_id, tenant
        ) values (
            v_sent.message_id, v_channel.channel_id, 0, p_priority, v_sent.message_id, clock_now(),
            case when v_body_id is null then p_payload end, p_headers, p_event_id, v_body_id,
            case when v_body_id is not null then v_size end,
            p_max_attempts, p_backoff, p_group_key, p_run_id, p_tenant
        );
    end if;
    return v_sent;
end;
$$;

comment on function tidegate.queue_send(
    text, jsonb, jsonb, timestamptz, integer, text, text, text, text, uuid, text, text, integer, jsonb
) is
'Send a message to a queue, in the caller''s transaction. Answers inserted with its message_id, or, for an idempotency key used before on this queue, deduplicated with the first one. A run_at in the past or null means now. Messages of one group_key are worked on one after the other, in order. Of one job_key at most one message is alive: p_key_mode says what a further send does while it waits (replace, preserve_run_at: replaced; dedupe: deduplicated); while it is leased, the newest is kept as its follow_up. p_backoff overrides the queue''s: {"base", "cap", "factor", "jitter"}. Errors: TG010 bad argument, TG020 no such queue, TG023 it is draining.';

-- functions/queue/queue_send_many.sql
create or replace function tidegate.queue_send_many(
    p_queue text,
    p_payloads jsonb[],
    p_headers jsonb default null,
    p_run_at timestamptz default null,
    p_priority integer default 0,
    p_group_key text default null,
    p_idempotency_key text default null,
    p_run_id text default null,
    p_tenant text default null,
    p_max_attempts integer default null,
    p_backoff jsonb default null
) returns setof tidegate.sent
language plpgsql volatile rows 100
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_channel record;
    v_now timestamptz := clock_now();
begin
    select c.channel_id, c.inline_limit, c.tenant_required, c.doorbell, c.is_draining
    into v_channel
    from channel c
    where c.kind = 'queue' and c.name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
    if p_priority = 0 and p_run_at is null and p_idempotency_key is null and p_group_key is null and p_run_id is null
        and current_setting('transaction_isolation') = 'read committed'
        and coalesce(octet_length(p_tenant) <= 512, not v_channel.tenant_required)
        and (p_headers is null or (jsonb_typeof(p_headers) = 'object' and _json_size(p_headers) <= 8192))
        and p_max_attempts is null and p_backoff is null and not v_channel.is_draining
        and array_ndims(p_payloads) = 1
        and (
            select max(coalesce(_json_size(u.payload), 2147483647)) from (select unnest(p_payloads) as payload) u
        ) <= v_channel.inline_limit
    then
        return query
        insert into ready (
            position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, run_id, tenant
        )
        select i.id, v_channel.channel_id, 0, 0, i.id, v_now, i.payload, p_headers, p_run_id, p_tenant
        from (
            select nextval('position_seq') as id, u.payload from (select unnest(p_payloads) as payload) u
        ) i
        returning ready.message_id, 'inserted'::text;
        if v_channel.doorbell is not null then
            perform _doorbell_ring(v_channel.channel_id, 'queue', p_queue, v_channel.doorbell);
        end if;
        return;
    end if;

    if current_setting('transaction_isolation') <> 'read committed' then
        -- An old snapshot may show a channel that was dropped since: its lock raises 40001 then.
        perform from channel c where c.channel_id = v_channel.channel_id for key share;
    end if;
    if p_priority is null or p_priority not between 0 and 9 then
        perform _bad_argument('p_priority', p_priority::text, 'A priority is a number from 0 (first) to 9 (last).');
    end if;
    if v_channel.tenant_required and p_tenant is null then
        perform _bad_argument('p_tenant', p_tenant, format('%s %s requires a tenant.', initcap('queue'), p_queue));
    end if;
    if jsonb_typeof(p_headers) <> 'object' or _json_size(p_headers) > 8192 then
        perform _bad_argument('p_headers', left(p_headers::text, 200), 'Headers are a JSON object of at most 8 kB.');
    end if;
    if p_max_attempts not between 0 and 32767 then
        perform _bad_argument('p_max_attempts', p_max_attempts::text, 'Give 1 to 32767, or 0 for ever.');
    end if;
    if p_backoff is not null then
        perform _backoff_check(p_backoff);
    end if;
    -- A repeat of what came in before is answered as ever.
    if v_channel.is_draining and not exists (
        select from idempotency_key k where k.channel_id = v_channel.channel_id and k.key = p_idempotency_key || ':1'
    ) then
        raise exception using
            errcode = 'TG023',
            message = format('queue %L is draining and takes no more messages', p_queue),
            hint = 'Send elsewhere, or let it take messages again with queue_resume.';
    end if;
    if octet_length(p_idempotency_key) > 512 then -- they stand in indexes
        perform _bad_argument('p_idempotency_key', left(p_idempotency_key, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if octet_length(p_group_key) > 512 then -- they stand in indexes
        perform _bad_argument('p_group_key', left(p_group_key, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if octet_length(p_run_id) > 512 then -- they stand in indexes
        perform _bad_argument('p_run_id', left(p_run_id, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if octet_length(p_tenant) > 512 then -- they stand in indexes
        perform _bad_argument('p_tenant', left(p_tenant, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if p_run_at > clock_now() + interval '100 years' then
        perform _bad_argument('p_run_at', p_run_at::text, 'Give an instant of the next 100 years, or null for now.');
    end if;
    if p_priority > 0 then
        perform _priority_declare(v_channel.channel_id, array[p_priority]::smallint[]);
    end if;
    if p_payloads is null or array_ndims(p_payloads) > 1 then
        perform _bad_argument('p_payloads', left(p_payloads::text, 200), 'Give a flat array of JSON values.');
    elsif array_position(p_payloads, null) is not null then
        perform _bad_argument(
            format('p_payloads[%s]', array_position(p_payloads, null)), null,
            'Give a JSON value; for an empty one, ''null''::jsonb.'
        );
    end if;
    if p_run_id is not null and p_idempotency_key is null and exists (select from run s where s.run_id = p_run_id and s.state = 'stopped') then
        return query select null::bigint, 'cancelled'::text from unnest(p_payloads);
        return;
    end if;

    if p_idempotency_key is null and (p_run_at is null or p_run_at <= clock_now()) then
        if v_channel.doorbell is not null then
            perform _doorbell_ring(v_channel.channel_id, 'queue', p_queue, v_channel.doorbell);
        end if;
        if p_group_key is not null then
            return query
            with input as materialized (
                select
                    nextval('position_seq') as id, u.payload,
                    case when _json_size(u.payload) > v_channel.inline_limit then nextval('body_body_id_seq') end as body_id
                from unnest(p_payloads) as u (payload)
            ), large as (
                insert into body (body_id, payload) overriding system value
                select i.body_id, i.payload from input i where i.body_id is not null
            )
            insert into blocked (
                position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, body_id, body_bytes,
                max_attempts, backoff, group_key, run_id, tenant
            )
            select
                i.id, v_channel.channel_id, 0, p_priority, i.id, v_now,
                case when i.body_id is null then i.payload end, p_headers,
                i.body_id, case when i.body_id is not null then _json_size(i.payload) end,
                p_max_attempts, p_backoff, p_group_key, p_run_id, p_tenant
            from input i
            returning blocked.message_id, 'inserted'::text;
            return;
        end if;
        return query
        with input as materialized (
            select
                nextval('position_seq') as id, u.payload,
                case when _json_size(u.payload) > v_channel.inline_limit then nextval('body_body_id_seq') end as body_id
            from unnest(p_payloads) as u (payload)
        ), large as (
            insert into body (body_id, payload) overriding system value
            select i.body_id, i.payload from input i where i.body_id is not null
        )
        insert into ready (
            position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, body_id, body_bytes,
            max_attempts, backoff, group_key, run_id, tenant
        )
        select
            i.id, v_channel.channel_id, 0, p_priority, i.id, v_now,
            case when i.body_id is null then i.payload end, p_headers,
            i.body_id, case when i.body_id is not null then _json_size(i.payload) end,
            p_max_attempts, p_backoff, p_group_key, p_run_id, p_tenant
        from input i
        returning ready.message_id, 'inserted'::text;
        return;
    end if;

    -- Keys and delays take the path of one.
    return query
    select s.*
    from unnest(p_payloads) with ordinality u (payload, ordinal)
    cross join lateral queue_send(
        p_queue, u.payload,
        p_headers => p_headers, p_run_at => p_run_at, p_priority => p_priority, p_group_key => p_group_key,
        p_run_id => p_run_id, p_tenant => p_tenant,
        p_max_attempts => p_max_attempts, p_backoff => p_backoff,
        p_idempotency_key => p_idempotency_key || ':' || u.ordinal
    ) s
    order by u.ordinal;
end;
$$;

comment on function tidegate.queue_send_many(
    text, jsonb[], jsonb, timestamptz, integer, text, text, text, text, integer, jsonb
) is
'Send many messages to a queue, in the caller''s transaction: one answer an element, in order; no rows for an empty array. The options hold for all; with an idempotency key, each element''s key is that key, a colon and its place in the array. Job keys belong to one message each: see queue_send_specs. Errors: TG010 bad argument, TG020 no such queue, TG023 it is draining.';

-- functions/queue/queue_send_specs.sql
create or replace function tidegate.queue_send_specs(p_queue text, p_specs jsonb)
returns setof tidegate.sent
language plpgsql volatile rows 100
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_specs constant jsonb[] := array(
        select s.spec from _specs_check(p_specs, array[
            'payload', 'headers', 'run_at', 'priority', 'group_key', 'job_key', 'key_mode', 'idempotency_key',
            'event_id', 'run_id', 'tenant', 'max_attempts', 'backoff'
        ]) s (spec)
    );
    v_spec jsonb;
begin
    if cardinality(v_specs) > 1 then
        perform _idempotency_keys_lock('queue', p_queue, v_specs);
        perform _job_keys_lock(p_queue, v_specs);
    end if;
    foreach v_spec in array v_specs loop
        return query
        select p.*
        from queue_send(
            p_queue, v_spec -> 'payload',
            p_headers => nullif(v_spec -> 'headers', 'null'),
            p_run_at => (v_spec ->> 'run_at')::timestamptz,
            p_priority => coalesce((v_spec ->> 'priority')::integer, 0),
            p_group_key => v_spec ->> 'group_key',
            p_job_key => v_spec ->> 'job_key',
            p_key_mode => coalesce(v_spec ->> 'key_mode', 'replace'),
            p_idempotency_key => v_spec ->> 'idempotency_key',
            p_event_id => (v_spec ->> 'event_id')::uuid,
            p_run_id => v_spec ->> 'run_id',
            p_tenant => v_spec ->> 'tenant',
            p_max_attempts => (v_spec ->> 'max_attempts')::integer,
            p_backoff => nullif(v_spec -> 'backoff', 'null')
        ) p;
    end loop;
end;
$$;

comment on function tidegate.queue_send_specs(text, jsonb) is
'Send many messages with options of their own: a JSON array of objects with payload and, as in queue_send, headers, run_at, priority, group_key, job_key, key_mode, idempotency_key, event_id, run_id, tenant, max_attempts, backoff. One answer an element, in order. Errors: TG010 bad argument, TG020 no such queue, TG023 it is draining; a value of the wrong type raises what its cast raises (22P02, 22007).';

-- functions/queue/queue_peek.sql
create or replace function tidegate.queue_peek(
    p_queue text, p_limit integer default 10, p_place text default 'ready'
) returns setof tidegate.message
language plpgsql stable rows 10
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_channel channel;
begin
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'Look at between 1 and 10000 messages at a time.');
    end if;
    select * into v_channel from channel where kind = 'queue' and name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
    case p_place
        when 'ready' then
            return query
            select m.attempts, m.priority::smallint, m.message_id, m.enqueued_at, coalesce(m.payload, (select b.payload from body b where b.body_id = m.body_id)), m.headers, coalesce(m.event_id, _event_id(v_channel.event_prefix, m.message_id, m.enqueued_at)), m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors, m.barrier, m.epoch, m.member
            from (
                select * from ready p
                where p.channel_id = v_channel.channel_id
                order by priority, position
                limit p_limit
            ) m
            order by priority, position;
        when 'scheduled' then
            return query
            select m.attempts, m.priority::smallint, m.message_id, m.enqueued_at, coalesce(m.payload, (select b.payload from body b where b.body_id = m.body_id)), m.headers, coalesce(m.event_id, _event_id(v_channel.event_prefix, m.message_id, m.enqueued_at)), m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors, m.barrier, m.epoch, m.member
            from (
                select * from scheduled p
                where p.channel_id = v_channel.channel_id
                order by due_at, message_id
                limit p_limit
            ) m
            order by due_at, message_id;
        when 'blocked' then
            return query
            select m.attempts, m.priority::smallint, m.message_id, m.enqueued_at, coalesce(m.payload, (select b.payload from body b where b.body_id = m.body_id)), m.headers, coalesce(m.event_id, _event_id(v_channel.event_prefix, m.message_id, m.enqueued_at)), m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors, m.barrier, m.epoch, m.member
            from (
                select * from blocked p
                where p.channel_id = v_channel.channel_id
                order by position
                limit p_limit
            ) m
            order by position;
        when 'lease' then
            return query
            select m.attempts, m.priority::smallint, m.message_id, m.enqueued_at, coalesce(m.payload, (select b.payload from body b where b.body_id = m.body_id)), m.headers, coalesce(m.event_id, _event_id(v_channel.event_prefix, m.message_id, m.enqueued_at)), m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors, m.barrier, m.epoch, m.member
            from (
                select * from lease n
                where n.channel_id = v_channel.channel_id
                order by n.expires_at
                limit p_limit
            ) l
            cross join lateral unnest(_lease_left(l::lease)) with ordinality m
            order by l.expires_at, l.lease_id, m.ordinality
            limit p_limit;
        else
            perform _bad_argument('p_place', p_place, 'The places are ready, scheduled, blocked and lease.');
    end case;
end;
$$;

comment on function tidegate.queue_peek(text, integer, text) is
'Look at messages of a queue where they stand (ready, scheduled, blocked or lease), in the order in which they would leave it. Locks nothing and changes nothing. No rows when nothing stands there. Errors: TG010 bad argument, TG020 no such queue.';

-- functions/queue/queue_cancel.sql
create or replace function tidegate.queue_cancel(
    p_queue text, p_message_ids bigint[] default null, p_job_key text default null,
    out message_id bigint, out outcome text
) returns setof record
language plpgsql volatile rows 10
security definer
set search_path = tidegate, pg_temp
as $$
#variable_conflict use_column
/*
 * What waits is taken away; what is leased is flagged: its holder learns of it by queue_extend, and it is not handed
 * out again.
 *
 * Locked in the order of a settlement: leases, members, keys, turns, then messages. A message may move on while its key
 * is waited for, and then stand in a lease whose holder, about to settle it, waits for that key. So whenever one was
 * missed, all of this round is undone, locks and all, and begun again with what a fresh look says.
 */
declare
    v_channel_id integer;
    v_ids bigint[];
    v_waiting bigint[];
    v_keys text[];
    v_groups text[];
    v_messages message[];
    v_cancelled bigint[];
    v_leased bigint[];
    v_is_missed boolean;
begin
    if (p_message_ids is null) = (p_job_key is null) then
        perform _bad_argument(
            'p_message_ids and p_job_key',
            coalesce(p_message_ids::text, 'null') || ' and ' || coalesce(p_job_key, 'null'),
            'Name either messages or a job key.'
        );
    end if;
    select c.channel_id into v_channel_id from channel c where c.kind = 'queue' and c.name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;

    loop
        v_is_missed := false;
        v_cancelled := '{}';
        v_leased := '{}';
        v_ids := coalesce(p_message_ids, array(
            select j.message_id from job_key j where j.channel_id = v_channel_id and j.key = p_job_key
        ));
        begin
            -- What waits is not looked for in leases.
            select
                coalesce(array_agg(w.message_id), '{}'),
                array_agg(distinct w.job_key), array_agg(distinct w.group_key) filter (where p_job_key is null),
                array_agg(w.message) filter (where (w.message).barrier is not null)
            into v_waiting, v_keys, v_groups, v_messages
            from (
                
                select p.message_id, p.job_key, p.group_key, row(p.attempts, p.priority, p.message_id, p.enqueued_at, p.payload, p.headers, p.event_id, p.body_id, p.body_bytes, p.max_attempts, p.max_batch, p.requeued_from, p.backoff, p.topic, p.group_key, p.job_key, p.run_id, p.tenant, p.errors, p.barrier, p.epoch, p.member)::message as message
                from scheduled p
                where p.channel_id = v_channel_id and p.message_id = any(v_ids)
                    and (p_job_key is null or p.job_key = p_job_key)
                union all
                select p.message_id, p.job_key, p.group_key, row(p.attempts, p.priority, p.message_id, p.enqueued_at, p.payload, p.headers, p.event_id, p.body_id, p.body_bytes, p.max_attempts, p.max_batch, p.requeued_from, p.backoff, p.topic, p.group_key, p.job_key, p.run_id, p.tenant, p.errors, p.barrier, p.epoch, p.member)::message as message
                from blocked p
                where p.channel_id = v_channel_id and p.message_id = any(v_ids)
                    and (p_job_key is null or p.job_key = p_job_key)
                union all
                select p.message_id, p.job_key, p.group_key, row(p.attempts, p.priority, p.message_id, p.enqueued_at, p.payload, p.headers, p.event_id, p.body_id, p.body_bytes, p.max_attempts, p.max_batch, p.requeued_from, p.backoff, p.topic, p.group_key, p.job_key, p.run_id, p.tenant, p.errors, p.barrier, p.epoch, p.member)::message as message
                from ready p
                where p.channel_id = v_channel_id and p.message_id = any(v_ids)
                    and (p_job_key is null or p.job_key = p_job_key)
            ) w;
            if cardinality(v_waiting) < cardinality(v_ids) then
                with held as (
                    select l.channel_id, l.messages, l.settled from lease l
                    where l.channel_id = v_channel_id and exists (
                        select from unnest(l.messages) m
                        where m.message_id = any(v_ids) and m.message_id <> all(v_waiting)
                    )
                    order by l.lease_id
                    for update
                ), flagged as (
                    insert into cancel_request (channel_id, message_id, requested_at)
                    select h.channel_id, m.message_id, clock_now()
                    from held h
                    cross join lateral unnest(h.messages) with ordinality m
                    where m.message_id = any(v_ids) and m.ordinality <> all(coalesce(h.settled, '{}'))
                    on conflict (channel_id, message_id) do update set requested_at = excluded.requested_at
                    returning cancel_request.message_id
                )
                select coalesce(array_agg(f.message_id), '{}') into v_leased from flagged f;
            end if;

            if v_messages is not null then
                perform _member_lock(v_messages, true);
            end if;

            -- Follow-ups first: the message before one must not hand over to it.
            with taken as (
                select j.key, j.follow_up, j.message_id from job_key j
                where j.channel_id = v_channel_id
                    and (
                        j.key = p_job_key or j.key = any(v_keys)
                        or (p_message_ids is not null and (j.follow_up).message_id = any(p_message_ids))
                    )
                order by j.key
                for update
            ), emptied as (
                update job_key j set follow_up = null, follow_up_due_at = null
                from taken t
                where j.channel_id = v_channel_id and j.key = t.key and t.follow_up is distinct from null
                    and (t.key = p_job_key or (t.follow_up).message_id = any(p_message_ids))
            )
            select
                array_agg(t.follow_up) filter (
                    where t.follow_up is distinct from null
                        and (t.key = p_job_key or (t.follow_up).message_id = any(p_message_ids))
                ),
                case when p_job_key is null then p_message_ids else array_agg(t.message_id) end
            into v_messages, v_ids
            from taken t;
            if v_messages is not null then
                v_cancelled := array(select m.message_id from unnest(v_messages) m);
                perform _message_cancel(v_channel_id, v_messages, 'cancelled while it waited');
            end if;

            perform
            from (select u.key from unnest(v_groups) u (key) where u.key is not null order by u.key) g
            cross join lateral (
                select from group_turn n
                where n.channel_id = v_channel_id and n.group_key = g.key
                order by n.turn desc
                limit 1
                for update
            ) t;
            with taken as (
                delete from scheduled p
                where p.channel_id = v_channel_id and p.message_id = any(v_ids)
                    and (p_job_key is null or p.job_key = p_job_key)
                returning *
            )
            select array_agg(row(t.attempts, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, t.max_attempts, t.max_batch, t.requeued_from, t.backoff, t.topic, t.group_key, t.job_key, t.run_id, t.tenant, t.errors, t.barrier, t.epoch, t.member)::message order by t.message_id) into v_messages from taken t;
            if v_messages is not null then
                v_cancelled := v_cancelled || array(select m.message_id from unnest(v_messages) m);
                perform _message_cancel(v_channel_id, v_messages, 'cancelled while it waited');
            end if;
            with taken as (
                delete from blocked p
                where p.channel_id = v_channel_id and p.message_id = any(v_ids)
                    and (p_job_key is null or p.job_key = p_job_key)
                returning *
            )
            select array_agg(row(t.attempts, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, t.max_attempts, t.max_batch, t.requeued_from, t.backoff, t.topic, t.group_key, t.job_key, t.run_id, t.tenant, t.errors, t.barrier, t.epoch, t.member)::message order by t.message_id) into v_messages from taken t;
            if v_messages is not null then
                v_cancelled := v_cancelled || array(select m.message_id from unnest(v_messages) m);
                perform _message_cancel(v_channel_id, v_messages, 'cancelled while it waited');
            end if;
            with taken as (
                delete from ready p
                where p.channel_id = v_channel_id and p.message_id = any(v_ids)
                    and (p_job_key is null or p.job_key = p_job_key)
                returning *
            )
            select array_agg(row(t.attempts, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, t.max_attempts, t.max_batch, t.requeued_from, t.backoff, t.topic, t.group_key, t.job_key, t.run_id, t.tenant, t.errors, t.barrier, t.epoch, t.member)::message order by t.message_id) into v_messages from taken t;
            if v_messages is not null then
                v_cancelled := v_cancelled || array(select m.message_id from unnest(v_messages) m);
                perform _message_cancel(v_channel_id, v_messages, 'cancelled while it waited');
            end if;
            v_ids := array(select i.id from unnest(v_ids) i (id) where i.id <> all(v_cancelled || v_leased));
            -- One statement sees whatever is alive in exactly one place.
            exit when v_ids = '{}' or not exists (
                select from scheduled p
                where p.channel_id = v_channel_id and p.message_id = any(v_ids)
                    and (p_job_key is null or p.job_key = p_job_key)
                union all
                select from blocked p
                where p.channel_id = v_channel_id and p.message_id = any(v_ids)
                    and (p_job_key is null or p.job_key = p_job_key)
                union all
                select from ready p
                where p.channel_id = v_channel_id and p.message_id = any(v_ids)
                    and (p_job_key is null or p.job_key = p_job_key)
                union all
                select from lease l
                cross join lateral unnest(l.messages) with ordinality m
                where l.channel_id = v_channel_id and m.message_id = any(v_ids)
                    and m.ordinality <> all(coalesce(l.settled, '{}'))
            );
            v_is_missed := true;
            raise exception 'let go';
        exception
            when raise_exception then
                if not v_is_missed then
                    raise;
                end if;
        end;
    end loop;

    return query
    select i.id, case
        when i.id = any(v_cancelled) then 'cancelled'
        when i.id = any(v_leased) then 'leased'
        else 'unknown'
    end
    from (
        select u.id from unnest(p_message_ids) as u (id)
        union
        select u.id from unnest(v_cancelled || v_leased) as u (id)
    ) i
    order by i.id;
end;
$$;

comment on function tidegate.queue_cancel(text, bigint[], text) is
'Cancel messages by id, or the one of a job key with its follow-up. One row a message: cancelled (it waited, and is kept as a discarded dead letter until its retention), leased (its holder is told by queue_extend; it is not handed out again, and done if it is acked first), or unknown (it is gone, or never was). No rows when nothing of that job key is alive. By id it reads what waits in the queue. Errors: TG010 bad argument, TG020 no such queue, TG030 a message has a group key, and the caller is not READ COMMITTED.';

-- functions/queue/queue_claim.sql
create or replace function tidegate.queue_claim(
    p_queue text,
    p_limit integer default 1,
    p_lease interval default null,
    p_worker text default null,
    p_lease_id uuid default null
) returns setof tidegate.delivery
language plpgsql volatile rows 100
security definer
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * Priority by priority from its hint up, under row locks that skip what others hold: two claims share nothing, and
 * neither waits. What was locked is then deleted and stands in the lease: others see it ready until the commit, and
 * leased after it. What belongs to a stopped run is refused on the way, so many at most that a claim stays short: the
 * next one goes on from there.
 */
declare
    v_now timestamptz := clock_now();
    v_channel channel;
    v_floor floor;
    v_drawn bigint;
    v_lease_id uuid;
    v_cap integer := p_limit;
    v_limit integer;
    v_in_flight bigint;
    v_priority smallint;
    v_message message;
    v_messages message[];
    v_ctids tid[];
    v_batch integer;
    v_bytes bigint := 0;
    v_is_plain boolean := true;
    v_has_run boolean := false;
    v_refused integer := 0;
    v_expires_at timestamptz;
begin
    -- The ordinary call passes one test: each expression is set up anew in every transaction.
    if (
        p_limit between 1 and 10000 and (p_lease is null or p_lease > '0')
        and (p_worker is null or octet_length(p_worker) <= 512)
        and current_setting('transaction_isolation') = 'read committed'
    ) is not true then
        if current_setting('transaction_isolation') <> 'read committed' then
            perform _require_read_committed('queue_claim');
        elsif p_lease <= '0' then
            perform _bad_argument(
                'p_lease', p_lease::text, 'A lease lasts a positive time, for example interval ''1 minute''.'
            );
        end if;
        if octet_length(p_worker) > 512 then
            perform _bad_argument('p_worker', left(p_worker, 100), 'A name has at most 512 bytes.');
        end if;
        perform _bad_argument('p_limit', p_limit::text, 'Claim between 1 and 10000 messages at a time.');
    end if;

    select * into v_channel from channel where kind = 'queue' and name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
    select * into v_floor from floor where channel_id = v_channel.channel_id order by floor_id desc limit 1;
    v_drawn := coalesce(pg_sequence_last_value('position_seq'), 0) - v_floor.position;

    -- So does the ordinary moment: everything between these lines is out of it.
    if v_channel.is_paused or p_lease_id is not null
        or p_lease > v_channel.max_runtime or v_channel.max_in_flight is not null or v_drawn not between 1 and 5000
        or v_now not between v_floor.ticked_at and v_floor.tick_at
    then
        if p_lease > v_channel.max_runtime then
            perform _bad_argument(
                'p_lease', p_lease::text,
                format('It may not be above the channel''s max_runtime, %s.', v_channel.max_runtime)
            );
        end if;
        if p_lease_id is not null then
            -- A repeat may overtake its first attempt: it waits for it here and then looks, in a new snapshot.
            perform pg_advisory_xact_lock(hashtextextended(p_lease_id::text, 'lease'::regclass::oid::bigint));
            return query select * from _lease_deliveries(p_lease_id, v_channel.channel_id);
            if found then
                return;
            elsif exists (select from lease l where l.lease_id = p_lease_id) then
                perform _bad_argument(
                    'p_lease_id', p_lease_id::text, 'That lease stands elsewhere: give each claim an id of its own.'
                );
            end if;
        end if;
        if v_channel.is_paused or (v_drawn = 0 and v_now < v_floor.idle_until) then
            return;
        end if;

        if (
                v_now not between v_floor.ticked_at and v_floor.tick_at
                or (v_drawn > 5000 and v_now > v_floor.ticked_at + 10 * v_floor.took)
            )
            and (current_setting('tidegate.handling', true) is distinct from 'on' and (
                current_setting('tidegate.tick', true) = 'on' or (
                    pg_current_xact_id_if_assigned() is null
                    and statement_timestamp() < transaction_timestamp() + interval '100 ms'
                )
            ))
        then
            if v_now < v_floor.ticked_at or v_drawn <> 0 or not v_floor.is_quiet or v_floor.has_more
                or exists (
                    select from scheduled s
                    where s.channel_id = v_channel.channel_id
                        and s.due_at >= v_floor.scheduled_from - interval '1 minute' and s.due_at <= v_now
                )
                or exists (
                    select from lease l
                    where l.channel_id = v_channel.channel_id
                        and l.expires_at >= v_floor.lease_from - interval '1 minute' and l.expires_at <= v_now
                )
            then
                perform _tick(v_channel.channel_id);
                select * into v_floor from floor where channel_id = v_channel.channel_id order by floor_id desc limit 1;
            end if;
        end if;

        if v_channel.max_in_flight is not null then
            -- Capped channels count under a lock of their own, which others never take.
            perform pg_advisory_xact_lock(_lock_key('channel'::regclass, v_channel.channel_id));
            select v_channel.max_in_flight - coalesce(sum(l.message_count), 0) into v_in_flight
            from lease l where l.channel_id = v_channel.channel_id;
            if v_in_flight <= 0 then
                return;
            end if;
            v_cap := least(v_cap, v_in_flight);
        end if;
    end if;

    if v_cap = 1 then
        -- The default, without the second statement and the arrays of a batch.
        loop
            foreach v_priority in array v_floor.priorities loop
                -- By key: a row that was changed since the snapshot is locked in its new version, found by its old one.
                delete from ready d
                where d.channel_id = v_channel.channel_id and d.priority = v_priority and d.position = (
                    select r.position from ready r
                    where r.channel_id = v_channel.channel_id and r.priority = v_priority
                        and r.position > v_floor.hints[v_priority + 1]
                    order by r.position
                    limit 1
                    for update skip locked
                )
                returning d.attempts, d.priority, d.message_id, d.enqueued_at, d.payload, d.headers, d.event_id, d.body_id, d.body_bytes, d.max_attempts, d.max_batch, d.requeued_from, d.backoff, d.topic, d.group_key, d.job_key, d.run_id, d.tenant, d.errors, d.barrier, d.epoch, d.member into v_message;
                exit when found;
            end loop;
            if v_message.message_id is null or v_message.run_id is not null then
                if v_message.message_id is null or v_refused = 100 then
                    return;
                end if;
                if exists (select from run s where s.run_id = v_message.run_id and s.state = 'stopped') then
                    perform _message_refuse(v_channel.channel_id, array[v_message]);
                    v_message := null;
                    v_refused := v_refused + 1;
                    continue;
                end if;
            end if;
            exit;
        end loop;
        insert into lease (
            lease_id, claimed_at, expires_at, channel_id, message_count, is_plain, worker, run_ids, messages
        )
        values (
            coalesce(p_lease_id, gen_random_uuid()), clock_now(), greatest(clock_now() + coalesce(p_lease, v_channel.lease), clock_now() + interval '1 microsecond'), v_channel.channel_id, 1,
            not v_channel.archive and v_message.body_bytes is null and v_message.requeued_from is null and v_message.group_key is null and v_message.job_key is null and v_message.barrier is null,
            p_worker, case when v_message.run_id is not null then array[v_message.run_id] end, array[v_message]
        ) returning lease_id, expires_at into v_lease_id, v_expires_at;
        if v_message.body_bytes is null then
            return next row(
                v_lease_id, v_message.message_id,
                coalesce(
                    v_message.event_id, _event_id(v_channel.event_prefix, v_message.message_id, v_message.enqueued_at)
                ),
                v_message.topic, v_message.attempts + 1, coalesce(v_message.max_attempts, v_channel.max_attempts),
                v_message.payload, v_message.headers, v_message.priority, v_message.group_key, v_message.job_key,
                v_message.run_id, v_message.tenant, v_message.barrier, v_message.epoch, v_message.member,
                v_message.enqueued_at, v_expires_at
            )::delivery;
        else
            return query select * from _lease_deliveries(v_lease_id, v_channel.channel_id);
        end if;
        return;
    end if;

    loop
        v_limit := v_cap;
        foreach v_priority in array v_floor.priorities loop
            -- Messages are built where their rows are locked: the delete then returns nothing, and order is the index's.
            select
                v_ctids || array_agg(c.ctid),
                v_messages || array_agg(c.message),
                least(v_batch, min(c.max_batch)),
                v_bytes + coalesce(sum(c.body_bytes), 0),
                v_is_plain
                and count(c.body_bytes) + count(c.requeued_from) + count(c.group_key) + count(c.job_key) + count(c.barrier) = 0,
                v_has_run or count(c.run_id) > 0
            into v_ctids, v_messages, v_batch, v_bytes, v_is_plain, v_has_run
            from (
                select
                    r.ctid, r.max_batch, r.body_bytes, r.requeued_from, r.run_id,
                    r.group_key, r.job_key, r.barrier, row(r.attempts, r.priority, r.message_id, r.enqueued_at, r.payload, r.headers, r.event_id, r.body_id, r.body_bytes, r.max_attempts, r.max_batch, r.requeued_from, r.backoff, r.topic, r.group_key, r.job_key, r.run_id, r.tenant, r.errors, r.barrier, r.epoch, r.member)::message as message
                from ready r
                where r.channel_id = v_channel.channel_id and r.priority = v_priority
                    and r.position > v_floor.hints[v_priority + 1]
                order by r.position
                limit v_limit
                for update skip locked
            ) c;
            v_limit := v_cap - coalesce(cardinality(v_messages), 0);
            exit when v_limit <= 0;
        end loop;
        if v_messages is null or v_has_run then
            if v_messages is null or v_refused = 10 then
                return;
            end if;
            if cardinality(_ready_refuse(v_channel.channel_id, v_ctids)) is distinct from cardinality(v_ctids) then
                -- Some were refused. Those that are left are already locked: taken again, with what comes behind them.
                v_ctids := null;
                v_messages := null;
                v_batch := null;
                v_bytes := 0;
                v_is_plain := true;
                v_has_run := false;
                v_refused := v_refused + 1;
                continue;
            end if;
        end if;
        exit;
    end loop;
    if v_batch < cardinality(v_messages) or v_bytes > 16777216 then
        v_limit := _batch_fit(v_messages);
        v_messages := v_messages[:v_limit];
        v_ctids := v_ctids[:v_limit];
    end if;
    delete from ready where ctid = any(v_ctids);

    insert into lease (
        lease_id, claimed_at, expires_at, channel_id, message_count, is_plain, worker, run_ids, messages
    ) values (
        coalesce(p_lease_id, gen_random_uuid()), clock_now(), greatest(clock_now() + coalesce(p_lease, v_channel.lease), clock_now() + interval '1 microsecond'), v_channel.channel_id,
        cardinality(v_messages),
        v_is_plain and not v_channel.archive, p_worker,
        case when v_has_run then array(select distinct m.run_id from unnest(v_messages) m where m.run_id is not null) end,
        v_messages
    ) returning lease_id, expires_at into v_lease_id, v_expires_at;

    if v_bytes > 0 then
        return query select * from _lease_deliveries(v_lease_id, v_channel.channel_id);
    else
        return query
        select
            v_lease_id, m.message_id,
            coalesce(m.event_id, _event_id(v_channel.event_prefix, m.message_id, m.enqueued_at)), m.topic,
            m.attempts + 1, coalesce(m.max_attempts, v_channel.max_attempts), m.payload, m.headers, m.priority,
            m.group_key, m.job_key, m.run_id, m.tenant, m.barrier, m.epoch, m.member, m.enqueued_at, v_expires_at
        from unnest(v_messages) m;
    end if;
end;
$$;

comment on function tidegate.queue_claim(text, integer, interval, text, uuid) is
'Lease up to p_limit messages of a queue, highest priority (lowest number) first, then in order of becoming ready. Commit before working on them. No rows when nothing is ready, or the queue is paused or full (max_in_flight). With a lease id of the caller''s, a repeat returns the same messages while that lease stands. Errors: TG010 bad argument, TG020 no such queue, TG030 not READ COMMITTED.';

-- functions/queue/queue_ack.sql
create or replace function tidegate.queue_ack(
    p_lease_id uuid, p_message_ids bigint[] default null, p_result jsonb default null
) returns tidegate.settled
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * The lease row is the fencing token: whoever still finds it owns its messages. A plain lease settled whole, the
 * ordinary case, ends as one statement; the row's lock decides who wins against a tick or another settlement.
 */
declare
    v_answer settled := row(0, 0, 0, false);
    v_channel_id integer;
begin
    if p_message_ids is null then
        delete from lease where lease_id = p_lease_id and is_plain
        returning channel_id, message_count into v_channel_id, v_answer.acked;
        if found then
            insert into tally (amount, channel_id, outcome) values (v_answer.acked, v_channel_id, 'acked');
            return v_answer;
        end if;
        v_answer.acked := 0;
    end if;
    return _lease_settle(p_lease_id, p_message_ids, '[]', p_result => p_result);
end;
$$;

comment on function tidegate.queue_ack(uuid, bigint[], jsonb) is
'Settle messages of a lease as done; null settles all that is left. Where they belong to members of a barrier, these arrive with p_result in the same transaction; elsewhere p_result is kept nowhere. Inside a business transaction its effects and the ack commit together. Answers lost = true, and does nothing, when the lease is gone. Errors: TG030 the lease is not to be seen in an older snapshot, or holds messages with a group key.';

-- functions/queue/queue_nack.sql
create or replace function tidegate.queue_nack(
    p_lease_id uuid,
    p_message_ids bigint[] default null,
    p_error text default null,
    p_retryable boolean default true,
    p_retry_in interval default null
) returns tidegate.settled
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
    v_failed jsonb;
begin
    if p_retry_in not between '0' and '100 years' then
        perform _bad_argument('p_retry_in', p_retry_in::text, 'Give zero or a positive interval, at most 100 years.');
    end if;
    select jsonb_agg(jsonb_build_object(
        'message_id', i.message_id, 'error', p_error, 'retryable', coalesce(p_retryable, true), 'retry_in', p_retry_in
    )) into v_failed
    from (
        select u.message_id from unnest(p_message_ids) as u (message_id)
        union
        select m.message_id
        from lease l
        cross join lateral unnest(l.messages) m
        where l.lease_id = p_lease_id and p_message_ids is null
    ) i;
    return _lease_settle(p_lease_id, '{}', coalesce(v_failed, '[]'));
end;
$$;

comment on function tidegate.queue_nack(uuid, bigint[], text, boolean, interval) is
'Settle messages of a lease as failed; null means all that is left. Each is charged: it comes back after p_retry_in, or the queue''s backoff when that is null, unless that was its last attempt or p_retryable is false: then it becomes a dead letter. Answers lost = true, and does nothing, when the lease is gone. Errors: TG010 bad argument, TG030 the lease is not to be seen in an older snapshot, or holds messages with a group key.';

-- functions/queue/queue_settle.sql
create or replace function tidegate.queue_settle(
    p_lease_id uuid, p_done bigint[], p_failed jsonb default '[]', p_results jsonb default null
) returns tidegate.settled
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
    if p_failed is distinct from '[]' then
        perform _failed_check(p_failed);
    end if;
    if jsonb_typeof(p_results) <> 'object' then
        perform _bad_argument(
            'p_results', left(p_results::text, 200),
            'Give a JSON object of results by message_id: {"3": {"words": 100}}'
        );
    end if;
    return _lease_settle(p_lease_id, coalesce(p_done, '{}'), p_failed, p_results => p_results);
end;
$$;

comment on function tidegate.queue_settle(uuid, bigint[], jsonb, jsonb) is
'Settle messages of a lease one by one: p_done succeeded; p_failed is a JSON array of {"message_id", "error", "retryable", "retry_in", "reason"} and only these are charged; a reason (not_retryable, malformed, unknown_handler) is final, and a retry_in out of range is the nearest one in it. p_results is a JSON object of results by message_id: a message of p_done that belongs to a member of a barrier is its arrival with that one; elsewhere they are kept nowhere. What is in neither p_done nor p_failed stays leased; ids that are not in the lease, or settled before, change nothing and are not counted. Answers lost = true, and does nothing, when the lease is gone. p_done null names none. Errors: TG010 bad p_failed or p_results, 22P02 or 22007 a value in it of the wrong type, TG030 the lease is not to be seen in an older snapshot, or holds messages with a group key.';

-- functions/queue/queue_release.sql
create or replace function tidegate.queue_release(
    p_lease_id uuid, p_message_ids bigint[] default null, p_retry_in interval default '0'
) returns tidegate.settled
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
begin
    if p_retry_in is null or p_retry_in not between '0' and '100 years' then
        perform _bad_argument('p_retry_in', p_retry_in::text, 'Give zero or a positive interval, at most 100 years.');
    end if;
    return _lease_settle(p_lease_id, '{}', '[]', p_message_ids, p_retry_in);
end;
$$;

comment on function tidegate.queue_release(uuid, bigint[], interval) is
'Give messages of a lease back uncharged, for a shutdown; null gives back all that is left. They count as retried in the answer. Answers lost = true, and does nothing, when the lease is gone. Errors: TG010 bad argument, TG030 the lease is not to be seen in an older snapshot.';

-- functions/queue/queue_extend.sql
create or replace function tidegate.queue_extend(p_lease_id uuid, p_lease interval default null)
returns tidegate.extended
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
/*
 * The messages of the lease are not rewritten: what is large stands beside the row. Whoever holds the row's lock wins
 * against a tick that would take the lease back; one taken back is lost.
 */
declare
    v_channel channel;
    v_lease lease;
    v_answer extended := row(null, null, '{}', false);
begin
    if p_lease <= '0' then
        perform _bad_argument(
            'p_lease', p_lease::text, 'A lease lasts a positive time, for example interval ''1 minute''.'
        );
    end if;
    select l.lease_id, l.channel_id, l.claimed_at, l.expires_at, l.run_ids
    into v_lease.lease_id, v_lease.channel_id, v_lease.claimed_at, v_lease.expires_at, v_lease.run_ids
    from lease l
    where l.lease_id = p_lease_id
    for update;
    if not found then
        if current_setting('transaction_isolation') <> 'read committed' then
            perform _require_read_committed('queue_extend');
        end if;
        return row(null, null, null, true)::extended;
    end if;
    select * into v_channel from channel c where c.channel_id = v_lease.channel_id;
    v_answer.deadline := v_lease.claimed_at + v_channel.max_runtime;
    update lease
    set expires_at = case
        when clock_now() < v_answer.deadline then least(
            greatest(clock_now() + coalesce(p_lease, v_channel.lease), clock_now() + interval '1 microsecond'),
            v_answer.deadline
        )
        else v_lease.expires_at
    end
    where lease_id = p_lease_id
    returning expires_at into v_answer.expires_at;
    if v_lease.run_ids is not null or exists (select from cancel_request r where r.channel_id = v_lease.channel_id) then
        select _cancelled(l.channel_id, _lease_left(l)) into v_answer.cancelled
        from lease l where l.lease_id = p_lease_id;
    end if;
    return v_answer;
end;
$$;

comment on function tidegate.queue_extend(uuid, interval) is
'Renew a lease: it now ends p_lease (the queue''s lease when null) from now, but never after its deadline, which is max_runtime after the claim. Answers with both, and with the messages of it that somebody cancelled, or whose run was; lost = true, and nothing done, when the lease is gone. Errors: TG010 bad argument, TG030 the lease is not to be seen in an older snapshot.';

-- functions/queue/queue_work.sql
create or replace function tidegate.queue_work(
    p_queue text, p_handler text, p_limit integer default 100
) returns tidegate.settled
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * A claim, its work and its settlement in one transaction, so there is no lease and nothing to count against
 * max_in_flight: whatever goes wrong with the transaction, the messages never left.
 *
 * They are taken out before the handlers run, not only locked: a handler that claims from, or purges, its own queue
 * would not be stopped by locks of its own transaction. What was not reached goes back to the position it had. That is
 * no entry: to everybody else it has been there all the time, so floors stay true.
 *
 * Who sends or cancels by a job key locks the key, and then waits for the message. So the key is locked here before the
 * work, not after it; where somebody has it already, the message is left to him.
 */
declare
    v_now timestamptz := clock_now();
    v_channel channel;
    v_floor floor;
    v_may_tick constant boolean := current_setting('tidegate.handling', true) is distinct from 'on' and (
            current_setting('tidegate.tick', true) = 'on' or (
                pg_current_xact_id_if_assigned() is null
                and statement_timestamp() < transaction_timestamp() + interval '100 ms'
            )
        );
    v_may_check constant boolean := pg_current_xact_id_if_assigned() is null; -- nothing written, nothing deferred
    v_drawn bigint;
    v_priority smallint;
    v_limit integer := p_limit;
    v_call text;
    v_ctids tid[];
    v_has_run boolean;
    v_positions bigint[];
    v_keys text[];
    v_messages message[]; -- as they stand
    v_deliveries message[]; -- as handlers see them
    v_run record;
    v_done message[];
    v_failed message[];
    v_answer settled := row(0, 0, 0, false);
begin
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'Work on between 1 and 10000 messages at a time.');
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('queue_work');
    end if;
    if current_setting('tidegate.handling', true) = 'on' then
        raise exception using
            errcode = 'TG031',
            message = 'queue_work was called by a handler',
            hint = 'A handler may put and send; what it sends is worked on by the next call.';
    end if;
    select * into v_channel from channel where kind = 'queue' and name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
    v_call := _handler_call(p_handler);
    if v_channel.is_paused then
        return v_answer;
    end if;

    select * into v_floor from floor where channel_id = v_channel.channel_id order by floor_id desc limit 1;
    v_drawn := coalesce(pg_sequence_last_value('position_seq'), 0) - v_floor.position;
    if (
            v_now not between v_floor.ticked_at and v_floor.tick_at
            or (v_drawn > 5000 and v_now > v_floor.ticked_at + 10 * v_floor.took)
        )
        and (v_may_tick)
    then
        if v_now < v_floor.ticked_at or v_drawn <> 0 or not v_floor.is_quiet or v_floor.has_more
            or exists (
                select from scheduled s
                where s.channel_id = v_channel.channel_id
                    and s.due_at >= v_floor.scheduled_from - interval '1 minute' and s.due_at <= v_now
            )
            or exists (
                select from lease l
                where l.channel_id = v_channel.channel_id
                    and l.expires_at >= v_floor.lease_from - interval '1 minute' and l.expires_at <= v_now
            )
        then
            perform _tick(v_channel.channel_id);
            select * into v_floor from floor where channel_id = v_channel.channel_id order by floor_id desc limit 1;
        end if;
    end if;
    for v_round in 1 .. 10 loop
        v_limit := p_limit;
        v_ctids := null;
        v_has_run := false;
        foreach v_priority in array v_floor.priorities loop
            select
                v_ctids || array_agg(r.ctid), v_has_run or count(r.run_id) > 0
            into v_ctids, v_has_run
            from (
                select n.ctid, n.run_id from ready n
                where n.channel_id = v_channel.channel_id and n.priority = v_priority
                    and n.position > v_floor.hints[v_priority + 1] and (v_keys is null or n.job_key is null)
                order by n.position
                limit v_limit
                for update skip locked
            ) r;
            v_limit := p_limit - coalesce(cardinality(v_ctids), 0);
            exit when v_limit <= 0;
        end loop;
        if v_has_run then
            v_ctids := _ready_refuse(v_channel.channel_id, v_ctids);
        end if;
        continue when v_ctids is null and v_has_run; -- all of them were refused
        exit when v_ctids is null;

        select
            array_agg(r.ctid order by r.priority, r.position),
            array_agg(r.position order by r.priority, r.position),
            array_agg(row(r.attempts, r.priority, r.message_id, r.enqueued_at, r.payload, r.headers, r.event_id, r.body_id, r.body_bytes, r.max_attempts, r.max_batch, r.requeued_from, r.backoff, r.topic, r.group_key, r.job_key, r.run_id, r.tenant, r.errors, r.barrier, r.epoch, r.member)::message order by r.priority, r.position)
        into v_ctids, v_positions, v_messages
        from ready r
        where r.ctid = any(v_ctids);
        v_limit := _batch_fit(v_messages);
        v_messages := v_messages[:v_limit];
        if exists (select from unnest(v_messages) m where m.job_key is not null) then
            with held as (
                select j.key from unnest(v_messages) m
                inner join job_key j
                    on j.channel_id = v_channel.channel_id and j.key = m.job_key and j.message_id = m.message_id
                for update of j skip locked
            )
            select coalesce(array_agg(h.key), '{}') into v_keys from held h;
            select
                array_agg(v_ctids[m.ordinality] order by m.ordinality),
                array_agg(v_positions[m.ordinality] order by m.ordinality),
                array_agg(row(m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors, m.barrier, m.epoch, m.member)::message order by m.ordinality)
            into v_ctids, v_positions, v_messages
            from unnest(v_messages) with ordinality m
            where m.job_key is null or m.job_key = any(v_keys) or not exists (
                select from job_key j
                where j.channel_id = v_channel.channel_id and j.key = m.job_key and j.message_id = m.message_id
            );
        end if;
        exit when v_messages is not null;
        -- Somebody has the key of each: what has none is looked for behind them.
    end loop;
    if v_messages is null then
        return v_answer;
    end if;
    delete from ready where ctid = any(v_ctids[:cardinality(v_messages)]);
    select array_agg(row(m.attempts, m.priority, m.message_id, m.enqueued_at, coalesce(m.payload, (select b.payload from body b where b.body_id = m.body_id)), m.headers, coalesce(m.event_id, _event_id(v_channel.event_prefix, m.message_id, m.enqueued_at)), m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors, m.barrier, m.epoch, m.member)::message order by m.ordinality)
    into v_deliveries
    from unnest(v_messages) with ordinality m;

    select * into v_run from _handler_run(array[v_call], v_deliveries, v_may_check);
    if not exists (select from channel c where c.channel_id = v_channel.channel_id) then
        perform _no_such_channel('queue', p_queue); -- a handler dropped it, which undoes both
    end if;

    insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
    select v_positions[m.ordinality], v_channel.channel_id, m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors, m.barrier, m.epoch, m.member
    from unnest(v_messages) with ordinality m
    where m.ordinality > v_run.reached and m.ordinality <> all(v_run.failed);
    select
        array_agg(row(m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors, m.barrier, m.epoch, m.member)::message order by m.ordinality)
        filter (where m.ordinality <> all(v_run.failed)),
        array_agg(row(m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors, m.barrier, m.epoch, m.member)::message order by m.ordinality)
        filter (where m.ordinality = any(v_run.failed))
    into v_done, v_failed
    from unnest(v_messages) with ordinality m
    where m.ordinality <= v_run.reached or m.ordinality = any(v_run.failed);

    if v_done is not null and v_failed is not null
        and exists (select from unnest(v_messages) m where m.barrier is not null)
    then
        perform _member_lock(v_done || v_failed, true);
    end if;
    if v_done is not null then
        perform _message_finish(v_channel.channel_id, v_channel.archive, v_done);
        v_answer.acked := cardinality(v_done);
    end if;
    if v_failed is not null then
        select f.retried, f.dead_lettered into v_answer.retried, v_answer.dead_lettered
        from _message_fail(v_channel.channel_id, v_failed, v_run.errors, v_run.finals, null) f;
    end if;
    insert into tally (channel_id, outcome, amount)
    select v_channel.channel_id, o.outcome, o.amount
    from (values
        ('acked', v_answer.acked), ('retried', v_answer.retried), ('dead_lettered', v_answer.dead_lettered)
    ) as o (outcome, amount)
    where o.amount > 0;
    return v_answer;
end;
$$;

comment on function tidegate.queue_work(text, text, integer) is
'Call a SQL handler with up to p_limit messages of a queue, in the order of claims, and settle each by its own outcome: all in this transaction, so effects in this database happen exactly once. All 0 when nothing is ready or the queue is paused; nothing is leased, so max_in_flight does not count here. Errors: TG010 bad argument, TG020 no such queue, TG030 not READ COMMITTED, TG031 inside a handler, TG040 unsafe handler, TG041 no such handler.';

-- functions/outbox/_topic_matches.sql
create or replace function tidegate._topic_matches(p_pattern text, p_topic text) returns boolean
language sql immutable parallel safe
return p_pattern = p_topic
    or (right(p_pattern, 2) = '.*' and starts_with(p_topic, left(p_pattern, -1)));

comment on function tidegate._topic_matches(text, text) is
'Whether a route''s topic, a name or a prefix with a trailing .*, matches a topic. orders.* matches orders.paid, not orders.';

-- functions/outbox/_topic_is_routed.sql
create or replace function tidegate._topic_is_routed(p_topic text) returns boolean
language sql stable
begin atomic
select exists (
    select from tidegate.route r where tidegate._topic_matches(r.topic, p_topic)
);
end;

comment on function tidegate._topic_is_routed(text) is 'Whether any route matches a topic.';

-- functions/outbox/topic_create.sql
create or replace function tidegate.topic_create(p_topic text, p_policy jsonb default '{}') returns void
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_channel_id integer;
begin
    if p_topic is null or p_topic !~ '^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}$' then
        perform _bad_argument(
            'p_topic', p_topic, 'A name has 1 to 128 letters, digits, or _ . : - and does not begin with . : or -'
        );
    end if;
    -- Topics that are being created and routes that are being made must see each other.
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('topic_create');
    end if;
    lock table route in share row exclusive mode;
    insert into channel (kind, name, max_attempts, event_prefix, is_routed)
    select 'topic', p_topic, 10, i.event_prefix, _topic_is_routed(p_topic)
    from installation i
    on conflict do nothing
    returning channel_id into v_channel_id;
    if found then
        insert into floor (
            channel_id, ticked_at, took, position, is_quiet, has_more, move_limit, priorities, floors, hints,
            scheduled_from, lease_from, tick_at, grouped_to
        ) values (
            v_channel_id, 'epoch', '0', 0, false, false, 1000, '{0}',
            array_fill(0::bigint, array[10]), array_fill(0::bigint, array[10]), '-infinity', '-infinity', 'epoch', 0
        );
    end if;
    -- Called again with the same or another policy, it configures: deployments may repeat it.
    perform _channel_configure('topic', p_topic, p_policy);
end;
$$;

comment on function tidegate.topic_create(text, jsonb) is
'Create a topic; on one that exists, apply the policy. Keys as in topic_configure; max_attempts is 10 unless given. Errors: TG010 bad name, unknown key or bad value.';

-- functions/outbox/topic_configure.sql
create or replace function tidegate.topic_configure(p_topic text, p_policy jsonb) returns void
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
begin
    perform _channel_configure('topic', p_topic, p_policy);
end;
$$;

comment on function tidegate.topic_configure(text, jsonb) is
'Change the policy of a topic: lease, max_runtime, max_attempts (0 = for ever), backoff_base, backoff_cap, backoff_factor, jitter (a share), retention (of archived messages), archive, max_in_flight (null = unlimited), inline_limit (bytes), tenant_required, doorbell (least interval between two wake-ups of whoever listens; null = none; a transaction that rings cannot be prepared, one with tidegate.doorbell off does not ring). Keys not given stay as they are. Errors: TG010 unknown key or bad value, TG020 no such topic.';

-- functions/outbox/topic_pause.sql
create or replace function tidegate.topic_pause(p_topic text) returns void
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
begin
    update channel set is_paused = true where kind = 'topic' and name = p_topic;
    if not found then
        perform _no_such_channel('topic', p_topic);
    end if;
end;
$$;

comment on function tidegate.topic_pause(text) is
'Stop handing out what stands in a topic; what comes in is kept, and leases run on. A repeat changes nothing. Errors: TG020 no such topic.';

-- functions/outbox/topic_resume.sql
create or replace function tidegate.topic_resume(p_topic text) returns void
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
begin
    update channel set is_paused = false where kind = 'topic' and name = p_topic;
    if not found then
        perform _no_such_channel('topic', p_topic);
    end if;
end;
$$;

comment on function tidegate.topic_resume(text) is
'Hand out again what stands in a paused topic. A repeat changes nothing. Errors: TG020 no such topic.';

-- functions/outbox/topic_drop.sql
create or replace function tidegate.topic_drop(p_topic text) returns void
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
set lock_timeout = '2s'
as $$
/*
 * Whoever sends has read channel, and keeps a lock on it to the end of the transaction: the exclusive lock waits for
 * those in flight, and those still to come find no topic. It waits two seconds at most, as others queue up behind it.
 */
declare
    v_channel_id integer;
    v_count bigint;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('topic_drop');
    end if;
    lock table route in share row exclusive mode; -- first, as everywhere
    lock table channel in access exclusive mode;
    select c.channel_id into v_channel_id from channel c where c.kind = 'topic' and c.name = p_topic;
    if not found then
        perform _no_such_channel('topic', p_topic);
    end if;
    select (select count(*) from ready r where r.channel_id = v_channel_id)
        + (select count(*) from scheduled s where s.channel_id = v_channel_id)
        + (select count(*) from blocked b where b.channel_id = v_channel_id)
        + (select coalesce(sum(l.message_count), 0) from lease l where l.channel_id = v_channel_id)
    into v_count;
    if v_count > 0 then
        raise exception using
            errcode = 'TG022',
            message = format('topic %L still holds %s message(s)', p_topic, v_count),
            hint = 'Sweep or relay them first.';
    end if;
    delete from channel where channel_id = v_channel_id;
    delete from channel_priority where channel_id = v_channel_id;
    delete from floor where channel_id = v_channel_id;
    delete from idempotency_key where channel_id = v_channel_id;
    delete from job_key where channel_id = v_channel_id;
    delete from group_turn where channel_id = v_channel_id;
    delete from cancel_request where channel_id = v_channel_id;
    if to_regclass('doorbell_' || v_channel_id) is not null then
        execute format('drop sequence doorbell_%s', v_channel_id);
    end if;
    delete from route r where r.topic = p_topic;
end;
$$;

comment on function tidegate.topic_drop(text) is
'Drop an empty topic with the routes that name it exactly; dead letters and archived messages stay. Commit at once: until then every call of every channel waits. Errors: TG020 no such topic, TG022 it still holds messages, TG030 not READ COMMITTED, 55P03 a transaction that has used a channel stayed open: try again.';

-- functions/outbox/outbox_put.sql
create or replace function tidegate.outbox_put(
    p_topic text,
    p_payload jsonb,
    p_group_key text default null,
    p_headers jsonb default null,
    p_run_at timestamptz default null,
    p_priority integer default 0,
    p_run_id text default null,
    p_tenant text default null,
    p_event_id uuid default null,
    p_idempotency_key text default null
) returns tidegate.sent
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_channel record;
    v_sent sent;
    v_body_id bigint;
    v_size integer;
begin
    select c.channel_id, c.inline_limit, c.tenant_required, c.doorbell
    into v_channel
    from channel c
    where c.kind = 'topic' and c.name = p_topic;
    if not found then
        perform _no_such_channel('topic', p_topic);
    end if;
    if p_priority = 0 and p_run_at is null and p_idempotency_key is null and p_group_key is null and p_run_id is null
        and current_setting('transaction_isolation') = 'read committed'
        and coalesce(octet_length(p_tenant) <= 512, not v_channel.tenant_required)
        and (p_headers is null or (jsonb_typeof(p_headers) = 'object' and _json_size(p_headers) <= 8192))
        and _json_size(p_payload) <= v_channel.inline_limit
    then
        v_sent := row(nextval('position_seq'), 'inserted');
        insert into ready (
            position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, run_id, tenant
        ) values (
            v_sent.message_id, v_channel.channel_id, 0, 0, v_sent.message_id, clock_now(), p_payload, p_headers,
            p_event_id, p_run_id, p_tenant
        );
        if v_channel.doorbell is not null then
            perform _doorbell_ring(v_channel.channel_id, 'topic', p_topic, v_channel.doorbell);
        end if;
        return v_sent;
    end if;

    if current_setting('transaction_isolation') <> 'read committed' then
        -- An old snapshot may show a channel that was dropped since: its lock raises 40001 then.
        perform from channel c where c.channel_id = v_channel.channel_id for key share;
    end if;
    if p_priority is null or p_priority not between 0 and 9 then
        perform _bad_argument('p_priority', p_priority::text, 'A priority is a number from 0 (first) to 9 (last).');
    end if;
    if v_channel.tenant_required and p_tenant is null then
        perform _bad_argument('p_tenant', p_tenant, format('%s %s requires a tenant.', initcap('topic'), p_topic));
    end if;
    if jsonb_typeof(p_headers) <> 'object' or _json_size(p_headers) > 8192 then
        perform _bad_argument('p_headers', left(p_headers::text, 200), 'Headers are a JSON object of at most 8 kB.');
    end if;
    if octet_length(p_idempotency_key) > 512 then -- they stand in indexes
        perform _bad_argument('p_idempotency_key', left(p_idempotency_key, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if octet_length(p_group_key) > 512 then -- they stand in indexes
        perform _bad_argument('p_group_key', left(p_group_key, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if octet_length(p_run_id) > 512 then -- they stand in indexes
        perform _bad_argument('p_run_id', left(p_run_id, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if octet_length(p_tenant) > 512 then -- they stand in indexes
        perform _bad_argument('p_tenant', left(p_tenant, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if p_run_at > clock_now() + interval '100 years' then
        perform _bad_argument('p_run_at', p_run_at::text, 'Give an instant of the next 100 years, or null for now.');
    end if;
    if p_priority > 0 then
        perform _priority_declare(v_channel.channel_id, array[p_priority]::smallint[]);
    end if;
    if p_payload is null then
        perform _bad_argument('p_payload', null, 'Give a JSON value; for an empty one, ''null''::jsonb.');
    end if;
    if p_run_id is not null and exists (select from run s where s.run_id = p_run_id and s.state = 'stopped') then
        select k.message_id, 'deduplicated' into v_sent
        from idempotency_key k
        where k.channel_id = v_channel.channel_id and k.key = p_idempotency_key;
        if not found then
            v_sent := row(null, 'cancelled');
        end if;
        return v_sent;
    end if;
    v_size := _json_size(p_payload);
    v_sent := row(nextval('position_seq'), 'inserted');
    if p_idempotency_key is not null then
        -- Of two that use a key at once, the second waits here for the first to end: whatever it finds then is final.
        loop
            insert into idempotency_key (channel_id, key, message_id, created_at)
            values (v_channel.channel_id, p_idempotency_key, v_sent.message_id, clock_now())
            on conflict do nothing;
            exit when found;
            select k.message_id, 'deduplicated' into v_sent
            from idempotency_key k
            where k.channel_id = v_channel.channel_id and k.key = p_idempotency_key;
            if found then
                return v_sent;
            end if;
            v_sent.message_id := nextval('position_seq');
            v_sent.outcome := 'inserted';
        end loop;
    end if;
    if v_channel.doorbell is not null and (p_run_at is null or p_run_at <= clock_now()) then
        perform _doorbell_ring(v_channel.channel_id, 'topic', p_topic, v_channel.doorbell);
    end if;
    if v_size > v_channel.inline_limit then
        insert into body (payload) values (p_payload) returning body_id into v_body_id;
    end if;

    if p_run_at > clock_now() then
        insert into scheduled (
            due_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id,
            body_bytes, group_key, run_id, tenant
        ) values (
            greatest(p_run_at, clock_now() + interval '1 microsecond'), v_channel.channel_id, 0, p_priority, v_sent.message_id, clock_now(),
            case when v_body_id is null then p_payload end, p_headers, p_event_id, v_body_id,
            case when v_body_id is not null then v_size end,
            p_group_key, p_run_id, p_tenant
        );
    else
        insert into ready (
            position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id,
            body_bytes, group_key, run_id, tenant
        ) values (
            v_sent.message_id, v_channel.channel_id, 0, p_priority, v_sent.message_id, clock_now(),
            case when v_body_id is null then p_payload end, p_headers, p_event_id, v_body_id,
            case when v_body_id is not null then v_size end,
            p_group_key, p_run_id, p_tenant
        );
    end if;
    return v_sent;
end;
$$;

comment on function tidegate.outbox_put(
    text, jsonb, text, jsonb, timestamptz, integer, text, text, uuid, text
) is
'Put an event into a topic, in the caller''s transaction: it exists if that commits. Answers inserted with its message_id, or, for an idempotency key used before on this topic, deduplicated with the first one. A run_at in the past or null means now. Errors: TG010 bad argument, TG020 no such topic.';

-- functions/outbox/outbox_put_many.sql
create or replace function tidegate.outbox_put_many(
    p_topic text,
    p_payloads jsonb[],
    p_group_key text default null,
    p_headers jsonb default null,
    p_run_at timestamptz default null,
    p_priority integer default 0,
    p_run_id text default null,
    p_tenant text default null,
    p_idempotency_key text default null
) returns setof tidegate.sent
language plpgsql volatile rows 100
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_channel record;
    v_now timestamptz := clock_now();
begin
    select c.channel_id, c.inline_limit, c.tenant_required, c.doorbell
    into v_channel
    from channel c
    where c.kind = 'topic' and c.name = p_topic;
    if not found then
        perform _no_such_channel('topic', p_topic);
    end if;
    if p_priority = 0 and p_run_at is null and p_idempotency_key is null and p_group_key is null and p_run_id is null
        and current_setting('transaction_isolation') = 'read committed'
        and coalesce(octet_length(p_tenant) <= 512, not v_channel.tenant_required)
        and (p_headers is null or (jsonb_typeof(p_headers) = 'object' and _json_size(p_headers) <= 8192))
        and array_ndims(p_payloads) = 1
        and (
            select max(coalesce(_json_size(u.payload), 2147483647)) from (select unnest(p_payloads) as payload) u
        ) <= v_channel.inline_limit
    then
        return query
        insert into ready (
            position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, run_id, tenant
        )
        select i.id, v_channel.channel_id, 0, 0, i.id, v_now, i.payload, p_headers, p_run_id, p_tenant
        from (
            select nextval('position_seq') as id, u.payload from (select unnest(p_payloads) as payload) u
        ) i
        returning ready.message_id, 'inserted'::text;
        if v_channel.doorbell is not null then
            perform _doorbell_ring(v_channel.channel_id, 'topic', p_topic, v_channel.doorbell);
        end if;
        return;
    end if;

    if current_setting('transaction_isolation') <> 'read committed' then
        -- An old snapshot may show a channel that was dropped since: its lock raises 40001 then.
        perform from channel c where c.channel_id = v_channel.channel_id for key share;
    end if;
    if p_priority is null or p_priority not between 0 and 9 then
        perform _bad_argument('p_priority', p_priority::text, 'A priority is a number from 0 (first) to 9 (last).');
    end if;
    if v_channel.tenant_required and p_tenant is null then
        perform _bad_argument('p_tenant', p_tenant, format('%s %s requires a tenant.', initcap('topic'), p_topic));
    end if;
    if jsonb_typeof(p_headers) <> 'object' or _json_size(p_headers) > 8192 then
        perform _bad_argument('p_headers', left(p_headers::text, 200), 'Headers are a JSON object of at most 8 kB.');
    end if;
    if octet_length(p_idempotency_key) > 512 then -- they stand in indexes
        perform _bad_argument('p_idempotency_key', left(p_idempotency_key, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if octet_length(p_group_key) > 512 then -- they stand in indexes
        perform _bad_argument('p_group_key', left(p_group_key, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if octet_length(p_run_id) > 512 then -- they stand in indexes
        perform _bad_argument('p_run_id', left(p_run_id, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if octet_length(p_tenant) > 512 then -- they stand in indexes
        perform _bad_argument('p_tenant', left(p_tenant, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if p_run_at > clock_now() + interval '100 years' then
        perform _bad_argument('p_run_at', p_run_at::text, 'Give an instant of the next 100 years, or null for now.');
    end if;
    if p_priority > 0 then
        perform _priority_declare(v_channel.channel_id, array[p_priority]::smallint[]);
    end if;
    if p_payloads is null or array_ndims(p_payloads) > 1 then
        perform _bad_argument('p_payloads', left(p_payloads::text, 200), 'Give a flat array of JSON values.');
    elsif array_position(p_payloads, null) is not null then
        perform _bad_argument(
            format('p_payloads[%s]', array_position(p_payloads, null)), null,
            'Give a JSON value; for an empty one, ''null''::jsonb.'
        );
    end if;
    if p_run_id is not null and p_idempotency_key is null and exists (select from run s where s.run_id = p_run_id and s.state = 'stopped') then
        return query select null::bigint, 'cancelled'::text from unnest(p_payloads);
        return;
    end if;

    if p_idempotency_key is null and (p_run_at is null or p_run_at <= clock_now()) then
        if v_channel.doorbell is not null then
            perform _doorbell_ring(v_channel.channel_id, 'topic', p_topic, v_channel.doorbell);
        end if;
        return query
        with input as materialized (
            select
                nextval('position_seq') as id, u.payload,
                case when _json_size(u.payload) > v_channel.inline_limit then nextval('body_body_id_seq') end as body_id
            from unnest(p_payloads) as u (payload)
        ), large as (
            insert into body (body_id, payload) overriding system value
            select i.body_id, i.payload from input i where i.body_id is not null
        )
        insert into ready (
            position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, body_id, body_bytes,
            group_key, run_id, tenant
        )
        select
            i.id, v_channel.channel_id, 0, p_priority, i.id, v_now,
            case when i.body_id is null then i.payload end, p_headers,
            i.body_id, case when i.body_id is not null then _json_size(i.payload) end,
            p_group_key, p_run_id, p_tenant
        from input i
        returning ready.message_id, 'inserted'::text;
        return;
    end if;

    -- Keys and delays take the path of one.
    return query
    select s.*
    from unnest(p_payloads) with ordinality u (payload, ordinal)
    cross join lateral outbox_put(
        p_topic, u.payload,
        p_headers => p_headers, p_run_at => p_run_at, p_priority => p_priority, p_group_key => p_group_key,
        p_run_id => p_run_id, p_tenant => p_tenant,
        p_idempotency_key => p_idempotency_key || ':' || u.ordinal
    ) s
    order by u.ordinal;
end;
$$;

comment on function tidegate.outbox_put_many(
    text, jsonb[], text, jsonb, timestamptz, integer, text, text, text
) is
'Put many events into a topic, in the caller''s transaction: one answer an element, in order; no rows for an empty array. The options hold for all; with an idempotency key, each element''s key is that key, a colon and its place in the array. Errors: TG010 bad argument, TG020 no such topic.';

-- functions/outbox/outbox_put_specs.sql
create or replace function tidegate.outbox_put_specs(p_topic text, p_specs jsonb)
returns setof tidegate.sent
language plpgsql volatile rows 100
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_specs constant jsonb[] := array(
        select s.spec from _specs_check(p_specs, array[
            'payload', 'group_key', 'headers', 'run_at', 'priority', 'run_id', 'tenant', 'event_id', 'idempotency_key'
        ]) s (spec)
    );
    v_spec jsonb;
begin
    if cardinality(v_specs) > 1 then
        perform _idempotency_keys_lock('topic', p_topic, v_specs);
    end if;
    foreach v_spec in array v_specs loop
        return query
        select p.*
        from outbox_put(
            p_topic, v_spec -> 'payload',
            p_group_key => v_spec ->> 'group_key',
            p_headers => nullif(v_spec -> 'headers', 'null'),
            p_run_at => (v_spec ->> 'run_at')::timestamptz,
            p_priority => coalesce((v_spec ->> 'priority')::integer, 0),
            p_run_id => v_spec ->> 'run_id',
            p_tenant => v_spec ->> 'tenant',
            p_event_id => (v_spec ->> 'event_id')::uuid,
            p_idempotency_key => v_spec ->> 'idempotency_key'
        ) p;
    end loop;
end;
$$;

comment on function tidegate.outbox_put_specs(text, jsonb) is
'Put many events with options of their own: a JSON array of objects with payload and, as in outbox_put, group_key, headers, run_at, priority, run_id, tenant, event_id, idempotency_key. One answer an element, in order. Errors: TG010 bad argument, TG020 no such topic; a value of the wrong type raises what its cast raises (22P02, 22007).';

-- functions/outbox/outbox_route.sql
create or replace function tidegate.outbox_route(
    p_topic text, p_queue text default null, p_handler text default null
) returns bigint
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_route_id bigint;
    v_queue_id integer;
    v_handler text;
begin
    if (p_queue is null) = (p_handler is null) then
        perform _bad_argument(
            'p_queue', p_queue,
            format('Give exactly one of p_queue and p_handler; p_handler is %s.', coalesce(p_handler, 'null'))
        );
    end if;
    if p_topic is null or p_topic !~ '^[A-Za-z0-9_][A-Za-z0-9_.:-]*([.][*])?$' then
        perform _bad_argument('p_topic', p_topic, 'Give the name of a topic, or a prefix with a trailing .*');
    end if;
    -- Topics that are being created and routes that are being made must see each other.
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('outbox_route');
    end if;
    lock table route in share row exclusive mode;
    if p_topic !~ '[*]$' and not exists (select from channel c where c.kind = 'topic' and c.name = p_topic) then
        perform _no_such_channel('topic', p_topic);
    end if;
    if p_queue is not null then
        select c.channel_id into v_queue_id from channel c where c.kind = 'queue' and c.name = p_queue;
        if not found then
            perform _no_such_channel('queue', p_queue);
        end if;
    else
        perform _handler_call(p_handler);
        v_handler := _handler_name(p_handler);
    end if;

    insert into route (topic, queue_id, handler) values (p_topic, v_queue_id, v_handler)
    on conflict do nothing
    returning route_id into v_route_id;
    if not found then
        select r.route_id into v_route_id
        from route r
        where r.topic = p_topic and (r.queue_id = v_queue_id or r.handler = v_handler);
    end if;
    update channel c set is_routed = true
    where c.kind = 'topic' and not c.is_routed and _topic_matches(p_topic, c.name);
    return v_route_id;
end;
$$;

comment on function tidegate.outbox_route(text, text, text) is
'Send the events of a topic, or of every topic under a prefix (orders.*), to a queue or to a SQL handler as well. Returns the route; the same one for a repeat. Events that stand in the topic go there too. A routed topic is swept by outbox_sweep, not relayed. Errors: TG010 bad argument, TG020 no such topic or queue, TG040 unsafe handler, TG041 no such handler.';

-- functions/outbox/outbox_unroute.sql
create or replace function tidegate.outbox_unroute(
    p_topic text, p_queue text default null, p_handler text default null
) returns boolean
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_is_found boolean;
begin
    if (p_queue is null) = (p_handler is null) then
        perform _bad_argument(
            'p_queue', p_queue,
            format('Give exactly one of p_queue and p_handler; p_handler is %s.', coalesce(p_handler, 'null'))
        );
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('outbox_unroute');
    end if;
    lock table route in share row exclusive mode;
    delete from route r
    where r.topic = p_topic
        and (
            r.queue_id = (select c.channel_id from channel c where c.kind = 'queue' and c.name = p_queue)
            -- by its stored name too, with or without the argument: the function itself may be gone
            or r.handler = _handler_name(p_handler)
            or r.handler = p_handler
            or split_part(r.handler, '(', 1) = p_handler
        );
    v_is_found := found;
    update channel c set is_routed = false
    where c.kind = 'topic' and c.is_routed and not _topic_is_routed(c.name);
    return v_is_found;
end;
$$;

comment on function tidegate.outbox_unroute(text, text, text) is
'Take a route away; false when there was none. Events that still stand in the topic no longer go there. A topic without routes is drained by a relay. Errors: TG010 bad argument.';

-- functions/outbox/_topic_move.sql
create or replace function tidegate._topic_move(
    p_topic_id integer, p_topic text, p_archive boolean, p_queues integer[], p_ctids tid[],
    p_has_priorities boolean, p_is_plain boolean
) returns integer
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * Others see an event in its topic or in all its queues. Targets are the queues, and null for the archive: the first
 * receives the event itself, each further one a copy with a message_id and a body of its own, under the same event_id.
 * In a queue, events of a group wait for their turn in blocked. Without a target the handlers were all there was to do,
 * and the event ends.
 */
declare
    v_targets integer[] := coalesce(p_queues, '{}') || case when p_archive then array[null::integer] else '{}' end;
    v_queue_id integer := p_queues[1];
    v_moved integer;
begin
    if p_has_priorities then
        perform _priority_declare(
            q.queue_id, array(select r.priority from ready r where r.ctid = any(p_ctids))
        )
        from unnest(p_queues) q (queue_id);
    end if;

    -- One queue and no archive, the ordinary case: nothing is copied, and no dead letter waits for it. The rows are
    -- locked, so both statements see the same; a delete that returned them would store them once more. Each priority
    -- keeps its order.
    if cardinality(v_targets) = 1 and not p_archive and p_is_plain then
        insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
        select nextval('position_seq'), v_queue_id, 0, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, null, null, null, t.backoff, p_topic, t.group_key, t.job_key, t.run_id, t.tenant, null, t.barrier, t.epoch, t.member
        from (select * from ready where ctid = any(p_ctids) order by position) t;
        delete from ready where ctid = any(p_ctids);
        get diagnostics v_moved = row_count;
        insert into tally (amount, channel_id, outcome) values (v_moved, p_topic_id, 'dispatched');
        return v_moved;
    end if;

    with taken as (
        delete from ready where ctid = any(p_ctids) returning *
    ), delivery as (
        select
            t.*, q.target, q.ordinality > 1 as is_copy, nextval('position_seq') as drawn,
            case
                when q.ordinality > 1 and t.body_id is not null then nextval('body_body_id_seq') else t.body_id
            end as own_body_id
        from (select * from taken order by priority, position) t
        cross join unnest(v_targets) with ordinality q (target, ordinality)
    ), entered as (
        insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
        select
            d.drawn, d.target,
            0, d.priority, case when d.is_copy then d.drawn else d.message_id end, d.enqueued_at, d.payload, d.headers, case
                    when d.is_copy
                        then coalesce(d.event_id, _event_id(i.event_prefix, d.message_id, d.enqueued_at))
                    else d.event_id
                end, d.own_body_id, d.body_bytes, null, null, null, d.backoff, p_topic, d.group_key, d.job_key, d.run_id, d.tenant, null, d.barrier, d.epoch, d.member
        from delivery d
        cross join installation i
        where d.target is not null and d.group_key is null
    ), waiting as (
        insert into blocked (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
        select
            d.drawn, d.target,
            0, d.priority, case when d.is_copy then d.drawn else d.message_id end, d.enqueued_at, d.payload, d.headers, case
                    when d.is_copy
                        then coalesce(d.event_id, _event_id(i.event_prefix, d.message_id, d.enqueued_at))
                    else d.event_id
                end, d.own_body_id, d.body_bytes, null, null, null, d.backoff, p_topic, d.group_key, d.job_key, d.run_id, d.tenant, null, d.barrier, d.epoch, d.member
        from delivery d
        cross join installation i
        where d.target is not null and d.group_key is not null
    ), archived as (
        insert into archive (settled_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors, barrier, epoch, member)
        select
            clock_now(), p_topic_id,
            d.attempts, d.priority, d.message_id, d.enqueued_at, d.payload, d.headers, coalesce(d.event_id, _event_id(i.event_prefix, d.message_id, d.enqueued_at)), d.own_body_id, d.body_bytes, d.max_attempts, d.max_batch, d.requeued_from, d.backoff, d.topic, d.group_key, d.job_key, d.run_id, d.tenant, d.errors, d.barrier, d.epoch, d.member
        from delivery d
        cross join installation i
        where d.target is null
    ), copied as (
        insert into body (body_id, payload) overriding system value
        select d.own_body_id, b.payload
        from delivery d
        inner join body b on b.body_id = d.body_id
        where d.own_body_id <> d.body_id
    ), freed as (
        delete from body b using taken t where b.body_id = t.body_id and v_targets = '{}'
    ), resolved as (
        update dead_letter d set state = 'resolved', resolved_at = clock_now()
        from taken t
        where d.dead_letter_id = t.requeued_from
    )
    insert into tally (channel_id, outcome, amount)
    select p_topic_id, 'dispatched', count(*) from taken
    returning amount into v_moved;
    return v_moved;
end;
$$;

comment on function tidegate._topic_move(integer, text, boolean, integer[], tid[], boolean, boolean) is
'Move locked events from their topic to queues and, where it is on, the archive; count them as dispatched. Returns how many.';

-- functions/outbox/_topic_deliver.sql
create or replace function tidegate._topic_deliver(
    p_topic_id integer,
    p_topic text,
    p_archive boolean,
    p_ctids tid[],
    p_has_priorities boolean,
    p_is_plain boolean,
    p_may_check boolean,
    out claimed integer,
    out dispatched integer,
    out retried integer,
    out dead_lettered integer,
    out first_error text
)
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * The events are locked by the caller. Without handlers they move as a set; with handlers, queues receive only what
 * every handler took.
 */
declare
    v_queues integer[];
    v_handlers text[];
    v_draining text;
    v_rings boolean;
    v_calls text[] := '{}';
    v_call text;
    v_ctids tid[];
    v_messages message[];
    v_run record;
begin
    claimed := 0;
    dispatched := 0;
    retried := 0;
    dead_lettered := 0;
    select
        array_agg(distinct r.queue_id) filter (where r.queue_id is not null),
        array_agg(distinct r.handler) filter (where r.handler is not null),
        min(c.name) filter (where c.is_draining),
        bool_or(c.doorbell is not null)
    into v_queues, v_handlers, v_draining, v_rings
    from route r
    left join channel c on c.channel_id = r.queue_id
    where _topic_matches(r.topic, p_topic);

    if v_draining is not null then
        -- It takes no more, and an event goes to all its routes or to none: it waits.
        first_error := format('queue %L is draining: the events of topic %L wait', v_draining, p_topic);
        return;
    end if;

    if v_handlers is null then
        -- No route at all: the last one went away a moment ago, and the events are a relay's now.
        if v_queues is not null then
            claimed := _topic_move(p_topic_id, p_topic, p_archive, v_queues, p_ctids, p_has_priorities, p_is_plain);
        end if;
        if v_rings then
            perform _doorbell_ring(c.channel_id, c.kind, c.name, c.doorbell)
            from channel c
            where c.channel_id = any(v_queues) and c.doorbell is not null;
        end if;
        dispatched := claimed;
        return;
    end if;

    begin
        foreach v_call in array v_handlers loop
            v_calls := v_calls || _handler_call(v_call);
        end loop;
    exception
        when others then
            -- Not the events' fault: nobody is charged, and they wait until the handler or its route is mended.
            first_error := sqlerrm;
            perform _incident_note('outbox_sweep', p_topic_id, sqlstate, sqlerrm);
            return;
    end;

    select
        array_agg(r.ctid order by r.priority, r.position),
        array_agg(row(r.attempts, r.priority, r.message_id, r.enqueued_at, coalesce(r.payload, (select b.payload from body b where b.body_id = r.body_id)), r.headers, coalesce(r.event_id, _event_id(i.event_prefix, r.message_id, r.enqueued_at)), r.body_id, r.body_bytes, r.max_attempts, r.max_batch, r.requeued_from, r.backoff, p_topic, r.group_key, r.job_key, r.run_id, r.tenant, r.errors, r.barrier, r.epoch, r.member)::message order by r.priority, r.position)
    into v_ctids, v_messages
    from ready r
    cross join installation i
    where r.ctid = any(p_ctids);
    select * into v_run from _handler_run(v_calls, v_messages, p_may_check);

    if v_run.failed <> '{}' then
        first_error := v_run.errors[1];
        with failed as (
            delete from ready where ctid = any(array(select v_ctids[f] from unnest(v_run.failed) f)) returning *
        )
        select
            array_agg(row(f.attempts, f.priority, f.message_id, f.enqueued_at, f.payload, f.headers, f.event_id, f.body_id, f.body_bytes, f.max_attempts, f.max_batch, f.requeued_from, f.backoff, f.topic, f.group_key, f.job_key, f.run_id, f.tenant, f.errors, f.barrier, f.epoch, f.member)::message order by f.priority, f.position)
        into v_messages
        from failed f;
        select f.retried, f.dead_lettered into retried, dead_lettered
        from _message_fail(p_topic_id, v_messages, v_run.errors, v_run.finals, null) f;
        insert into tally (channel_id, outcome, amount)
        select p_topic_id, o.outcome, o.amount
        from (values ('retried', retried), ('dead_lettered', dead_lettered)) as o (outcome, amount)
        where o.amount > 0;
    end if;

    v_ctids := array(
        select v_ctids[o] from generate_series(1, v_run.reached) o where o <> all(v_run.failed) order by o
    );
    if v_ctids <> '{}' then
        dispatched := _topic_move(p_topic_id, p_topic, p_archive, v_queues, v_ctids, p_has_priorities, p_is_plain);
        if v_rings then
            perform _doorbell_ring(c.channel_id, c.kind, c.name, c.doorbell)
            from channel c
            where c.channel_id = any(v_queues) and c.doorbell is not null;
        end if;
    end if;
    claimed := dispatched + retried + dead_lettered;
end;
$$;

comment on function tidegate._topic_deliver(integer, text, boolean, tid[], boolean, boolean, boolean) is
'Deliver locked events of one topic to all its routes and settle each by its own outcome. All 0, with first_error, when a handler of the topic is missing or unsafe, or one of its queues is draining: the events then stay.';

-- functions/outbox/outbox_sweep.sql
create or replace function tidegate.outbox_sweep(
    p_limit integer default 500,
    p_topic text default null,
    out claimed integer,
    out dispatched integer,
    out retried integer,
    out dead_lettered integer,
    out first_error text
)
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * Topic by topic, in random order so that none starves: lock what is due, and hand it to every route in this one
 * transaction. Of two sweeps at once, each takes what the other has not locked. A sweep within a sweep would not skip
 * what the outer one has locked, and is refused.
 */
declare
    v_now timestamptz := clock_now();
    v_channel channel;
    v_floor floor;
    v_may_tick constant boolean := current_setting('tidegate.handling', true) is distinct from 'on' and (
            current_setting('tidegate.tick', true) = 'on' or (
                pg_current_xact_id_if_assigned() is null
                and statement_timestamp() < transaction_timestamp() + interval '100 ms'
            )
        );
    v_drawn bigint;
    v_priority smallint;
    v_limit integer;
    v_ctids tid[];
    v_has_run boolean;
    v_has_priorities boolean;
    v_is_plain boolean;
    v_may_check constant boolean := pg_current_xact_id_if_assigned() is null; -- nothing written, nothing deferred
    v_outcome record;
begin
    claimed := 0;
    dispatched := 0;
    retried := 0;
    dead_lettered := 0;
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'Sweep between 1 and 10000 events at a time.');
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('outbox_sweep');
    end if;
    if current_setting('tidegate.handling', true) = 'on' then
        raise exception using
            errcode = 'TG031',
            message = 'outbox_sweep was called by a handler',
            hint = 'A handler may put and send; what it puts is swept by the next sweep.';
    end if;
    if p_topic is not null and not exists (
        select from channel c where c.kind = 'topic' and c.name = p_topic and c.is_routed
    ) then
        perform _no_such_channel('topic', p_topic)
        where not exists (select from channel c where c.kind = 'topic' and c.name = p_topic);
        raise exception using
            errcode = 'TG022',
            message = format('topic %L has no route', p_topic),
            hint = 'Make one with outbox_route, or drain it with a relay (outbox_claim, outbox_settle).';
    end if;

    for v_channel in
        select * from channel c
        where c.kind = 'topic' and c.is_routed and not c.is_paused and (p_topic is null or c.name = p_topic)
        order by random()
    loop
        select * into v_floor from floor where channel_id = v_channel.channel_id order by floor_id desc limit 1;
        v_drawn := coalesce(pg_sequence_last_value('position_seq'), 0) - v_floor.position;
        if (
                v_now not between v_floor.ticked_at and v_floor.tick_at
                or (v_drawn > 5000 and v_now > v_floor.ticked_at + 10 * v_floor.took)
            )
            and (v_may_tick)
        then
            if v_now < v_floor.ticked_at or v_drawn <> 0 or not v_floor.is_quiet or v_floor.has_more
                or exists (
                    select from scheduled s
                    where s.channel_id = v_channel.channel_id
                        and s.due_at >= v_floor.scheduled_from - interval '1 minute' and s.due_at <= v_now
                )
                or exists (
                    select from lease l
                    where l.channel_id = v_channel.channel_id
                        and l.expires_at >= v_floor.lease_from - interval '1 minute' and l.expires_at <= v_now
                )
            then
                perform _tick(v_channel.channel_id);
                select * into v_floor from floor where channel_id = v_channel.channel_id order by floor_id desc limit 1;
            end if;
        end if;

        v_limit := p_limit - claimed;
        v_ctids := null;
        v_has_run := false;
        v_has_priorities := false;
        v_is_plain := true;
        foreach v_priority in array v_floor.priorities loop
            select
                v_has_priorities or (v_priority > 0 and count(*) > 0),
                v_is_plain and count(r.group_key) + count(r.requeued_from) = 0,
                v_ctids || array_agg(r.ctid), v_has_run or count(r.run_id) > 0
            into v_has_priorities, v_is_plain, v_ctids, v_has_run
            from (
                select n.ctid, n.run_id, n.group_key, n.requeued_from from ready n
                where n.channel_id = v_channel.channel_id and n.priority = v_priority
                    and n.position > v_floor.hints[v_priority + 1]
                order by n.position
                limit v_limit
                for update skip locked
            ) r;
            v_limit := p_limit - claimed - coalesce(cardinality(v_ctids), 0);
            exit when v_limit <= 0;
        end loop;
        if v_has_run then
            v_ctids := _ready_refuse(v_channel.channel_id, v_ctids);
        end if;
        continue when v_ctids is null;

        begin
            select * into v_outcome
            from _topic_deliver(
                v_channel.channel_id, v_channel.name, v_channel.archive, v_ctids,
                v_has_priorities, v_is_plain, v_may_check
            );
        exception
            when others then
                -- Not a handler's error, which is its event's: one topic that cannot be moved stops no other.
                perform _incident_note('outbox_sweep', v_channel.channel_id, sqlstate, sqlerrm);
                first_error := coalesce(first_error, sqlerrm);
                continue;
        end;
        claimed := claimed + v_outcome.claimed;
        dispatched := dispatched + v_outcome.dispatched;
        retried := retried + v_outcome.retried;
        dead_lettered := dead_lettered + v_outcome.dead_lettered;
        first_error := coalesce(first_error, v_outcome.first_error);
        exit when claimed = p_limit;
    end loop;
end;
$$;

comment on function tidegate.outbox_sweep(integer, text) is
'Deliver up to p_limit due events of routed topics, or of one of them, each to all its routes in this transaction: to queues as a set, to SQL handlers with a retry one by one, so that one that raises fails alone. claimed = dispatched + retried + dead_lettered; all 0 when nothing is due. first_error is the first failed event''s own, or that of a topic held back by a handler that is missing or unsafe. Errors: TG010 bad argument, TG020 no such topic, TG022 a topic without a route, TG030 not READ COMMITTED, TG031 inside a handler.';

-- functions/outbox/outbox_claim.sql
create or replace function tidegate.outbox_claim(
    p_topic text,
    p_limit integer default 100,
    p_lease interval default null,
    p_worker text default null,
    p_lease_id uuid default null
) returns setof tidegate.delivery
language plpgsql volatile rows 100
security definer
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * Priority by priority from its hint up, under row locks that skip what others hold: two claims share nothing, and
 * neither waits. What was locked is then deleted and stands in the lease: others see it ready until the commit, and
 * leased after it. What belongs to a stopped run is refused on the way, so many at most that a claim stays short: the
 * next one goes on from there.
 */
declare
    v_now timestamptz := clock_now();
    v_channel channel;
    v_floor floor;
    v_drawn bigint;
    v_lease_id uuid;
    v_cap integer := p_limit;
    v_limit integer;
    v_in_flight bigint;
    v_priority smallint;
    v_message message;
    v_messages message[];
    v_ctids tid[];
    v_batch integer;
    v_bytes bigint := 0;
    v_is_plain boolean := true;
    v_has_run boolean := false;
    v_refused integer := 0;
    v_expires_at timestamptz;
begin
    -- The ordinary call passes one test: each expression is set up anew in every transaction.
    if (
        p_limit between 1 and 10000 and (p_lease is null or p_lease > '0')
        and (p_worker is null or octet_length(p_worker) <= 512)
        and current_setting('transaction_isolation') = 'read committed'
    ) is not true then
        if current_setting('transaction_isolation') <> 'read committed' then
            perform _require_read_committed('outbox_claim');
        elsif p_lease <= '0' then
            perform _bad_argument(
                'p_lease', p_lease::text, 'A lease lasts a positive time, for example interval ''1 minute''.'
            );
        end if;
        if octet_length(p_worker) > 512 then
            perform _bad_argument('p_worker', left(p_worker, 100), 'A name has at most 512 bytes.');
        end if;
        perform _bad_argument('p_limit', p_limit::text, 'Claim between 1 and 10000 messages at a time.');
    end if;

    select * into v_channel from channel where kind = 'topic' and name = p_topic;
    if not found then
        perform _no_such_channel('topic', p_topic);
    end if;
    select * into v_floor from floor where channel_id = v_channel.channel_id order by floor_id desc limit 1;
    v_drawn := coalesce(pg_sequence_last_value('position_seq'), 0) - v_floor.position;

    -- So does the ordinary moment: everything between these lines is out of it.
    if v_channel.is_routed or v_channel.is_paused or p_lease_id is not null
        or p_lease > v_channel.max_runtime or v_channel.max_in_flight is not null or v_drawn not between 1 and 5000
        or v_now not between v_floor.ticked_at and v_floor.tick_at
    then
        if v_channel.is_routed then
            raise exception using
                errcode = 'TG022',
                message = format('topic %L is routed: its events go to its routes', p_topic),
                hint = 'Sweep it with outbox_sweep, or take its routes away with outbox_unroute before relaying it.';
        end if;
        if p_lease > v_channel.max_runtime then
            perform _bad_argument(
                'p_lease', p_lease::text,
                format('It may not be above the channel''s max_runtime, %s.', v_channel.max_runtime)
            );
        end if;
        if p_lease_id is not null then
            -- A repeat may overtake its first attempt: it waits for it here and then looks, in a new snapshot.
            perform pg_advisory_xact_lock(hashtextextended(p_lease_id::text, 'lease'::regclass::oid::bigint));
            return query select * from _lease_deliveries(p_lease_id, v_channel.channel_id);
            if found then
                return;
            elsif exists (select from lease l where l.lease_id = p_lease_id) then
                perform _bad_argument(
                    'p_lease_id', p_lease_id::text, 'That lease stands elsewhere: give each claim an id of its own.'
                );
            end if;
        end if;
        if v_channel.is_paused or (v_drawn = 0 and v_now < v_floor.idle_until) then
            return;
        end if;

        if (
                v_now not between v_floor.ticked_at and v_floor.tick_at
                or (v_drawn > 5000 and v_now > v_floor.ticked_at + 10 * v_floor.took)
            )
            and (current_setting('tidegate.handling', true) is distinct from 'on' and (
                current_setting('tidegate.tick', true) = 'on' or (
                    pg_current_xact_id_if_assigned() is null
                    and statement_timestamp() < transaction_timestamp() + interval '100 ms'
                )
            ))
        then
            if v_now < v_floor.ticked_at or v_drawn <> 0 or not v_floor.is_quiet or v_floor.has_more
                or exists (
                    select from scheduled s
                    where s.channel_id = v_channel.channel_id
                        and s.due_at >= v_floor.scheduled_from - interval '1 minute' and s.due_at <= v_now
                )
                or exists (
                    select from lease l
                    where l.channel_id = v_channel.channel_id
                        and l.expires_at >= v_floor.lease_from - interval '1 minute' and l.expires_at <= v_now
                )
            then
                perform _tick(v_channel.channel_id);
                select * into v_floor from floor where channel_id = v_channel.channel_id order by floor_id desc limit 1;
            end if;
        end if;

        if v_channel.max_in_flight is not null then
            -- Capped channels count under a lock of their own, which others never take.
            perform pg_advisory_xact_lock(_lock_key('channel'::regclass, v_channel.channel_id));
            select v_channel.max_in_flight - coalesce(sum(l.message_count), 0) into v_in_flight
            from lease l where l.channel_id = v_channel.channel_id;
            if v_in_flight <= 0 then
                return;
            end if;
            v_cap := least(v_cap, v_in_flight);
        end if;
    end if;

    if v_cap = 1 then
        -- The default, without the second statement and the arrays of a batch.
        loop
            foreach v_priority in array v_floor.priorities loop
                -- By key: a row that was changed since the snapshot is locked in its new version, found by its old one.
                delete from ready d
                where d.channel_id = v_channel.channel_id and d.priority = v_priority and d.position = (
                    select r.position from ready r
                    where r.channel_id = v_channel.channel_id and r.priority = v_priority
                        and r.position > v_floor.hints[v_priority + 1]
                    order by r.position
                    limit 1
                    for update skip locked
                )
                returning d.attempts, d.priority, d.message_id, d.enqueued_at, d.payload, d.headers, d.event_id, d.body_id, d.body_bytes, d.max_attempts, d.max_batch, d.requeued_from, d.backoff, d.topic, d.group_key, d.job_key, d.run_id, d.tenant, d.errors, d.barrier, d.epoch, d.member into v_message;
                exit when found;
            end loop;
            if v_message.message_id is null or v_message.run_id is not null then
                if v_message.message_id is null or v_refused = 100 then
                    return;
                end if;
                if exists (select from run s where s.run_id = v_message.run_id and s.state = 'stopped') then
                    perform _message_refuse(v_channel.channel_id, array[v_message]);
                    v_message := null;
                    v_refused := v_refused + 1;
                    continue;
                end if;
            end if;
            exit;
        end loop;
        insert into lease (
            lease_id, claimed_at, expires_at, channel_id, message_count, is_plain, worker, run_ids, messages
        )
        values (
            coalesce(p_lease_id, gen_random_uuid()), clock_now(), greatest(clock_now() + coalesce(p_lease, v_channel.lease), clock_now() + interval '1 microsecond'), v_channel.channel_id, 1,
            not v_channel.archive and v_message.body_bytes is null and v_message.requeued_from is null,
            p_worker, case when v_message.run_id is not null then array[v_message.run_id] end, array[v_message]
        ) returning lease_id, expires_at into v_lease_id, v_expires_at;
        if v_message.body_bytes is null then
            return next row(
                v_lease_id, v_message.message_id,
                coalesce(
                    v_message.event_id, _event_id(v_channel.event_prefix, v_message.message_id, v_message.enqueued_at)
                ),
                v_message.topic, v_message.attempts + 1, coalesce(v_message.max_attempts, v_channel.max_attempts),
                v_message.payload, v_message.headers, v_message.priority, v_message.group_key, v_message.job_key,
                v_message.run_id, v_message.tenant, v_message.barrier, v_message.epoch, v_message.member,
                v_message.enqueued_at, v_expires_at
            )::delivery;
        else
            return query select * from _lease_deliveries(v_lease_id, v_channel.channel_id);
        end if;
        return;
    end if;

    loop
        v_limit := v_cap;
        foreach v_priority in array v_floor.priorities loop
            -- Messages are built where their rows are locked: the delete then returns nothing, and order is the index's.
            select
                v_ctids || array_agg(c.ctid),
                v_messages || array_agg(c.message),
                least(v_batch, min(c.max_batch)),
                v_bytes + coalesce(sum(c.body_bytes), 0),
                v_is_plain
                and count(c.body_bytes) + count(c.requeued_from) = 0,
                v_has_run or count(c.run_id) > 0
            into v_ctids, v_messages, v_batch, v_bytes, v_is_plain, v_has_run
            from (
                select
                    r.ctid, r.max_batch, r.body_bytes, r.requeued_from, r.run_id,
                    row(r.attempts, r.priority, r.message_id, r.enqueued_at, r.payload, r.headers, r.event_id, r.body_id, r.body_bytes, r.max_attempts, r.max_batch, r.requeued_from, r.backoff, r.topic, r.group_key, r.job_key, r.run_id, r.tenant, r.errors, r.barrier, r.epoch, r.member)::message as message
                from ready r
                where r.channel_id = v_channel.channel_id and r.priority = v_priority
                    and r.position > v_floor.hints[v_priority + 1]
                order by r.position
                limit v_limit
                for update skip locked
            ) c;
            v_limit := v_cap - coalesce(cardinality(v_messages), 0);
            exit when v_limit <= 0;
        end loop;
        if v_messages is null or v_has_run then
            if v_messages is null or v_refused = 10 then
                return;
            end if;
            if cardinality(_ready_refuse(v_channel.channel_id, v_ctids)) is distinct from cardinality(v_ctids) then
                -- Some were refused. Those that are left are already locked: taken again, with what comes behind them.
                v_ctids := null;
                v_messages := null;
                v_batch := null;
                v_bytes := 0;
                v_is_plain := true;
                v_has_run := false;
                v_refused := v_refused + 1;
                continue;
            end if;
        end if;
        exit;
    end loop;
    if v_batch < cardinality(v_messages) or v_bytes > 16777216 then
        v_limit := _batch_fit(v_messages);
        v_messages := v_messages[:v_limit];
        v_ctids := v_ctids[:v_limit];
    end if;
    delete from ready where ctid = any(v_ctids);

    insert into lease (
        lease_id, claimed_at, expires_at, channel_id, message_count, is_plain, worker, run_ids, messages
    ) values (
        coalesce(p_lease_id, gen_random_uuid()), clock_now(), greatest(clock_now() + coalesce(p_lease, v_channel.lease), clock_now() + interval '1 microsecond'), v_channel.channel_id,
        cardinality(v_messages),
        v_is_plain and not v_channel.archive, p_worker,
        case when v_has_run then array(select distinct m.run_id from unnest(v_messages) m where m.run_id is not null) end,
        v_messages
    ) returning lease_id, expires_at into v_lease_id, v_expires_at;

    if v_bytes > 0 then
        return query select * from _lease_deliveries(v_lease_id, v_channel.channel_id);
    else
        return query
        select
            v_lease_id, m.message_id,
            coalesce(m.event_id, _event_id(v_channel.event_prefix, m.message_id, m.enqueued_at)), m.topic,
            m.attempts + 1, coalesce(m.max_attempts, v_channel.max_attempts), m.payload, m.headers, m.priority,
            m.group_key, m.job_key, m.run_id, m.tenant, m.barrier, m.epoch, m.member, m.enqueued_at, v_expires_at
        from unnest(v_messages) m;
    end if;
end;
$$;

comment on function tidegate.outbox_claim(text, integer, interval, text, uuid) is
'Lease up to p_limit due events of a topic without routes, for a relay: publish them, then outbox_settle. No rows when nothing is due or the topic is paused. With a lease id of the caller''s, a repeat returns the same events while that lease stands. Errors: TG010 bad argument, TG020 no such topic, TG022 the topic is routed, TG030 not READ COMMITTED.';

-- functions/outbox/outbox_settle.sql
create or replace function tidegate.outbox_settle(
    p_lease_id uuid, p_done bigint[], p_failed jsonb default '[]'
) returns tidegate.settled
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
    if p_failed is distinct from '[]' then
        perform _failed_check(p_failed);
    end if;
    return _lease_settle(p_lease_id, coalesce(p_done, '{}'), p_failed);
end;
$$;

comment on function tidegate.outbox_settle(uuid, bigint[], jsonb) is
'Settle events of a lease: p_done were published; p_failed is a JSON array of {"message_id", "error", "retryable", "retry_in", "reason"} and only these are charged; a reason (not_retryable, malformed, unknown_handler) is final, and a retry_in out of range is the nearest one in it. What is in neither stays leased; ids that are not in the lease, or settled before, change nothing and are not counted. Answers lost = true, and does nothing, when the lease is gone. Errors: TG010 bad p_failed.';

-- functions/outbox/outbox_release.sql
create or replace function tidegate.outbox_release(
    p_lease_id uuid, p_message_ids bigint[] default null, p_retry_in interval default '0'
) returns tidegate.settled
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
begin
    if p_retry_in is null or p_retry_in not between '0' and '100 years' then
        perform _bad_argument('p_retry_in', p_retry_in::text, 'Give zero or a positive interval, at most 100 years.');
    end if;
    return _lease_settle(p_lease_id, '{}', '[]', p_message_ids, p_retry_in);
end;
$$;

comment on function tidegate.outbox_release(uuid, bigint[], interval) is
'Give events of a lease back uncharged, for a shutdown or a broker that is down; null gives back all that is left. They count as retried in the answer. Answers lost = true, and does nothing, when the lease is gone.';

-- functions/run/_run_lock.sql
create or replace function tidegate._run_lock(p_run_id text, p_routine text) returns tidegate.run
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/* The row of a run is the first lock of all; children are locked after their parents. */
declare
    v_run run;
begin
    if p_run_id is null or octet_length(p_run_id) not between 1 and 512 then
        perform _bad_argument('p_run_id', left(p_run_id, 100), 'A run is named by 1 to 512 bytes.');
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed(p_routine);
    end if;
    select * into v_run from run r where r.run_id = p_run_id for update;
    return v_run;
end;
$$;

comment on function tidegate._run_lock(text, text) is
'Lock a run, of which p_routine is about to change the state. Null when it was never opened nor cancelled. Errors: TG010 bad argument, TG030 not READ COMMITTED.';

-- functions/run/_run_cascade.sql
create or replace function tidegate._run_cascade(p_run_id text, p_state text) returns integer
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * Level by level, each locked in order and looked at after the one above it: who opens a child holds its parent's row
 * until he commits, so none comes in behind this. Children that have ended otherwise stay as they are, and so does what
 * is below them; one in error is stopped with its parent.
 */
declare
    v_now timestamptz := clock_now();
    v_level text[] := array[p_run_id];
    v_changed integer := 0;
begin
    loop
        with child as (
            select r.run_id, r.parent_id from run r
            where r.parent_id = any(v_level)
                and (r.state = 'open' or (r.state = 'error' and p_state = 'stopped'))
            order by r.run_id
            for update
        ), changed as (
            update run r
            set state = p_state, finished_at = v_now,
                reason = case p_state when 'error' then 'failed' else 'stopped' end || ' with ' || c.parent_id
            from child c
            where r.run_id = c.run_id
            returning r.run_id
        )
        select array_agg(c.run_id) into v_level from changed c;
        exit when v_level is null;
        v_changed := v_changed + cardinality(v_level);
    end loop;
    return v_changed;
end;
$$;

comment on function tidegate._run_cascade(text, text) is
'Let the open children of a run, and theirs, share its fate: error or stopped. Returns how many; 0 when it has none.';

-- functions/run/_run_remove.sql
create or replace function tidegate._run_remove(p_run_id text) returns bigint
language plpgsql volatile
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * In one pass, from behind, as queue_purge does: follow-ups, then blocked, scheduled and ready. What others hold at
 * the moment is skipped: a message, its job key, the turn of its group, or who is to have that next. So this waits for
 * nobody; what it does not see, and what comes in later, is refused where it is about to be delivered.
 */
declare
    v_batch record;
    v_found integer;
    v_removed bigint := 0;
begin

    loop
        v_found := 0;
        for v_batch in
            with taken as (
                select j.channel_id, j.key, j.follow_up, (j.follow_up).message_id from job_key j
                where (j.follow_up).run_id = p_run_id
                limit 1000
                for update skip locked
            ), emptied as (
                update job_key j set follow_up = null, follow_up_due_at = null
                from taken t
                where j.channel_id = t.channel_id and j.key = t.key
            )
            select t.channel_id, array_agg(t.follow_up order by t.message_id) as messages
            from taken t
            group by t.channel_id
            order by t.channel_id
        loop
            perform _message_cancel(v_batch.channel_id, v_batch.messages, 'the run was cancelled');
            v_found := v_found + cardinality(v_batch.messages);
        end loop;
        exit when v_found = 0;
        v_removed := v_removed + v_found;
    end loop;

    loop
        v_found := 0;
        for v_batch in
            with taken as (
                delete from blocked where ctid = any(array(
                    select p.ctid from blocked p
                    where p.run_id = p_run_id
                        and (
                            p.job_key is null
                            or not exists (
                                select from job_key j where j.channel_id = p.channel_id and j.key = p.job_key
                            )
                            or exists (
                                select from job_key j where j.channel_id = p.channel_id and j.key = p.job_key
                                for update skip locked
                            )
                        )
                        and (p.group_key is null or _turn_seize(p.channel_id, p.group_key, p.message_id))
                    limit 1000
                    for update skip locked
                )) returning *
            )
            select
                t.channel_id,
                array_agg(row(t.attempts, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, t.max_attempts, t.max_batch, t.requeued_from, t.backoff, t.topic, t.group_key, t.job_key, t.run_id, t.tenant, t.errors, t.barrier, t.epoch, t.member)::message order by t.message_id) as messages
            from taken t
            group by t.channel_id
            order by t.channel_id
        loop
            perform _message_cancel(v_batch.channel_id, v_batch.messages, 'the run was cancelled');
            v_found := v_found + cardinality(v_batch.messages);
        end loop;
        exit when v_found = 0;
        v_removed := v_removed + v_found;
    end loop;

    loop
        v_found := 0;
        for v_batch in
            with taken as (
                delete from scheduled where ctid = any(array(
                    select p.ctid from scheduled p
                    where p.run_id = p_run_id
                        and (
                            p.job_key is null
                            or not exists (
                                select from job_key j where j.channel_id = p.channel_id and j.key = p.job_key
                            )
                            or exists (
                                select from job_key j where j.channel_id = p.channel_id and j.key = p.job_key
                                for update skip locked
                            )
                        )
                        and (p.group_key is null or _turn_seize(p.channel_id, p.group_key, p.message_id))
                    limit 1000
                    for update skip locked
                )) returning *
            )
            select
                t.channel_id,
                array_agg(row(t.attempts, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, t.max_attempts, t.max_batch, t.requeued_from, t.backoff, t.topic, t.group_key, t.job_key, t.run_id, t.tenant, t.errors, t.barrier, t.epoch, t.member)::message order by t.message_id) as messages
            from taken t
            group by t.channel_id
            order by t.channel_id
        loop
            perform _message_cancel(v_batch.channel_id, v_batch.messages, 'the run was cancelled');
            v_found := v_found + cardinality(v_batch.messages);
        end loop;
        exit when v_found = 0;
        v_removed := v_removed + v_found;
    end loop;

    loop
        v_found := 0;
        for v_batch in
            with taken as (
                delete from ready where ctid = any(array(
                    select p.ctid from ready p
                    where p.run_id = p_run_id
                        and (
                            p.job_key is null
                            or not exists (
                                select from job_key j where j.channel_id = p.channel_id and j.key = p.job_key
                            )
                            or exists (
                                select from job_key j where j.channel_id = p.channel_id and j.key = p.job_key
                                for update skip locked
                            )
                        )
                        and (p.group_key is null or _turn_seize(p.channel_id, p.group_key, p.message_id))
                    limit 1000
                    for update skip locked
                )) returning *
            )
            select
                t.channel_id,
                array_agg(row(t.attempts, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, t.max_attempts, t.max_batch, t.requeued_from, t.backoff, t.topic, t.group_key, t.job_key, t.run_id, t.tenant, t.errors, t.barrier, t.epoch, t.member)::message order by t.message_id) as messages
            from taken t
            group by t.channel_id
            order by t.channel_id
        loop
            perform _message_cancel(v_batch.channel_id, v_batch.messages, 'the run was cancelled');
            v_found := v_found + cardinality(v_batch.messages);
        end loop;
        exit when v_found = 0;
        v_removed := v_removed + v_found;
    end loop;

    return v_removed;
end;
$$;

comment on function tidegate._run_remove(text) is
'Cancel the events and messages of a run that wait, in whatever channel, but for those that somebody holds at the moment. Returns how many; 0 when there are none.';

-- functions/run/_run_stop.sql
create or replace function tidegate._run_stop(
    p_run_id text,
    p_reason text,
    p_routine text,
    out former_state text,
    out former_at timestamptz,
    out runs integer,
    out removed bigint
)
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * The run comes first, so that whatever is sent, claimed or swept after the commit is refused; then what can be seen
 * of it is removed. A run that was never opened is made here, to be remembered. A repeat takes what came in meanwhile.
 */
declare
    v_run run;
    v_run_id text;
    v_tree text[];
begin
    runs := 0;
    removed := 0;
    v_run := _run_lock(p_run_id, p_routine);
    if v_run.run_id is null then
        insert into run (run_id, state, reason, opened_at, finished_at)
        values (p_run_id, 'stopped', p_reason, clock_now(), clock_now())
        on conflict do nothing;
        if found then
            runs := 1;
        else
            v_run := _run_lock(p_run_id, p_routine); -- somebody opened or cancelled it a moment ago
        end if;
    end if;
    former_state := v_run.state;
    former_at := v_run.finished_at;
    if v_run.state = 'completed' then
        return;
    end if;
    if v_run.state in ('open', 'error') then
        update run r set state = 'stopped', reason = p_reason, finished_at = clock_now()
        where r.run_id = p_run_id;
        runs := 1 + _run_cascade(p_run_id, 'stopped');
    end if;
    with recursive stopped as (
        select p_run_id collate "C" as run_id
        union
        select r.run_id from stopped s inner join run r on r.parent_id = s.run_id where r.state = 'stopped'
    )
    select array_agg(s.run_id) into v_tree from stopped s;

    -- After the runs and before the messages, as the lock order says. One in which somebody arrives at this moment, or
    -- that somebody opens anew, is left to recovery: from the commit on nobody arrives there. Recovery looks at once,
    -- or, where the row of the barrier itself is held, when it is stranded.
    perform barrier_abort(b.name, b.epoch, 'its run was stopped')
    from (
        select n.name, n.epoch
        from barrier n
        cross join lateral (select from barrier_epoch e where e.epoch = n.epoch for update skip locked) e
        where n.run_id = any(v_tree) and n.state = 'open'
        order by n.epoch
        for update of n skip locked
    ) b;
    update barrier set look_at = clock_now()
    where ctid = any(array(
        select n.ctid from barrier n where n.run_id = any(v_tree) and n.state = 'open' for update skip locked
    ));

    foreach v_run_id in array v_tree loop
        removed := removed + _run_remove(v_run_id);
    end loop;
end;
$$;

comment on function tidegate._run_stop(text, text, text) is
'Stop a run with its children, and remove what waits of them; nothing, when it has completed. Returns what the run was before and since when (null: nobody knew it), how many runs were stopped now, and how many messages were removed.';

-- functions/run/run_open.sql
create or replace function tidegate.run_open(
    p_run_id text,
    p_parent text default null,
    p_tenant text default null,
    p_fail_on_dead_letter boolean default false
) returns text
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
/*
 * The parent's row is shared to the commit: whoever ends the parent waits for it, and then sees this child. One that
 * has failed or was stopped already takes the child along.
 */
declare
    v_run run;
    v_parent run;
    v_state text := 'open';
begin
    if p_run_id is null or octet_length(p_run_id) not between 1 and 512 then
        perform _bad_argument('p_run_id', left(p_run_id, 100), 'A run is named by 1 to 512 bytes.');
    elsif p_parent = p_run_id then
        perform _bad_argument('p_parent', p_parent, 'A run is not its own parent.');
    elsif p_fail_on_dead_letter is null then
        perform _bad_argument('p_fail_on_dead_letter', null, 'True when the run is to fail as soon as a message dies.');
    end if;
    if octet_length(p_tenant) > 512 then -- they stand in indexes
        perform _bad_argument('p_tenant', left(p_tenant, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
    if p_parent is not null then
        select * into v_parent from run r where r.run_id = p_parent for share;
        if not found then
            raise exception using
                errcode = 'TG092',
                message = format('there is no run %L to be the parent of %L', p_parent, p_run_id),
                hint = 'Open the parent first, with run_open.';
        end if;
        if v_parent.state in ('error', 'stopped') then
            v_state := v_parent.state;
        end if;
    end if;

    insert into run (run_id, parent_id, state, reason, tenant, fail_on_dead_letter, opened_at, finished_at)
    values (
        p_run_id, p_parent, v_state,
        case v_state when 'error' then 'failed with ' || p_parent when 'stopped' then 'stopped with ' || p_parent end,
        p_tenant, p_fail_on_dead_letter, clock_now(), case when v_state <> 'open' then clock_now() end
    )
    on conflict do nothing;
    if found then
        return v_state;
    end if;
    select * into v_run from run r where r.run_id = p_run_id;
    if not found then
        perform _require_read_committed('run_open'); -- it was opened by somebody this snapshot does not show
    elsif v_run.state = 'open' and v_run.parent_id is distinct from p_parent then
        perform _bad_argument(
            'p_parent', p_parent,
            format('Run %L is open already, %s.', p_run_id,
                coalesce(format('as a child of %L', v_run.parent_id), 'without a parent'))
        );
    elsif v_run.state = 'open' and v_run.fail_on_dead_letter <> p_fail_on_dead_letter then
        perform _bad_argument(
            'p_fail_on_dead_letter', p_fail_on_dead_letter::text,
            format('Run %L is open already, and the other way.', p_run_id)
        );
    end if;
    return v_run.state;
end;
$$;

comment on function tidegate.run_open(text, text, text, boolean) is
'Open a run, perhaps as a child of another, with which it fails and stops. p_fail_on_dead_letter: it fails as soon as one of its messages dies, which run_sweep sees to; without it, dead letters are people''s business. Answers with its state: open, also to a repeat; or completed, error or stopped when it has ended, was cancelled before it was opened, or its parent has failed or was stopped: begin nothing then. Errors: TG010 bad argument, TG092 no such parent.';

-- functions/run/run_finish.sql
create or replace function tidegate.run_finish(
    p_run_id text, p_state text, p_reason text default null, out outcome text, out state text
)
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
#variable_conflict use_column
/* Compare and set, under the lock of the row: completed and stopped are final, an error may still become either. */
declare
    v_run run;
begin
    if p_state is null or p_state not in ('completed', 'error', 'stopped') then
        perform _bad_argument('p_state', p_state, 'A run ends as completed, error or stopped.');
    end if;
    if p_state = 'stopped' then
        v_run.state := (select s.former_state from _run_stop(p_run_id, p_reason, 'run_finish') s);
    else
        v_run := _run_lock(p_run_id, 'run_finish');
        if v_run.run_id is null then
            outcome := 'unknown';
            return;
        end if;
    end if;
    if v_run.state = p_state then
        outcome := 'unchanged';
    elsif v_run.state in ('completed', 'stopped') then
        outcome := 'refused';
        state := v_run.state;
        return;
    else
        outcome := 'changed';
        update run r set state = p_state, reason = p_reason, finished_at = clock_now()
        where r.run_id = p_run_id and p_state <> 'stopped';
        if p_state = 'error' then
            perform _run_cascade(p_run_id, 'error');
        end if;
    end if;
    state := p_state;
end;
$$;

comment on function tidegate.run_finish(text, text, text) is
'End a run: completed, error (its open children fail with it), or stopped (as run_cancel). outcome: changed; unchanged, it was so before; refused, as a run that completed or was stopped stays so; unknown, and nothing done, for completed or error of a run never opened. state is what it is now: an error may still become completed. Errors: TG010 bad argument, TG030 not READ COMMITTED.';

-- functions/run/run_cancel.sql
create or replace function tidegate.run_cancel(
    p_run_id text, p_reason text default null, out outcome text, out runs integer, out removed bigint
)
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_stop record;
begin
    select * into v_stop from _run_stop(p_run_id, p_reason, 'run_cancel');
    if v_stop.former_state = 'completed' then
        raise exception using
            errcode = 'TG091',
            message = format('run %L has completed, at %s', p_run_id, v_stop.former_at),
            hint = 'What it did is done. A run that is open, in error, or was never opened can be cancelled.';
    end if;
    outcome := 'cancelled';
    runs := v_stop.runs;
    removed := v_stop.removed;
end;
$$;

comment on function tidegate.run_cancel(text, text) is
'Stop a run, and its children, for good: its events and messages that wait become discarded dead letters, nothing of it is delivered once this has committed, what is sent for it is answered cancelled, and workers that hold messages of it learn by queue_extend. By id, so also before it was opened. outcome is cancelled, also for a repeat, which removes what came in meanwhile; runs says how many were stopped now, removed how many messages. Errors: TG010 bad argument, TG030 not READ COMMITTED, TG091 the run has completed.';

-- functions/run/run_status.sql
create or replace function tidegate.run_status(
    p_run_id text,
    out run_id text,
    out state text,
    out reason text,
    out parent_id text,
    out tenant text,
    out opened_at timestamptz,
    out finished_at timestamptz,
    out open_children bigint,
    out waiting bigint,
    out dead_letters bigint
) returns setof record
language plpgsql stable rows 1
security definer
set search_path = tidegate, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select
        r.run_id, r.state, r.reason, r.parent_id, r.tenant, r.opened_at, r.finished_at,
        (select count(*) from run c where c.parent_id = r.run_id and c.state = 'open'),
        (select count(*) from ready m where m.run_id = r.run_id)
        + (select count(*) from scheduled m where m.run_id = r.run_id)
        + (select count(*) from blocked m where m.run_id = r.run_id),
        (select count(*) from dead_letter d where d.run_id = r.run_id and d.state = 'dead')
    from run r
    where r.run_id = p_run_id;
end;
$$;

comment on function tidegate.run_status(text) is
'What became of a run: its state (open, completed, error, stopped), why and when, how many children are open, how many of its messages wait (leased ones are not counted) and how many are dead. No row for a run that was neither opened nor cancelled.';

-- functions/run/run_list.sql
create or replace function tidegate.run_list(
    p_state text default 'open',
    p_limit integer default 50,
    p_after_id text default null,
    p_after_at timestamptz default null,
    out run_id text,
    out state text,
    out reason text,
    out parent_id text,
    out tenant text,
    out fail_on_dead_letter boolean,
    out opened_at timestamptz,
    out finished_at timestamptz
) returns setof record
language plpgsql stable rows 50
security definer
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
/*
 * A page of each state that is asked for, from the index, and of these the newest. What waits of a run is not counted
 * here: run_status does, for one.
 */
declare
    v_after_at timestamptz := coalesce(p_after_at, 'infinity');
    v_states text[] := array['open', 'completed', 'error', 'stopped'];
begin
    if p_state <> all (v_states) then
        perform _bad_argument('p_state', p_state, 'A run is open, completed, error or stopped; null lists all.');
    elsif p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'List between 1 and 10000 runs at a time.');
    elsif p_after_id is null and p_after_at is not null then
        perform _bad_argument('p_after_id', null, 'p_after_at is the opened_at that belongs to p_after_id: give both.');
    elsif p_after_id is not null and p_after_at is null then
        select r.opened_at into v_after_at from run r where r.run_id = p_after_id;
        if not found then
            perform _bad_argument(
                'p_after_id', left(p_after_id, 100),
                'That run is gone: give the opened_at it was listed with as p_after_at, or list from the top.'
            );
        end if;
    end if;
    if p_state is not null then
        v_states := array[p_state];
    end if;
    return query
    select r.*
    from unnest(v_states) as s (state)
    cross join lateral (
        select
            n.run_id, n.state, n.reason, n.parent_id, n.tenant, n.fail_on_dead_letter, n.opened_at, n.finished_at
        from run n
        where
            n.state = s.state
            and (n.opened_at, n.run_id) < (v_after_at, coalesce(p_after_id, ''))
        order by n.opened_at desc, n.run_id desc
        limit p_limit
    ) as r
    order by r.opened_at desc, r.run_id desc
    limit p_limit;
end;
$$;

comment on function tidegate.run_list(text, integer, text, timestamptz) is
'Runs in a state (open unless given; null = any), what was opened last on top. Page on with p_after_id = the last run_id seen, and p_after_at = its opened_at, so that it need not be there any more. No rows when nothing matches. How much of a run waits or is dead, run_status tells. Errors: TG010 unknown state, bad limit, a p_after_id that is gone.';

-- functions/run/run_sweep.sql
create or replace function tidegate.run_sweep(
    p_limit integer default 100,
    out failed integer,
    out passed integer,
    out put_off integer,
    out first_error text
)
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_sort = off
set jit = off
set lock_timeout = '100 ms'
as $$
/*
 * A message dies in a settlement, which holds its lease; its run comes before leases in the order of locks. So the
 * burial only notes on the dead letter that its run is to fail, and here both are locked. One that was requeued or
 * discarded meanwhile has not died, and its run goes on.
 *
 * Nobody is waited for. Dead letters that others hold are passed over where they are found, so they stand before no
 * other, however many; a run that somebody ends, or a child of it, at this moment is left for later: due again in ten
 * seconds or, after an error, in a minute. Each is a subtransaction; what was done stays locked until this commits, so
 * it ends after a second, or when it is canceled, with what is done. Here the dead letter is locked before its run;
 * but the run is skipped where it is held, and for its children nobody waits beyond lock_timeout: no circle lasts.
 */
declare
    v_started constant timestamptz := clock_timestamp();
    v_now constant timestamptz := clock_now();
    v_entry record;
    v_run run;
begin
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'Look at between 1 and 10000 dead letters at a time.');
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('run_sweep');
    end if;
    failed := 0;
    passed := 0;
    put_off := 0;
    for v_entry in
        select d.dead_letter_id, d.run_id, d.state from dead_letter d
        where d.fails_run_at <= v_now
        order by d.fails_run_at
        limit p_limit
        for update skip locked
    loop
        exit when clock_timestamp() > v_started + interval '1 second';
        begin
            select * into v_run from run r where r.run_id = v_entry.run_id for update skip locked;
            if not found and exists (select from run r where r.run_id = v_entry.run_id) then
                raise lock_not_available;
            end if;
            if v_entry.state = 'dead' and v_run.state = 'open' then
                update run r
                set state = 'error', finished_at = clock_now(), reason = (
                    select format(
                        'message %s of %s %s died: %s: %s',
                        d.message_id, d.kind, d.channel, d.reason, d.last_error
                    )
                    from dead_letter d where d.dead_letter_id = v_entry.dead_letter_id
                )
                where r.run_id = v_run.run_id;
                perform _run_cascade(v_run.run_id, 'error');
                failed := failed + 1;
            else
                passed := passed + 1;
            end if;
            update dead_letter d set fails_run_at = null where d.dead_letter_id = v_entry.dead_letter_id;
        exception
            when others or query_canceled then
                put_off := put_off + 1;
                if sqlstate <> '55P03' then
                    first_error := coalesce(first_error, format('dead letter %s: %s', v_entry.dead_letter_id, sqlerrm));
                    perform _incident_note('run_sweep', null, sqlstate, sqlerrm);
                end if;
                -- Others are not to wait behind it, least of all for a run that somebody has in hand.
                update dead_letter d
                set fails_run_at = clock_now()
                    + case when sqlstate = '55P03' then interval '10 seconds' else interval '1 minute' end
                where d.dead_letter_id = v_entry.dead_letter_id;
                exit when sqlstate = '57014';
        end;
    end loop;
end;
$$;

comment on function tidegate.run_sweep(integer) is
'Let runs fail whose messages have died, where they were opened with p_fail_on_dead_letter, up to p_limit dead letters: state error, with the message as the reason, and their open children with them. failed: runs that were open until now; passed: dead letters whose run had ended already, or that were requeued or discarded meanwhile; put_off: somebody else has the run in hand, or it failed (first_error): looked at again in ten seconds, or a minute. Dead letters that somebody has in hand are passed over. Ends after a second, or when it is canceled, with what is done. Zeros when there is nothing to do. Errors: TG010 bad p_limit, TG030 not READ COMMITTED.';

-- functions/run/_run_trim.sql
create or replace function tidegate._run_trim(p_limit integer, p_before timestamptz) returns integer
language plpgsql volatile
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * What the row of a run that has ended is still needed for: a stopped one refuses its messages at delivery, so it
 * outlives whatever of it may yet be delivered: what waits, follow-ups, what is leased, and dead letters that could be
 * requeued or have been. All of these are asked, of every run alike, in the statement that deletes. One that is sent
 * meanwhile finds the row and is refused, as it is there until this commits; a sender that looked before a cancel
 * would have to be open for the whole retention. An open child or barrier keeps it too: they end by it.
 *
 * After that it is as if the run had never been: what is sent for it then, by that name, is delivered.
 */
declare
    v_now constant timestamptz := clock_now();
    v_run_ids text[];
    v_removed integer;
begin
    select array_agg(r.run_id) into v_run_ids
    from (
        select n.run_id from run n
        where n.finished_at < p_before
            and exists (
                select from guard g
                where g.run_id = n.run_id and g.state = 'held' and (g.expires_at <= v_now or g.renewed_at > v_now)
            )
        order by n.finished_at
        limit p_limit
    ) r;
    if v_run_ids is not null then
        perform _guards_retire(v_run_ids);
    end if;
    delete from run where ctid = any(array(
        select r.ctid from run r
        where r.finished_at < p_before
            and not exists (select from run c where c.parent_id = r.run_id and c.state = 'open')
            and not exists (select from barrier b where b.run_id = r.run_id and b.state in ('open', 'fire_failed'))
            and not exists (select from guard g where g.run_id = r.run_id and g.state = 'held')
            and not exists (select from ready m where m.run_id = r.run_id)
            and not exists (select from scheduled m where m.run_id = r.run_id)
            and not exists (select from blocked m where m.run_id = r.run_id)
            and not exists (select from job_key k where (k.follow_up).run_id = r.run_id)
            and not exists (
                select from dead_letter d where d.run_id = r.run_id and d.state in ('dead', 'requeued')
            )
            and not exists (select from lease l where l.run_ids is not null and r.run_id = any(l.run_ids))
        order by r.finished_at
        limit p_limit
        for update skip locked
    ));
    get diagnostics v_removed = row_count;
    return v_removed;
end;
$$;

comment on function tidegate._run_trim(integer, timestamptz) is
'Remove up to p_limit runs that ended before p_before and of which nothing is left: no open child or barrier, no guard that is held, no message, no dead letter that may come back. Returns how many; 0 when there are none.';

-- functions/recovery/_leases_recover.sql
create or replace function tidegate._leases_recover(
    p_limit integer, p_leader_epoch bigint, out expired integer, out errors jsonb
)
language plpgsql volatile
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * Claims and maintenance_tick take expired leases back within a second: what is here has been out for ten. It is found
 * by the marks of the last tick. Channels come in any order, so that some whose leases are held, or that fail, do not
 * stand before the others each time.
 */
declare
    v_now constant timestamptz := clock_now();
    v_stop constant timestamptz := clock_timestamp() + interval '500 ms';
    v_channel record;
begin
    expired := 0;
    errors := '{}';
    for v_channel in
        select c.channel_id, c.kind, c.name, f.lease_from
        from channel c
        cross join lateral (
            select * from floor n where n.channel_id = c.channel_id order by n.floor_id desc limit 1
        ) f
        where exists (
            select from lease l
            where l.channel_id = c.channel_id
                and l.expires_at >= f.lease_from - interval '1 minute' and l.expires_at <= v_now - interval '10 seconds'
        )
        order by random()
        limit p_limit
    loop
        exit when expired >= p_limit or clock_timestamp() > v_stop;
        begin
            expired := expired + coalesce((
                select _lease_expire(v_channel.channel_id, v_channel.lease_from - interval '1 minute', p_limit)
                where _leader_check('maintain', p_leader_epoch)
            ), 0);
        exception
            when others then
                if sqlstate = 'TG090' then
                    raise;
                end if;
                errors := errors || jsonb_build_object(
                    format('%s %s', v_channel.kind, v_channel.name), sqlstate || ': ' || _error_text(sqlerrm)
                );
                perform _incident_note('recovery_sweep', v_channel.channel_id, sqlstate, sqlerrm);
        end;
    end loop;
end;
$$;

comment on function tidegate._leases_recover(integer, bigint) is
'Take back leases that ran out ten seconds ago and that no tick has seen, of up to p_limit channels. Returns how many were looked at, and what failed by channel. Errors: TG090 the leader''s epoch is over.';

-- functions/recovery/_barriers_mark.sql
create or replace function tidegate._barriers_mark() returns timestamptz
language plpgsql volatile
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * Where the scan of barriers starts. Each one that closes leaves an entry in the index at the instant at which it was
 * to be looked at, and under an old snapshot all of them stay. So scans start at the lowest instant that is left,
 * unless somebody may still commit one below it.
 *
 * The proof is that of deadlines in _tide_advance. An instant is never written in the past, and whoever writes one
 * holds RowExclusiveLock on the table from then to his end. The clock is read first, and then who holds that lock: who
 * held none, and writes later, writes later instants. Those who held it are waited for, by remembering them. What is
 * lowest is looked at in a later statement, so in a snapshot that sees what they have left. A minute is taken off for
 * who read the clock and was slow to take the lock. A prepared transaction cannot be followed: while one stands,
 * nothing is found safe. A clock that was set back, or pg_locks that may not be read, begins at the beginning.
 */
declare
    v_now timestamptz;
    v_last recovery_mark;
    v_mark recovery_mark;
    v_is_blind boolean;
    v_safe timestamptz;
    v_lowest timestamptz;
begin
    select * into v_last from recovery_mark m where m.source = 'barrier' order by m.entry desc limit 1;
    v_now := clock_now();
    if v_last.at <= v_now and v_now < v_last.at + interval '1 minute' then
        return v_last.scan_from;
    end if;
    begin
        select
            coalesce(array_agg(distinct concat_ws('@', l.virtualtransaction, l.pid)), '{}'),
            coalesce(bool_or(l.pid is null), false)
        into v_mark.holders, v_is_blind
        from pg_locks l
        where l.locktype = 'relation'
            and l.relation = 'barrier'::regclass
            and l.database = (select d.oid from pg_database d where d.datname = current_database())
            and l.mode = 'RowExclusiveLock'
            and l.pid is distinct from pg_backend_pid();
    exception
        when insufficient_privilege then
            return '-infinity';
    end;
    if v_last.at > v_now or v_last.at is null then
        v_mark.scan_from := '-infinity';
    elsif v_is_blind or v_mark.holders && v_last.holders then
        return v_last.scan_from;
    else
        v_safe := case when v_mark.holders = '{}' then v_now else v_last.at end - interval '1 minute';
        select b.look_at into v_lowest
        from barrier b
        where b.state in ('open', 'fire_failed') and b.look_at >= v_last.scan_from
        order by b.look_at
        limit 1;
        v_mark.scan_from := greatest(v_last.scan_from, least(v_safe, v_lowest));
    end if;
    if v_is_blind then
        return '-infinity';
    end if;
    insert into recovery_mark (source, scan_from, at, holders)
    values ('barrier', v_mark.scan_from, v_now, v_mark.holders);
    delete from recovery_mark where ctid = any(array(
        select m.ctid from recovery_mark m where m.source = 'barrier' and m.entry = v_last.entry for update skip locked
    ));
    return v_mark.scan_from;
end;
$$;

comment on function tidegate._barriers_mark() is
'Below which instant no barrier is left to be looked at, found anew at most once a minute; -infinity when that is not known.';

-- functions/recovery/_barrier_ask.sql
create or replace function tidegate._barrier_ask(p_barrier tidegate.barrier, p_expired_at timestamptz)
returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * One question for each time it expires, under an event_id of its own; while the one before has not been answered and
 * is still in the queue, no other joins it.
 */
declare
    v_failed integer;
    v_outstanding integer;
begin
    select coalesce(sum(bit_count(s.failed::bit(64))), 0), coalesce(sum(bit_count(s.pending::bit(64))), 0)
    into v_failed, v_outstanding
    from barrier_slot s where s.epoch = p_barrier.epoch;
    perform queue_send(
        p_barrier.expire_queue,
        jsonb_build_object(
            'barrier', p_barrier.name, 'epoch', p_barrier.epoch, 'outcome', 'expired',
            'reason', _barrier_reason(p_barrier), 'members', p_barrier.member_count,
            'arrived', p_barrier.member_count - v_failed - v_outstanding, 'failed', v_failed,
            'outstanding', v_outstanding, 'run_id', p_barrier.run_id, 'payload', p_barrier.failure_payload
        ),
        p_job_key => 'expired ' || p_barrier.epoch,
        p_key_mode => 'dedupe',
        p_event_id => _barrier_event_id(
            i.event_prefix, p_barrier.epoch, p_barrier.opened_at, 'expired ' || extract(epoch from p_expired_at)
        ),
        p_run_id => p_barrier.run_id,
        p_tenant => p_barrier.tenant
    )
    from installation i;
end;
$$;

comment on function tidegate._barrier_ask(tidegate.barrier, timestamptz) is
'Ask, through its expire queue, what is to become of a stranded barrier. Errors: those of queue_send.';

-- functions/recovery/_barrier_recover.sql
create or replace function tidegate._barrier_recover(
    p_name text, p_epoch bigint, p_leader_epoch bigint, out did text, out members integer
)
language plpgsql volatile
set search_path = tidegate, pg_temp
set lock_timeout = '100ms'
as $$
/*
 * Recover, then close: whatever fails on the way undoes all of it, and the row stays.
 *
 * Locks in the order of design section 5: the run, the epoch, the barrier; slots are only read. Children of the run are
 * locked last: whoever holds one of those wants no barrier of a run above it, so nobody waits in a circle. What others
 * hold is left for the next pass. From the lock of the epoch on nobody fires, seals or aborts it; under that of the
 * barrier, by which its epoch is compared, nobody opens it anew, and a look that another recovery has had is over.
 *
 * Each write is a statement that checks the leader's epoch, if there is one.
 */
declare
    v_now timestamptz;
    v_barrier barrier;
    v_run run;
    v_queue text;
    v_progress_at timestamptz;
    v_outstanding integer;
    v_answer text;
    v_is_held boolean := false;
begin
    did := 'kept';
    select * into v_barrier from barrier b where b.name = p_name and b.epoch = p_epoch;
    if v_barrier.run_id is not null then
        select * into v_run from run r where r.run_id = v_barrier.run_id for update skip locked;
        v_is_held := not found and exists (select from run r where r.run_id = v_barrier.run_id);
    end if;
    if not v_is_held then
        perform from barrier_epoch e where e.epoch = p_epoch for update skip locked;
        v_is_held := not found;
    end if;
    if v_is_held then
        -- In somebody's hands: others are not to wait behind it.
        update barrier set look_at = clock_now() + interval '10 seconds'
        where ctid = any(array(
            select b.ctid from barrier b where b.name = p_name and b.epoch = p_epoch for update skip locked
        )) and _leader_check('maintain', p_leader_epoch);
        return;
    end if;
    select * into v_barrier from barrier b where b.name = p_name and b.epoch = p_epoch for update skip locked;
    v_now := clock_now();
    if v_barrier.state in ('open', 'fire_failed') is not true or v_barrier.look_at > v_now then
        return;
    end if;
    if v_run.state = 'stopped' then
        -- Its cancel was in a hurry, or had its failure before.
        if v_barrier.state = 'open' then
            perform _barrier_close(p_name, p_epoch, 'aborted', 'aborted', 'its run was stopped')
            where _leader_check('maintain', p_leader_epoch);
        else
            update barrier set state = 'aborted', reason = 'its run was stopped'
            where name = p_name and _leader_check('maintain', p_leader_epoch);
        end if;
        did := 'reclaimed';
        return;
    end if;
    select max(s.arrived_at), coalesce(sum(bit_count(s.pending::bit(64))), 0) into v_progress_at, v_outstanding
    from barrier_slot s where s.epoch = p_epoch;
    v_progress_at := greatest(v_barrier.opened_at, v_barrier.kept_at, v_progress_at);

    v_queue := case
        when v_barrier.state = 'fire_failed' or (v_outstanding = 0 and v_barrier.is_sealed)
            then v_barrier.callback_queue
        else v_barrier.failure_queue
    end;
    if v_barrier.tenant is null
        and exists (select from channel c where c.kind = 'queue' and c.name = v_queue and c.tenant_required)
    then
        perform _bad_argument('p_tenant', null, format('Queue %s requires a tenant.', v_queue));
    end if;

    if v_barrier.state = 'fire_failed' then
        if not exists (select from channel c where c.kind = 'queue' and c.name = v_queue) then
            perform _no_such_channel('queue', v_queue);
        end if;
        v_answer := (select barrier_resolve(p_name, p_epoch, 'fire') where _leader_check('maintain', p_leader_epoch));
    elsif v_outstanding = 0 and v_barrier.is_sealed then
        -- Full and silent: by the proof in _barrier_settle this cannot be, and if it ever is, it ends here.
        v_answer := (
            select _barrier_close(p_name, p_epoch, 'fired', null) where _leader_check('maintain', p_leader_epoch)
        );
    end if;
    if v_answer = 'fired' then
        did := 'refired';
        return;
    elsif v_answer is not null then
        raise exception using
            message = (
                select coalesce(b.reason, 'its callback could not be sent') from barrier b where b.name = p_name
            );
    end if;

    if v_now < v_barrier.expires_at and v_now < v_progress_at + v_barrier.stall_after then
        update barrier set look_at = least(expires_at, v_progress_at + stall_after), look_count = 0
        where name = p_name and _leader_check('maintain', p_leader_epoch);
        return;
    elsif v_run.state = 'completed' then
        -- What has ended is not ended otherwise; nobody waits for this barrier any more.
        perform _barrier_close(p_name, p_epoch, 'resolved', 'completed', 'its run is completed')
        where _leader_check('maintain', p_leader_epoch);
        did := 'reclaimed';
        return;
    end if;

    if v_barrier.resent_at is null then
        members := (select _members_resend(v_barrier, 10000) where _leader_check('maintain', p_leader_epoch));
        if members > 0 then
            -- They get their time, once. Where there are more, the next look goes on.
            update barrier
            set look_at = case when members < 10000 then v_now + stall_after else v_now end,
                kept_at = case when members < 10000 then v_now end,
                resent_at = case when members < 10000 then v_now end,
                expires_at = case when members < 10000 then greatest(expires_at, v_now + stall_after)
                    else expires_at end,
                look_count = 0
            where name = p_name and _leader_check('maintain', p_leader_epoch);
            did := 'resent';
            return;
        end if;
    end if;

    if v_barrier.expire_queue is not null then
        perform _barrier_ask(v_barrier, v_barrier.look_at) where _leader_check('maintain', p_leader_epoch);
        update barrier
        set look_at = v_now + interval '1 minute' * power(2, least(look_count, 5)), look_count = look_count + 1
        where name = p_name and _leader_check('maintain', p_leader_epoch);
        did := 'asked';
        return;
    end if;

    if v_run.run_id is not null then
        perform run_finish(v_run.run_id, 'error', format('barrier %s: %s', p_name, _barrier_reason(v_barrier)))
        where _leader_check('maintain', p_leader_epoch);
    end if;
    perform _barrier_close(p_name, p_epoch, 'aborted', 'expired', _barrier_reason(v_barrier))
    where _leader_check('maintain', p_leader_epoch);
    did := 'failed';
end;
$$;

comment on function tidegate._barrier_recover(text, bigint, bigint) is
'Look at a barrier that is due. did: kept (it is alive, somebody has it in hand, or it was opened anew), refired, resent (members says how many messages), asked, failed (its run too, where it has one), or reclaimed, as its run had ended. Errors: whatever went wrong, with nothing changed; TG090 the leader''s epoch is over.';

-- functions/recovery/_barrier_postpone.sql
create or replace function tidegate._barrier_postpone(p_name text, p_epoch bigint, p_leader_epoch bigint)
returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
begin
    update barrier
    set look_at = clock_now() + interval '1 minute' * power(2, least(look_count, 5)), look_count = look_count + 1
    where ctid = any(array(
        select b.ctid from barrier b where b.name = p_name and b.epoch = p_epoch for update skip locked
    )) and _leader_check('maintain', p_leader_epoch);
end;
$$;

comment on function tidegate._barrier_postpone(text, bigint, bigint) is
'Look again, after a failure, in 1 minute, 2, 4, … 32; unless somebody has the barrier in hand. Errors: TG090 the leader''s epoch is over.';

-- functions/recovery/_guards_recover.sql
create or replace function tidegate._guards_recover(
    p_limit integer, p_leader_epoch bigint, out retired integer, out is_full boolean
)
language plpgsql volatile
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * By runs, in the order in which they ended, an hour ago: so what is read is what has ended since the last pass, and
 * not what vacuum has not removed. A guard that is alive then, or whose run's end takes more than an hour to commit,
 * is found when the run itself is cleaned up.
 */
declare
    v_now constant timestamptz := clock_now();
    v_last recovery_mark;
    v_run_ids text[];
    v_last_at timestamptz;
begin
    select * into v_last from recovery_mark m where m.source = 'guard' order by m.entry desc limit 1;
    if v_last.at > v_now then
        v_last.scan_from := least(v_last.scan_from, v_now - interval '1 hour');
    end if;
    select array_agg(e.run_id), max(e.finished_at) into v_run_ids, v_last_at
    from (
        select r.run_id, r.finished_at from run r
        where r.finished_at is not null
            and r.finished_at > coalesce(v_last.scan_from, '-infinity') and r.finished_at <= v_now - interval '1 hour'
        order by r.finished_at
        fetch first p_limit rows with ties
    ) e;
    retired := 0;
    is_full := coalesce(cardinality(v_run_ids) >= p_limit, false);
    if v_run_ids is null and v_last.at is not null then
        return;
    end if;
    retired := coalesce((
        select _guards_retire(v_run_ids) where v_run_ids is not null and _leader_check('maintain', p_leader_epoch)
    ), 0);
    insert into recovery_mark (source, scan_from, at, holders)
    select
        'guard',
        case when is_full then v_last_at else v_now - interval '1 hour' end,
        v_now, '{}'
    where _leader_check('maintain', p_leader_epoch);
    delete from recovery_mark where ctid = any(array(
        select m.ctid from recovery_mark m where m.source = 'guard' and m.entry = v_last.entry for update skip locked
    ));
end;
$$;

comment on function tidegate._guards_recover(integer, bigint) is
'Make tombstones of guards that were left behind by runs that ended more than an hour ago, p_limit runs at a time. Returns how many; is_full: there may be more such runs. Errors: TG090 the leader''s epoch is over.';

-- functions/recovery/recovery_sweep.sql
create or replace function tidegate.recovery_sweep(
    p_limit integer default 100,
    p_leader_epoch bigint default null,
    out leases_expired integer,
    out barriers integer,
    out resent integer,
    out refired integer,
    out failed integer,
    out reclaimed integer,
    out asked integer,
    out kept integer,
    out guards integer,
    out stranded integer,
    out errors jsonb,
    out has_more boolean,
    out systemic boolean
)
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * Each barrier is a subtransaction: one that cannot be recovered is noted, comes back later each time, and holds up no
 * other; neither do those that others hold, which are passed by, however many are due before it. What is recovered
 * stays locked until this commits, so it ends after a second; run out of time, it ends with what is done.
 *
 * The scan locks nothing: each barrier is locked when its turn comes, so that one who is stopped in the middle holds
 * those that he has had and no other. That is before its run and its epoch, but these are skipped where somebody holds
 * them: nobody waits in a circle for it.
 *
 * Two at once are right, by the locks of the rows. With the epoch of a leader, each write checks it: one that was
 * stopped beyond its lease and goes on is refused at its next write, and all of its pass is undone.
 */
declare
    v_started constant timestamptz := clock_timestamp();
    v_now constant timestamptz := clock_now();
    v_barrier record;
    v_recovered record;
    v_last recovery_mark;
    v_state text;
    v_error text;
    v_passed integer := 0;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('recovery_sweep');
    end if;
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'Recover between 1 and 10000 rows of a kind at a time.');
    end if;
    perform _leader_check('maintain', p_leader_epoch);
    barriers := 0;
    resent := 0;
    refired := 0;
    failed := 0;
    reclaimed := 0;
    asked := 0;
    kept := 0;
    guards := 0;
    stranded := 0;
    has_more := false;
    select l.expired, l.errors into leases_expired, errors from _leases_recover(p_limit, p_leader_epoch) l;

    for v_barrier in
        select b.name, b.epoch
        from (select _barriers_mark() as scan_from) m
        cross join lateral (
            select n.name, n.epoch, n.look_at from barrier n
            where n.state in ('open', 'fire_failed') and n.look_at >= m.scan_from and n.look_at <= v_now
            order by n.look_at
            limit 100000
        ) b
    loop
        if barriers - kept >= p_limit or barriers - v_passed >= p_limit * 10
            or clock_timestamp() > v_started + interval '1 second'
        then
            has_more := barriers > v_passed; -- where all is held, it is of no use to call again at once
            exit;
        end if;
        barriers := barriers + 1;
        perform from barrier b where b.name = v_barrier.name and b.epoch = v_barrier.epoch for update skip locked;
        if not found then
            kept := kept + 1;
            v_passed := v_passed + 1;
            continue;
        end if;
        begin
            select * into v_recovered from _barrier_recover(v_barrier.name, v_barrier.epoch, p_leader_epoch);
            insert into tally (channel_id, outcome, amount)
            select 0, 'recovered.' || v_recovered.did,
                case when v_recovered.did = 'resent' then v_recovered.members else 1 end
            where v_recovered.did <> 'kept' and _leader_check('maintain', p_leader_epoch);
            case v_recovered.did
                when 'resent' then resent := resent + v_recovered.members;
                when 'refired' then refired := refired + 1;
                when 'failed' then failed := failed + 1;
                when 'reclaimed' then reclaimed := reclaimed + 1;
                when 'asked' then asked := asked + 1;
                else kept := kept + 1;
            end case;
        exception
            when others or query_canceled then
                v_state := sqlstate;
                v_error := sqlerrm;
                if v_state = 'TG090' then
                    raise;
                end if;
                kept := kept + 1;
                errors := errors || jsonb_build_object(v_barrier.name, v_state || ': ' || _error_text(v_error));
                perform _incident_note(
                    'recovery_sweep', null, v_state, format('barrier %s: %s', v_barrier.name, v_error)
                );
                perform _barrier_postpone(v_barrier.name, v_barrier.epoch, p_leader_epoch);
                exit when v_state = '57014';
        end;
    end loop;

    begin
        if v_state is distinct from '57014' then
            select g.retired, has_more or g.is_full into guards, has_more
            from _guards_recover(p_limit, p_leader_epoch) g;
            select * into v_last from recovery_mark m where m.source = 'stranded' order by m.entry desc limit 1;
        end if;
    exception
        when others or query_canceled then
            v_state := sqlstate;
            if v_state = 'TG090' then
                raise;
            end if;
            errors := errors || jsonb_build_object('guards', v_state || ': ' || _error_text(sqlerrm));
            perform _incident_note('recovery_sweep', null, v_state, 'guards: ' || sqlerrm);
    end;

    -- The net below the floors walks over what vacuum has not removed: every five minutes, and last.
    if v_state is distinct from '57014' and (v_now between v_last.at and v_last.at + interval '5 minutes') is not true
    then
        insert into recovery_mark (source, scan_from, at, holders)
        select 'stranded', '-infinity', v_now, '{}' where _leader_check('maintain', p_leader_epoch);
        delete from recovery_mark where ctid = any(array(
            select m.ctid from recovery_mark m
            where m.source = 'stranded' and m.entry = v_last.entry
            for update skip locked
        ));
        begin
            stranded := (select _stranded_replace(1000) where _leader_check('maintain', p_leader_epoch));
        exception
            when others or query_canceled then
                v_state := sqlstate;
                if v_state = 'TG090' then
                    raise;
                end if;
                errors := errors || jsonb_build_object('stranded', v_state || ': ' || _error_text(sqlerrm));
                perform _incident_note('recovery_sweep', null, v_state, 'stranded: ' || sqlerrm);
        end;
    end if;
    perform _leader_check('maintain', p_leader_epoch);
    systemic := errors <> '{}'
        and leases_expired + resent + refired + failed + reclaimed + asked + guards + stranded = 0;
end;
$$;

comment on function tidegate.recovery_sweep(integer, bigint) is
'Get back what was stranded, up to p_limit of a kind: expired leases of channels that nobody claims from; barriers past expires_at, or without an arrival for stall_after; guards left behind by runs that have ended; messages below the floors (every five minutes, expected none). Of a barrier, lost members are first sent again, once, and a callback that failed is fired again. Else a barrier with an expire queue asks there, and waits for barrier_resolve; of any other the run, if it has one that is open, fails, and the barrier is aborted as expired, which its failure queue hears. Barriers of a run that has completed or was stopped are closed. kept: left as they are, being alive, in somebody''s hands, or among the errors, an object with an entry for each row that failed; those come back after 1 to 32 minutes. has_more: call again; systemic: something failed, and nothing was recovered. p_leader_epoch: refuse to write once another leads maintain. Call it in a transaction of its own. Errors: TG010 bad limit, TG030 not READ COMMITTED, TG090 the leader''s epoch is over.';

-- functions/cleanup/_cleanup_part.sql
create or replace function tidegate._cleanup_part(
    p_part text, p_limit integer, p_before timestamptz
) returns integer
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/* Oldest first, and around whatever others hold. */
declare
    v_found integer;
begin
    case p_part
        when 'archive' then
            with old as (
                select a.channel_id, a.settled_at, a.message_id
                from channel c
                cross join lateral (
                    select * from archive n
                    where n.channel_id = c.channel_id and n.settled_at < p_before - c.retention
                    order by n.settled_at
                    limit p_limit
                    for update skip locked
                ) a
                limit p_limit
            ), removed as (
                delete from archive a using old o
                where a.channel_id = o.channel_id and a.settled_at = o.settled_at and a.message_id = o.message_id
                returning a.body_id
            ), freed as (
                delete from body b using removed r where b.body_id = r.body_id
            )
            select count(*) into v_found from removed;
        when 'idempotency_key' then
            delete from idempotency_key where ctid = any(array(
                select k.ctid from idempotency_key k where k.created_at < p_before
                order by k.created_at limit p_limit for update skip locked
            ));
            get diagnostics v_found = row_count;
        when 'guard' then
            delete from guard where ctid = any(array(
                select g.ctid from guard g where g.state = 'done' and g.finished_at < p_before
                order by g.finished_at limit p_limit for update skip locked
            ));
            get diagnostics v_found = row_count;
        when 'dead_letter' then
            with removed as (
                delete from dead_letter where ctid = any(array(
                    select d.ctid from dead_letter d
                    where d.state in ('resolved', 'discarded') and d.resolved_at < p_before
                    order by d.resolved_at limit p_limit for update skip locked
                )) returning body_id
            ), freed as (
                delete from body b using removed r where b.body_id = r.body_id
            )
            select count(*) into v_found from removed;
        when 'discard' then
            v_found := dead_letter_discard_matching(
                'Nobody asked for it in time: discarded by cleanup_sweep.', p_until => p_before, p_limit => p_limit
            );
        when 'tally' then
            -- Whoever reads the sums meanwhile sees the rows before or after it, never both or neither.
            with folded as (
                delete from tally where ctid = any(array(
                    select t.ctid from tally t limit p_limit for update skip locked
                )) returning *
            ), kept as (
                insert into tally (channel_id, outcome, amount)
                select f.channel_id, f.outcome, sum(f.amount) from folded f group by f.channel_id, f.outcome
            )
            select count(*) into v_found from folded;
        when 'counter_delta' then
            v_found := _counter_fold(p_limit);
        when 'counter' then
            -- A counter that is not there says 0 too.
            delete from counter where ctid = any(array(
                select c.ctid from counter c where c.value = 0 and c.written_at < p_before
                limit p_limit for update skip locked
            ));
            get diagnostics v_found = row_count;
        when 'stranded' then
            v_found := _stranded_replace(p_limit);
        when 'incident' then
            delete from incident where ctid = any(array(
                select i.ctid from incident i where i.at < p_before
                order by i.incident_id limit p_limit for update skip locked
            ));
            get diagnostics v_found = row_count;
        when 'group_turn' then
            -- Of groups that have been still: behind a hidden dead row, the next one looks a little longer.
            delete from group_turn where ctid = any(array(
                select t.ctid from group_turn t
                where t.message_id is null and t.taken_at < p_before
                limit p_limit for update skip locked
            ));
            get diagnostics v_found = row_count;
        when 'cancel_request' then
            -- No lease lives longer than max_runtime, so whatever was to be stopped has ended.
            delete from cancel_request where ctid = any(array(
                select r.ctid from cancel_request r
                left join channel c on c.channel_id = r.channel_id
                where r.requested_at < p_before - coalesce(c.max_runtime, '0')
                limit p_limit for update of r skip locked
            ));
            get diagnostics v_found = row_count;
        when 'tide' then
            -- Rows that overlapping ticks left behind; the ordinary ones are removed by the tick itself.
            delete from tide where ctid = any(array(
                select t.ctid from tide t where t.tide_id < (select max(n.tide_id) from tide n) - 128
                limit p_limit for update skip locked
            ));
            get diagnostics v_found = row_count;
        when 'floor' then
            delete from floor where ctid = any(array(
                select f.ctid from floor f
                where f.floor_id < (
                    select n.floor_id from floor n where n.channel_id = f.channel_id order by n.floor_id desc limit 1
                )
                limit p_limit for update skip locked
            ));
            get diagnostics v_found = row_count;
        when 'maintenance_run' then
            delete from maintenance_run where ctid = any(array(
                select r.ctid from maintenance_run r
                where r.entry < (
                    select n.entry from maintenance_run n where n.job = r.job order by n.entry desc limit 1
                )
                limit p_limit for update skip locked
            ));
            get diagnostics v_found = row_count;
        when 'barrier' then
            v_found := _barrier_trim(p_limit, p_before);
        when 'run' then
            v_found := _run_trim(p_limit, p_before);
    end case;
    return v_found;
end;
$$;

comment on function tidegate._cleanup_part(text, integer, timestamptz) is
'One part of a cleanup: up to p_limit rows from before an instant. Returns how many; 0 when there are none.';

-- functions/cleanup/cleanup_sweep.sql
create or replace function tidegate.cleanup_sweep(
    p_limit integer default 1000,
    p_key_retention interval default '24 hours',
    p_guard_retention interval default '7 days',
    p_dead_letter_retention interval default '30 days',
    p_counter_retention interval default '30 days',
    p_incident_retention interval default '7 days',
    p_discard_dead_after interval default null,
    p_barrier_retention interval default '7 days',
    p_run_retention interval default '30 days',
    out archived_removed integer,
    out keys_removed integer,
    out guards_removed integer,
    out dead_letters_removed integer,
    out dead_letters_discarded integer,
    out tallies_folded integer,
    out counters_folded integer,
    out counters_removed integer,
    out stranded_replaced integer,
    out incidents_removed integer,
    out barriers_removed integer,
    out runs_removed integer,
    out others_removed integer,
    out has_more boolean,
    out errors jsonb
)
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
/*
 * Bounded, and only of what nobody needs: dead letters go when they were resolved or discarded, and nobody discards
 * them here unless told to. Rows that others hold are skipped.
 *
 * Each part is a subtransaction: one that fails is noted, and the others go on. When time runs out the pass ends with
 * what is done; as each pass begins with another part, none waits for ever.
 */
declare
    v_now constant timestamptz := clock_now();
    v_argument record;
    v_part record;
    v_found integer;
    v_counts jsonb := '{}';
    v_failing text[] := array(
        select distinct on (r.job) case when r.failure_count > 0 then r.job end
        from maintenance_run r
        where r.job like 'cleanup.%'
        order by r.job, r.entry desc
    );
begin
    -- The fold would write over a counter that was set meanwhile.
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('cleanup_sweep');
    end if;
    if p_limit is null or p_limit not between 1 and 100000 then
        perform _bad_argument('p_limit', p_limit::text, 'Clean up between 1 and 100000 rows of a kind at a time.');
    end if;
    for v_argument in
        select a.name, a.value from (values
            ('p_key_retention', p_key_retention), ('p_guard_retention', p_guard_retention),
            ('p_dead_letter_retention', p_dead_letter_retention), ('p_counter_retention', p_counter_retention),
            ('p_incident_retention', p_incident_retention), ('p_barrier_retention', p_barrier_retention),
            ('p_run_retention', p_run_retention),
            ('p_discard_dead_after', coalesce(p_discard_dead_after, '1 day'))
        ) as a (name, value)
        where _is_duration(a.value) is not true
    loop
        perform _bad_argument(
            v_argument.name, v_argument.value::text, 'A retention is a positive interval, at most 100 years.'
        );
    end loop;

    has_more := false;
    errors := '{}';
    for v_part in
        select p.name, p.bound, v_now - p.retention as before
        from (values
            (1, 'archive', p_limit, interval '0'),
            (2, 'idempotency_key', p_limit, p_key_retention),
            (3, 'guard', p_limit, p_guard_retention),
            (4, 'dead_letter', p_limit, p_dead_letter_retention),
            (5, 'discard', case when p_discard_dead_after is null then 0 else p_limit end, p_discard_dead_after),
            (6, 'tally', p_limit * 10, interval '0'),
            (7, 'counter_delta', p_limit * 10, interval '0'),
            (8, 'counter', p_limit, p_counter_retention),
            (9, 'stranded', p_limit, interval '0'),
            (10, 'incident', p_limit, p_incident_retention),
            (11, 'group_turn', p_limit, interval '1 hour'),
            (12, 'cancel_request', p_limit, interval '1 hour'),
            (13, 'tide', p_limit, interval '0'),
            (14, 'floor', p_limit, interval '0'),
            (15, 'maintenance_run', p_limit, interval '0'),
            (16, 'barrier', p_limit, p_barrier_retention),
            (17, 'run', p_limit, p_run_retention)
        ) as p (number, name, bound, retention)
        cross join (select floor(random() * 17)::integer as first) f
        where p.bound > 0
        order by (p.number + f.first) % 17
    loop
        begin
            v_found := _cleanup_part(v_part.name, v_part.bound, v_part.before);
            v_counts := v_counts || jsonb_build_object(v_part.name, v_found);
            has_more := has_more or v_found >= v_part.bound;
            if 'cleanup.' || v_part.name = any(v_failing) then
                perform _maintenance_note('cleanup.' || v_part.name, null);
            end if;
        exception
            when others or query_canceled then
                errors := errors || jsonb_build_object(v_part.name, sqlstate || ': ' || _error_text(sqlerrm));
                perform _incident_note('cleanup_sweep', null, sqlstate, v_part.name || ': ' || sqlerrm);
                perform _maintenance_note('cleanup.' || v_part.name, sqlstate || ': ' || sqlerrm);
                exit when sqlstate = '57014';
        end;
    end loop;

    archived_removed := coalesce((v_counts ->> 'archive')::integer, 0);
    keys_removed := coalesce((v_counts ->> 'idempotency_key')::integer, 0);
    guards_removed := coalesce((v_counts ->> 'guard')::integer, 0);
    dead_letters_removed := coalesce((v_counts ->> 'dead_letter')::integer, 0);
    dead_letters_discarded := coalesce((v_counts ->> 'discard')::integer, 0);
    tallies_folded := coalesce((v_counts ->> 'tally')::integer, 0);
    counters_folded := coalesce((v_counts ->> 'counter_delta')::integer, 0);
    counters_removed := coalesce((v_counts ->> 'counter')::integer, 0);
    stranded_replaced := coalesce((v_counts ->> 'stranded')::integer, 0);
    incidents_removed := coalesce((v_counts ->> 'incident')::integer, 0);
    barriers_removed := coalesce((v_counts ->> 'barrier')::integer, 0);
    runs_removed := coalesce((v_counts ->> 'run')::integer, 0);
    others_removed := (
        select coalesce(sum(c.value::integer), 0)
        from jsonb_each_text(v_counts) c
        where c.key in ('group_turn', 'cancel_request', 'tide', 'floor', 'maintenance_run')
    );
end;
$$;

comment on function tidegate.cleanup_sweep(
    integer, interval, interval, interval, interval, interval, interval, interval, interval
) is
'Remove what has outlived its retention, up to p_limit rows a kind, fold counters, and look for messages stranded below the floors (expected none). Archived messages go by their channel''s retention; idempotency keys, tombstones of guards, dead letters that were resolved or discarded, counters that say 0, incidents, barriers that are closed, and runs that have ended and of which nothing is left by the arguments. Dead letters that nobody has dealt with stay, unless p_discard_dead_after says after how long they are to be discarded. Returns what was removed, barriers with all rows of their former epochs; has_more: call again. errors: what failed, by part, while the others went on; {} when all succeeded. Errors: TG010 a limit or retention that is not positive, TG030 not READ COMMITTED.';

-- functions/maintenance/_maintenance_jobs.sql
create or replace function tidegate._maintenance_jobs(
    out job text, out routine text, out every interval, out is_led boolean, out statement text
) returns setof record
language sql immutable parallel safe rows 10
begin atomic
select j.*
from (values
    (
        'tick', 'maintenance_tick', interval '1 second', false,
        'select t.has_more as again, t.first_error as error, t.ticked = 0 as systemic, to_jsonb(t) as result '
        'from %I.maintenance_tick(%s) t'
    ),
    (
        'recovery', 'recovery_sweep', interval '5 seconds', true,
        'select s.has_more as again, nullif(s.errors::text, ''{}'') as error, s.systemic, to_jsonb(s) as result '
        'from %I.recovery_sweep(%s) s'
    ),
    (
        'runs', 'run_sweep', interval '5 seconds', false,
        'select r.failed + r.passed + r.put_off >= 100 and r.failed + r.passed > 0 as again, r.first_error as error, '
        'r.failed + r.passed = 0 as systemic, to_jsonb(r) as result from %I.run_sweep(%s) r'
    ),
    (
        'counters', 'counter_reconcile', interval '2 minutes', false,
        'select false as again, '
        'string_agg(c.key || '' kept: see incident'', ''; '') filter (where c.outcome = ''kept'') as error, '
        'coalesce(bool_and(c.outcome = ''kept''), false) as systemic, '
        'jsonb_build_object(''counters'', count(*), ''skew'', coalesce(sum(c.skew), 0)) as result '
        'from %I.counter_reconcile(%s) c'
    ),
    (
        'cleanup', 'cleanup_sweep', interval '5 minutes', false,
        'select c.has_more as again, nullif(c.errors::text, ''{}'') as error, false as systemic, '
        'to_jsonb(c) as result from %I.cleanup_sweep(%s) c'
    ),
    (
        'metrics', 'metrics_snapshot', interval '1 minute', false,
        'select false as again, nullif(m.errors::text, ''{}'') as error, m.samples = 0 as systemic, '
        'to_jsonb(m) as result from %I.metrics_snapshot(%s) m'
    )
) as j (job, routine, every, is_led, statement);
end;

comment on function tidegate._maintenance_jobs() is
'What an installation needs done, how often, and by what statement, with holes for schema and arguments. is_led: takes the epoch of a leader.';

-- functions/maintenance/maintenance_due.sql
create or replace function tidegate.maintenance_due(
    p_leader_epoch bigint default null
) returns setof tidegate.maintenance_job
language plpgsql volatile rows 10
security definer
set search_path = tidegate, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * Statements differ in what they report: each is written so that it answers again, error, systemic, result. A job
 * without its function is left out.
 */
declare
    v_now constant timestamptz := clock_now();
begin
    return query
    select
        j.job,
        format(j.statement, current_schema, concat_ws(
            ', ',
            case when j.is_led then format('p_leader_epoch => %L', p_leader_epoch) end,
            (
                select string_agg(format('%I => %L', a.key, a.value), ', ' order by a.key)
                from jsonb_each_text(s.arguments) a
            )
        )),
        coalesce(s.every, j.every),
        j.is_led,
        case when s.is_paused then null else coalesce(r.due_at, v_now) - v_now end,
        case when s.is_paused then null else coalesce(r.due_at, v_now) end,
        r.started_at,
        r.succeeded_at,
        coalesce(r.failure_count, 0),
        r.last_error
    from _maintenance_jobs() j
    left join maintenance_setting s on s.job = j.job
    left join lateral (
        select * from maintenance_run n where n.job = j.job order by n.entry desc limit 1
    ) r on true
    where to_regproc(format('%I.%I', current_schema, j.routine)) is not null
    order by 6, 3;
end;
$$;

comment on function tidegate.maintenance_due(bigint) is
'Every job of the upkeep, what is due first on top: what to call, how often, when next, and how it went; paused ones last. Whoever runs one: maintenance_start, the statement in a transaction of its own, maintenance_finish. With the epoch of a leader, statements that write for it are refused once another leads.';

-- functions/maintenance/maintenance_configure.sql
create or replace function tidegate.maintenance_configure(
    p_job text, p_every interval default null, p_arguments jsonb default null, p_paused boolean default null
) returns void
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_job record;
    v_argument record;
begin
    select * into v_job from _maintenance_jobs() j where j.job = p_job;
    if not found then
        perform _bad_argument(
            'p_job', p_job,
            'Jobs are ' || (select string_agg(j.job, ', ' order by j.job) from _maintenance_jobs() j) || '.'
        );
    end if;
    if (p_every between '100 milliseconds' and '1 year') is false then
        perform _bad_argument(
            'p_every', p_every::text, 'Give 100 milliseconds to a year; p_paused => true switches a job off.'
        );
    end if;
    if jsonb_typeof(p_arguments) <> 'object' then
        perform _bad_argument(
            'p_arguments', left(p_arguments::text, 100), 'Give arguments of the function by name: {"p_limit": 5000}.'
        );
    end if;
    for v_argument in
        select a.key, a.value, format_type(p.proargtypes[n.position - 1], null) as type, p.names
        from jsonb_each_text(p_arguments) a
        left join (
            select f.proargtypes, f.proargnames, f.proargnames[:f.pronargs] as names
            from pg_proc f
            where f.oid = to_regproc(format('%I.%I', current_schema, v_job.routine))
        ) p on true
        left join lateral (
            select array_position(p.names, a.key) as position where a.key <> 'p_leader_epoch'
        ) n on true
    loop
        if v_argument.type is null then
            perform _bad_argument(
                'p_arguments', v_argument.key,
                format(
                    '%s takes %s.', v_job.routine,
                    array_to_string(array_remove(v_argument.names, 'p_leader_epoch'), ', ')
                )
            );
        end if;
        begin
            execute format('select %L::%s', v_argument.value, v_argument.type);
        exception
            when data_exception then
                perform _bad_argument(
                    'p_arguments', v_argument.key || ': ' || left(v_argument.value, 100),
                    format('It is of type %s.', v_argument.type)
                );
        end;
    end loop;

    insert into maintenance_setting as s (job, every, arguments, is_paused)
    values (p_job, p_every, coalesce(p_arguments, '{}'), coalesce(p_paused, false))
    on conflict (job) do update
    set every = coalesce(p_every, s.every),
        arguments = coalesce(p_arguments, s.arguments),
        is_paused = coalesce(p_paused, s.is_paused);
end;
$$;

comment on function tidegate.maintenance_configure(text, interval, jsonb, boolean) is
'Say how often a job of the upkeep runs, with which arguments, or that it is not to run at all. Null leaves things as they are; arguments replace all that were given before. Errors: TG010 no such job or argument, or a value that is none.';

-- functions/maintenance/maintenance_start.sql
create or replace function tidegate.maintenance_start(p_job text) returns boolean
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * Its next time is written before it runs, so that one that takes its maintainer down is not run by all the others in
 * turn. Correctness does not rest on this: two runs at once share the work by row locks.
 */
declare
    v_now timestamptz;
    v_job maintenance_job;
    v_last maintenance_run;
begin
    select * into v_job from maintenance_due() d where d.job = p_job;
    if not found then
        perform _bad_argument(
            'p_job', p_job,
            'Jobs are ' || (select string_agg(d.job, ', ' order by d.job) from maintenance_due() d) || '.'
        );
    end if;
    if v_job.due_in is null
        or not pg_try_advisory_xact_lock(hashtextextended(p_job, 'maintenance_run'::regclass::oid::bigint))
    then
        return false;
    end if;
    -- Under the lock, in a new snapshot.
    select * into v_last from maintenance_run r where r.job = p_job order by r.entry desc limit 1;
    v_now := clock_now();
    -- A clock set back must not silence it: no job is due later than its longest backoff from now.
    if v_last.due_at > v_now and v_last.due_at <= v_now + v_job.every * 33 then
        return false;
    end if;
    insert into maintenance_run (job, due_at, started_at, succeeded_at, failed_at, failure_count, last_error)
    values (
        p_job, v_now + v_job.every, v_now, v_last.succeeded_at, v_last.failed_at, coalesce(v_last.failure_count, 0),
        v_last.last_error
    );
    delete from maintenance_run where ctid = any(array(
        select r.ctid from maintenance_run r where r.job = p_job and r.entry = v_last.entry for update skip locked
    ));
    return true;
end;
$$;

comment on function tidegate.maintenance_start(text) is
'Take a job of the upkeep that is due, until its next time. Commit before running it. False: it is not due, or paused, or somebody else has just taken it. Errors: TG010 no such job.';

-- functions/maintenance/maintenance_finish.sql
create or replace function tidegate.maintenance_finish(
    p_job text, p_error text default null, p_again boolean default false, p_systemic boolean default true
) returns interval
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_now constant timestamptz := clock_now();
    v_job maintenance_job;
    v_due_at timestamptz;
begin
    select * into v_job from maintenance_due() d where d.job = p_job;
    if not found then
        perform _bad_argument(
            'p_job', p_job,
            'Jobs are ' || (select string_agg(d.job, ', ' order by d.job) from maintenance_due() d) || '.'
        );
    end if;
    if p_error is not null and p_systemic then
        v_due_at := v_now + v_job.every * power(2, least(v_job.failure_count + 1, 5));
    elsif p_again then
        v_due_at := v_now;
    else
        v_due_at := greatest(v_now, coalesce(v_job.started_at, v_now) + v_job.every);
    end if;
    perform _maintenance_note(p_job, p_error, v_due_at);
    return v_due_at - v_now;
end;
$$;

comment on function tidegate.maintenance_finish(text, text, boolean, boolean) is
'Say how a job of the upkeep ended: an error, or null for success; p_again when there is more to do at once. After the n-th failure in a row it is due after its interval times 2^min(n, 5), but at its usual time where the error was of a part and the rest went on (p_systemic => false). Returns in how long it is due. Errors: TG010 no such job.';

-- functions/maintenance/maintenance_tick.sql
create or replace function tidegate.maintenance_tick(
    p_limit integer default 100,
    out ticked integer,
    out failed integer,
    out has_more boolean,
    out first_error text
)
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * Claims tick where there are claims. Here it is the turn of the others: where a deadline has passed, or the last tick
 * had more to do, and once a minute wherever something was drawn, so that no floor falls far behind. What is idle is
 * only looked at.
 *
 * What a tick moves is unseen until this commits, and its locks stand as long: it ends after half a second.
 */
declare
    v_started constant timestamptz := clock_timestamp();
    v_now constant timestamptz := clock_now();
    v_drawn constant bigint := coalesce(pg_sequence_last_value('position_seq'), 0);
    v_channel record;
    v_ticked integer[] := '{}';
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('maintenance_tick');
    end if;
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'Tick between 1 and 10000 channels at a time.');
    end if;
    ticked := 0;
    failed := 0;
    has_more := false;
    for v_channel in
        select c.channel_id, c.kind, c.name
        from channel c
        cross join lateral (
            select * from floor n where n.channel_id = c.channel_id order by n.floor_id desc limit 1
        ) f
        where v_now not between f.ticked_at and f.tick_at
            and (
                v_now < f.ticked_at
                or f.has_more
                or (v_now > f.ticked_at + interval '1 minute' and (f.position <> v_drawn or not f.is_quiet))
                or exists (
                    select from scheduled s
                    where s.channel_id = c.channel_id
                        and s.due_at >= f.scheduled_from - interval '1 minute' and s.due_at <= v_now
                )
                or exists (
                    select from lease l
                    where l.channel_id = c.channel_id
                        and l.expires_at >= f.lease_from - interval '1 minute' and l.expires_at <= v_now
                )
            )
        order by f.tick_at
        limit p_limit + 1
    loop
        if ticked + failed = p_limit or clock_timestamp() > v_started + interval '500 ms' then
            has_more := true;
            exit;
        end if;
        begin
            perform _tick(v_channel.channel_id);
            ticked := ticked + 1;
            v_ticked := v_ticked || v_channel.channel_id;
        exception
            when others or query_canceled then
                failed := failed + 1;
                first_error := coalesce(first_error, format('%s %s: %s', v_channel.kind, v_channel.name, sqlerrm));
                perform _incident_note('maintenance_tick', v_channel.channel_id, sqlstate, sqlerrm);
                exit when sqlstate = '57014';
        end;
    end loop;
    -- A tick goes on from most errors by itself, and notes them.
    if ticked > 0 then
        first_error := coalesce(first_error, (
            select format('%s: %s', i.routine, i.message)
            from (select * from incident n order by n.incident_id desc limit 50) i
            where i.channel_id = any(v_ticked) and i.at >= v_now
            order by i.incident_id
            limit 1
        ));
    end if;
end;
$$;

comment on function tidegate.maintenance_tick(integer) is
'Turn the machine for channels that nobody claims from: due messages to ready, expired leases taken back. Up to p_limit channels, whichever has waited longest first. Returns how many; has_more: call again; first_error: what went wrong in one of them, while the others went on. Call it in a transaction of its own. Errors: TG010 bad limit, TG030 not READ COMMITTED.';

-- functions/metrics/_metric_list.sql
create or replace function tidegate._metric_list(out name text, out type text, out help text) returns setof record
language sql immutable parallel safe rows 50
begin atomic
select m.*
from (values
    (
        'tidegate_messages_total', 'counter',
        'Outcomes of messages since the channel was made, exact: each was counted in the transaction of its effect.'
    ),
    ('tidegate_dead_lettered_total', 'counter', 'Messages that became dead letters, by reason; exact.'),
    ('tidegate_stranded_total', 'counter', 'Messages found below a floor and put back. Expected 0 for ever.'),
    (
        'tidegate_leases_recovered_total', 'counter',
        'Expired leases taken back: charged (a message alone), halved (of several) or spared (an outage); exact.'
    ),
    (
        'tidegate_recovered_total', 'counter',
        'Members resent; barriers refired, failed, reclaimed or asked about; orphaned guards: by recovery; exact.'
    ),
    ('tidegate_errors_total', 'counter', 'Errors that a tick or a sweep met and went on from; exact.'),
    ('tidegate_positions_total', 'counter', 'Positions drawn: one an entry into ready or blocked, retries included.'),
    ('tidegate_info', 'gauge', 'Always 1; version is that of the installed routines.'),
    ('tidegate_schema_version', 'gauge', 'Number of the newest migration.'),
    ('tidegate_standby', 'gauge', '1 on a standby, which exports neither counters nor gauges of queues.'),
    (
        'tidegate_snapshot_age_seconds', 'gauge',
        'Age of the snapshot that the gauges of channels and tables come from.'
    ),
    ('tidegate_snapshot_duration_seconds', 'gauge', 'How long that snapshot took.'),
    ('tidegate_snapshot_failed_probes', 'gauge', 'Probes of that snapshot that failed: their samples are absent.'),
    (
        'tidegate_snapshot_estimates', 'gauge',
        'Values of that snapshot that are estimates, as more was there than is counted.'
    ),
    ('tidegate_upkeep_interval_seconds', 'gauge', 'How often a job of the upkeep is to run; absent when it is paused.'),
    (
        'tidegate_upkeep_failures', 'gauge',
        'Failures in a row of a job of the upkeep, or of a part of a cleanup; 0 after a success.'
    ),
    ('tidegate_upkeep_last_start_timestamp_seconds', 'gauge', 'When a job of the upkeep last began; absent if never.'),
    (
        'tidegate_upkeep_last_success_timestamp_seconds', 'gauge',
        'When a job of the upkeep last succeeded; absent if never.'
    ),
    ('tidegate_leaders', 'gauge', 'Leaderships: held, expired (nobody has taken over) or resigned.'),
    ('tidegate_leader_epoch', 'gauge', 'How often the leadership of the upkeep was taken over; 0 = never held.'),
    (
        'tidegate_depth', 'gauge',
        'Messages in a place: ready, scheduled, blocked, leased. Exact up to 100000 a place, above that an estimate.'
    ),
    ('tidegate_due', 'gauge', 'Scheduled messages that are due and not ready yet; at most 100001.'),
    ('tidegate_expired', 'gauge', 'Messages in leases that have expired and were not taken back yet.'),
    ('tidegate_leases', 'gauge', 'Leases that are out.'),
    (
        'tidegate_oldest_ready_seconds', 'gauge',
        'How long the longest waiting message has been ready, at least: to the interval of snapshots. 0 = none waits.'
    ),
    (
        'tidegate_oldest_due_seconds', 'gauge',
        'For how long the longest due scheduled message has been due; 0 = none is.'
    ),
    ('tidegate_oldest_expired_seconds', 'gauge', 'For how long the longest expired lease has been; 0 = none is.'),
    ('tidegate_paused', 'gauge', '1 when the channel is paused.'),
    (
        'tidegate_dead_letters', 'gauge',
        'Dead letters that nobody has dealt with; at most 100001 a channel and reason.'
    ),
    (
        'tidegate_dead_letter_oldest_seconds', 'gauge',
        'Age of the oldest dead letter that nobody has dealt with; 0 = none.'
    ),
    ('tidegate_barriers_open', 'gauge', 'Barriers that are open; at most 100001.'),
    (
        'tidegate_barriers_stalled', 'gauge',
        'Open barriers beyond their expiry, or without progress for too long; at most 1001.'
    ),
    ('tidegate_barriers_fire_failed', 'gauge', 'Barriers whose callback could not enter its queue; at most 100001.'),
    ('tidegate_guards', 'gauge', 'Guards: held, expired (held beyond their lease), done. An estimate above 100000.'),
    ('tidegate_incidents', 'gauge', 'Errors of the last ten minutes that a tick or a sweep met and went on from.'),
    ('tidegate_table_rows', 'gauge', 'Live rows of a table, as the statistics estimate them.'),
    ('tidegate_table_dead_rows', 'gauge', 'Dead rows of a table that vacuum has not removed yet, as estimated.'),
    ('tidegate_table_bytes', 'gauge', 'Size of a table with its indexes.'),
    (
        'tidegate_horizon_seconds', 'gauge',
        'Age of the oldest transaction in this database that keeps vacuum from removing rows.'
    ),
    (
        'tidegate_horizon_transactions', 'gauge',
        'How many transactions back vacuum is held, by session, prepared, slot or feedback.'
    )
) as m (name, type, help);
end;

comment on function tidegate._metric_list() is 'Every metric that there can be, its type, and what it means.';

-- functions/metrics/_ready_wait.sql
create or replace function tidegate._ready_wait(p_channel_id integer) returns interval
language plpgsql volatile
set search_path = tidegate, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * A message does not say since when it is ready: it may have been put for next week. Its position does: it was drawn
 * before any mark at or above it. One probe a priority, from the floor, so that what is dead is not visited.
 */
declare
    v_now constant timestamptz := clock_now();
    v_head record;
    v_at timestamptz;
begin
    select h.position, h.enqueued_at into v_head
    from (select f.floors from floor f where f.channel_id = p_channel_id order by f.floor_id desc limit 1) f
    cross join unnest(_priorities(p_channel_id)) p (priority)
    cross join lateral (
        select r.position, r.enqueued_at from ready r
        where r.channel_id = p_channel_id and r.priority = p.priority and r.position > f.floors[p.priority + 1]
        order by r.position
        limit 1
    ) h
    order by h.position
    limit 1;
    if not found then
        return null;
    end if;
    select m.at into v_at from position_mark m where m.position >= v_head.position order by m.position, m.at limit 1;
    if found then
        return greatest(v_now - v_at, '0');
    end if;
    -- Drawn since the last snapshot. Where nobody takes snapshots, that may be long ago: it waits no longer than this.
    select s.taken_at into v_at from metric_snapshot s order by s.snapshot_id desc limit 1;
    if v_at > v_now - interval '2 minutes' then
        return '0';
    end if;
    return greatest(v_now - greatest(v_at, v_head.enqueued_at), '0');
end;
$$;

comment on function tidegate._ready_wait(integer) is
'How long the longest waiting message of a channel has been ready, at least, to the interval of snapshots; without recent snapshots at most. Null when none is ready.';

-- functions/metrics/_place_estimate.sql
create or replace function tidegate._place_estimate(p_place text) returns jsonb
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/* Live rows in a thousand pages at random, whatever the table has, scaled up: statistics may be old. */
declare
    v_share constant double precision := least(
        100, 100.0 * 1000 * current_setting('block_size')::integer / greatest(pg_relation_size(p_place::regclass), 1)
    );
    v_found jsonb;
begin
    case p_place
        when 'ready' then
            select jsonb_object_agg(n.channel_id, round(n.rows * 100 / v_share)) into v_found
            from (
                select r.channel_id, count(*) as rows
                    from ready r tablesample system (v_share) group by r.channel_id
            ) n;
        when 'scheduled' then
            select jsonb_object_agg(n.channel_id, round(n.rows * 100 / v_share)) into v_found
            from (
                select r.channel_id, count(*) as rows
                    from scheduled r tablesample system (v_share) group by r.channel_id
            ) n;
        when 'blocked' then
            select jsonb_object_agg(n.channel_id, round(n.rows * 100 / v_share)) into v_found
            from (
                select r.channel_id, count(*) as rows
                    from blocked r tablesample system (v_share) group by r.channel_id
            ) n;
    end case;
    return coalesce(v_found, '{}');
end;
$$;

comment on function tidegate._place_estimate(text) is
'About how many messages of each channel stand in a place, by channel_id, from a sample of at most a thousand pages; {} when none was met.';

-- functions/metrics/_metrics_probe.sql
create or replace function tidegate._metrics_probe(
    p_probe text, p_limit integer, p_until timestamptz, out name text, out labels jsonb, out value double precision
) returns setof record
language plpgsql volatile rows 100
set search_path = tidegate, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * No more is counted than p_limit rows of a place, and from p_until on nothing: the rest is read from samples. Searches
 * begin at the floors and marks of the last tick, so that what is dead is not visited. Names and labels are constants.
 */
declare
    v_now constant timestamptz := clock_now();
    v_channel record;
    v_lease record;
    v_due record;
    v_count bigint;
    v_estimates jsonb := '{}';
    v_estimated integer := 0;
begin
    case p_probe
        when 'channel' then
            for v_channel in
                select c.channel_id, c.is_paused, f.floors, f.scheduled_from, f.lease_from,
                    jsonb_build_object('kind', c.kind, 'channel', c.name) as labels
                from channel c
                cross join lateral (
                    select * from floor n where n.channel_id = c.channel_id order by n.floor_id desc limit 1
                ) f
                order by c.channel_id
            loop
                v_count := null;
                if clock_timestamp() < p_until then
                    select count(*) into v_count
                    from (
                        select from unnest(_priorities(v_channel.channel_id)) p (priority)
                        cross join lateral (
                            select from ready r
                            where r.channel_id = v_channel.channel_id and r.priority = p.priority
                                and r.position > v_channel.floors[p.priority + 1]
                        ) r
                        limit p_limit + 1
                    ) n;
                end if;
                if v_count is null or v_count > p_limit then
                    if not v_estimates ? 'ready' then
                        v_estimates := v_estimates || jsonb_build_object('ready', _place_estimate('ready'));
                    end if;
                    v_count := greatest(
                        v_count, (v_estimates -> 'ready' ->> v_channel.channel_id::text)::bigint
                    );
                    v_estimated := v_estimated + 1;
                end if;
                -- Neither counted nor met in the sample: absent.
                if v_count is not null then
                    return query
                    select 'tidegate_depth', v_channel.labels || '{"place": "ready"}', v_count::double precision;
                end if;
                v_count := null;
                if clock_timestamp() < p_until then
                    select count(*) into v_count
                    from (
                        select from scheduled s
                        where s.channel_id = v_channel.channel_id
                            and s.due_at >= v_channel.scheduled_from - interval '1 minute'
                        limit p_limit + 1
                    ) n;
                end if;
                if v_count is null or v_count > p_limit then
                    if not v_estimates ? 'scheduled' then
                        v_estimates := v_estimates || jsonb_build_object('scheduled', _place_estimate('scheduled'));
                    end if;
                    v_count := greatest(
                        v_count, (v_estimates -> 'scheduled' ->> v_channel.channel_id::text)::bigint
                    );
                    v_estimated := v_estimated + 1;
                end if;
                -- Neither counted nor met in the sample: absent.
                if v_count is not null then
                    return query
                    select 'tidegate_depth', v_channel.labels || '{"place": "scheduled"}', v_count::double precision;
                end if;
                v_count := null;
                if clock_timestamp() < p_until then
                    select count(*) into v_count
                    from (
                        select from blocked b where b.channel_id = v_channel.channel_id
                        limit p_limit + 1
                    ) n;
                end if;
                if v_count is null or v_count > p_limit then
                    if not v_estimates ? 'blocked' then
                        v_estimates := v_estimates || jsonb_build_object('blocked', _place_estimate('blocked'));
                    end if;
                    v_count := greatest(
                        v_count, (v_estimates -> 'blocked' ->> v_channel.channel_id::text)::bigint
                    );
                    v_estimated := v_estimated + 1;
                end if;
                -- Neither counted nor met in the sample: absent.
                if v_count is not null then
                    return query
                    select 'tidegate_depth', v_channel.labels || '{"place": "blocked"}', v_count::double precision;
                end if;

                select count(*) as leases, sum(l.message_count) as messages,
                    sum(l.message_count) filter (where l.expires_at <= v_now) as expired, min(l.expires_at) as first_at
                into v_lease
                from (
                    select l.message_count, l.expires_at from lease l
                    where l.channel_id = v_channel.channel_id
                        and l.expires_at >= v_channel.lease_from - interval '1 minute'
                    order by l.expires_at
                    limit p_limit + 1
                ) l;
                select count(*) as messages, min(s.due_at) as first_at into v_due
                from (
                    select s.due_at from scheduled s
                    where s.channel_id = v_channel.channel_id
                        and s.due_at >= v_channel.scheduled_from - interval '1 minute' and s.due_at <= v_now
                    order by s.due_at
                    limit p_limit + 1
                ) s;
                return query
                select s.name, v_channel.labels || s.more, s.value
                from (values
                    ('tidegate_depth', '{"place": "leased"}'::jsonb, coalesce(v_lease.messages, 0)::double precision),
                    ('tidegate_leases', '{}', v_lease.leases),
                    ('tidegate_expired', '{}', coalesce(v_lease.expired, 0)),
                    (
                        'tidegate_oldest_expired_seconds', '{}',
                        coalesce(greatest(extract(epoch from v_now - v_lease.first_at), 0), 0)
                    ),
                    ('tidegate_due', '{}', v_due.messages),
                    ('tidegate_oldest_due_seconds', '{}', coalesce(extract(epoch from v_now - v_due.first_at), 0)),
                    (
                        'tidegate_oldest_ready_seconds', '{}',
                        coalesce(extract(epoch from _ready_wait(v_channel.channel_id)), 0)
                    ),
                    ('tidegate_paused', '{}', v_channel.is_paused::integer)
                ) as s (name, more, value);
            end loop;
            return query select 'tidegate_snapshot_estimates', '{}'::jsonb, v_estimated::double precision;

        when 'dead_letter' then
            -- Their channels may be gone: names are read from the entries too, one probe a name.
            return query
            with recursive named as (
                (select d.channel from dead_letter d order by d.channel limit 1)
                union all
                select (select d.channel from dead_letter d where d.channel > n.channel order by d.channel limit 1)
                from named n
                where n.channel is not null
            ), owner as (
                select n.channel, k.kind
                from named n
                cross join (values ('topic'), ('queue')) as k (kind)
                where n.channel is not null
                union
                select c.name, c.kind from channel c
            ), found as (
                select o.kind, o.channel, r.reason, n.entries, n.oldest_at,
                    exists (select from channel c where c.kind = o.kind and c.name = o.channel) as is_there
                from owner o
                cross join unnest(array['exhausted', 'not_retryable', 'expired', 'malformed', 'unknown_handler', 'cancelled', 'purged']) r (reason)
                cross join lateral (
                    select count(*) as entries, min(d.dead_at) as oldest_at
                    from (
                        select d.dead_at from dead_letter d
                        where d.channel = o.channel and d.state = 'dead' and d.reason = r.reason and d.kind = o.kind
                        order by d.dead_at
                        limit p_limit + 1
                    ) d
                ) n
            )
            select 'tidegate_dead_letters', jsonb_build_object('kind', f.kind, 'channel', f.channel, 'reason',
                f.reason),
                f.entries::double precision
            from found f
            where f.entries > 0
            union all
            select 'tidegate_dead_letter_oldest_seconds', jsonb_build_object('kind', f.kind, 'channel', f.channel),
                coalesce(greatest(extract(epoch from v_now - min(f.oldest_at)), 0), 0)::double precision
            from found f
            group by f.kind, f.channel
            having bool_or(f.is_there) or sum(f.entries) > 0;

        when 'barrier' then
            return query
            select s.name, '{}'::jsonb, s.value::double precision
            from (
                select 'tidegate_barriers_open', count(*)
                from (select from barrier b where b.state = 'open' limit p_limit + 1) n
                union all
                select 'tidegate_barriers_fire_failed', count(*)
                from (select from barrier b where b.state = 'fire_failed' limit p_limit + 1) n
                union all
                select 'tidegate_barriers_stalled', count(*)
                from (
                    select from barrier b
                    where b.state = 'open' and b.look_at <= v_now
                        and (
                            b.expires_at <= v_now
                            or v_now >= b.stall_after + greatest(b.opened_at, b.kept_at, (
                                select max(n.arrived_at) from barrier_slot n where n.epoch = b.epoch
                            ))
                        )
                    limit 1001
                ) n
            ) as s (name, value);

        when 'guard' then
            select count(*) into v_count from (select from guard limit p_limit + 1) n;
            return query
            select 'tidegate_guards', jsonb_build_object('state', s.state), coalesce(n.guards, 0)
            from (values ('held'), ('expired'), ('done')) as s (state)
            left join (
                select case when g.expires_at <= v_now then 'expired' else g.state end as state,
                    round(count(*) * greatest(1, g.pages / 1000.0))::double precision as guards
                from (
                    select t.state, t.expires_at, 1000.0 as pages from guard t where v_count <= p_limit
                    union all
                    select t.state, t.expires_at,
                        greatest(1000.0, pg_relation_size('guard') / current_setting('block_size')::numeric)
                    from guard t tablesample system (least(
                        100,
                        100.0 * 1000 * current_setting('block_size')::integer / greatest(pg_relation_size('guard'), 1)
                    ))
                    where v_count > p_limit
                ) g
                group by 1, g.pages
            ) n on n.state = s.state;

        when 'incident' then
            -- By the key, newest first: the ten minutes are among the last thousand, as each is noted once a minute.
            return query
            select 'tidegate_incidents', jsonb_build_object('routine', r.routine), coalesce(n.incidents,
                0)::double precision
            from unnest(array['_tick', 'maintenance_tick', 'outbox_sweep', 'recovery_sweep', 'run_sweep', 'cleanup_sweep',
'counter_reconcile', '_lease_expire', '_scheduled_promote', '_stranded_replace', '_barrier_close',
'_tide_forget', '_tide_forget_deadlines', 'other']) as r (routine)
            left join (
                select case when i.routine in ('_tick', 'maintenance_tick', 'outbox_sweep', 'recovery_sweep', 'run_sweep', 'cleanup_sweep',
'counter_reconcile', '_lease_expire', '_scheduled_promote', '_stranded_replace', '_barrier_close',
'_tide_forget', '_tide_forget_deadlines') then i.routine else 'other' end as routine,
                    count(*) as incidents
                from (select * from incident i order by i.incident_id desc limit 1000) i
                where i.at > v_now - interval '10 minutes'
                group by 1
            ) n on n.routine = r.routine;

        when 'table' then
            return query
            select s.name, jsonb_build_object('table', t.relname), s.value
            from pg_stat_all_tables t
            cross join lateral (values
                ('tidegate_table_rows', t.n_live_tup::double precision),
                ('tidegate_table_dead_rows', t.n_dead_tup),
                ('tidegate_table_bytes', pg_total_relation_size(t.relid))
            ) as s (name, value)
            where t.schemaname = current_schema and s.value is not null;

        when 'horizon' then
            -- Sessions of others are only seen with the rights of pg_read_all_stats: without them, nothing is said.
            return query
            with holder as (
                select 'session' as kind, greatest(age(a.backend_xmin), age(a.backend_xid)) as transactions,
                    a.xact_start
                from pg_stat_activity a
                where a.datname = current_database() and a.backend_type not in ('autovacuum worker', 'walsender')
                    and a.pid <> pg_backend_pid()
                union all
                select 'feedback', age(a.backend_xmin), null from pg_stat_activity a where a.backend_type = 'walsender'
                union all
                select 'prepared', age(p.transaction), p.prepared
                from pg_prepared_xacts p
                where p.database = current_database()
                union all
                select 'slot', age(s.xmin), null from pg_replication_slots s
            )
            select 'tidegate_horizon_transactions', jsonb_build_object('holder', k.kind),
                coalesce(max(h.transactions), 0)::double precision
            from (values ('session'), ('prepared'), ('slot'), ('feedback')) as k (kind)
            left join holder h on h.kind = k.kind
            where k.kind not in ('session', 'feedback') or pg_has_role(current_user, 'pg_read_all_stats', 'usage')
            group by k.kind
            union all
            select 'tidegate_horizon_seconds', '{}'::jsonb,
                coalesce(greatest(extract(epoch from clock_timestamp() - min(h.xact_start)), 0), 0)::double precision
            from holder h
            where h.transactions is not null
            having pg_has_role(current_user, 'pg_read_all_stats', 'usage');
    end case;
end;
$$;

comment on function tidegate._metrics_probe(text, integer, timestamptz) is
'The samples of one part of a snapshot: channel, dead_letter, barrier, guard, incident, table, horizon.';

-- functions/metrics/metrics_snapshot.sql
create or replace function tidegate.metrics_snapshot(
    p_limit integer default 100000,
    out samples integer,
    out estimates integer,
    out errors jsonb
)
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
set lock_timeout = '500ms'
as $$
/*
 * Each probe is a subtransaction: one that fails leaves its samples out, and the others go on. Counting ends after two
 * seconds, whatever is there; when the caller's statement_timeout strikes, what is done is kept.
 */
declare
    v_started constant timestamptz := clock_timestamp();
    v_now constant timestamptz := clock_now();
    v_position bigint;
    v_probe text;
    v_samples jsonb := '[]';
    v_found jsonb;
    v_id bigint;
begin
    if p_limit is null or p_limit not between 1 and 10000000 then
        perform _bad_argument('p_limit', p_limit::text, 'Count up to between 1 and 10000000 messages of a place.');
    end if;
    errors := '{}';
    -- First the position, then the clock: what stands at or below a mark was drawn before it.
    select last_value - (not is_called)::integer into v_position from position_seq;
    delete from position_mark m where m.position > v_position; -- the sequence was set back
    insert into position_mark (position, at)
    select v_position, clock_now()
    where v_position > coalesce((select max(m.position) from position_mark m), 0)
    on conflict do nothing;

    foreach v_probe in array array['incident', 'horizon', 'table', 'barrier', 'dead_letter', 'guard', 'channel'] loop
        begin
            select jsonb_agg(jsonb_build_object('name', p.name, 'labels', p.labels, 'value', p.value)) into v_found
            from _metrics_probe(v_probe, p_limit, v_started + interval '2 seconds') p
            where p.value is not null;
            v_samples := v_samples || coalesce(v_found, '[]');
        exception
            when others or query_canceled then
                errors := errors || jsonb_build_object(v_probe, sqlstate || ': ' || _error_text(sqlerrm));
                exit when sqlstate = '57014';
        end;
    end loop;

    samples := jsonb_array_length(v_samples);
    estimates := coalesce((
        select s.value::integer from jsonb_to_recordset(v_samples) as s (name text, value double precision)
        where s.name = 'tidegate_snapshot_estimates'
    ), 0);
    insert into metric_snapshot (taken_at, took, failed_probes, samples, totals)
    select
        v_now, clock_timestamp() - v_started, (select count(*) from jsonb_object_keys(errors)), v_samples,
        coalesce(jsonb_object_agg(t.channel_id, t.totals), '{}')
    from (
        select n.channel_id, jsonb_object_agg(n.outcome, n.total) as totals
        from (select y.channel_id, y.outcome, sum(y.amount) as total from tally y group by y.channel_id, y.outcome) n
        group by n.channel_id
    ) t
    returning snapshot_id into v_id;

    delete from metric_snapshot where ctid = any(array(
        select s.ctid from metric_snapshot s
        where s.snapshot_id < v_id and s.taken_at not between v_now - interval '15 minutes' and v_now
        for update skip locked
    ));
    delete from position_mark where ctid = any(array(
        select m.ctid from position_mark m
        where m.at not between v_now - interval '7 days' and clock_now()
        for update skip locked
    ));
end;
$$;

comment on function tidegate.metrics_snapshot(integer) is
'Look at every place once, for metrics() to tell: a job of the upkeep, every minute. Up to p_limit messages of a place are counted, and for two seconds; above that the count is an estimate. Returns how many samples and estimates there are, and errors by probe, whose samples are absent; {} when all succeeded. Errors: TG010 bad limit.';

-- functions/metrics/metrics.sql
create or replace function tidegate.metrics() returns setof tidegate.metric
language plpgsql volatile rows 500
security definer
set search_path = tidegate, pg_temp
as $$
/*
 * A scrape reads no place: counters are sums of tally, which cleanup folds, and gauges are those of the last snapshot.
 * A snapshot of long ago says nothing of now: after ten of its intervals its gauges are absent. Counters of every
 * outcome are there from the beginning, so that the first one is an increase.
 */
declare
    v_now constant timestamptz := clock_now();
    v_installed constant installed := schema_version();
    v_snapshot metric_snapshot;
begin
    return query
    select m.name, m.type, s.labels, s.value::double precision, m.help
    from (values
        ('tidegate_info', jsonb_build_object('version', v_installed.version), 1),
        ('tidegate_schema_version', '{}', v_installed.migration),
        ('tidegate_standby', '{}', pg_is_in_recovery()::integer)
    ) as s (name, labels, value)
    inner join _metric_list() m on m.name = s.name;
    if pg_is_in_recovery() then
        return;
    end if;

    return query
    with total as (
        select y.channel_id, y.outcome, sum(y.amount) as amount from tally y group by y.channel_id, y.outcome
    ), sample as (
        select 'tidegate_messages_total' as name,
            jsonb_build_object('kind', c.kind, 'channel', c.name, 'outcome', o.outcome) as labels,
            coalesce(t.amount, 0)::double precision as value
        from channel c
        cross join unnest(array['acked', 'dispatched', 'retried', 'released', 'expired', 'dead_lettered', 'requeued', 'discarded',
'cancelled', 'purged']) o (outcome)
        left join total t on t.channel_id = c.channel_id and t.outcome = o.outcome
        union all
        select 'tidegate_dead_lettered_total',
            jsonb_build_object('kind', c.kind, 'channel', c.name, 'reason', r.reason), coalesce(t.amount, 0)
        from channel c
        cross join unnest(array['exhausted', 'not_retryable', 'expired', 'malformed', 'unknown_handler', 'cancelled', 'purged']) r (reason)
        left join total t on t.channel_id = c.channel_id and t.outcome = 'dead_letter.' || r.reason
        union all
        select 'tidegate_leases_recovered_total',
            jsonb_build_object('kind', c.kind, 'channel', c.name, 'how', h.how), coalesce(t.amount, 0)
        from channel c
        cross join unnest(array['charged', 'halved', 'spared']) h (how)
        left join total t on t.channel_id = c.channel_id and t.outcome = 'lease.' || h.how
        union all
        select 'tidegate_recovered_total', jsonb_build_object('what', w.what), coalesce(t.amount, 0)
        from unnest(array['resent', 'refired', 'failed', 'reclaimed', 'asked', 'guards']) w (what)
        left join total t on t.channel_id = 0 and t.outcome = 'recovered.' || w.what
        union all
        select 'tidegate_errors_total', jsonb_build_object('routine', r.routine), coalesce(sum(t.amount), 0)
        from unnest(array['_tick', 'maintenance_tick', 'outbox_sweep', 'recovery_sweep', 'run_sweep', 'cleanup_sweep',
'counter_reconcile', '_lease_expire', '_scheduled_promote', '_stranded_replace', '_barrier_close',
'_tide_forget', '_tide_forget_deadlines', 'other']) r (routine)
        left join total t on t.channel_id = 0 and case
            when r.routine = 'other'
                then t.outcome like 'error.%' and substr(t.outcome, 7) not in ('_tick', 'maintenance_tick', 'outbox_sweep', 'recovery_sweep', 'run_sweep', 'cleanup_sweep',
'counter_reconcile', '_lease_expire', '_scheduled_promote', '_stranded_replace', '_barrier_close',
'_tide_forget', '_tide_forget_deadlines')
            else t.outcome = 'error.' || r.routine
        end
        group by r.routine
        union all
        select 'tidegate_stranded_total', '{}', coalesce(sum(t.amount), 0) from total t where t.outcome = 'stranded'
        union all
        select 'tidegate_positions_total', '{}', q.last_value - (not q.is_called)::integer from position_seq q
        union all
        select 'tidegate_leaders', jsonb_build_object('state', s.state),
            (
                select count(*) from leader l
                where s.state = case
                    when l.holder is null then 'resigned' when v_now >= l.expires_at then 'expired' else 'held'
                end
            )
        from (values ('held'), ('expired'), ('resigned')) as s (state)
        union all
        select 'tidegate_leader_epoch', '{}', coalesce(
            (select l.epoch from leader l where l.name = 'maintain'), 0
        )
    )
    select m.name, m.type, s.labels, s.value, m.help from sample s inner join _metric_list() m on m.name = s.name;

    return query
    select m.name, m.type, jsonb_build_object('upkeep', j.job), s.value::double precision, m.help
    from (
        select d.job, d.every, d.due_in is null as is_paused, d.started_at, d.succeeded_at, d.failure_count
        from maintenance_due() d
        union all
        -- Parts of a cleanup that ever failed.
        select r.job, null, false, null, r.succeeded_at, r.failure_count
        from (select distinct on (n.job) n.* from maintenance_run n order by n.job, n.entry desc) r
        where r.job like 'cleanup.%'
    ) j
    cross join lateral (values
        ('tidegate_upkeep_interval_seconds', case when not j.is_paused then extract(epoch from j.every) end),
        ('tidegate_upkeep_failures', j.failure_count),
        ('tidegate_upkeep_last_start_timestamp_seconds', extract(epoch from j.started_at)),
        ('tidegate_upkeep_last_success_timestamp_seconds', extract(epoch from j.succeeded_at))
    ) as s (name, value)
    inner join _metric_list() m on m.name = s.name
    where s.value is not null;

    select * into v_snapshot from metric_snapshot s order by s.snapshot_id desc limit 1;
    if not found then
        return;
    end if;
    return query
    select m.name, m.type, '{}'::jsonb, s.value::double precision, m.help
    from (values
        ('tidegate_snapshot_age_seconds', greatest(extract(epoch from v_now - v_snapshot.taken_at), 0)),
        ('tidegate_snapshot_duration_seconds', extract(epoch from v_snapshot.took)),
        ('tidegate_snapshot_failed_probes', v_snapshot.failed_probes)
    ) as s (name, value)
    inner join _metric_list() m on m.name = s.name;
    if v_now < v_snapshot.taken_at + 10 * (select d.every from maintenance_due() d where d.job = 'metrics') then
        return query
        select m.name, m.type, s.labels, s.value, m.help
        from jsonb_to_recordset(v_snapshot.samples) as s (name text, labels jsonb, value double precision)
        inner join _metric_list() m on m.name = s.name;
    end if;
end;
$$;

comment on function tidegate.metrics() is
'Every sample: counters, exact and never falling; and gauges as metrics_snapshot last found them, absent when a probe failed or the snapshot is ten intervals old. Reads no queue, so it may be scraped every few seconds. A standby tells its version, and nothing of queues.';

-- functions/metrics/_doctor_look.sql
create or replace function tidegate._doctor_look(p_check text) returns setof tidegate.diagnosis
language plpgsql volatile rows 3
set search_path = tidegate, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/* Bounded: a check names the worst few, and looks no further. Nothing here writes: a standby may be asked, too. */
declare
    v_now constant timestamptz := clock_now();
    v_seen text;
    v_count bigint;
    v_status text;
begin
    case p_check
        when 'schema' then
            select string_agg(distinct r.version, ', ' order by r.version), count(distinct r.version)
            into v_seen, v_count
            from routine r;
            return query select p_check, case when v_count = 1 then 'ok' else 'fail' end,
                format('migration %s, routines of release %s', (schema_version()).migration, coalesce(v_seen, 'none')),
                case when v_count <> 1 then 'Run tidegate migrate: routines of several releases, or none, are '
                    'installed.' end;

        when 'incidents' then
            select count(*), max(format('%s: %s', i.routine, left(i.message, 200)))
            into v_count, v_seen
            from (select * from incident n order by n.incident_id desc limit 1000) i
            where i.at > v_now - interval '1 hour';
            return query select p_check, case when v_count = 0 then 'ok' else 'warn' end,
                format('%s in the last hour%s', v_count, ', such as ' || v_seen),
                case when v_count > 0 then 'Read the table incident: a tick or a sweep met these errors and went '
                    'on.' end;

        when 'expired_leases' then
            select count(*), max(format('%s %s: %s', n.kind, n.name, date_trunc('second', v_now - n.expires_at)))
            into v_count, v_seen
            from (
                select c.kind, c.name, l.expires_at
                from channel c
                cross join lateral (
                    select * from floor n where n.channel_id = c.channel_id order by n.floor_id desc limit 1
                ) f
                cross join lateral (
                    select e.expires_at from lease e
                    where e.channel_id = c.channel_id and e.expires_at >= f.lease_from - interval '1 minute'
                        and e.expires_at <= v_now - interval '30 seconds'
                    order by e.expires_at
                    limit 1000
                ) l
                where not (c.is_paused and c.kind = 'topic')
            ) n;
            return query select p_check, case when v_count = 0 then 'ok' else 'fail' end,
                format('%s expired more than 30 seconds ago%s', v_count, ', such as ' || v_seen),
                case when v_count > 0
                    then 'Nobody ticks these channels: run tidegate maintain. If it runs, see the checks upkeep and '
                        'incidents.' end;

        when 'overdue' then
            select string_agg(
                format('%s %s for %s', c.kind, c.name, date_trunc('second', v_now - s.due_at)), '; ' order by s.due_at
            ) into v_seen
            from channel c
            cross join lateral (
                select * from floor n where n.channel_id = c.channel_id order by n.floor_id desc limit 1
            ) f
            cross join lateral (
                select n.due_at from scheduled n
                where n.channel_id = c.channel_id and n.due_at >= f.scheduled_from - interval '1 minute'
                    and n.due_at <= v_now - interval '1 minute'
                order by n.due_at
                limit 1
            ) s;
            return query select p_check, case when v_seen is null then 'ok' else 'fail' end,
                coalesce('scheduled messages are due and not ready: ' || v_seen, 'whatever is due is ready'),
                case when v_seen is not null
                    then 'Nobody ticks these channels: run tidegate maintain. If it runs, see the checks upkeep and '
                        'incidents.' end;

        when 'paused' then
            select string_agg(format('%s %s', c.kind, c.name), ', ' order by c.kind, c.name) into v_seen
            from channel c
            where c.is_paused and _ready_wait(c.channel_id) is not null;
            return query select p_check, case when v_seen is null then 'ok' else 'warn' end,
                coalesce('paused, and messages wait: ' || v_seen, 'nothing waits in a paused channel'),
                case when v_seen is not null then 'queue_resume or topic_resume, when whatever it was is over.' end;

        when 'queues' then
            select string_agg(
                format('%s: ready for %s, and nobody holds a lease', n.name, date_trunc('second', n.waited)), '; '
                order by n.waited desc
            ) into v_seen
            from (
                select c.name, _ready_wait(c.channel_id) as waited
                from channel c
                where c.kind = 'queue' and not c.is_paused
                    and not exists (select from lease l where l.channel_id = c.channel_id)
            ) n
            where n.waited >= interval '1 minute';
            return query select p_check, case when v_seen is null then 'ok' else 'fail' end,
                coalesce(v_seen, 'every queue with work has somebody who works'),
                case when v_seen is not null then 'No worker takes from it: run tidegate work, or queue_work from '
                    'psql.' end;

        when 'topics' then
            select string_agg(
                format(
                    '%s: %s for %s', n.name,
                    case when n.is_routed then 'not swept' else 'no route, and not relayed' end,
                    date_trunc('second', n.waited)
                ), '; ' order by n.waited desc
            ) into v_seen
            from (
                select c.name, c.is_routed, _ready_wait(c.channel_id) as waited
                from channel c
                where c.kind = 'topic' and not c.is_paused
                    and not exists (select from lease l where l.channel_id = c.channel_id)
            ) n
            where n.waited >= interval '1 minute';
            return query select p_check, case when v_seen is null then 'ok' else 'fail' end,
                coalesce(v_seen, 'events of every topic leave it'),
                case when v_seen is not null
                    then 'Not swept: run tidegate sweep --follow. No route: outbox_route, or tidegate relay TOPIC '
                        '--to …' end;

        when 'outcomes' then
            -- What the counters did since the oldest snapshot of the last quarter of an hour.
            return query
            with former as (
                select s.totals, s.taken_at from metric_snapshot s
                where s.taken_at between v_now - interval '15 minutes' and v_now
                order by s.snapshot_id
                limit 1
            ), moved as (
                select c.kind, c.name,
                    sum(t.amount) filter (where t.outcome in ('acked', 'dispatched')) as succeeded,
                    sum(t.amount) filter (where t.outcome in ('retried', 'dead_lettered')) as failed,
                    sum(t.amount) filter (where t.outcome = 'released') as released,
                    min(t.taken_at) as since
                from channel c
                cross join lateral (
                    select y.outcome, f.taken_at,
                        sum(y.amount) - coalesce((f.totals -> c.channel_id::text ->> y.outcome)::bigint, 0) as amount
                    from former f
                    inner join tally y on y.channel_id = c.channel_id
                    group by y.outcome, f.taken_at, f.totals
                ) t
                group by c.kind, c.name
            ), judged as (
                select m.*, case
                    when coalesce(m.succeeded, 0) = 0 and m.failed > 0 then 'fail'
                    when coalesce(m.succeeded, 0) = 0 and m.released > 0 then 'down'
                    when m.failed > 0 then 'warn'
                end as verdict
                from moved m
            )
            select v.name,
                case
                    when count(j.name) = 0 then 'ok'
                    when v.name = 'partial_failure' and bool_and(j.verdict = 'warn') then 'warn'
                    else 'fail'
                end,
                coalesce(
                    string_agg(
                        format(
                            '%s %s: %s succeeded, %s failed, %s released since %s ago', j.kind, j.name,
                            coalesce(j.succeeded, 0), coalesce(j.failed, 0), coalesce(j.released, 0),
                            date_trunc('second', v_now - j.since)
                        ), '; ' order by j.name
                    ) filter (where j.name is not null),
                    case v.name
                        when 'transport' then 'nothing is released again and again'
                        else 'nothing failed of late'
                    end
                ),
                case when count(j.name) > 0 then v.advice end
            from (values
                (
                    'partial_failure', array['fail', 'warn'],
                    'Read the errors: dead_letter_list(p_channel => …), queue_peek(…, p_place => ''scheduled''), or '
                        'the log of the worker.'
                ),
                (
                    'transport', array['down'],
                    'What it is handed to cannot be reached: look at the broker and at the log of the relay. No '
                        'attempt is charged.'
                )
            ) as v (name, verdicts, advice)
            left join judged j on j.verdict = any(v.verdicts)
            group by v.name, v.advice;

        when 'handlers' then
            select string_agg(distinct format('%s (topic %s)', r.handler, r.topic), ', ') into v_seen
            from route r
            where r.handler is not null and _handler_oid(r.handler) is null;
            return query select p_check, case when v_seen is null then 'ok' else 'fail' end,
                coalesce('there is no such function: ' || v_seen, 'every route has its handler'),
                case when v_seen is not null then 'Create the function, or take the route away with outbox_unroute. '
                    'Its events wait, uncharged.' end;

        when 'dead_letters' then
            select string_agg(format('%s %s: %s, oldest of %s ago', n.kind, n.channel,
                    case when n.entries > 1000 then 'more than 1000' else n.entries::text end,
                    date_trunc('second', v_now - n.oldest_at)), '; ' order by n.oldest_at)
            into v_seen
            from (
                with recursive named as (
                    (select d.channel from dead_letter d order by d.channel limit 1)
                    union all
                    select (select d.channel from dead_letter d where d.channel > m.channel order by d.channel limit 1)
                    from named m
                    where m.channel is not null
                )
                select d.kind, d.channel, count(*) as entries, min(d.dead_at) as oldest_at
                from named m
                cross join lateral (
                    select e.kind, e.channel, e.dead_at from dead_letter e
                    where e.channel = m.channel and e.state = 'dead'
                    limit 1001
                ) d
                group by d.kind, d.channel
            ) n;
            return query select p_check, case when v_seen is null then 'ok' else 'warn' end,
                coalesce(v_seen, 'none that nobody has dealt with'),
                case when v_seen is not null then 'tidegate dead-letter list; then dead_letter_requeue or '
                    'dead_letter_discard.' end;

        when 'barriers' then
            select count(*) filter (where n.state = 'open'), min(n.name) filter (where n.state = 'open'),
                count(*) filter (where n.state = 'fire_failed')::text
            into v_count, v_seen, v_status
            from (
                select b.state, b.name from barrier b
                where b.state in ('open', 'fire_failed')
                    and (
                        b.state = 'fire_failed' -- however long recovery has put it off
                        or b.look_at <= v_now and b.expires_at <= v_now
                        or b.look_at <= v_now and v_now >= b.stall_after + greatest(b.opened_at, b.kept_at, (
                            select max(s.arrived_at) from barrier_slot s where s.epoch = b.epoch
                        ))
                    )
                limit 1000
            ) n;
            return query select p_check,
                case when v_count > 0 then 'fail' when v_status <> '0' then 'warn' else 'ok' end,
                format('%s stranded%s, %s whose callback failed', v_count, ' such as ' || v_seen, v_status),
                case when v_count > 0 or v_status <> '0'
                    then 'See barrier_progress: its members'' messages, then barrier_resolve or barrier_abort. A '
                        'callback that failed is a dead letter.' end;

        when 'stranded' then
            select string_agg(format('%s %s', c.kind, c.name), ', ') into v_seen
            from channel c
            cross join lateral (
                select * from floor n where n.channel_id = c.channel_id order by n.floor_id desc limit 1
            ) f
            where exists (
                select from unnest(f.priorities) p (priority)
                cross join lateral (
                    select from ready r
                    where r.channel_id = c.channel_id and r.priority = p.priority
                        and r.position <= f.floors[p.priority + 1]
                    limit 1
                ) r
            );
            select coalesce(sum(y.amount), 0) into v_count from tally y where y.outcome = 'stranded';
            return query select p_check,
                case when v_seen is not null then 'fail' when v_count > 0 then 'warn' else 'ok' end,
                concat_ws('; ', 'messages stand below a floor: ' || v_seen, format('%s were put back since the '
                    'installation', v_count)),
                case when v_seen is not null then 'select cleanup_sweep() puts them back. Was position_seq set back?'
                    when v_count > 0 then 'Whatever set position_seq back has cost a delay: see incident, and keep '
                        'copies from doing it.' end;

        when 'orphans' then
            with recursive used as (
                (select 'ready' as place, (select min(r.channel_id) from ready r) as channel_id)
                union all
                select u.place, (select min(r.channel_id) from ready r where r.channel_id > u.channel_id)
                from used u where u.channel_id is not null
            ), held as (
                select count(*) as guards
                from (select from guard g where g.state = 'held' and g.expires_at < v_now - interval '1 '
                    'hour' limit 1000) g
            )
            select count(*), (select h.guards from held h)::text into v_count, v_seen
            from used u
            where u.channel_id is not null and not exists (select from channel c where c.channel_id = u.channel_id);
            return query select p_check, case when v_count > 0 then 'fail' when v_seen <> '0' then 'warn' else 'ok' end,
                format('%s dropped channel(s) with messages, %s guard(s) held beyond their lease for an '
                    'hour', v_count, v_seen),
                case
                    when v_count > 0 then 'Messages of a channel that is no more: tell us; they are in ready, by '
                        'channel_id.'
                    when v_seen <> '0' then 'Their owners died: the next guard_claim takes them over; where none '
                        'comes, recovery or guard_release.'
                end;
    end case;
end;
$$;

comment on function tidegate._doctor_look(text) is 'What one check of doctor() finds in the installation; the check of outcomes answers for two.';

-- functions/metrics/_doctor_look_server.sql
create or replace function tidegate._doctor_look_server(p_check text) returns setof tidegate.diagnosis
language plpgsql volatile rows 3
set search_path = tidegate, pg_temp
as $$
/*
 * Sessions of others are seen with the rights of pg_read_all_stats: without them it is said so, and nothing is claimed.
 * Read from catalogs and locks, not from tables, so that none of these waits for anybody.
 */
declare
    v_seen text;
    v_count bigint;
    v_status text;
    v_sees_sessions constant boolean := pg_has_role(current_user, 'pg_read_all_stats', 'usage');
begin
    case p_check
        when 'horizon' then
            return query
            with holder as (
                select a.xact_start as since, greatest(age(a.backend_xmin), age(a.backend_xid)) as transactions,
                    format('session pid %s (%s, %s, '
                        '%s)', a.pid, a.usename, coalesce(nullif(a.application_name, ''), 'unnamed'), a.state) as what,
                    format('End its transaction, or: select pg_terminate_backend(%s)', a.pid) as advice
                from pg_stat_activity a
                where a.datname = current_database() and a.backend_type not in ('autovacuum worker', 'walsender')
                    and a.pid <> pg_backend_pid()
                union all
                select p.prepared, age(p.transaction), format('prepared transaction %L of %s', p.gid, p.owner),
                    format('commit prepared %1$L, or rollback prepared %1$L', p.gid)
                from pg_prepared_xacts p
                where p.database = current_database()
                union all
                select null, age(s.xmin),
                    format('replication slot %s '
                        '(%s)', s.slot_name, case when s.active then 'active' else 'inactive' end),
                    case
                        when s.active then 'The standby behind it holds it (hot_standby_feedback): end the long '
                            'query there.'
                        else format('Nobody reads it: select pg_drop_replication_slot(%L), if its reader is gone for '
                            'good', s.slot_name)
                    end
                from pg_replication_slots s
                where s.xmin is not null
                union all
                select null, age(a.backend_xmin),
                    format('feedback of standby %s', coalesce(nullif(a.application_name, ''), a.client_addr::text)),
                    'End the long query on the standby, or switch hot_standby_feedback off there.'
                from pg_stat_activity a
                where a.backend_type = 'walsender'
            ), judged as (
                select h.*, case
                    when clock_timestamp() - h.since > interval '1 hour' or h.transactions > 10000000 then 'fail'
                    when clock_timestamp() - h.since > interval '5 minutes'
                        or h.since is null and h.transactions > 100000
                        or h.what like 'prepared%' and clock_timestamp() - h.since > interval '1 minute'
                        then 'warn'
                    else 'ok'
                end as verdict
                from holder h
                where h.transactions is not null
                order by h.transactions desc
                limit 1
            )
            select p_check, case when j.verdict is null and not v_sees_sessions then 'warn' else coalesce(j.verdict,
                'ok') end,
                concat_ws(
                    '; ',
                    coalesce(
                        j.what || coalesce(', for ' || date_trunc('second', clock_timestamp() - j.since), '')
                        || format(', %s transaction(s) back', j.transactions),
                        'nobody keeps vacuum from removing rows'
                    ),
                    case when not v_sees_sessions then 'sessions of others cannot be seen' end
                ),
                case
                    when j.verdict <> 'ok' then 'Vacuum removes nothing; claims stay fast, tables grow. ' || j.advice
                    when not v_sees_sessions then format('grant pg_read_all_stats to %I', current_user)
                end
            from (select) n
            left join judged j on true;

        when 'locks' then
            select string_agg(n.what, '; ') into v_seen
            from (
                select format(
                    'pid %s (%s) has waited for pid %s for %s', a.pid, a.usename,
                    array_to_string(pg_blocking_pids(a.pid), ', '), date_trunc('second',
                        clock_timestamp() - a.state_change)
                ) as what
                from pg_stat_activity a
                where a.datname = current_database() and a.wait_event_type = 'Lock'
                    and clock_timestamp() - a.state_change > interval '5 seconds'
                    and exists (
                        select from pg_locks l
                        inner join pg_class c on c.oid = l.relation
                        where l.pid = a.pid and c.relnamespace = current_schema::regnamespace
                    )
                order by a.state_change
                limit 5
            ) n;
            return query select p_check,
                case when v_seen is not null then 'fail' when v_sees_sessions then 'ok' else 'warn' end,
                coalesce(v_seen, case when v_sees_sessions then 'nobody waits for a lock' else 'sessions of others '
                    'cannot be seen' end),
                case
                    when v_seen is not null then 'End what the blocking session does, or: select '
                        'pg_terminate_backend(pid) of it.'
                    when not v_sees_sessions then format('grant pg_read_all_stats to %I', current_user)
                end;

        when 'open_claims' then
            select string_agg(n.what, '; ') into v_seen
            from (
                select format(
                    'pid %s (%s, %s) since %s: '
                        '%s', a.pid, a.usename, coalesce(nullif(a.application_name, ''), 'unnamed'),
                    date_trunc('second', clock_timestamp() - a.xact_start), string_agg(distinct c.relname, ', ')
                ) as what
                from pg_locks l
                inner join pg_class c on c.oid = l.relation
                inner join pg_stat_activity a on a.pid = l.pid
                where l.granted and l.locktype = 'relation' and a.pid <> pg_backend_pid()
                    and l.mode in ('RowShareLock', 'RowExclusiveLock', 'AccessExclusiveLock')
                    and c.relnamespace = current_schema::regnamespace
                    and c.relname in ('ready', 'scheduled', 'blocked', 'lease', 'position_seq', 'channel')
                    and a.xact_start < clock_timestamp() - interval '1 minute'
                group by a.pid, a.usename, a.application_name, a.xact_start
                order by a.xact_start
                limit 5
            ) n;
            return query select p_check, case when v_seen is null then 'ok' else 'warn' end,
                coalesce('transactions that have sent, claimed or settled are open: ' || v_seen, 'no transaction of '
                    'ours is open for a minute'),
                case when v_seen is not null then 'Commit the claim before the work: what it has claimed or put '
                    'stands still until it ends.' end;

        when 'sequence' then
            select max(t.position) - max(q.last_value - (not q.is_called)::integer) into v_count
            from (select n.position from tide n order by n.tide_id desc limit 1) t
            cross join position_seq q;
            return query select p_check, case when v_count > 0 then 'fail' else 'ok' end,
                case when v_count > 0 then format('position_seq is %s behind what was '
                    'drawn', v_count) else 'position_seq is where it was left' end,
                case when v_count > 0 then 'Copied without its sequences? The next tick mends it: run tidegate '
                    'maintain, and see incident.' end;

        when 'autovacuum' then
            select string_agg(n.what, '; ') into v_seen
            from (
                select 'autovacuum is off for the server' as what where current_setting('autovacuum') <> 'on'
                union all
                select 'track_counts is off' where current_setting('track_counts') <> 'on'
                union all
                select format('autovacuum is off for %s', c.relname)
                from pg_class c
                where c.relnamespace = current_schema::regnamespace
                    and c.reloptions::text ~ 'autovacuum_enabled=(off|false)'
                union all
                select format('%s has %s dead rows', s.relname, s.n_dead_tup)
                from pg_stat_all_tables s
                where s.schemaname = current_schema and s.n_dead_tup > 100000 and s.n_dead_tup > s.n_live_tup
            ) n;
            return query select p_check, case when v_seen is null then 'ok' else 'warn' end,
                coalesce(v_seen, 'vacuum keeps up'),
                case when v_seen is not null
                    then 'Where the check horizon names somebody, end that first; else switch autovacuum on, and '
                        'lower autovacuum_naptime.' end;

        when 'settings' then
            select string_agg(n.what, '; '), string_agg(distinct n.advice, ' ') into v_seen, v_status
            from (
                select format('default_transaction_isolation = %s', s.reset_val),
                    'Claims and sweeps need read committed.'
                from pg_settings s
                where s.name = 'default_transaction_isolation' and s.reset_val <> 'read committed'
                union all
                select 'idle_in_transaction_session_timeout = 0',
                    'Set idle_in_transaction_session_timeout: a forgotten transaction would pin vacuum for ever.'
                from pg_settings s
                where s.name = 'idle_in_transaction_session_timeout' and s.reset_val = '0'
                union all
                select format('%s = off', s.name), 'A crash may lose what was committed.'
                from pg_settings s
                where s.name in ('fsync', 'full_page_writes', 'synchronous_commit') and s.reset_val = 'off'
                union all
                select format('max_prepared_transactions = %s, and none is used', s.reset_val),
                    'A prepared transaction that is forgotten pins vacuum and stops floors: set it to 0 unless you '
                        'use them.'
                from pg_settings s
                where s.name = 'max_prepared_transactions' and s.reset_val <> '0'
                    and not exists (select from pg_prepared_xacts p where p.database = current_database())
            ) as n (what, advice);
            return query select p_check, case when v_seen is null then 'ok' else 'warn' end,
                coalesce(v_seen, 'none that hurts'), v_status;
    end case;
end;
$$;

comment on function tidegate._doctor_look_server(text) is
'What one check of doctor() finds in the server: locks, open_claims, horizon, autovacuum, sequence, settings.';

-- functions/metrics/_doctor_look_upkeep.sql
create or replace function tidegate._doctor_look_upkeep(p_check text) returns setof tidegate.diagnosis
language plpgsql volatile rows 3
set search_path = tidegate, pg_temp
as $$
/* Whether somebody does the upkeep, and how it goes. Like _doctor_look, it writes nothing. */
declare
    v_now constant timestamptz := clock_now();
    v_ahead constant timestamptz := v_now + interval '10 seconds';
    v_seen text;
    v_count bigint;
    v_status text;
begin
    case p_check
        when 'maintenance' then
            -- The job that is due most often says whether anybody is there.
            select coalesce(max(d.started_at), '-infinity') into strict v_seen from maintenance_due() d;
            return query select p_check,
                case when v_seen::timestamptz > v_now - interval '1 minute' then 'ok' else 'fail' end,
                case
                    when v_seen::timestamptz = '-infinity' then 'no job of the upkeep has ever started'
                    else format('a job started %s ago', date_trunc('second', v_now - v_seen::timestamptz))
                end,
                case
                    when v_seen::timestamptz > v_now - interval '1 minute' then null
                    else 'Run tidegate maintain (or maintenance_due() from a scheduler): idle queues are not ticked '
                        'and nothing is cleaned up.'
                end;

        when 'leader' then
            -- What a leader is for. Whoever runs it from a scheduler, without one, is as good.
            select
                case
                    when d.due_in is null then 'recovery is paused'
                    when d.started_at is null then 'recovery has never started'
                    else format('recovery started %s ago', date_trunc('second', v_now - d.started_at))
                end || coalesce((
                    select format(
                        '; %s has epoch %s%s', coalesce(l.holder, 'nobody'), l.epoch,
                        case when v_now >= l.expires_at then ', which is over' end
                    )
                    from leader l where l.name = 'maintain'
                ), ''),
                case
                    when d.due_in is null then 'warn'
                    when d.started_at > v_now - interval '5 minutes' - 3 * d.every then 'ok'
                    else 'fail'
                end
            into v_seen, v_status
            from maintenance_due() d
            where d.job = 'recovery';
            return query select p_check, v_status, v_seen,
                case v_status
                    when 'warn'
                        then 'maintenance_configure(''recovery'', p_paused => false), when whatever it was is over.'
                    when 'fail'
                        then 'Nobody recovers: run tidegate maintain, one of which leads, or tidegate recover, once.'
                end;

        when 'upkeep' then
            select string_agg(
                    format('%s failed %s time(s) in a row: %s', u.job, u.failure_count, left(u.last_error, 200)), '; '
                    order by u.failure_count desc
                ), max(u.failure_count)
            into v_seen, v_count
            from (select distinct on (r.job) r.* from maintenance_run r order by r.job, r.entry desc) u
            where u.failure_count > 0;
            return query select p_check,
                case when v_count is null then 'ok' when v_count < 3 then 'warn' else 'fail' end,
                coalesce(v_seen, 'no job failed when it last ran'),
                case when v_seen is not null then 'Mend what the error says; the job is tried again by itself. See '
                    'the view upkeep.' end;

        when 'snapshot' then
            select format('the last snapshot is %s old', date_trunc('second', v_now - s.taken_at)),
                case
                    when s.failed_probes > 0 then s.failed_probes || ' probe(s) failed'
                    when s.taken_at < v_now - 5 * (select d.every
                        from maintenance_due() d where d.job = 'metrics') then 'stale'
                end
            into v_seen, v_status
            from metric_snapshot s
            order by s.snapshot_id desc limit 1;
            return query select p_check, case when v_seen is null or v_status is not null then 'warn' else 'ok' end,
                coalesce(v_seen || coalesce(', ' || v_status, ''), 'no snapshot was ever taken'),
                case when v_seen is null or v_status is not null
                    then 'Run tidegate maintain, of which metrics_snapshot() is a job: metrics() has no current '
                        'gauges.' end;

        when 'clock' then
            -- What was written before the clock was set back, by more than it takes to look. Of leases and barriers
            -- those that end last.
            select
                format(
                    '%s guard(s), %s lease(s) of messages, %s barrier(s), %s leader(s)',
                    n.guards, n.leases, n.barriers, n.leaders
                ),
                n.guards + n.leases + n.barriers + n.leaders
            into v_seen, v_count
            from (
                select
                    (
                        select count(*)
                        from (select from guard g where g.state = 'held' and g.renewed_at > v_ahead limit 1000) g
                    ) as guards,
                    (
                        select count(*) filter (where l.claimed_at > v_ahead)
                        from channel c
                        cross join lateral (
                            select e.claimed_at from lease e
                            where e.channel_id = c.channel_id and e.expires_at > v_ahead
                            order by e.expires_at desc
                            limit 100
                        ) l
                    ) as leases,
                    (
                        select count(*) filter (where b.opened_at > v_ahead)
                        from (
                            select o.opened_at from barrier o
                            where o.state in ('open', 'fire_failed') and o.look_at > v_ahead
                            order by o.look_at desc
                            limit 100
                        ) b
                    ) as barriers,
                    (
                        select count(*) from leader l where l.holder is not null and l.renewed_at > v_ahead
                    ) as leaders
            ) n;
            return query select p_check, case when v_count = 0 then 'ok' else 'warn' end,
                case when v_count = 0 then 'nothing is from a time that is still to come'
                    else 'from a time that is still to come: ' || v_seen end,
                case when v_count > 0 then 'The clock was set back. Leaders are replaced at once, guards a lease after '
                    'the next guard_claim; leases that nobody settles and deadlines of barriers end as much later as '
                    'it was ahead: barrier_abort, or wait.' end;
    end case;
end;
$$;

comment on function tidegate._doctor_look_upkeep(text) is
'One check of doctor(): maintenance, leader, upkeep, snapshot or clock.';

-- functions/metrics/doctor.sql
create or replace function tidegate.doctor() returns setof tidegate.diagnosis
language plpgsql volatile rows 25
security definer
set search_path = tidegate, pg_temp
set lock_timeout = '500ms'
as $$
/*
 * Each check is a subtransaction: one that cannot be made says so, and the others go on. None waits for a lock on a
 * table, for it is asked when somebody holds one.
 */
declare
    v_check text;
begin
    foreach v_check in array case
        when pg_is_in_recovery() then array['schema', 'horizon', 'settings']
        else array[
            'schema', 'locks', 'maintenance', 'leader', 'upkeep', 'snapshot', 'queues', 'topics', 'outcomes',
            'handlers', 'paused', 'overdue', 'expired_leases', 'dead_letters', 'barriers', 'stranded', 'orphans',
            'open_claims', 'horizon', 'autovacuum', 'sequence', 'clock', 'incidents', 'settings'
        ]
    end loop
        begin
            if v_check in ('locks', 'open_claims', 'horizon', 'autovacuum', 'sequence', 'settings') then
                return query select * from _doctor_look_server(v_check);
            elsif v_check in ('maintenance', 'leader', 'upkeep', 'snapshot', 'clock') then
                return query select * from _doctor_look_upkeep(v_check);
            else
                return query select * from _doctor_look(v_check);
            end if;
        exception
            when others or query_canceled then
                return query select v_check, 'fail', format('could not be looked at: %s', sqlerrm),
                    case when sqlstate = '57014' then 'Give it longer: set statement_timeout; or see the check horizon.'
                        when sqlstate = '55P03' then 'Somebody holds a lock on the whole table: see the check locks.'
                        else 'Run tidegate migrate, then tidegate status.' end;
        end;
    end loop;
end;
$$;

comment on function tidegate.doctor() is
'What is wrong, and what to do next: a row a check, ok, warn or fail. It looks at the places themselves, a few rows each: for people and alerts'' runbooks, not for a scrape.';

-- views/backlog.sql
create or replace view tidegate.backlog as
select
    c.kind,
    c.name,
    c.is_paused,
    c.is_draining,
    r.ready,
    r.oldest_ready_at,
    s.scheduled,
    s.next_due_at,
    b.blocked,
    l.leased,
    k.follow_ups
from tidegate.channel c
cross join lateral (
    select count(*) as ready, min(n.enqueued_at) as oldest_ready_at
    from tidegate.ready n
    where n.channel_id = c.channel_id
) r
cross join lateral (
    select count(*) as scheduled, min(n.due_at) as next_due_at
    from tidegate.scheduled n
    where n.channel_id = c.channel_id
) s
cross join lateral (
    select count(*) as blocked
    from tidegate.blocked n
    where n.channel_id = c.channel_id
) b
cross join lateral (
    select count(*) as follow_ups
    from tidegate.job_key n
    where n.channel_id = c.channel_id and n.follow_up is distinct from null
) k
cross join lateral (
    select coalesce(sum(n.message_count), 0) as leased
    from tidegate.lease n
    where n.channel_id = c.channel_id
) l;

comment on view tidegate.backlog is
'What stands in each topic and queue now, counted exactly: for people, not for a scrape every few seconds.';

-- views/in_flight.sql
create or replace view tidegate.in_flight as
select
    c.kind,
    c.name,
    l.lease_id,
    l.worker,
    l.claimed_at,
    l.expires_at,
    l.message_count
from tidegate.lease l
inner join tidegate.channel c on c.channel_id = l.channel_id;

comment on view tidegate.in_flight is 'Leases that are out, with how many messages each still holds.';

-- views/policy.sql
create or replace view tidegate.policy as
select
    c.kind,
    c.name,
    c.is_paused,
    c.is_draining,
    c.is_routed,
    c.lease,
    c.max_runtime,
    c.max_attempts,
    c.backoff_base,
    c.backoff_cap,
    c.backoff_factor,
    c.jitter,
    c.max_in_flight,
    c.inline_limit,
    c.archive,
    c.retention,
    c.tenant_required,
    c.doorbell
from tidegate.channel c;

comment on view tidegate.policy is
'What each topic and queue is told to do, by the keys of topic_configure and queue_configure.';

-- views/dead_letter_summary.sql
create or replace view tidegate.dead_letter_summary as
select
    d.kind,
    d.channel,
    d.reason,
    d.state,
    count(*) as entries,
    min(d.dead_at) as oldest_at,
    max(d.dead_at) as newest_at
from tidegate.dead_letter d
group by d.kind, d.channel, d.reason, d.state;

comment on view tidegate.dead_letter_summary is 'Dead letters by channel, reason and state.';

-- views/barrier_progress.sql
create or replace view tidegate.barrier_progress as
select
    b.name,
    b.epoch,
    b.state,
    b.outcome,
    b.reason,
    b.policy,
    b.is_sealed,
    b.member_count as members,
    b.member_count - s.failed - s.outstanding as arrived,
    s.failed,
    s.outstanding,
    b.opened_at,
    s.progress_at,
    b.expires_at,
    greatest(b.opened_at, s.progress_at, b.kept_at) + b.stall_after as stalls_at,
    b.closed_at,
    b.run_id,
    b.tenant
from tidegate.barrier b
cross join lateral (
    select
        coalesce(sum(bit_count(n.failed::bit(64))), 0)::integer as failed,
        coalesce(sum(bit_count(n.pending::bit(64))), 0)::integer as outstanding,
        max(n.arrived_at) as progress_at
    from tidegate.barrier_slot n
    where n.epoch = b.epoch
) s;

comment on view tidegate.barrier_progress is
'How each barrier stands: members arrived, failed and outstanding, its last progress, and when it counts as stranded.';

-- views/outcomes.sql
create or replace view tidegate.outcomes as
select
    c.kind,
    c.name,
    t.outcome,
    sum(t.amount)::bigint as total
from tidegate.tally t
inner join tidegate.channel c on c.channel_id = t.channel_id
where t.outcome not like '%.%'
group by c.kind, c.name, t.outcome;

comment on view tidegate.outcomes is
'Counters since the installation, by channel and outcome: acked, dispatched, retried, released, expired, dead_lettered, requeued, discarded, cancelled, purged, stranded. Exact: each was counted in the transaction of its effect.';

-- views/archived.sql
create or replace view tidegate.archived as
select
    c.kind,
    c.name,
    a.settled_at,
    a.message_id,
    a.event_id,
    a.attempts,
    a.enqueued_at,
    a.headers,
    a.group_key,
    a.run_id,
    a.tenant,
    coalesce(a.payload, b.payload) as payload
from tidegate.archive a
inner join tidegate.channel c on c.channel_id = a.channel_id
left join tidegate.body b on b.body_id = a.body_id;

comment on view tidegate.archived is
'Messages that topics and queues with archive on have settled, with when; cleanup purges them by the retention of their channel.';

-- views/counters.sql
create or replace view tidegate.counters as
with addition as (
    select
        d.key,
        sum(d.amount) as amount
    from tidegate.counter_delta d
    where
        d.delta_id > coalesce((
            select f.folded_to from tidegate.counter_fold f
            order by f.fold_id desc limit 1
        ), 0)
    group by d.key
)

select
    c.run_id,
    c.written_at,
    coalesce(c.key, a.key) as key,
    least(greatest(coalesce(c.value, 0) + coalesce(a.amount, 0), 0), 1000000000000000000)::bigint as value
from tidegate.counter c
full join addition a on c.key = a.key;

comment on view tidegate.counters is
'Every counter, with what it says now. written_at: when it was last set, or additions were folded into it; null = not yet.';

-- views/upkeep.sql
create or replace view tidegate.upkeep as
select distinct on (r.job)
    r.job,
    r.started_at,
    r.succeeded_at,
    r.failed_at,
    r.failure_count,
    r.last_error,
    r.due_at
from tidegate.maintenance_run r
order by r.job asc, r.entry desc;

comment on view tidegate.upkeep is
'When each job of the upkeep last ran and last succeeded, and each part of a cleanup that ever failed (cleanup.<part>). failure_count: failures in a row.';

-- grants.sql
-- The only file that grants or revokes. It runs last, every time.

revoke all on all functions in schema tidegate from public;
revoke all on all procedures in schema tidegate from public;

-- ledger/record_routines.sql
-- Remember what was just applied, so that a change by hand is seen later.
do $$
declare
    v_path text := pg_catalog.current_setting('search_path');
begin
    perform pg_catalog.set_config('search_path', pg_catalog.quote_ident('tidegate') || ', pg_temp', true);
    create temporary table tidegate_installed on commit drop as
    select d.routine, d.kind, s.checksum as source, d.definition
    from (
        select
            p.proname || '(' || pg_catalog.oidvectortypes(p.proargtypes) || ')' as routine,
            p.proname::text as name,
            'routine' as kind,
            p.oid,
            pg_catalog.encode(
                pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.pg_get_functiondef(p.oid), 'UTF8')), 'hex'
            ) as definition
        from pg_catalog.pg_proc as p
        inner join pg_catalog.pg_namespace as n on p.pronamespace = n.oid
        where n.nspname = 'tidegate' and p.prokind in ('f', 'p')
        union all
        select
            c.relname::text as routine,
            c.relname::text as name,
            'view' as kind,
            c.oid,
            pg_catalog.encode(
                pg_catalog.sha256(
                    pg_catalog.convert_to(
                        pg_catalog.pg_get_viewdef(c.oid) || coalesce(c.reloptions::text, ''), 'UTF8'
                    )
                ),
                'hex'
            ) as definition
        from pg_catalog.pg_class as c
        inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
        where n.nspname = 'tidegate' and c.relkind = 'v'
    ) as d
    inner join (
        values
        ('_backoff', 'e6c93728b35a0dd799c9693e8e9fd192b36e952f258142d6dec77727706308fb'),
        ('_backoff_check', 'ad3dcb6034c2d0f107c670f9845542068eacb81153e1967fc7c2a8c0b6ce81fd'),
        ('_bad_argument', 'af3c40a042ee2c84175cad08526b162e65e07c257ae12c0e2eec57816703e6ce'),
        ('_barrier_ask', 'f11db517b4e309e6bd98c29cf64b69a65debd74d53216c346e824e475bcbcdef'),
        ('_barrier_close', '9b95b63d1e6a00c7b395e705ff94e2f052290c2625f20b180fb54fca91f7a4a6'),
        ('_barrier_event_id', 'ab1af06c45f18d1102eb508f7fdd638dd5bcc62c4734a50dea765f5d31cf3fdf'),
        ('_barrier_grow', '09169118fa6ecfce40db2592c54b9db0517b92ae5f1d1d4d5a4004a99ad83a41'),
        ('_barrier_message', 'a9a1655973a62519517d21485f8159660a2b9de893b938ca77d7efb55f76b80a'),
        ('_barrier_open', '8ddd724cb1a5403a22f9b32b18e6a39fd897c31870f4209ecf697bc97cb51c77'),
        ('_barrier_postpone', '306e1212d6ffce2969e1a42a082489d3df717329501158d9ae02fbc28ceb1c7d'),
        ('_barrier_reason', 'eff1b2dbd7f04d5a1d68431178070bbc2a69c59f70ffcd82046ff71ca5725081'),
        ('_barrier_recover', '809cd59205859e01b1221686cfac682a490a555dee90ea980189fdbda80e9a84'),
        ('_barrier_settle', 'd72791a3a72df7cf49c48d9fbd94acfc7d68ed42fcaa8900a0e95c7f7244ed34'),
        ('_barrier_standing', '4809e196ec06fe64621f1b22957277b8d27e9ce4b12f572f09d107c50a05b70c'),
        ('_barrier_tell', '20e35fb85df68e9ceeae7d2fe46e581471269a61c9205e3029f200353dcd4f28'),
        ('_barrier_trim', '90de828ca7c4a7283a0b63864d5f1350de4a3c09f76b10477bb4ca5f6bc48a4c'),
        ('_barriers_mark', '33eceeac5fea9d29b7281caf407642b942ae85e19075e338ba3bbac0feed153b'),
        ('_batch_fit', 'e2631162b50b68fc89b1e2ccff06d5057644b64fe75a0e85a97c0ca5324f6b6b'),
        ('_cancelled', '99f154f629ca35d5d7e3128079b014c5b48e6b7a9ede429c4278704cfa781d51'),
        ('_channel_configure', '6ffc51f30abed743f28add6b93ef91751153627575f18d350fd3a03a62d33617'),
        ('_cleanup_part', '4f524bf64c4b00698d778c7cd82bdb56eeeab6e249e36d88115dc19c0e86cd08'),
        ('_counter_closed', 'e0301ce1e8fc9ab24578026b26525c952de5fdac8a0d9f990a78123256abb261'),
        ('_counter_fold', '446ba77d0d95405206e686e882a55526c49e6b3802f89760d2c6af7c12cc04f3'),
        ('_counter_write', 'a65db46bb8d0b9f7ba49be348476478ebc8d5795b75bbe238a07b70d31ae6f52'),
        ('_dead_letter_count', '491d7f1751d54e27a6a404fff838a9f27ea525f41fea8772d40eb8f3230d2360'),
        ('_dead_letter_newest', 'abb0ded6698574f7546c18a4f9196a7b21166f287cc5fad06731ee6b297398cb'),
        ('_dead_letter_oldest', 'b6380895351cdac92fad258b0ddb603ed56d773991263694f90cc19bbe152a35'),
        ('_dead_letter_requeue', '08ee509c868162b4ba297784666e3da65a6ec7951db3a5d85eb56db8b604eb8a'),
        ('_doctor_look', '3c6b6706e639c43a9b9ec78b1def3eccbb55ddf84337e5a51f3d01958aa2e533'),
        ('_doctor_look_server', '568cd25c469028814bfd706f77f573246be54d2ee70ec7382db007aecf27d900'),
        ('_doctor_look_upkeep', 'fea5f86194e73f683cec04ad13242b4a6c70422b158dba0736468dfc8ae4c3bf'),
        ('_doorbell_ring', '1760ae04ca6e0a71673320c88b36fc11ca1b021fe426e305d2d1febddbe9c875'),
        ('_error_text', '7f12f69ffaf3d6dff455683baed5f1abd597a68e4df21400d06f4cd26391f9b8'),
        ('_event_id', 'fe98df9256e1e454577b21dd0e979b27cdcf55f46bd0e42b07d2b4252a4f218c'),
        ('_failed_check', '8a3402dfd35a05abb2e167dc9dfdf736ba7e4d57a916dcd1e11343088de738e3'),
        ('_group_advance', 'a034e9e47013581726eeeb0a6dd0859e9054b11a8a8029d838bdfff3f29aeff7'),
        ('_guard_check', '052b9515236e6a3e40da1a9a6d8e648099a6bcdefa82c1d4f6968363b70bb0fd'),
        ('_guards_recover', '0ef02887c055df6a259ecd4be4002a802c7fb81658c86e02fa35b161681c8976'),
        ('_guards_retire', '6576cbfa24078bb01ebe87edd3ea800b99b686285faac6bb3bad40e145e27259'),
        ('_handler_call', 'c25bef023217ed6f076fa8ceeb46c235259c15f41445bc2ab187a373668114e1'),
        ('_handler_name', '9d7032806e7362f11643018ab17af62dea437bea8251acc612d9d75afeeda34e'),
        ('_handler_oid', '8073315386d4ec9c7f747f0831eebf80a8e25a8e5913e444d0f018f853257d21'),
        ('_handler_run', '4992a3501b4278a2530b9b342f608b42641c795ee18fc7a73950b37d164cd9a0'),
        ('_has_turn', 'd94d21bacb47faa5e302eaa4e5ed37d7df019642777b652f5d292cbb6cce17a6'),
        ('_idempotency_keys_lock', '2dafd4c87cb2e5fe035243563dd41890db5e78779eaece78912140b7ea72f640'),
        ('_incident_note', 'c83de802db2f48e4216efdb3d634a8f25db30ce33638c27a149f8e61a3e70d94'),
        ('_is_duration', '296e8de3e57764fe5c0baf5c96e62fafa8bd3447dada7c831c7ae62af94dda86'),
        ('_job_keys_lock', '66b3ae793389fa06b886a74f2f83122e128b49fee77053f58e98036eae961477'),
        ('_json_size', '6062f431a4bcafe38a6cc68c50eae60bc7bc0e6e5c44791bbd17802a9eb4f093'),
        ('_keyed_send', '77ab529fdea9f39c3f93055bb0b83e05990d651e33cdd0780082e7cb624637bc'),
        ('_leader_check', '149ab115db559a4e1abdc703696d6f2e7a28d8067489a21d05e4dab9e84b7730'),
        ('_lease_deliveries', '7420bd65ec7625bc4eeaf704701cfd251f5421b139c53b9301da5deb7bec4526'),
        ('_lease_expire', '28fb1cf2574c50d7e5f577878fd44ad39bababf39908e94e9cd42091068a5701'),
        ('_lease_left', 'ed0911cbdd0c578b06ce20cc16fbb61b72072fd70f5da27b9aebf976e8155d84'),
        ('_lease_settle', '976a11017d6e05d2fb0fea35b3cddd1a879de03e1096e9ff470330cb9dd35921'),
        ('_leases_recover', '96e3d870715d616cc27f62452971e060e05aa3d12d1aaa26deb594dba7725d75'),
        ('_lock_key', '25200ead6fd8ec53d7de24584aa0d649f5c99ca6e9f9b714efa3e2b99837f6ae'),
        ('_maintenance_jobs', 'f66df667e592b8f1794e059b88651b73b28f4fc012b6286b140ce5a659c7fd2e'),
        ('_maintenance_note', '8eb6e9bf09b0ce9fbd6f3fd0f4eef6b2aa9e86edd7852bd1271428b3d7ec9a4a'),
        ('_member_end', 'a8b4e5775edb024f141b916cad3acc5e13d4b3c0b585b237b960730817fa2a04'),
        ('_member_lock', 'b1d6de8957fbd330ea49979ff68bdbf6fe9348c496576fdae0ee51d42bc125f2'),
        ('_member_seize', '40500f9ca4e596bc07e01e0c24845297d45a52fbe7cf36cda54afa1fcac98169'),
        ('_members_resend', '2575dfe2e824c8351fcacf3846281fc4536a9d1d33f38506f4d993a7ce5d0df5'),
        ('_members_send', '1a843d6e330756cef1827c7ecdb3362ab8a6bcbcdbbd4d31d3fcc5bdfddb5622'),
        ('_message_bury', 'de83be9261bc0300fa3ab8eca4dc37635ca6307295ee247d9badcf5142863a3e'),
        ('_message_cancel', 'e3fa3da826dd26793df02465328b7e7fd9b3817620e42930a5df0fb90f36bf6a'),
        ('_message_drop', '9de6cd1a6fe31663101691ccd729663810632fea4630fe6fdb04bf74c59ea78a'),
        ('_message_end', '9e729b71d422a16ff7492c364a68af0832d2eab8753a5ba7ff0ee3073372de7d'),
        ('_message_enter', '21071612a8c4fc48272a7c9a252701f2cddf513a8e3a13f5b8f508f29b0726c8'),
        ('_message_fail', '2b63b2e083cca44de712e62234badfcab9ca18edc99eae3d689553d9185e6c93'),
        ('_message_finish', 'd1d0e7ae1f2a6ff43f8846f5cdf25f6fcaf0f11e32b61de3fa1926cdb9a6927e'),
        ('_message_refuse', 'e4c111c17c29ddce6ee49b2e9f99b76f231a844668e10d633c1bc945c5effa49'),
        ('_message_return', '4a12f2dfa0cf449642451b8651060f1c5101e1b888629b5a6e29426e858f5f45'),
        ('_metric_list', 'e2586d8f148f4ae9b625c34f2f9837a5a57bd9c2f2462fdfc031eb33f80c7d50'),
        ('_metrics_probe', 'b3b0888dbf302ee931525e5c8b8ea70aeebe5a018f8e1e5f3b7ce4f718cc6ae4'),
        ('_no_such_barrier', '98802a1e271da8a7a5065d55d23d3881740ae8dfa0071fbf1f5a89da970d4aab'),
        ('_no_such_channel', '4bcad0761436c478707f44cf1e2d7658c45bb8e381e3c908dc59919a44b557d3'),
        ('_place_estimate', '1d90639aac3accd60283e57f91ab526b79b14b757bd965985bd1697e3e529431'),
        ('_priorities', '1052171ffcea120e559aa0c0680f15b51903b595d7d7a72b805002515ad0e876'),
        ('_priority_declare', '06720730b02d7bfdcda104f7a91aded82c51dcc50f4eae78ff933ce69080ec27'),
        ('_quorum_is_missed', 'ba01ca7816e4160958f6788937ebb4b365b05d499e7b2cad5af1e7dad278d0c1'),
        ('_ready_refuse', '5a3a8237d3e22a5dc1e57f6819e1d7b3b0c708d161045a2f898e60c3fd1eb8e0'),
        ('_ready_wait', '91c80376e6a75c67dcac822e8d6f56c097f018948a78dfda1b0dfe9cd9a45e88'),
        ('_require_read_committed', 'd33119c3cb4627319b3075c109b67cfb57143e50db379889f1955224da36ba0b'),
        ('_run_cascade', '3d9453cda8e2d661ed36c8945d0b0eef952e99330f2717fa09a273362ce731e3'),
        ('_run_lock', '6506a620484c7ff0dae60eb94916f8051147eaaa695770725371d167ae390015'),
        ('_run_remove', '599993d9d4bfa1d9339929a20bbe247821e70b219fa5d4ffa5527da28c4a9b69'),
        ('_run_stop', 'd1fb48b7b2be2232587150c1846c918ee11ed43a4f45600de19cdb65b269a0c4'),
        ('_run_trim', '96594d32da1310f6a7ffc7ceb3bd8f4b23b625b9f73882a9bd79bae785ad76e2'),
        ('_scheduled_promote', 'a186ae0fe4220fd448d11429e085d35b704f65eb94a5730363b7d1a7dc7fc4a5'),
        ('_slot_count', 'dd2bd15c048b7f64b55ae9f313de3005ab36ace418a21f4ee44b234db119d6ea'),
        ('_specs_check', '313960c7570cdaa3bb8e2df704eb5010ae990e23b615d8a624e8980d659a5bab'),
        ('_stranded_replace', 'e1abb3df4ba0dee4dbce21f7587846c7d5ed8ed08ba195b69db4db0e626a98ce'),
        ('_tick', 'b3aeded044468d2d5593ea8241e2d2b46962f90396091cd5b3fd616319c4d82e'),
        ('_tide_advance', '5790a65ea8ace7a3002c6a5badb8a763649c2a833f0039f12e0b3d7ce6b41f84'),
        ('_tide_forget', '01b7e12a13b82c373b70f389fe16be5e9d4ae8be80f260073fb7eed4663c599c'),
        ('_tide_forget_deadlines', '18fab7064fe7df00c64d01b25aeedc6369e616917fed695b79bb2722ce3aa6cf'),
        ('_topic_deliver', 'b6eadca532c6639b0a5a131e41ccc9b255b4d6bb1546b7b2dbb5d035ead19c4b'),
        ('_topic_is_routed', '3c38a04becda1b8930f89d649c735a18a502992d383afd178576c22fac7e1f71'),
        ('_topic_matches', 'f195c07c02a6941e8b845e5698a609fa5fdc16cd3ea396772c8a235730d46be6'),
        ('_topic_move', '8bd84c1afa9716bec816cea59335304f5bb1c026f707b5c179cace9bd2432223'),
        ('_turn_seize', 'fb8f9f7aebebb611712653a61d04d91fc98c688073d4e7a3cc5c63891147f3fa'),
        ('archived', 'e4ead07f728b6087d048da37a7913e0d9661dfb7c3531ceafca08ec9f9707139'),
        ('backlog', 'bed738727cee8c63701f0e21c681b0f3dfd2278c236a510e06cdf1da5b6a9c9b'),
        ('barrier_abort', '21fb178cbac7e627d247074ed2e0919d49032b4bb4282f8dc29233d99f65f0be'),
        ('barrier_add', '3b0e57ce49e59f502a424f26674b426a598d2652e5ab929d0aa1d9aae5d7ef06'),
        ('barrier_arrive', 'c6ea8a5aefd228d5815826cd06d2f32acacb0814e3a652f9f201def6098a2d3f'),
        ('barrier_fail', 'd8a7745020087d4db823fc97aa98c9e8452ff2273e80337f22a1d7699a36e4fe'),
        ('barrier_open', 'feba1c3fc03fa138c5408b76bcd310c09efa367a434fba5280dabcc78a8b65e0'),
        ('barrier_progress', 'c19772bc5ec329f389bdc6b49470b9be69b43af35908ec239330393234f60c71'),
        ('barrier_resolve', 'b2a7ca743a55ddf7c0899051df9379f533092e5e06634d9dba0f56d688ef67f5'),
        ('barrier_results', 'f5804ffea476981e87571250ce3d41ec0b06319f790c2e99fe36af5b26c6872c'),
        ('barrier_seal', '7f6d642a7bc78226842dcca2b114aebaea39a5074b3068b70aaab36b3dc7356e'),
        ('barrier_send', '96b2f12f9c73b62bf00a7dbb013e5442b9738ad42896b914db9675eb17140652'),
        ('barrier_status', '598a623c9ea159c222ca8c9f7563487ffb1b51f37ab95c3631e28e7bf8ad911b'),
        ('cleanup_sweep', '6f31eadb12204543a8e8f95f1d15fe50b82e998e3962a72b97939994fbd75844'),
        ('clock_now', 'ddeefe2d6f3e3b6e3bcc63e7b223e578613d7393cb5f3253d06e700692700b10'),
        ('counter_add', '4f2951b1c0750de387141907d583df256d553c57b14aea9f48e716051896684c'),
        ('counter_peek', '42ea09492e2c9b32b119c5760c7180481e6388159023eb08e5b300f5272f9380'),
        ('counter_reconcile', 'b384d24f8c907446900cdabed05977003bba9096ac75d3e32a90c915b7c96f75'),
        ('counter_sync', '5460558e1143748de277a2a17932c8abec4c3e692d16b333d000fa4708b90be4'),
        ('counters', 'fda54038da9dcd588231453983f4bb7ae7b9dddc56549df76c0eeb9126eae542'),
        ('dead_letter_count', '4737ba24397e4e2acf6de9cf5d00a4f794f09b867b50770801659daa5d04139e'),
        ('dead_letter_discard', 'c18bbdeedb2f24e12bb1e79468a8a6c2a341ebd46465676717436a7aabb6d61a'),
        ('dead_letter_discard_matching', 'f7dab3d4ec0f9c5ee92c9a8b3ceffbe37c3b8afab576cd7ab131d91c14b4e91a'),
        ('dead_letter_history', '6475c6dc77d36443aad2ddaa3dd14b1c327e3d720cafa3b504d453f098a85a60'),
        ('dead_letter_list', '4ccc14cdb9b9ec3a0c42e4d76b568e68969986763a8f3290b565533456055684'),
        ('dead_letter_payload', '869db0a56cdd605b3b7ebcaaff89960d2a7a8999c72dc7eadc6d1e97499093aa'),
        ('dead_letter_peek', '91878f345ea83642d0b2f1be9f8f24221eeddf9f45248bf4198e93c766ded4bd'),
        ('dead_letter_put', '3df78ef777c8b635bc0b1e8099da09146eb2edcb180b09d489a4bc1065b55f74'),
        ('dead_letter_requeue', '7311496c8d6302d344b2be23b599d552dffa5d4374aaf740886e98124e16ca1e'),
        ('dead_letter_requeue_matching', '7366892b33e7673b732a7cc6b8ca217a0eb44ee507abedc822a6ad4bc9eb7485'),
        ('dead_letter_stats', '69649534613730e55f69bb20d4f3c4b3f6150f434d561577c5d665f0b2c1b3d3'),
        ('dead_letter_summary', 'afe15047875a213d9806fac6d3ec31f914a83cee9009403cd4ab4a10a3913e76'),
        ('doctor', '45c84e8f1d655c4169a8004f3cd662f689fd04b301f16f82b96468d8509f9d30'),
        ('guard_claim', '6ff91f22a7ea1c9ef4b5377c96d260bd55cab3f064ddffa008d5b251f26d8da6'),
        ('guard_finish', 'c2afd8db77686afabce18a9f12cf517d1fc4af4ba52bc91ea95074cd188f0dd0'),
        ('guard_release', '52d86e6db4d925ea0d0dc6b14ee33c74466548a00e072f6fdf32028ab4c4e1f9'),
        ('guard_renew', 'a49bb13dec26716d729d7ec3f4ed35620c705d1a9861f5716c15e82620ac4083'),
        ('in_flight', '30cfd00e2b30a822973c457bebf264b918916962592d6baa0c236504c6036184'),
        ('inbox_accept', '1f742ded1e45dad7f96665fd5b8fc0c252b2b95d7d9e117f5ab64e55365003f5'),
        ('leader_acquire', '84dc3c36353e22691fa75c4c97101f770c9d1f573c1c9842cbf0f64f17653d17'),
        ('leader_renew', '78fd5f67daeee8db523c1e36b31b1fdd141f9889be5a1db5cfeb5ec204ff5c04'),
        ('leader_resign', '45da5f43dbdef52741616101a6103f12b590fe190bb1976f10af085292274e67'),
        ('maintenance_configure', '07d6f84e47307c09e9c84af2c87a6fe261f78b0f182de2c8d35a65f986adf972'),
        ('maintenance_due', 'f97562481d1ab5f23564a02a0ad72f1220fd02c72ba780d54bfa833403e13111'),
        ('maintenance_finish', 'f300be606a4f1872ba8bb544c509c62fe6c286780183c90feb5e3d81824c78f1'),
        ('maintenance_start', '3f45f84fa36879ea5a350ba7898dc9bf666e2fb4c6ecfbf4c79f54bea9fa6f4c'),
        ('maintenance_tick', '7b8b8d0bd74ecee56a56a53e5b994a4a5b71d1b1f3fdadd9f13955a7ce794b0c'),
        ('metrics', 'beda273cfb7a4011312147ff708ae87d8dbafdc1c44606ed5edd06b1109228c6'),
        ('metrics_snapshot', 'aa2b751263d0204f4e7daecd56eefb2e5b659e49dee32c5640970c0815e97720'),
        ('outbox_claim', 'd05593138b578d0e2ca67404709057c5ca641140514b2efdef82a85463933bee'),
        ('outbox_put', '5b7a7d5b0ac3c46124c38165d090db547072455fb333462c876505f76fb4f9ec'),
        ('outbox_put_many', '59921af2dc2b59269d1a0d97d162301bc724101978f673a565621fb5f50f68e5'),
        ('outbox_put_specs', '67abfc22d8a78bcd3771c80385d7bb19956ad7cdbca7c085fdded8d6236c376a'),
        ('outbox_release', '5f366fc983d189a344fd6a718b931afa37a4a19a24b59cef1da5d8a5363126ab'),
        ('outbox_route', '752e32d7a2265ff47ed97fecfea5eb859be13f3613b2ecc811c526942499711d'),
        ('outbox_settle', '8580e6cedb5e7bd1bde469331c75a0cea76e409f3e51a41e24980c112a6cf878'),
        ('outbox_sweep', 'cb34d71c343380a588a6bcc00b9bce64fa662d0c931e9613da7bc52d6b587dc1'),
        ('outbox_unroute', '04ac6d72dea99092a478cc0fc5e2afd864869cab5100911e46c68b613874246e'),
        ('outcomes', '2f7c7653876ca98a7cdc8fa987c4cd47fbba634284e0991db4ae8583849046e0'),
        ('policy', '3602702319cf64c02f845b51d837b3efcf95959c32c13ced07e82a044c58db52'),
        ('queue_ack', '759732bcde5b078c8cdac61cf3fadf90b5f0e1cb217a28cc34f84df7cf9a2af1'),
        ('queue_cancel', '3e5e03c56f1dd2a84f001be8dda9dfc5a529381360fba4a1853384e1dca848f8'),
        ('queue_claim', 'de1b58d405ece7d2953326022206fd7abb67245a90004b680a90c07bb62d49ac'),
        ('queue_configure', '6998f62082535b868c16b3d5c991530e46b97c89ffc1eb64124df787d444f9b3'),
        ('queue_create', '462b58bd405e566a1e9a252cabf224391aeb2b7df133f0101008789dbe4949d0'),
        ('queue_drain', '59dfe4f20eec83c0bc7b670b841919bcbc19a11694a1fa248590fc5a7d99cf94'),
        ('queue_drop', 'a29bbc0794224f535b259fa3114ef12528fab82ce93e23277fb3752acb109ecb'),
        ('queue_extend', 'ce04802f714495be54902ed46142c816f07a04f46bdf7197645e9874f806bcc3'),
        ('queue_nack', '2b826ec5544a6dae1b6c5aae11a8cd1f9bf0069f7d4078eca012aa342b4e2e02'),
        ('queue_pause', '3cf8ff0e3e945af2e9e7ea50524e1be6daf2a8c348ccfe54d65ef1643cb6e383'),
        ('queue_peek', '7ca810514e96d8fe54bd012123630bc0e413bf179b31089317c19433c6a32faf'),
        ('queue_purge', '7ea9d2cca707b7f154f6d36aed88334be6140b8113b7ad69772b01ed9db130b6'),
        ('queue_release', '5fde9639a2db58081d182e6cc7091eb032d8028e218e31d9c4f6a0d537d49860'),
        ('queue_resume', 'a1c8539cfa6f0a7306fd5bb658f368db455d8c43d375e8d87fb87308f5689b5d'),
        ('queue_send', '0b3be77f115e0c721a9dc6bb3788400749c341a0afc5699a5800ea0746c4db68'),
        ('queue_send_many', 'da57453fc619ab7071da525c5687014992fe5aad1a0d578e59931965bbb505ac'),
        ('queue_send_specs', 'c08c26aba0705033cee78ce7c54dcdf09f8a894bd348bc28f9839b3292cde0ed'),
        ('queue_settle', 'fdef187033dcd156ccd77b3f39313d4c2d2723b09bdbc5f6ebe49756dfc002e7'),
        ('queue_work', 'f216f21adc902564ae527f0653f01929193d1caddeaea82d83d754fcfd30a845'),
        ('recovery_sweep', '47aaf82392400f7cd51650bbf052a84318955d733258eaad506dd011a8ce1f89'),
        ('run_cancel', 'faa35a2f9a597bcd643b49f3309c8d4455bdff10db8416124912c0fea19605be'),
        ('run_finish', '49d6cc7043bbe4e3ed954282a2cf23e59851f9c436fe2b075aceb19b639df345'),
        ('run_list', '060c57ac16dd9c7d125638e875e49d0dfcbe9dece1fbba9d23e3bb7aee5e8447'),
        ('run_open', 'e023dbaa4f3ce2df42f494c628818779080c9eeffd2c93a283b8202236e8cd7e'),
        ('run_status', '2d64bb7852b195cf50c974a05e5e82c842e8b8eb31ebc7b3cfc1f1fd74ddf21b'),
        ('run_sweep', 'bf765bc6d1c89a65ea857e8e3fc1c6a95ba1b0742e73adfbcfd7b89d357fcb8a'),
        ('schema_version', '96c4a83da33dfa6ce71ca3f880c9c4b1a9b3f1344bb24ee54f23a250db3f81b4'),
        ('topic_configure', 'ec08110095b8bdd2b29a5b590da716a5330d402eb614e0379068ae53bcf514c0'),
        ('topic_create', '80f673891f727ebc8ee26f7694b192f04e2884c62a8188cfeb8a03baeffb678f'),
        ('topic_drop', '54ee9e0f99267701fec9e1f1fab165b291446696565c5e668ad9d52aa7652277'),
        ('topic_pause', '49381ea27a6913c5034b98175e53ee4fa35cc3da97415c097457f6aff3d4c808'),
        ('topic_resume', 'd065fb0593f9c452ba7a5bce6bd5a77956f6a3c36e02394b8cc45b5c48316085'),
        ('upkeep', '5d9f34863c9030e9c6f577a35b196761c7609cb213f0943ca2a35cc748bc8406')
    ) as s (name, checksum) on d.name = s.name;

    delete from tidegate.routine as r
    where not exists (select from tidegate_installed as i where i.routine = r.routine);

    insert into tidegate.routine as r (routine, kind, source, definition, version)
    select i.routine, i.kind, i.source, i.definition, 'VERSION'
    from tidegate_installed as i
    on conflict (routine) do update
    set
        kind = excluded.kind,
        source = excluded.source,
        definition = excluded.definition,
        version = excluded.version,
        applied_at = case
            when r.definition = excluded.definition then r.applied_at else excluded.applied_at
        end;

    drop table tidegate_installed;
    perform pg_catalog.set_config('search_path', v_path, true);
end;
$$;
