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
comment on column tidegate.tide.holders is 'Virtual transactions that held RowExclusiveLock on position_seq.';
comment on column tidegate.tide.drew_above is 'Beside each holder: whatever it drew lies above this position.';
comment on column tidegate.tide.quiet_since is 'Every row with an earlier deadline was visible, or its transaction had ended.';
comment on column tidegate.tide.movers is 'Virtual transactions that held RowExclusiveLock on scheduled or lease.';
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
'Counters: one appended row per channel and outcome in the transaction of the effect; cleanup folds them. The total is the sum.';

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
values ('0002_create_kernel', '0600d1426c7c42f7d1b6a9249df17413e6ae0f48479edca1e340eb74c95d5e6e', 'VERSION');

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
    constraint channel_inline_limit_in_range check (inline_limit between 0 and 8192)
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
    errors jsonb
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
    enqueued_at timestamptz,
    lease_expires_at timestamptz
);

comment on type tidegate.delivery is
'A message handed out under a lease. attempt counts from 1; topic is where an outbox event came from, null for a plain send.';

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

alter table tidegate.idempotency_key set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

-- ledger/record_migration.sql
insert into tidegate.migration (migration, checksum, version)
values ('0003_create_places', '0096452dc3f0c8db169b5c67308891c023627b31113ddb20987fa8fc5df5bdaf', 'VERSION');

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
    constraint guard_pkey primary key (scope, key),
    constraint guard_state_is_known check (state in ('held', 'done')),
    constraint guard_held_expires check ((state = 'held') = (expires_at is not null)),
    constraint guard_done_has_an_end check ((state = 'done') = (finished_at is not null))
);

create index guard_for_cleanup on tidegate.guard (finished_at) where state = 'done';

comment on table tidegate.guard is
'Who holds what by scope and key, until when; done rows are tombstones with their result, kept for their retention.';

-- An inbox writes a row an event and cleanup removes as many: vacuum by a fixed number of dead rows (see migration 0002).
alter table tidegate.guard set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

-- ledger/record_migration.sql
insert into tidegate.migration (migration, checksum, version)
values ('0004_create_guard', '6393c3dfa3e18c5258a21f1de7f5868f2256a002bfad809b6f81b259ef549feb', 'VERSION');

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
create or replace function tidegate._event_id(p_event_prefix text, p_message_id bigint) returns uuid
language sql immutable parallel safe
return (p_event_prefix || to_hex(p_message_id | (1::bigint << 63)))::uuid;

comment on function tidegate._event_id(text, bigint) is
'Version-8 UUID of the installation (first half) and a message_id (second half, under the variant bit): the identity of an event whose producer gave none.';

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
language sql volatile
begin atomic
insert into tidegate.incident (at, channel_id, routine, sqlstate, message)
select tidegate.clock_now(), p_channel_id, p_routine, p_sqlstate, tidegate._error_text(p_message)
where not exists (
    select from (select * from tidegate.incident order by incident_id desc limit 50) i
    where i.at > tidegate.clock_now() - interval '1 minute'
        and i.routine = p_routine
        and i.channel_id is not distinct from p_channel_id
        and i.message = tidegate._error_text(p_message)
);
end;

comment on function tidegate._incident_note(text, integer, text, text) is
'Note an error that was met and gone on from; the same one at most once a minute. People and doctor() read them.';

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
 * A prepared transaction changes its virtual transaction over a restart: while one holds a lock, nothing is safe.
 */
declare
    v_last tide;
    v_tide tide;
    v_last_at timestamptz;
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
                l.virtualtransaction as name,
                bool_or(l.pid is null) as is_prepared
            from pg_locks l
            where l.locktype = 'relation'
                and l.relation in ('position_seq'::regclass, 'scheduled'::regclass, 'lease'::regclass)
                and l.database = (select d.oid from pg_database d where d.datname = current_database())
                and l.mode = 'RowExclusiveLock'
                and l.pid is distinct from pg_backend_pid()
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
        'retention', 'archive', 'max_in_flight', 'inline_limit', 'tenant_required'
    ];
    v_unknown text;
    v_rule text;
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
        -- null is a value here: no limit
        max_in_flight = case
            when p_policy ? 'max_in_flight' then (p_policy ->> 'max_in_flight')::integer else c.max_in_flight
        end,
        inline_limit = coalesce((p_policy ->> 'inline_limit')::integer, c.inline_limit),
        tenant_required = coalesce((p_policy ->> 'tenant_required')::boolean, c.tenant_required)
    where c.kind = p_kind and c.name = p_name and p_policy <> '{}';
    if not found and not exists (select from channel c where c.kind = p_kind and c.name = p_name) then
        perform _no_such_channel(p_kind, p_name);
    end if;
exception
    when check_violation then
        get stacked diagnostics v_rule = constraint_name;
        perform _bad_argument(
            'p_policy', p_policy::text,
            format('It breaks the rule: %s.', replace(substr(v_rule, length('channel_') + 1), '_', ' '))
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
    insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
    select nextval('position_seq'), p_channel_id, m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors
    from unnest(p_messages) m
    where m.group_key is null or not v_is_grouped;
    if v_is_grouped then
        insert into blocked (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
        select nextval('position_seq'), p_channel_id, m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors
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
        insert into scheduled (due_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
        select
            clock_now() + greatest(p_delay, '1 microsecond'), p_channel_id,
            m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, least(m.max_batch, p_max_batch), m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors
        from unnest(p_messages) m;
    else
        insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
        select
            nextval('position_seq'), p_channel_id,
            m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, least(m.max_batch, p_max_batch), m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors
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
    v_keys text[];
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
    select array_agg(k.key) into v_keys
    from (
        select j.key
        from (
            select distinct m.job_key, m.message_id from unnest(p_messages) m
            where m.job_key is not null
            order by m.job_key
        ) e
        cross join lateral (
            select n.key from job_key n
            where n.channel_id = p_channel_id and n.key = e.job_key and n.message_id = e.message_id
            limit 1
            for update
        ) j
    ) k;
    if v_keys is not null then
        select array_agg(j.follow_up order by (j.follow_up).message_id) into v_follow_ups
        from job_key j
        where j.channel_id = p_channel_id and j.key = any(v_keys) and j.follow_up is distinct from null
            and coalesce(j.follow_up_due_at <= clock_now(), true);
        insert into scheduled (due_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
        select
            greatest(j.follow_up_due_at, clock_now() + interval '1 microsecond'), p_channel_id,
            (j.follow_up).attempts, (j.follow_up).priority, (j.follow_up).message_id, (j.follow_up).enqueued_at, (j.follow_up).payload, (j.follow_up).headers, (j.follow_up).event_id, (j.follow_up).body_id, (j.follow_up).body_bytes, (j.follow_up).max_attempts, (j.follow_up).max_batch, (j.follow_up).requeued_from, (j.follow_up).backoff, (j.follow_up).topic, (j.follow_up).group_key, (j.follow_up).job_key, (j.follow_up).run_id, (j.follow_up).tenant, (j.follow_up).errors
        from job_key j
        where j.channel_id = p_channel_id and j.key = any(v_keys) and j.follow_up is distinct from null
            and j.follow_up_due_at > clock_now();
        if found then
            -- A poll that knows the queue to be idle until a later deadline looks again.
            perform nextval('position_seq');
        end if;
        delete from job_key j
        where j.channel_id = p_channel_id and j.key = any(v_keys) and j.follow_up is not distinct from null;
        update job_key j
        set message_id = (j.follow_up).message_id, follow_up = null, follow_up_due_at = null
        where j.channel_id = p_channel_id and j.key = any(v_keys);
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
        perform _require_read_committed('a settlement of messages with a group key');
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

    -- The comparison of rows leaves no index but that of the group. Found, and gone when its row is reached (a cancel,
    -- a replacement with a delay): looked for again.
    loop
        select
            array_agg(n.row_id order by t.ordinality), array_agg(n.position order by t.ordinality),
            array_agg(n.message_id order by t.ordinality), bool_or(f.group_key = t.group_key and n.row_id is null)
        into v_nexts, v_positions, v_holders, v_is_gone
        from unnest(v_groups, v_marks) with ordinality t (group_key, position, ordinality)
        left join lateral (
            select b.group_key, b.position from blocked b
            where b.channel_id = p_channel_id and (b.group_key, b.position) > (t.group_key, t.position)
            order by b.group_key, b.position
            limit 1
        ) f on true
        left join lateral (
            select b.ctid as row_id, b.position, b.message_id from blocked b
            where b.channel_id = p_channel_id and b.group_key = t.group_key and b.group_key = f.group_key
                and b.position = f.position
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
    insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
    select nextval('position_seq'), n.channel_id, n.attempts, n.priority, n.message_id, n.enqueued_at, n.payload, n.headers, n.event_id, n.body_id, n.body_bytes, n.max_attempts, n.max_batch, n.requeued_from, n.backoff, n.topic, n.group_key, n.job_key, n.run_id, n.tenant, n.errors
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
    -- Entries are locked in order of their ids, as whoever requeues or discards them does.
    perform from dead_letter d
    where d.dead_letter_id = any(array(select m.requeued_from from unnest(p_messages) m))
        or (
            d.channel_id = p_channel_id and d.state = 'dead'
            and d.job_key = any(array(select m.job_key from unnest(p_messages) m))
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
            and row_number() over (partition by f.entry_id order by f.ordinality) = 1 as has_entry
        from fallen f
    ), landed as (
        update dead_letter d
        set state = p_state, resolved_at = case when p_state = 'discarded' then v_now end,
            dead_at = v_now,
            failure_count = d.failure_count + (p_state = 'dead')::integer, reason = j.reason, last_error = j.error,
            attempts = j.attempts, priority = j.priority, message_id = j.message_id, enqueued_at = j.enqueued_at,
            payload = j.payload, headers = j.headers, body_id = j.body_id, body_bytes = j.body_bytes,
            event_id = coalesce(j.event_id, _event_id(j.event_prefix, j.message_id)),
            max_attempts = j.max_attempts, backoff = j.backoff, topic = j.topic, group_key = j.group_key,
            run_id = j.run_id, tenant = j.tenant,
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
        dead_at, channel_id, kind, channel, reason, last_error, state, resolved_at, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors
    )
    select
        v_now, p_channel_id, j.kind, j.channel, j.reason, j.error,
        p_state, case when p_state = 'discarded' then v_now end,
        j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, coalesce(j.event_id, _event_id(j.event_prefix, j.message_id)), j.body_id, j.body_bytes, j.max_attempts, j.max_batch, null, j.backoff, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors
    from judged j
    where not j.has_entry
    order by j.ordinality;

    if exists (select from unnest(p_messages) m where m.group_key is not null or m.job_key is not null) then
        perform _message_end(p_channel_id, p_messages);
    end if;
end;
$$;

comment on function tidegate._message_bury(integer, tidegate.message[], text[], text[], text) is
'Make messages dead letters, each with its reason and error, which run beside them; p_state is dead or, where nobody needs to look at them, discarded.';

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
as $$
begin
    delete from body b using unnest(p_messages) m where b.body_id = m.body_id;
    update dead_letter d set state = 'discarded', resolved_at = clock_now()
    where d.dead_letter_id = any(array(select m.requeued_from from unnest(p_messages) m));
    if exists (select from unnest(p_messages) m where m.group_key is not null or m.job_key is not null) then
        perform _message_end(p_channel_id, p_messages);
    end if;
end;
$$;

comment on function tidegate._message_drop(integer, tidegate.message[]) is
'Lose messages for good, as somebody has asked for; the dead letters they were requeued from are discarded with them.';

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
                ) as errors,
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
        insert into scheduled (due_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
        select greatest(v_now + j.delay, clock_now() + interval '1 microsecond'), p_channel_id, j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, j.event_id, j.body_id, j.body_bytes, j.max_attempts, j.max_batch, j.requeued_from, j.backoff, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors
        from judged j
        where not j.is_dead and j.delay > '0'
        returning 1
    ), entered as (
        insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
        select nextval('position_seq'), p_channel_id, j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, j.event_id, j.body_id, j.body_bytes, j.max_attempts, j.max_batch, j.requeued_from, j.backoff, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors
        from (select * from judged order by ordinal) j
        where not j.is_dead and j.delay <= '0'
        returning 1
    )
    select
        (select count(*) from delayed) + (select count(*) from entered),
        array_agg(row(j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, j.event_id, j.body_id, j.body_bytes, j.max_attempts, j.max_batch, j.requeued_from, j.backoff, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors)::message), array_agg(coalesce(j.final, p_reason)), array_agg(j.error)
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
    p_channel_id integer, p_archive boolean, p_messages tidegate.message[]
) returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
set enable_seqscan = off
as $$
/* A success leaves behind: an archived copy where the channel wants one, a resolved dead letter, a turn handed on. */
begin
    if p_archive then
        insert into archive (settled_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
        select
            clock_now(), p_channel_id,
            m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, coalesce(m.event_id, _event_id(i.event_prefix, m.message_id)), m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors
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

comment on function tidegate._message_finish(integer, boolean, tidegate.message[]) is
'End messages that succeeded: archive them or drop their bodies, resolve the dead letters they were requeued from, and hand on the turn of their group and their job key.';

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
select coalesce(array_agg(r.message_id), '{}')
from tidegate.cancel_request r
where r.channel_id = p_channel_id and r.message_id in (select m.message_id from unnest(p_messages) m);
end;

comment on function tidegate._cancelled(integer, tidegate.message[]) is
'Which of these leased messages somebody wants stopped: they are not handed out again. An empty array when none.';

-- functions/place/_lease_deliveries.sql
create or replace function tidegate._lease_deliveries(p_lease_id uuid, p_channel_id integer)
returns setof tidegate.delivery
language sql stable
begin atomic
select
    l.lease_id, m.message_id, coalesce(m.event_id, tidegate._event_id(c.event_prefix, m.message_id)),
    m.topic, m.attempts + 1, coalesce(m.max_attempts, c.max_attempts),
    coalesce(m.payload, b.payload), m.headers, m.priority,
    m.group_key, m.job_key, m.run_id, m.tenant, m.enqueued_at, l.expires_at
from tidegate.lease l
cross join lateral unnest(l.messages) with ordinality m
inner join tidegate.channel c on c.channel_id = l.channel_id
left join tidegate.body b on b.body_id = m.body_id
where l.lease_id = p_lease_id and l.channel_id = p_channel_id
    and m.ordinality <> all(coalesce(l.settled, '{}'))
order by m.ordinality;
end;

comment on function tidegate._lease_deliveries(uuid, integer) is
'What a lease of a channel still holds, as it was handed out: the answer to a repeated claim. No rows when there is no such lease.';

-- functions/place/_lease_settle.sql
create or replace function tidegate._lease_settle(
    p_lease_id uuid, p_done bigint[], p_failed jsonb, p_released bigint[] default '{}', p_retry_in interval default '0'
) returns tidegate.settled
language plpgsql volatile
set search_path = tidegate, pg_temp
set enable_seqscan = off
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
    select l.channel_id, l.message_count, l.is_plain, l.settled
    into v_lease.channel_id, v_lease.message_count, v_lease.is_plain, v_lease.settled
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
        if exists (select from cancel_request r where r.channel_id = v_lease.channel_id) then
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

        if v_done is not null then
            perform _message_finish(v_channel.channel_id, v_channel.archive, v_done);
        end if;
        if v_released is not null then
            perform _message_return(v_channel.channel_id, v_released, p_retry_in);
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

comment on function tidegate._lease_settle(uuid, bigint[], jsonb, bigint[], interval) is
'Settle messages of a lease as done, failed or released; what is named in none of them stays leased. Answers lost when the lease is gone, and then changes nothing.';

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
            insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
            select nextval('position_seq'), j.channel_id, j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, j.event_id, j.body_id, j.body_bytes, j.max_attempts, j.max_batch, j.requeued_from, j.backoff, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors
            from judged j
            where not j.must_wait
            returning 1
        ), waiting as (
            insert into blocked (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
            select nextval('position_seq'), j.channel_id, j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, j.event_id, j.body_id, j.body_bytes, j.max_attempts, j.max_batch, j.requeued_from, j.backoff, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors
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
                insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
                select nextval('position_seq'), j.channel_id, j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, j.event_id, j.body_id, j.body_bytes, j.max_attempts, j.max_batch, j.requeued_from, j.backoff, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors
                from judged j
                where not j.must_wait
                returning 1
            ), waiting as (
                insert into blocked (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
                select nextval('position_seq'), j.channel_id, j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, j.event_id, j.body_id, j.body_bytes, j.max_attempts, j.max_batch, j.requeued_from, j.backoff, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors
                from judged j
                where j.must_wait
                returning 1
            )
            select (select count(*) from entered) + (select count(*) from waiting) into v_moved;
        exception
            when others then
                update scheduled set due_at = greatest(v_now, clock_now()) + interval '1 minute'
                where channel_id = p_channel_id and due_at between p_from and v_now and message_id = v_message_id;
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
 * then comes what was drawn lately, above p_recent.
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
            array_agg(t.position order by u.ordinality)
        into v_turns, v_holders, v_marks
        from unnest(v_groups) with ordinality u (group_key, ordinality)
        left join lateral (
            select n.turn, n.message_id, n.position from group_turn n
            where n.channel_id = p_channel_id and n.group_key = u.group_key
            order by n.turn desc
            limit 1
        ) t on true;

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

        with candidate as (
            select b.row_id, u.group_key, u.first, b.message_id, coalesce(u.turn, 0) + 1 as turn
            from unnest(v_groups, v_firsts, v_turns, v_holders) as u (group_key, first, turn, holder)
            cross join lateral (
                select n.ctid as row_id, n.message_id from blocked n
                where n.channel_id = p_channel_id and n.group_key = u.group_key and n.position = u.first
                limit 1
                for update skip locked
            ) b
            where u.holder is null and (u.turn is null or u.group_key = any(v_locked))
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
            insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
            select nextval('position_seq'), t.channel_id, t.attempts, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, t.max_attempts, t.max_batch, t.requeued_from, t.backoff, t.topic, t.group_key, t.job_key, t.run_id, t.tenant, t.errors
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

-- functions/place/_keyed_send.sql
create or replace function tidegate._keyed_send(
    p_channel_id integer, p_mode text, p_due_at timestamptz, p_message tidegate.message
) returns tidegate.sent
language plpgsql volatile
set search_path = tidegate, pg_temp
set enable_seqscan = off
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
    if p_mode is null or p_mode not in ('replace', 'preserve_run_at', 'dedupe') then
        perform _bad_argument('p_key_mode', p_mode, 'The modes are replace, preserve_run_at and dedupe.');
    end if;
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
                insert into scheduled (due_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
                select
                    greatest(p_due_at, clock_now() + interval '1 microsecond'), p_channel_id,
                    p_message.attempts, p_message.priority, p_message.message_id, p_message.enqueued_at, p_message.payload, p_message.headers, p_message.event_id, p_message.body_id, p_message.body_bytes, p_message.max_attempts, p_message.max_batch, p_message.requeued_from, p_message.backoff, p_message.topic, p_message.group_key, p_message.job_key, p_message.run_id, p_message.tenant, p_message.errors;
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
        select w.place, w.due_at, w.due_at, w.position, (w.message).attempts, (w.message).priority, (w.message).message_id, (w.message).enqueued_at, (w.message).payload, (w.message).headers, (w.message).event_id, (w.message).body_id, (w.message).body_bytes, (w.message).max_attempts, (w.message).max_batch, (w.message).requeued_from, (w.message).backoff, (w.message).topic, (w.message).group_key, (w.message).job_key, (w.message).run_id, (w.message).tenant, (w.message).errors
        into v_place, v_from, v_due_at, v_position, v_old.attempts, v_old.priority, v_old.message_id, v_old.enqueued_at, v_old.payload, v_old.headers, v_old.event_id, v_old.body_id, v_old.body_bytes, v_old.max_attempts, v_old.max_batch, v_old.requeued_from, v_old.backoff, v_old.topic, v_old.group_key, v_old.job_key, v_old.run_id, v_old.tenant, v_old.errors
        from (
            
            select
                'ready' as place, row(p.attempts, p.priority, p.message_id, p.enqueued_at, p.payload, p.headers, p.event_id, p.body_id, p.body_bytes, p.max_attempts, p.max_batch, p.requeued_from, p.backoff, p.topic, p.group_key, p.job_key, p.run_id, p.tenant, p.errors)::message as message,
                null::timestamptz as due_at, p.position
            from ready p
            where p.channel_id = p_channel_id and p.job_key = p_message.job_key and p.message_id = v_key.message_id
            union all
            select
                'scheduled' as place, row(p.attempts, p.priority, p.message_id, p.enqueued_at, p.payload, p.headers, p.event_id, p.body_id, p.body_bytes, p.max_attempts, p.max_batch, p.requeued_from, p.backoff, p.topic, p.group_key, p.job_key, p.run_id, p.tenant, p.errors)::message as message,
                p.due_at, null::bigint as position
            from scheduled p
            where p.channel_id = p_channel_id and p.job_key = p_message.job_key and p.message_id = v_key.message_id
            union all
            select
                'blocked' as place, row(p.attempts, p.priority, p.message_id, p.enqueued_at, p.payload, p.headers, p.event_id, p.body_id, p.body_bytes, p.max_attempts, p.max_batch, p.requeued_from, p.backoff, p.topic, p.group_key, p.job_key, p.run_id, p.tenant, p.errors)::message as message,
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

        v_new := row(p_message.attempts, p_message.priority, v_old.message_id, v_old.enqueued_at, p_message.payload, p_message.headers, coalesce(p_message.event_id, v_old.event_id), p_message.body_id, p_message.body_bytes, p_message.max_attempts, p_message.max_batch, v_old.requeued_from, p_message.backoff, v_old.topic, p_message.group_key, p_message.job_key, p_message.run_id, p_message.tenant, p_message.errors)::message;
        if p_mode = 'replace' then
            v_stays := p_due_at is null or p_due_at <= clock_now();
            v_due_at := p_due_at;
        else
            v_stays := true;
        end if;
        -- A place is left only where it does not fit any more: who is replaced again and again keeps his turn.
        if v_place = 'ready' and v_stays and v_new.priority = v_old.priority then
            update ready set (attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors) = (select v_new.attempts, v_new.priority, v_new.message_id, v_new.enqueued_at, v_new.payload, v_new.headers, v_new.event_id, v_new.body_id, v_new.body_bytes, v_new.max_attempts, v_new.max_batch, v_new.requeued_from, v_new.backoff, v_new.topic, v_new.group_key, v_new.job_key, v_new.run_id, v_new.tenant, v_new.errors)
            where channel_id = p_channel_id and priority = v_old.priority and position = v_position;
        elsif v_place = 'blocked' and v_stays then
            update blocked set (attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors) = (select v_new.attempts, v_new.priority, v_new.message_id, v_new.enqueued_at, v_new.payload, v_new.headers, v_new.event_id, v_new.body_id, v_new.body_bytes, v_new.max_attempts, v_new.max_batch, v_new.requeued_from, v_new.backoff, v_new.topic, v_new.group_key, v_new.job_key, v_new.run_id, v_new.tenant, v_new.errors)
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
                    insert into scheduled (due_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
                    select
                        greatest(v_due_at, clock_now() + interval '1 microsecond'), p_channel_id,
                        v_new.attempts, v_new.priority, v_new.message_id, v_new.enqueued_at, v_new.payload, v_new.headers, v_new.event_id, v_new.body_id, v_new.body_bytes, v_new.max_attempts, v_new.max_batch, v_new.requeued_from, v_new.backoff, v_new.topic, v_new.group_key, v_new.job_key, v_new.run_id, v_new.tenant, v_new.errors;
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
            insert into tally (channel_id, outcome, amount) values (p_channel_id, 'expired', cardinality(v_left));
            v_unwanted := _cancelled(p_channel_id, v_left);
            if v_unwanted <> '{}' then
                -- What somebody wants stopped does not come back.
                select
                    array_agg(row(m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors)::message) filter (where m.message_id = any(v_unwanted)),
                    array_agg(row(m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors)::message order by m.ordinality)
                        filter (where m.message_id <> all(v_unwanted))
                into v_cancelled, v_left
                from unnest(v_left) with ordinality m;
                perform _message_cancel(p_channel_id, v_cancelled, 'cancelled while it was leased');
            end if;
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
                perform _incident_note('_lease_expire', p_channel_id, sqlstate, sqlerrm);
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
as $$
/*
 * The net below the proof. By it nothing stands at or below a floor; but a sequence that was set back by less than
 * what was drawn until the next tick cannot be told from one that was not. What is found enters anew. This walks over
 * what vacuum has not removed yet, so it is no claim's work but that of a cleanup every few minutes.
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
            insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
            select nextval('position_seq'), s.channel_id, s.attempts, s.priority, s.message_id, s.enqueued_at, s.payload, s.headers, s.event_id, s.body_id, s.body_bytes, s.max_attempts, s.max_batch, s.requeued_from, s.backoff, s.topic, s.group_key, s.job_key, s.run_id, s.tenant, s.errors
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
    end loop;
    return v_total;
end;
$$;

comment on function tidegate._stranded_replace(integer) is
'Find messages at or below the floor of their channel, up to p_limit a priority, and let them enter ready anew; find groups whose next one was overlooked, and let the next tick look again. Returns how many; 0 is the ordinary case.';

-- functions/guard/guard_claim.sql
create or replace function tidegate.guard_claim(
    p_scope text,
    p_key text,
    p_owner text,
    p_lease interval default '5 minutes',
    p_run_id text default null,
    out outcome text,
    out result jsonb
)
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
/*
 * The unique key decides among racers: all but one wait for it to commit or abort, and then look at what is there.
 * The row is read under its lock, in a statement of its own, so that a take-over sees the latest deadline.
 */
declare
    v_now timestamptz;
    v_guard guard;
begin
    if p_scope is null or p_key is null or p_owner is null then
        perform _bad_argument(
            case when p_scope is null then 'p_scope' when p_key is null then 'p_key' else 'p_owner' end, null,
            'A guard is claimed by scope, key and owner.'
        );
    end if;
    if p_lease is null or p_lease <= '0' or p_lease > '100 years' then
        perform _bad_argument(
            'p_lease', p_lease::text, 'A lease lasts a positive time, for example interval ''5 minutes''.'
        );
    end if;
    loop
        insert into guard (scope, key, owner, claimed_at, expires_at, run_id)
        values (p_scope, p_key, p_owner, clock_now(), clock_now() + p_lease, p_run_id)
        on conflict do nothing;
        if found then
            outcome := 'won';
            return;
        end if;
        select * into v_guard from guard g where g.scope = p_scope and g.key = p_key for update;
        exit when found; -- else it was released meanwhile: try again
    end loop;

    v_now := clock_now();
    if v_guard.state = 'done' then
        outcome := 'done';
        result := v_guard.result;
    elsif v_guard.owner = p_owner or v_guard.expires_at <= v_now then
        update guard
        set owner = p_owner, claimed_at = v_now, expires_at = v_now + p_lease, run_id = coalesce(p_run_id, run_id)
        where scope = p_scope and key = p_key;
        outcome := 'won';
    else
        outcome := 'held';
    end if;
end;
$$;

comment on function tidegate.guard_claim(text, text, text, interval, text) is
'Win the right to do something once. outcome: won (also for a repeat by the same owner, and for a take-over once the holder''s lease has passed), held (somebody else has it), done (finished before: result is the first one''s). Errors: TG010 bad argument.';

-- functions/guard/guard_finish.sql
create or replace function tidegate.guard_finish(
    p_scope text, p_key text, p_owner text, p_result jsonb default null
) returns text
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
begin
    update guard
    set state = 'done', finished_at = clock_now(), expires_at = null, result = p_result
    where scope = p_scope and key = p_key and owner = p_owner and state = 'held';
    if found then
        return 'done';
    end if;
    perform from guard where scope = p_scope and key = p_key and owner = p_owner and state = 'done';
    return case when found then 'done' else 'lost' end;
end;
$$;

comment on function tidegate.guard_finish(text, text, text, jsonb) is
'Finish what a guard protects: it leaves a tombstone with the result until retention. Answers done, also to a repeat by the same owner (the first result stays), or lost when somebody else holds or finished it, or nobody does.';

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
            array_agg(row(case when p_reset_attempts then 0 else h.attempts end, h.priority, h.child, h.enqueued_at, h.payload, h.headers, coalesce(h.event_id, _event_id(h.event_prefix, h.message_id)), h.own_body_id, h.body_bytes, h.max_attempts, null, h.dead_letter_id, h.backoff, h.topic, h.group_key, h.job_key, h.run_id, h.tenant, h.errors)::message order by h.ordinal) as messages
        from chosen h
        group by h.channel_id
        order by h.channel_id
    loop
        insert into scheduled (due_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
        select
            greatest(d.due_at, clock_now() + interval '1 microsecond'), v_batch.channel_id, m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors
        from unnest(v_batch.messages) with ordinality m
        inner join unnest(v_batch.due) with ordinality d (due_at, ordinality) on d.ordinality = m.ordinality
        where d.due_at > v_now;
        perform _message_enter(v_batch.channel_id, e.messages)
        from (
            select array_agg(row(m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors)::message order by m.ordinality) as messages
            from unnest(v_batch.messages) with ordinality m
            inner join unnest(v_batch.due) with ordinality d (due_at, ordinality) on d.ordinality = m.ordinality
            where d.due_at <= v_now
        ) e
        where e.messages is not null;
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
language sql stable
set search_path = tidegate, pg_temp
begin atomic
select case
    when strpos(p_handler, '(') > 0 then to_regprocedure(p_handler)
    else coalesce(
        to_regprocedure(p_handler || '(jsonb)'),
        to_regprocedure(p_handler || '(' || quote_ident('tidegate') || '.message)')
    )
end::oid;
end;

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
'Change the policy of a queue: lease, max_runtime, max_attempts (0 = for ever), backoff_base, backoff_cap, jitter (a share), retention (of archived messages), archive, max_in_flight (null = unlimited), inline_limit (bytes), tenant_required. Keys not given stay as they are. Errors: TG010 unknown key or bad value, TG020 no such queue.';

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
'Take no more messages: sends are refused with TG023, topics routed here wait, and workers finish what is there, retries and requeued dead letters included. queue_resume ends it. A repeat changes nothing. Errors: TG020 no such queue.';

-- functions/queue/queue_purge.sql
create or replace function tidegate.queue_purge(p_queue text, p_to text default 'dead_letter') returns bigint
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
/*
 * In batches, so that memory stays bounded, in one transaction. From behind: first the follow-ups, then what waits in
 * blocked, so that nothing is handed a turn only to be purged in its turn. What others hold at the moment is skipped:
 * a message, its job key, or the turn of its group. So a purge waits for nobody, and no two can wait for each other.
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
                    and (
                        p.group_key is null
                        or not exists (
                            select from group_turn t
                            where t.channel_id = v_channel_id and t.group_key = p.group_key
                        )
                        or exists (
                            select from group_turn t
                            where t.channel_id = v_channel_id and t.group_key = p.group_key
                            order by t.turn desc
                            limit 1
                            for update skip locked
                        )
                    )
                limit 1000
                for update skip locked
            )) returning *
        )
        select array_agg(row(t.attempts, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, t.max_attempts, t.max_batch, t.requeued_from, t.backoff, t.topic, t.group_key, t.job_key, t.run_id, t.tenant, t.errors)::message order by t.message_id) into v_messages from taken t;
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
                    and (
                        p.group_key is null
                        or not exists (
                            select from group_turn t
                            where t.channel_id = v_channel_id and t.group_key = p.group_key
                        )
                        or exists (
                            select from group_turn t
                            where t.channel_id = v_channel_id and t.group_key = p.group_key
                            order by t.turn desc
                            limit 1
                            for update skip locked
                        )
                    )
                limit 1000
                for update skip locked
            )) returning *
        )
        select array_agg(row(t.attempts, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, t.max_attempts, t.max_batch, t.requeued_from, t.backoff, t.topic, t.group_key, t.job_key, t.run_id, t.tenant, t.errors)::message order by t.message_id) into v_messages from taken t;
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
                    and (
                        p.group_key is null
                        or not exists (
                            select from group_turn t
                            where t.channel_id = v_channel_id and t.group_key = p.group_key
                        )
                        or exists (
                            select from group_turn t
                            where t.channel_id = v_channel_id and t.group_key = p.group_key
                            order by t.turn desc
                            limit 1
                            for update skip locked
                        )
                    )
                limit 1000
                for update skip locked
            )) returning *
        )
        select array_agg(row(t.attempts, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, t.max_attempts, t.max_batch, t.requeued_from, t.backoff, t.topic, t.group_key, t.job_key, t.run_id, t.tenant, t.errors)::message order by t.message_id) into v_messages from taken t;
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
'Empty a queue of all that waits: into dead letters with reason purged, from where it can be requeued, or, with p_to discard, for good. Leased messages stay. Returns how many were purged; 0 when nothing waits. Errors: TG010 bad p_to, TG020 no such queue.';

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
    select c.channel_id, c.inline_limit, c.tenant_required, c.is_draining into v_channel
    from channel c
    where c.kind = 'queue' and c.name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
    if p_priority = 0 and p_run_at is null and p_idempotency_key is null and p_group_key is null
        and current_setting('transaction_isolation') = 'read committed'
        and (p_tenant is not null or not v_channel.tenant_required)
        and (p_headers is null or (jsonb_typeof(p_headers) = 'object' and _json_size(p_headers) <= 8192))
        and p_max_attempts is null and p_backoff is null and not v_channel.is_draining
        and _json_size(p_payload) <= v_channel.inline_limit and p_job_key is null
    then
        v_sent := row(nextval('position_seq'), 'inserted');
        insert into ready (
            position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, run_id, tenant
        ) values (
            v_sent.message_id, v_channel.channel_id, 0, 0, v_sent.message_id, clock_now(), p_payload, p_headers,
            p_event_id, p_run_id, p_tenant
        );
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
    if octet_length(p_idempotency_key) > 512 then
        perform _bad_argument('p_idempotency_key', left(p_idempotency_key, 100), 'A key has at most 512 bytes; hash a longer one.');
    end if;
    if p_priority > 0 then
        perform _priority_declare(v_channel.channel_id, array[p_priority]::smallint[]);
    end if;
    if p_payload is null then
        perform _bad_argument('p_payload', null, 'Give a JSON value; for an empty one, ''null''::jsonb.');
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
    if v_size > v_channel.inline_limit then
        insert into body (payload) values (p_payload) returning body_id into v_body_id;
    end if;
    if p_job_key is not null then
        v_sent := _keyed_send(
            v_channel.channel_id, p_key_mode, p_run_at,
            row(0, p_priority, v_sent.message_id, clock_now(), case when v_body_id is null then p_payload end, p_headers, p_event_id, v_body_id, case when v_body_id is not null then v_size end, p_max_attempts, null, null, p_backoff, null, p_group_key, p_job_key, p_run_id, p_tenant, null)::message
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
    select c.channel_id, c.inline_limit, c.tenant_required, c.is_draining into v_channel
    from channel c
    where c.kind = 'queue' and c.name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
    if p_priority = 0 and p_run_at is null and p_idempotency_key is null and p_group_key is null
        and current_setting('transaction_isolation') = 'read committed'
        and (p_tenant is not null or not v_channel.tenant_required)
        and (p_headers is null or (jsonb_typeof(p_headers) = 'object' and _json_size(p_headers) <= 8192))
        and p_max_attempts is null and p_backoff is null and not v_channel.is_draining
        and array_ndims(p_payloads) = 1
        and (
            select max(coalesce(_json_size(u.payload), 2147483647)) from unnest(p_payloads) u (payload)
        ) <= v_channel.inline_limit
    then
        return query
        insert into ready (
            position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, run_id, tenant
        )
        select i.id, v_channel.channel_id, 0, 0, i.id, v_now, i.payload, p_headers, p_run_id, p_tenant
        from (select nextval('position_seq') as id, u.payload from unnest(p_payloads) u (payload)) i
        returning ready.message_id, 'inserted'::text;
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
    if octet_length(p_idempotency_key) > 512 then
        perform _bad_argument('p_idempotency_key', left(p_idempotency_key, 100), 'A key has at most 512 bytes; hash a longer one.');
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

    if p_idempotency_key is null and (p_run_at is null or p_run_at <= clock_now()) then
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
    v_spec jsonb;
begin
    for v_spec in
        select s.spec from _specs_check(p_specs, array[
            'payload', 'headers', 'run_at', 'priority', 'group_key', 'job_key', 'key_mode', 'idempotency_key',
            'event_id', 'run_id', 'tenant', 'max_attempts', 'backoff'
        ]) s (spec)
    loop
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
            select m.attempts, m.priority::smallint, m.message_id, m.enqueued_at, coalesce(m.payload, (select b.payload from body b where b.body_id = m.body_id)), m.headers, coalesce(m.event_id, _event_id(v_channel.event_prefix, m.message_id)), m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors
            from (
                select * from ready p
                where p.channel_id = v_channel.channel_id
                order by priority, position
                limit p_limit
            ) m
            order by priority, position;
        when 'scheduled' then
            return query
            select m.attempts, m.priority::smallint, m.message_id, m.enqueued_at, coalesce(m.payload, (select b.payload from body b where b.body_id = m.body_id)), m.headers, coalesce(m.event_id, _event_id(v_channel.event_prefix, m.message_id)), m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors
            from (
                select * from scheduled p
                where p.channel_id = v_channel.channel_id
                order by due_at, message_id
                limit p_limit
            ) m
            order by due_at, message_id;
        when 'blocked' then
            return query
            select m.attempts, m.priority::smallint, m.message_id, m.enqueued_at, coalesce(m.payload, (select b.payload from body b where b.body_id = m.body_id)), m.headers, coalesce(m.event_id, _event_id(v_channel.event_prefix, m.message_id)), m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors
            from (
                select * from blocked p
                where p.channel_id = v_channel.channel_id
                order by position
                limit p_limit
            ) m
            order by position;
        when 'lease' then
            return query
            select m.attempts, m.priority::smallint, m.message_id, m.enqueued_at, coalesce(m.payload, (select b.payload from body b where b.body_id = m.body_id)), m.headers, coalesce(m.event_id, _event_id(v_channel.event_prefix, m.message_id)), m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors
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
 * out again. A message on its way from one place to the next is waited for, and looked for again: three times, as its
 * way has no more stations.
 */
declare
    v_channel_id integer;
    v_ids bigint[] := p_message_ids;
    v_keys text[];
    v_groups text[];
    v_messages message[];
    v_cancelled bigint[] := '{}';
    v_leased bigint[] := '{}';
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

    -- Locked in the order of a settlement: keys, turns, then messages. What is not found here because it is on its way
    -- is cancelled all the same.
    if p_message_ids is not null then
        select array_agg(distinct w.job_key), array_agg(distinct w.group_key) into v_keys, v_groups
        from (
            
            select p.job_key, p.group_key from scheduled p
            where p.channel_id = v_channel_id and p.message_id = any(p_message_ids)
            union all
            select p.job_key, p.group_key from blocked p
            where p.channel_id = v_channel_id and p.message_id = any(p_message_ids)
            union all
            select p.job_key, p.group_key from ready p
            where p.channel_id = v_channel_id and p.message_id = any(p_message_ids)
        ) w;
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

    for v_round in 1 .. 3 loop
        with taken as (
            delete from scheduled p
            where p.channel_id = v_channel_id and p.message_id = any(v_ids)
                and (p_job_key is null or p.job_key = p_job_key)
            returning *
        )
        select array_agg(row(t.attempts, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, t.max_attempts, t.max_batch, t.requeued_from, t.backoff, t.topic, t.group_key, t.job_key, t.run_id, t.tenant, t.errors)::message order by t.message_id) into v_messages from taken t;
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
        select array_agg(row(t.attempts, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, t.max_attempts, t.max_batch, t.requeued_from, t.backoff, t.topic, t.group_key, t.job_key, t.run_id, t.tenant, t.errors)::message order by t.message_id) into v_messages from taken t;
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
        select array_agg(row(t.attempts, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, t.max_attempts, t.max_batch, t.requeued_from, t.backoff, t.topic, t.group_key, t.job_key, t.run_id, t.tenant, t.errors)::message order by t.message_id) into v_messages from taken t;
        if v_messages is not null then
            v_cancelled := v_cancelled || array(select m.message_id from unnest(v_messages) m);
            perform _message_cancel(v_channel_id, v_messages, 'cancelled while it waited');
        end if;
        v_ids := array(select i.id from unnest(v_ids) i (id) where i.id <> all(v_cancelled || v_leased));
        exit when v_ids = '{}';

        with held as (
            select l.channel_id, l.messages, l.settled from lease l
            where l.channel_id = v_channel_id
                and exists (select from unnest(l.messages) m where m.message_id = any(v_ids))
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
        select v_leased || coalesce(array_agg(f.message_id), '{}') into v_leased from flagged f;
        v_ids := array(select i.id from unnest(v_ids) i (id) where i.id <> all(v_leased));
        exit when v_ids = '{}';
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
'Cancel messages by id, or the one of a job key with its follow-up. One row a message: cancelled (it waited, and is kept as a discarded dead letter until its retention), leased (its holder is told by queue_extend; it is not handed out again, and done if it is acked first), or unknown (it is gone, or never was). No rows when nothing of that job key is alive. By id it reads what waits in the queue. Errors: TG010 bad argument, TG020 no such queue.';

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
 * leased after it.
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
    v_expires_at timestamptz;
begin
    -- The ordinary call passes one test: each expression is set up anew in every transaction.
    if (
        p_limit between 1 and 10000 and (p_lease is null or p_lease > '0')
        and current_setting('transaction_isolation') = 'read committed'
    ) is not true then
        if current_setting('transaction_isolation') <> 'read committed' then
            perform _require_read_committed('queue_claim');
        elsif p_lease <= '0' then
            perform _bad_argument(
                'p_lease', p_lease::text, 'A lease lasts a positive time, for example interval ''1 minute''.'
            );
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
    if v_channel.is_paused or p_lease_id is not null or p_lease > v_channel.max_runtime
        or v_channel.max_in_flight is not null or v_drawn not between 1 and 5000
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
            and (current_setting('tidegate.tick', true) = 'on' or (
                pg_current_xact_id_if_assigned() is null
                and statement_timestamp() < transaction_timestamp() + interval '100 ms'
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
        -- The default, without the second statement and the arrays of a batch: a third cheaper.
        foreach v_priority in array v_floor.priorities loop
            delete from ready where ctid = any(array(
                select r.ctid from ready r
                where r.channel_id = v_channel.channel_id and r.priority = v_priority
                    and r.position > v_floor.hints[v_priority + 1]
                order by r.position
                limit 1
                for update skip locked
            ))
            returning attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors into v_message;
            exit when found;
        end loop;
        if v_message.message_id is null then
            return;
        end if;
        insert into lease (lease_id, claimed_at, expires_at, channel_id, message_count, is_plain, worker, messages)
        values (
            coalesce(p_lease_id, gen_random_uuid()), clock_now(), clock_now() + greatest(coalesce(p_lease, v_channel.lease), '1 microsecond'), v_channel.channel_id, 1,
            not v_channel.archive and v_message.body_bytes is null and v_message.requeued_from is null and v_message.group_key is null and v_message.job_key is null,
            p_worker, array[v_message]
        ) returning lease_id, expires_at into v_lease_id, v_expires_at;
        if v_message.body_bytes is null then
            return next row(
                v_lease_id, v_message.message_id,
                coalesce(v_message.event_id, _event_id(v_channel.event_prefix, v_message.message_id)), v_message.topic,
                v_message.attempts + 1, coalesce(v_message.max_attempts, v_channel.max_attempts), v_message.payload,
                v_message.headers, v_message.priority, v_message.group_key, v_message.job_key, v_message.run_id,
                v_message.tenant, v_message.enqueued_at, v_expires_at
            )::delivery;
        else
            return query select * from _lease_deliveries(v_lease_id, v_channel.channel_id);
        end if;
        return;
    end if;

    v_limit := v_cap;
    foreach v_priority in array v_floor.priorities loop
        -- Messages are built where their rows are locked: the delete then returns nothing, and order is the index's.
        select
            v_ctids || array_agg(c.ctid),
            v_messages || array_agg(c.message),
            least(v_batch, min(c.max_batch)),
            v_bytes + coalesce(sum(c.body_bytes), 0),
            v_is_plain
            and count(c.body_bytes) + count(c.requeued_from) + count(c.group_key) + count(c.job_key) = 0
        into v_ctids, v_messages, v_batch, v_bytes, v_is_plain
        from (
            select
                r.ctid, r.max_batch, r.body_bytes, r.requeued_from, r.group_key, r.job_key,
                row(r.attempts, r.priority, r.message_id, r.enqueued_at, r.payload, r.headers, r.event_id, r.body_id, r.body_bytes, r.max_attempts, r.max_batch, r.requeued_from, r.backoff, r.topic, r.group_key, r.job_key, r.run_id, r.tenant, r.errors)::message as message
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
    if v_messages is null then
        return;
    end if;
    if v_batch < cardinality(v_messages) or v_bytes > 16777216 then
        v_limit := _batch_fit(v_messages);
        v_messages := v_messages[:v_limit];
        v_ctids := v_ctids[:v_limit];
    end if;
    delete from ready where ctid = any(v_ctids);

    insert into lease (lease_id, claimed_at, expires_at, channel_id, message_count, is_plain, worker, messages)
    values (
        coalesce(p_lease_id, gen_random_uuid()), clock_now(), clock_now() + greatest(coalesce(p_lease, v_channel.lease), '1 microsecond'), v_channel.channel_id,
        cardinality(v_messages),
        v_is_plain and not v_channel.archive, p_worker, v_messages
    ) returning lease_id, expires_at into v_lease_id, v_expires_at;

    if v_bytes > 0 then
        return query select * from _lease_deliveries(v_lease_id, v_channel.channel_id);
    else
        return query
        select
            v_lease_id, m.message_id, coalesce(m.event_id, _event_id(v_channel.event_prefix, m.message_id)), m.topic,
            m.attempts + 1, coalesce(m.max_attempts, v_channel.max_attempts), m.payload, m.headers, m.priority,
            m.group_key, m.job_key, m.run_id, m.tenant, m.enqueued_at, v_expires_at
        from unnest(v_messages) m;
    end if;
end;
$$;

comment on function tidegate.queue_claim(text, integer, interval, text, uuid) is
'Lease up to p_limit messages of a queue, highest priority (lowest number) first, then in order of becoming ready. Commit before working on them. No rows when nothing is ready, or the queue is paused or full (max_in_flight). With a lease id of the caller''s, a repeat returns the same messages while that lease stands. Errors: TG010 bad argument, TG020 no such queue, TG030 not READ COMMITTED.';

-- functions/queue/queue_ack.sql
create or replace function tidegate.queue_ack(p_lease_id uuid, p_message_ids bigint[] default null)
returns tidegate.settled
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
set enable_seqscan = off
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
    return _lease_settle(p_lease_id, p_message_ids, '[]');
end;
$$;

comment on function tidegate.queue_ack(uuid, bigint[]) is
'Settle messages of a lease as done; null settles all that is left. Inside a business transaction its effects and the ack commit together. Answers lost = true, and does nothing, when the lease is gone.';

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
'Settle messages of a lease as failed; null means all that is left. Each is charged: it comes back after p_retry_in, or the queue''s backoff when that is null, unless that was its last attempt or p_retryable is false: then it becomes a dead letter. Answers lost = true, and does nothing, when the lease is gone. Errors: TG010 bad argument, TG030 the lease is not to be seen in an older snapshot.';

-- functions/queue/queue_settle.sql
create or replace function tidegate.queue_settle(
    p_lease_id uuid, p_done bigint[], p_failed jsonb default '[]'
) returns tidegate.settled
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
begin
    if p_failed is distinct from '[]' then
        perform _failed_check(p_failed);
    end if;
    return _lease_settle(p_lease_id, coalesce(p_done, '{}'), p_failed);
end;
$$;

comment on function tidegate.queue_settle(uuid, bigint[], jsonb) is
'Settle messages of a lease one by one: p_done succeeded; p_failed is a JSON array of {"message_id", "error", "retryable", "retry_in", "reason"} and only these are charged; a reason (not_retryable, malformed, unknown_handler) is final. What is in neither stays leased; ids that are not in the lease, or settled before, change nothing and are not counted. Answers lost = true, and does nothing, when the lease is gone. Errors: TG010 bad p_failed, TG030 the lease is not to be seen in an older snapshot.';

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
    select l.lease_id, l.channel_id, l.claimed_at, l.expires_at
    into v_lease.lease_id, v_lease.channel_id, v_lease.claimed_at, v_lease.expires_at
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
    if exists (select from cancel_request r where r.channel_id = v_lease.channel_id) then
        select _cancelled(l.channel_id, _lease_left(l)) into v_answer.cancelled
        from lease l where l.lease_id = p_lease_id;
    end if;
    return v_answer;
end;
$$;

comment on function tidegate.queue_extend(uuid, interval) is
'Renew a lease: it now ends p_lease (the queue''s lease when null) from now, but never after its deadline, which is max_runtime after the claim. Answers with both, and with the messages of it that somebody cancelled; lost = true, and nothing done, when the lease is gone. Errors: TG010 bad argument, TG030 the lease is not to be seen in an older snapshot.';

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
    v_may_tick constant boolean := current_setting('tidegate.tick', true) = 'on' or (
            pg_current_xact_id_if_assigned() is null
            and statement_timestamp() < transaction_timestamp() + interval '100 ms'
        );
    v_may_check constant boolean := pg_current_xact_id_if_assigned() is null; -- nothing written, nothing deferred
    v_drawn bigint;
    v_priority smallint;
    v_limit integer := p_limit;
    v_call text;
    v_ctids tid[];
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
    v_ctids := null;
    foreach v_priority in array v_floor.priorities loop
        select v_ctids || array_agg(r.ctid) into v_ctids
        from (
            select n.ctid from ready n
            where n.channel_id = v_channel.channel_id and n.priority = v_priority
                and n.position > v_floor.hints[v_priority + 1]
            order by n.position
            limit v_limit
            for update skip locked
        ) r;
        v_limit := p_limit - coalesce(cardinality(v_ctids), 0);
        exit when v_limit <= 0;
    end loop;
    if v_ctids is null then
        return v_answer;
    end if;

    select
        array_agg(r.ctid order by r.priority, r.position),
        array_agg(r.position order by r.priority, r.position),
        array_agg(row(r.attempts, r.priority, r.message_id, r.enqueued_at, r.payload, r.headers, r.event_id, r.body_id, r.body_bytes, r.max_attempts, r.max_batch, r.requeued_from, r.backoff, r.topic, r.group_key, r.job_key, r.run_id, r.tenant, r.errors)::message order by r.priority, r.position)
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
            array_agg(row(m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors)::message order by m.ordinality)
        into v_ctids, v_positions, v_messages
        from unnest(v_messages) with ordinality m
        where m.job_key is null or m.job_key = any(v_keys) or not exists (
            select from job_key j
            where j.channel_id = v_channel.channel_id and j.key = m.job_key and j.message_id = m.message_id
        );
        if v_messages is null then
            return v_answer;
        end if;
    end if;
    delete from ready where ctid = any(v_ctids[:cardinality(v_messages)]);
    select array_agg(row(m.attempts, m.priority, m.message_id, m.enqueued_at, coalesce(m.payload, (select b.payload from body b where b.body_id = m.body_id)), m.headers, coalesce(m.event_id, _event_id(v_channel.event_prefix, m.message_id)), m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors)::message order by m.ordinality)
    into v_deliveries
    from unnest(v_messages) with ordinality m;

    select * into v_run from _handler_run(array[v_call], v_deliveries, v_may_check);
    if not exists (select from channel c where c.channel_id = v_channel.channel_id) then
        perform _no_such_channel('queue', p_queue); -- a handler dropped it, which undoes both
    end if;

    insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
    select v_positions[m.ordinality], v_channel.channel_id, m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors
    from unnest(v_messages) with ordinality m
    where m.ordinality > v_run.reached and m.ordinality <> all(v_run.failed);
    select
        array_agg(row(m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors)::message order by m.ordinality)
        filter (where m.ordinality <> all(v_run.failed)),
        array_agg(row(m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.backoff, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors)::message order by m.ordinality)
        filter (where m.ordinality = any(v_run.failed))
    into v_done, v_failed
    from unnest(v_messages) with ordinality m
    where m.ordinality <= v_run.reached or m.ordinality = any(v_run.failed);

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
'Change the policy of a topic: lease, max_runtime, max_attempts (0 = for ever), backoff_base, backoff_cap, jitter (a share), retention (of archived messages), archive, max_in_flight (null = unlimited), inline_limit (bytes), tenant_required. Keys not given stay as they are. Errors: TG010 unknown key or bad value, TG020 no such topic.';

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
    select c.channel_id, c.inline_limit, c.tenant_required into v_channel
    from channel c
    where c.kind = 'topic' and c.name = p_topic;
    if not found then
        perform _no_such_channel('topic', p_topic);
    end if;
    if p_priority = 0 and p_run_at is null and p_idempotency_key is null and p_group_key is null
        and current_setting('transaction_isolation') = 'read committed'
        and (p_tenant is not null or not v_channel.tenant_required)
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
    if octet_length(p_idempotency_key) > 512 then
        perform _bad_argument('p_idempotency_key', left(p_idempotency_key, 100), 'A key has at most 512 bytes; hash a longer one.');
    end if;
    if p_priority > 0 then
        perform _priority_declare(v_channel.channel_id, array[p_priority]::smallint[]);
    end if;
    if p_payload is null then
        perform _bad_argument('p_payload', null, 'Give a JSON value; for an empty one, ''null''::jsonb.');
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
    select c.channel_id, c.inline_limit, c.tenant_required into v_channel
    from channel c
    where c.kind = 'topic' and c.name = p_topic;
    if not found then
        perform _no_such_channel('topic', p_topic);
    end if;
    if p_priority = 0 and p_run_at is null and p_idempotency_key is null and p_group_key is null
        and current_setting('transaction_isolation') = 'read committed'
        and (p_tenant is not null or not v_channel.tenant_required)
        and (p_headers is null or (jsonb_typeof(p_headers) = 'object' and _json_size(p_headers) <= 8192))
        and array_ndims(p_payloads) = 1
        and (
            select max(coalesce(_json_size(u.payload), 2147483647)) from unnest(p_payloads) u (payload)
        ) <= v_channel.inline_limit
    then
        return query
        insert into ready (
            position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, run_id, tenant
        )
        select i.id, v_channel.channel_id, 0, 0, i.id, v_now, i.payload, p_headers, p_run_id, p_tenant
        from (select nextval('position_seq') as id, u.payload from unnest(p_payloads) u (payload)) i
        returning ready.message_id, 'inserted'::text;
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
    if octet_length(p_idempotency_key) > 512 then
        perform _bad_argument('p_idempotency_key', left(p_idempotency_key, 100), 'A key has at most 512 bytes; hash a longer one.');
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

    if p_idempotency_key is null and (p_run_at is null or p_run_at <= clock_now()) then
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
    v_spec jsonb;
begin
    for v_spec in
        select s.spec from _specs_check(p_specs, array[
            'payload', 'group_key', 'headers', 'run_at', 'priority', 'run_id', 'tenant', 'event_id', 'idempotency_key'
        ]) s (spec)
    loop
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
    p_topic_id integer, p_topic text, p_archive boolean, p_queues integer[], p_ctids tid[]
) returns integer
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * One statement, so an event is in its topic or in all its queues. Targets are the queues, and null for the archive:
 * the first receives the event itself, each further one a copy with a message_id and a body of its own, under the
 * same event_id. In a queue, events of a group wait for their turn in blocked. Without a target the handlers were all
 * there was to do, and the event ends.
 */
declare
    v_targets integer[] := coalesce(p_queues, '{}') || case when p_archive then array[null::integer] else '{}' end;
    v_has_priorities boolean;
    v_is_grouped boolean;
    v_moved integer;
begin
    select bool_or(r.priority > 0), bool_or(r.group_key is not null) into v_has_priorities, v_is_grouped
    from ready r where r.ctid = any(p_ctids);
    if v_has_priorities then
        perform _priority_declare(
            q.queue_id, array(select r.priority from ready r where r.ctid = any(p_ctids))
        )
        from unnest(p_queues) q (queue_id);
    end if;

    -- One queue and no archive, the ordinary case: nothing is copied.
    if cardinality(v_targets) = 1 and not p_archive and not v_is_grouped then
        with taken as (
            delete from ready where ctid = any(p_ctids) returning *
        ), resolved as (
            update dead_letter d set state = 'resolved', resolved_at = clock_now()
            from taken t
            where d.dead_letter_id = t.requeued_from
        )
        insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
        select nextval('position_seq'), v_targets[1], 0, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, null, null, null, t.backoff, p_topic, t.group_key, t.job_key, t.run_id, t.tenant, null
        from (select * from taken order by priority, position) t;
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
        insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
        select
            d.drawn, d.target,
            0, d.priority, case when d.is_copy then d.drawn else d.message_id end, d.enqueued_at, d.payload, d.headers, case
                    when d.is_copy then coalesce(d.event_id, _event_id(i.event_prefix, d.message_id)) else d.event_id
                end, d.own_body_id, d.body_bytes, null, null, null, d.backoff, p_topic, d.group_key, d.job_key, d.run_id, d.tenant, null
        from delivery d
        cross join installation i
        where d.target is not null and d.group_key is null
    ), waiting as (
        insert into blocked (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
        select
            d.drawn, d.target,
            0, d.priority, case when d.is_copy then d.drawn else d.message_id end, d.enqueued_at, d.payload, d.headers, case
                    when d.is_copy then coalesce(d.event_id, _event_id(i.event_prefix, d.message_id)) else d.event_id
                end, d.own_body_id, d.body_bytes, null, null, null, d.backoff, p_topic, d.group_key, d.job_key, d.run_id, d.tenant, null
        from delivery d
        cross join installation i
        where d.target is not null and d.group_key is not null
    ), archived as (
        insert into archive (settled_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors)
        select
            clock_now(), p_topic_id,
            d.attempts, d.priority, d.message_id, d.enqueued_at, d.payload, d.headers, coalesce(d.event_id, _event_id(i.event_prefix, d.message_id)), d.own_body_id, d.body_bytes, d.max_attempts, d.max_batch, d.requeued_from, d.backoff, d.topic, d.group_key, d.job_key, d.run_id, d.tenant, d.errors
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

comment on function tidegate._topic_move(integer, text, boolean, integer[], tid[]) is
'Move locked events from their topic to queues and, where it is on, the archive; count them as dispatched. Returns how many.';

-- functions/outbox/_topic_deliver.sql
create or replace function tidegate._topic_deliver(
    p_topic_id integer,
    p_topic text,
    p_archive boolean,
    p_ctids tid[],
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
 * The events are locked by the caller. Without handlers they move in one statement; with handlers, queues receive only
 * what every handler took.
 */
declare
    v_queues integer[];
    v_handlers text[];
    v_draining text;
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
        min(c.name) filter (where c.is_draining)
    into v_queues, v_handlers, v_draining
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
            claimed := _topic_move(p_topic_id, p_topic, p_archive, v_queues, p_ctids);
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
        array_agg(row(r.attempts, r.priority, r.message_id, r.enqueued_at, coalesce(r.payload, (select b.payload from body b where b.body_id = r.body_id)), r.headers, coalesce(r.event_id, _event_id(i.event_prefix, r.message_id)), r.body_id, r.body_bytes, r.max_attempts, r.max_batch, r.requeued_from, r.backoff, p_topic, r.group_key, r.job_key, r.run_id, r.tenant, r.errors)::message order by r.priority, r.position)
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
            array_agg(row(f.attempts, f.priority, f.message_id, f.enqueued_at, f.payload, f.headers, f.event_id, f.body_id, f.body_bytes, f.max_attempts, f.max_batch, f.requeued_from, f.backoff, f.topic, f.group_key, f.job_key, f.run_id, f.tenant, f.errors)::message order by f.priority, f.position)
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
        dispatched := _topic_move(p_topic_id, p_topic, p_archive, v_queues, v_ctids);
    end if;
    claimed := dispatched + retried + dead_lettered;
end;
$$;

comment on function tidegate._topic_deliver(integer, text, boolean, tid[], boolean) is
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
    v_may_tick constant boolean := current_setting('tidegate.tick', true) = 'on' or (
            pg_current_xact_id_if_assigned() is null
            and statement_timestamp() < transaction_timestamp() + interval '100 ms'
        );
    v_drawn bigint;
    v_priority smallint;
    v_limit integer;
    v_ctids tid[];
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
        foreach v_priority in array v_floor.priorities loop
            select v_ctids || array_agg(r.ctid) into v_ctids
            from (
                select n.ctid from ready n
                where n.channel_id = v_channel.channel_id and n.priority = v_priority
                    and n.position > v_floor.hints[v_priority + 1]
                order by n.position
                limit v_limit
                for update skip locked
            ) r;
            v_limit := p_limit - claimed - coalesce(cardinality(v_ctids), 0);
            exit when v_limit <= 0;
        end loop;
        continue when v_ctids is null;

        select * into v_outcome
        from _topic_deliver(v_channel.channel_id, v_channel.name, v_channel.archive, v_ctids, v_may_check);
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
 * leased after it.
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
    v_expires_at timestamptz;
begin
    -- The ordinary call passes one test: each expression is set up anew in every transaction.
    if (
        p_limit between 1 and 10000 and (p_lease is null or p_lease > '0')
        and current_setting('transaction_isolation') = 'read committed'
    ) is not true then
        if current_setting('transaction_isolation') <> 'read committed' then
            perform _require_read_committed('outbox_claim');
        elsif p_lease <= '0' then
            perform _bad_argument(
                'p_lease', p_lease::text, 'A lease lasts a positive time, for example interval ''1 minute''.'
            );
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
    if v_channel.is_routed or v_channel.is_paused or p_lease_id is not null or p_lease > v_channel.max_runtime
        or v_channel.max_in_flight is not null or v_drawn not between 1 and 5000
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
            and (current_setting('tidegate.tick', true) = 'on' or (
                pg_current_xact_id_if_assigned() is null
                and statement_timestamp() < transaction_timestamp() + interval '100 ms'
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
        -- The default, without the second statement and the arrays of a batch: a third cheaper.
        foreach v_priority in array v_floor.priorities loop
            delete from ready where ctid = any(array(
                select r.ctid from ready r
                where r.channel_id = v_channel.channel_id and r.priority = v_priority
                    and r.position > v_floor.hints[v_priority + 1]
                order by r.position
                limit 1
                for update skip locked
            ))
            returning attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, backoff, topic, group_key, job_key, run_id, tenant, errors into v_message;
            exit when found;
        end loop;
        if v_message.message_id is null then
            return;
        end if;
        insert into lease (lease_id, claimed_at, expires_at, channel_id, message_count, is_plain, worker, messages)
        values (
            coalesce(p_lease_id, gen_random_uuid()), clock_now(), clock_now() + greatest(coalesce(p_lease, v_channel.lease), '1 microsecond'), v_channel.channel_id, 1,
            not v_channel.archive and v_message.body_bytes is null and v_message.requeued_from is null,
            p_worker, array[v_message]
        ) returning lease_id, expires_at into v_lease_id, v_expires_at;
        if v_message.body_bytes is null then
            return next row(
                v_lease_id, v_message.message_id,
                coalesce(v_message.event_id, _event_id(v_channel.event_prefix, v_message.message_id)), v_message.topic,
                v_message.attempts + 1, coalesce(v_message.max_attempts, v_channel.max_attempts), v_message.payload,
                v_message.headers, v_message.priority, v_message.group_key, v_message.job_key, v_message.run_id,
                v_message.tenant, v_message.enqueued_at, v_expires_at
            )::delivery;
        else
            return query select * from _lease_deliveries(v_lease_id, v_channel.channel_id);
        end if;
        return;
    end if;

    v_limit := v_cap;
    foreach v_priority in array v_floor.priorities loop
        -- Messages are built where their rows are locked: the delete then returns nothing, and order is the index's.
        select
            v_ctids || array_agg(c.ctid),
            v_messages || array_agg(c.message),
            least(v_batch, min(c.max_batch)),
            v_bytes + coalesce(sum(c.body_bytes), 0),
            v_is_plain
            and count(c.body_bytes) + count(c.requeued_from) = 0
        into v_ctids, v_messages, v_batch, v_bytes, v_is_plain
        from (
            select
                r.ctid, r.max_batch, r.body_bytes, r.requeued_from,
                row(r.attempts, r.priority, r.message_id, r.enqueued_at, r.payload, r.headers, r.event_id, r.body_id, r.body_bytes, r.max_attempts, r.max_batch, r.requeued_from, r.backoff, r.topic, r.group_key, r.job_key, r.run_id, r.tenant, r.errors)::message as message
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
    if v_messages is null then
        return;
    end if;
    if v_batch < cardinality(v_messages) or v_bytes > 16777216 then
        v_limit := _batch_fit(v_messages);
        v_messages := v_messages[:v_limit];
        v_ctids := v_ctids[:v_limit];
    end if;
    delete from ready where ctid = any(v_ctids);

    insert into lease (lease_id, claimed_at, expires_at, channel_id, message_count, is_plain, worker, messages)
    values (
        coalesce(p_lease_id, gen_random_uuid()), clock_now(), clock_now() + greatest(coalesce(p_lease, v_channel.lease), '1 microsecond'), v_channel.channel_id,
        cardinality(v_messages),
        v_is_plain and not v_channel.archive, p_worker, v_messages
    ) returning lease_id, expires_at into v_lease_id, v_expires_at;

    if v_bytes > 0 then
        return query select * from _lease_deliveries(v_lease_id, v_channel.channel_id);
    else
        return query
        select
            v_lease_id, m.message_id, coalesce(m.event_id, _event_id(v_channel.event_prefix, m.message_id)), m.topic,
            m.attempts + 1, coalesce(m.max_attempts, v_channel.max_attempts), m.payload, m.headers, m.priority,
            m.group_key, m.job_key, m.run_id, m.tenant, m.enqueued_at, v_expires_at
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
as $$
begin
    if p_failed is distinct from '[]' then
        perform _failed_check(p_failed);
    end if;
    return _lease_settle(p_lease_id, coalesce(p_done, '{}'), p_failed);
end;
$$;

comment on function tidegate.outbox_settle(uuid, bigint[], jsonb) is
'Settle events of a lease: p_done were published; p_failed is a JSON array of {"message_id", "error", "retryable", "retry_in", "reason"} and only these are charged; a reason (not_retryable, malformed, unknown_handler) is final. What is in neither stays leased; ids that are not in the lease, or settled before, change nothing and are not counted. Answers lost = true, and does nothing, when the lease is gone. Errors: TG010 bad p_failed.';

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

-- functions/cleanup/cleanup_sweep.sql
create or replace function tidegate.cleanup_sweep(
    p_limit integer default 1000,
    p_key_retention interval default '24 hours',
    p_guard_retention interval default '7 days',
    p_dead_letter_retention interval default '30 days',
    out archived_removed integer,
    out keys_removed integer,
    out guards_removed integer,
    out dead_letters_removed integer,
    out tallies_folded integer,
    out stranded_replaced integer
)
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
/*
 * Bounded, and only of what nobody needs: dead letters go when they were resolved or discarded, never while dead or
 * requeued. Rows that others hold are skipped.
 */
declare
    v_now timestamptz := clock_now();
    v_argument record;
begin
    if p_limit is null or p_limit not between 1 and 100000 then
        perform _bad_argument('p_limit', p_limit::text, 'Clean up between 1 and 100000 rows of a kind at a time.');
    end if;
    for v_argument in
        select a.name, a.value from (values
            ('p_key_retention', p_key_retention), ('p_guard_retention', p_guard_retention),
            ('p_dead_letter_retention', p_dead_letter_retention)
        ) as a (name, value)
        where (a.value > '0' and a.value <= '100 years') is not true
    loop
        perform _bad_argument(
            v_argument.name, v_argument.value::text, 'A retention is a positive interval, at most 100 years.'
        );
    end loop;

    with old as (
        select a.channel_id, a.settled_at, a.message_id
        from channel c
        cross join lateral (
            select * from archive n
            where n.channel_id = c.channel_id and n.settled_at < v_now - c.retention
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
    select count(*) into archived_removed from removed;

    delete from idempotency_key where ctid = any(array(
        select k.ctid from idempotency_key k where k.created_at < v_now - p_key_retention
        order by k.created_at limit p_limit for update skip locked
    ));
    get diagnostics keys_removed = row_count;

    delete from guard where ctid = any(array(
        select g.ctid from guard g where g.state = 'done' and g.finished_at < v_now - p_guard_retention
        order by g.finished_at limit p_limit for update skip locked
    ));
    get diagnostics guards_removed = row_count;

    with removed as (
        delete from dead_letter where ctid = any(array(
            select d.ctid from dead_letter d
            where d.state in ('resolved', 'discarded') and d.resolved_at < v_now - p_dead_letter_retention
            order by d.resolved_at limit p_limit for update skip locked
        )) returning body_id
    ), freed as (
        delete from body b using removed r where b.body_id = r.body_id
    )
    select count(*) into dead_letters_removed from removed;

    -- Folding: whoever reads the sums meanwhile sees the rows before or after it, never both or neither.
    with folded as (
        delete from tally where ctid = any(array(select t.ctid from tally t limit p_limit * 10 for update skip locked))
        returning *
    ), kept as (
        insert into tally (channel_id, outcome, amount)
        select f.channel_id, f.outcome, sum(f.amount) from folded f group by f.channel_id, f.outcome
    )
    select count(*) into tallies_folded from folded;

    stranded_replaced := _stranded_replace(p_limit);

    delete from incident where ctid = any(array(
        select i.ctid from incident i where i.at < v_now - interval '7 days'
        order by i.incident_id limit p_limit for update skip locked
    ));
    -- Turns of groups that have been still for an hour: behind a hidden dead row, the next one looks a little longer.
    delete from group_turn where ctid = any(array(
        select t.ctid from group_turn t
        where t.message_id is null and t.taken_at < v_now - interval '1 hour'
        limit p_limit for update skip locked
    ));
    -- No lease lives longer than max_runtime, so whatever was to be stopped has ended.
    delete from cancel_request where ctid = any(array(
        select r.ctid from cancel_request r
        left join channel c on c.channel_id = r.channel_id
        where r.requested_at < v_now - coalesce(c.max_runtime, '0') - interval '1 hour'
        limit p_limit for update of r skip locked
    ));
    -- Rows that overlapping ticks left behind; the ordinary ones are removed by the tick itself.
    delete from tide where ctid = any(array(
        select t.ctid from tide t where t.tide_id < (select max(n.tide_id) from tide n) - 128
        limit p_limit for update skip locked
    ));
    delete from floor where ctid = any(array(
        select f.ctid from floor f
        where f.floor_id < (
            select n.floor_id from floor n where n.channel_id = f.channel_id order by n.floor_id desc limit 1
        )
        limit p_limit for update skip locked
    ));
end;
$$;

comment on function tidegate.cleanup_sweep(integer, interval, interval, interval) is
'Remove what has outlived its retention, up to p_limit rows a kind, fold counters, and look for messages stranded below the floors (expected none). Archived messages go by their channel''s retention; idempotency keys, tombstones of guards, and dead letters that were resolved or discarded by the arguments. Returns what was removed; call again while a count equals p_limit. Errors: TG010 a limit or retention that is not positive.';

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

-- views/outcomes.sql
create or replace view tidegate.outcomes as
select
    c.kind,
    c.name,
    t.outcome,
    sum(t.amount)::bigint as total
from tidegate.tally t
inner join tidegate.channel c on c.channel_id = t.channel_id
group by c.kind, c.name, t.outcome;

comment on view tidegate.outcomes is
'Counters since the installation, by channel and outcome: acked, dispatched, retried, released, expired, dead_lettered, requeued, discarded. Exact: each was counted in the transaction of its effect.';

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
        ('_batch_fit', 'e2631162b50b68fc89b1e2ccff06d5057644b64fe75a0e85a97c0ca5324f6b6b'),
        ('_cancelled', '2a3656f3fb20d39cd34211ea877b91f917607bae817384de5c359e62fc67fe4d'),
        ('_channel_configure', 'fdbccfb2532f3a2472d7cf9156470fa1b217ad44a0eec1971e75824c2f1e2166'),
        ('_dead_letter_count', '491d7f1751d54e27a6a404fff838a9f27ea525f41fea8772d40eb8f3230d2360'),
        ('_dead_letter_newest', 'abb0ded6698574f7546c18a4f9196a7b21166f287cc5fad06731ee6b297398cb'),
        ('_dead_letter_oldest', 'b6380895351cdac92fad258b0ddb603ed56d773991263694f90cc19bbe152a35'),
        ('_dead_letter_requeue', 'a05ab2acac71be481a20f21358364cebce9eed95b828125d45f2838f23da3869'),
        ('_error_text', '7f12f69ffaf3d6dff455683baed5f1abd597a68e4df21400d06f4cd26391f9b8'),
        ('_event_id', 'dbd5513a675ecce78e3b1b17eec10d37723ff6f17c93ebc0aa70a869a1135d51'),
        ('_failed_check', '8a3402dfd35a05abb2e167dc9dfdf736ba7e4d57a916dcd1e11343088de738e3'),
        ('_group_advance', '7640ac14b25170e59e7a5ba56097ec8649dcd6d5168c553cdb0d2df3fb35b307'),
        ('_handler_call', 'c25bef023217ed6f076fa8ceeb46c235259c15f41445bc2ab187a373668114e1'),
        ('_handler_name', '9d7032806e7362f11643018ab17af62dea437bea8251acc612d9d75afeeda34e'),
        ('_handler_oid', 'a0645f49e9faddbe6c0c06f13877bb1edc26fb4c2132b04bb0cbfa832f0a2aed'),
        ('_handler_run', '48642a482391c0f389cfcaeb9dca29d6cbfe36c2f815bda0260a0e03e765d257'),
        ('_has_turn', 'd94d21bacb47faa5e302eaa4e5ed37d7df019642777b652f5d292cbb6cce17a6'),
        ('_incident_note', 'fcf58f249876c261084721a5fce178843f2a9fb6be48fc16482214eef7080758'),
        ('_json_size', '6062f431a4bcafe38a6cc68c50eae60bc7bc0e6e5c44791bbd17802a9eb4f093'),
        ('_keyed_send', 'c18013d068b2b1367619545a86cd1b0aafbe6857d5581367d27ea92805eca2f6'),
        ('_lease_deliveries', '9325f66d8e52d3baf44619ad2c8befa9406beadb93798c793826c1d419d7139a'),
        ('_lease_expire', '23f2dee83d46b7b961b773763ae00a2dd3147bc5857986fc6eb1ab3c3c8f2483'),
        ('_lease_left', 'ed0911cbdd0c578b06ce20cc16fbb61b72072fd70f5da27b9aebf976e8155d84'),
        ('_lease_settle', '49d5a5adeffc2a7c628ca0ea32464a440bb528241d899aa29cdae03c9941308a'),
        ('_lock_key', '25200ead6fd8ec53d7de24584aa0d649f5c99ca6e9f9b714efa3e2b99837f6ae'),
        ('_message_bury', 'd11273966ea1aaced32bf2262642ff8d2b936eacfbe895348a0fd23e34e6c1f8'),
        ('_message_cancel', 'e3fa3da826dd26793df02465328b7e7fd9b3817620e42930a5df0fb90f36bf6a'),
        ('_message_drop', '8ba52e1e73e744ff82a4784c8d5284ecbe5e9c5badcc702d243b64f1c4c3a944'),
        ('_message_end', 'c95d259858124e1216f8a9b4c21a7abde545257f4e5c5642248163310ba295f0'),
        ('_message_enter', '41db9bbdb141c101aaeccb1c856a9398dcdb6dde39699e807e3c5cefae449840'),
        ('_message_fail', '30d08ae83ae10a39900e0246dbbea8bcf248b8772511de5c5777eb5c3819bd72'),
        ('_message_finish', '462eae87dbc046fe3d69cb121d3a2aaeef669df58a4d9ceca8b857d04a0290f5'),
        ('_message_return', '1fed9d321589949e097da722f575a5108925130bb6e1c0c0a90e97bc8691fa61'),
        ('_no_such_channel', '4bcad0761436c478707f44cf1e2d7658c45bb8e381e3c908dc59919a44b557d3'),
        ('_priorities', '1052171ffcea120e559aa0c0680f15b51903b595d7d7a72b805002515ad0e876'),
        ('_priority_declare', '06720730b02d7bfdcda104f7a91aded82c51dcc50f4eae78ff933ce69080ec27'),
        ('_require_read_committed', 'd33119c3cb4627319b3075c109b67cfb57143e50db379889f1955224da36ba0b'),
        ('_scheduled_promote', '9c7d216138857d53a6e446e94fd61f51c8c734dcd38c3df44a6e07322606b4cb'),
        ('_specs_check', '313960c7570cdaa3bb8e2df704eb5010ae990e23b615d8a624e8980d659a5bab'),
        ('_stranded_replace', 'ec37c0daff442146a70f9588bc333fbfd124c88b467e7891bc4ed74e77ad7975'),
        ('_tick', 'b3aeded044468d2d5593ea8241e2d2b46962f90396091cd5b3fd616319c4d82e'),
        ('_tide_advance', 'eef70d953ccdcf426f7dccf6680359fd5c7b6ac829482b9b89d1d7d88f674c45'),
        ('_tide_forget', '01b7e12a13b82c373b70f389fe16be5e9d4ae8be80f260073fb7eed4663c599c'),
        ('_tide_forget_deadlines', '18fab7064fe7df00c64d01b25aeedc6369e616917fed695b79bb2722ce3aa6cf'),
        ('_topic_deliver', 'e1fb83b44da27a03d084a58f3c19e1e09687588360591182acca336745193cc8'),
        ('_topic_is_routed', '3c38a04becda1b8930f89d649c735a18a502992d383afd178576c22fac7e1f71'),
        ('_topic_matches', 'f195c07c02a6941e8b845e5698a609fa5fdc16cd3ea396772c8a235730d46be6'),
        ('_topic_move', 'df032fa6ffc51d9315887ce503f2357fed8963b16a3123deec3f8fedad57d6bc'),
        ('archived', 'e4ead07f728b6087d048da37a7913e0d9661dfb7c3531ceafca08ec9f9707139'),
        ('backlog', 'bed738727cee8c63701f0e21c681b0f3dfd2278c236a510e06cdf1da5b6a9c9b'),
        ('cleanup_sweep', 'cbfe0fd4b1d25dcf82c059027f5a1a51ea81e016a80cdc2cc1aa68f66725bdd9'),
        ('clock_now', 'ddeefe2d6f3e3b6e3bcc63e7b223e578613d7393cb5f3253d06e700692700b10'),
        ('dead_letter_count', '4737ba24397e4e2acf6de9cf5d00a4f794f09b867b50770801659daa5d04139e'),
        ('dead_letter_discard', 'c18bbdeedb2f24e12bb1e79468a8a6c2a341ebd46465676717436a7aabb6d61a'),
        ('dead_letter_discard_matching', 'f7dab3d4ec0f9c5ee92c9a8b3ceffbe37c3b8afab576cd7ab131d91c14b4e91a'),
        ('dead_letter_history', '6475c6dc77d36443aad2ddaa3dd14b1c327e3d720cafa3b504d453f098a85a60'),
        ('dead_letter_list', '4ccc14cdb9b9ec3a0c42e4d76b568e68969986763a8f3290b565533456055684'),
        ('dead_letter_payload', '869db0a56cdd605b3b7ebcaaff89960d2a7a8999c72dc7eadc6d1e97499093aa'),
        ('dead_letter_peek', '91878f345ea83642d0b2f1be9f8f24221eeddf9f45248bf4198e93c766ded4bd'),
        ('dead_letter_requeue', '7311496c8d6302d344b2be23b599d552dffa5d4374aaf740886e98124e16ca1e'),
        ('dead_letter_requeue_matching', '7366892b33e7673b732a7cc6b8ca217a0eb44ee507abedc822a6ad4bc9eb7485'),
        ('dead_letter_stats', '69649534613730e55f69bb20d4f3c4b3f6150f434d561577c5d665f0b2c1b3d3'),
        ('dead_letter_summary', 'afe15047875a213d9806fac6d3ec31f914a83cee9009403cd4ab4a10a3913e76'),
        ('guard_claim', 'd48bbde569a0f0e92f9aaf71721da4ca05d7eea1e244498fbf48fe7ffe46ec38'),
        ('guard_finish', '04e3e70b72c6caef12a245e6e599056c2b52a471b61db5c1271026cda8e0d982'),
        ('in_flight', '30cfd00e2b30a822973c457bebf264b918916962592d6baa0c236504c6036184'),
        ('inbox_accept', '1f742ded1e45dad7f96665fd5b8fc0c252b2b95d7d9e117f5ab64e55365003f5'),
        ('outbox_claim', '4c4797a6fc29ef2cd177178a4dad5184faccf6280f408691167b30a1957e5036'),
        ('outbox_put', '68a9883d0a8d29aebc57ae5a0b3975a11e415199329f29033fa9fe347b01021b'),
        ('outbox_put_many', 'b46c55ab1d33011637831d5f161362b21820e0fa4a83c411662db23395b547f2'),
        ('outbox_put_specs', 'c22754031be20456707af82a5fdc732214f51aea6199bbf8166cb9013016a0c5'),
        ('outbox_release', '5f366fc983d189a344fd6a718b931afa37a4a19a24b59cef1da5d8a5363126ab'),
        ('outbox_route', '752e32d7a2265ff47ed97fecfea5eb859be13f3613b2ecc811c526942499711d'),
        ('outbox_settle', 'd27e74d562214919beb371de00d9a59faf4b7c1130087ab0b8e4f465819d0c9b'),
        ('outbox_sweep', 'c3a7bf7ae34daae9e2455b455b3bd588a528d30140b8f448c79e9eff5f621b37'),
        ('outbox_unroute', '04ac6d72dea99092a478cc0fc5e2afd864869cab5100911e46c68b613874246e'),
        ('outcomes', '56979fce280726ebfa2be884067520965bd5a650dbf9051879d7678da118bba8'),
        ('queue_ack', 'f26cb9135463e91507d56c4217107f11302ba3120c8a7cb1ada1cf6fc3e1c6f2'),
        ('queue_cancel', '3cbbfc911b4fe9e576f59d86c521e5f864ae43178b51a6ac38cc2149e5d1c23b'),
        ('queue_claim', 'c6e470270178c7eb802965462bedbc587e67523a7c2c39e3d6de106db017df38'),
        ('queue_configure', '428bdfc48e7128f13a88c307fa8f15b15675a08c0cba8462172f3d575b3460f4'),
        ('queue_create', '462b58bd405e566a1e9a252cabf224391aeb2b7df133f0101008789dbe4949d0'),
        ('queue_drain', 'ca12acc1dcf72584d7e88591716331d9cf2618805e1497ac256fb81c142e2615'),
        ('queue_drop', 'c93a6b1228f8a0374f5b5c518b970868f8b2a6eef1abff76857b5ffefc5a2035'),
        ('queue_extend', 'f145537e5611f3be98881e2969942bf93e8f1458b3aca1736630d533186d7cd5'),
        ('queue_nack', 'eab600cbd0723535c6386c44ebeb812c5c68ab0ee22cec74f52155423459e98e'),
        ('queue_pause', '3cf8ff0e3e945af2e9e7ea50524e1be6daf2a8c348ccfe54d65ef1643cb6e383'),
        ('queue_peek', '81262cc35c8e6f651c2487712139113851369dc724f79e367543d77a93c7a28c'),
        ('queue_purge', 'd6009b1d4e40a43ab2d1564cc0618f74b071b7b10c8da881ea75f86f08918ebf'),
        ('queue_release', '5fde9639a2db58081d182e6cc7091eb032d8028e218e31d9c4f6a0d537d49860'),
        ('queue_resume', 'a1c8539cfa6f0a7306fd5bb658f368db455d8c43d375e8d87fb87308f5689b5d'),
        ('queue_send', '48881b2349192c18066ea786ab6c1f83c60a77e1a92a83e92668efbc4ba0f875'),
        ('queue_send_many', '49d418e573ec5a28ad0a26c98622f5e8f1e5787182a381af2bc833e72cb7f804'),
        ('queue_send_specs', '5f3785c4abaaa588b27e029b4513e67cd9bd81afa7145fabe1daa64246f7c0e7'),
        ('queue_settle', '21b9b25c8e469f830db3a805b21409000fefbfff190ee441d6618547122808ef'),
        ('queue_work', '623096d37e66f3b8f16d27e8429781f5c982dfda32a6aaba4d2aaab10ebb77b8'),
        ('schema_version', '96c4a83da33dfa6ce71ca3f880c9c4b1a9b3f1344bb24ee54f23a250db3f81b4'),
        ('topic_configure', '49ac51426786b925adef8d30160253f7fa026838b0a99f9e92afd044b37bb128'),
        ('topic_create', '80f673891f727ebc8ee26f7694b192f04e2884c62a8188cfeb8a03baeffb678f'),
        ('topic_drop', 'a2967f96e94edef92bd9533ef41e124fb91f2385f63008146c77f712024d20ad'),
        ('topic_pause', '49381ea27a6913c5034b98175e53ee4fa35cc3da97415c097457f6aff3d4c808'),
        ('topic_resume', 'd065fb0593f9c452ba7a5bce6bd5a77956f6a3c36e02394b8cc45b5c48316085')
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
