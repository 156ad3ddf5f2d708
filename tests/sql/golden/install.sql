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
values ('0002_create_kernel', '6f6369e02b9ac70959384211f7c4d2565cbe77ec0d5ae53ac3153b156f8ad9a8', 'VERSION');

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
    is_routed boolean not null default false,
    event_prefix text not null,
    lease interval not null default '1 minute',
    max_runtime interval not null default '1 hour',
    max_attempts integer not null default 5,
    backoff_base interval not null default '2 seconds',
    backoff_cap interval not null default '5 minutes',
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
    constraint channel_jitter_is_a_share check (jitter between 0 and 1),
    constraint channel_retention_is_positive check (retention > '0'),
    constraint channel_retention_within_a_century check (retention <= '100 years'),
    constraint channel_max_in_flight_is_positive check (max_in_flight > 0),
    constraint channel_inline_limit_in_range check (inline_limit between 0 and 8192)
);

comment on table tidegate.channel is
'Topics and queues with their policy: configuration, read by every call and updated rarely.';
comment on column tidegate.channel.is_routed is 'A route matches this topic: it is swept, not relayed. Kept by outbox_route, outbox_unroute and topic_create.';
comment on column tidegate.channel.event_prefix is 'Copied from installation, so that a claim needs one lookup.';
comment on column tidegate.channel.max_attempts is 'The failure that brings a message to it is terminal; 0 = for ever.';
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
    topic text,
    group_key text,
    job_key text,
    run_id text,
    tenant text,
    errors jsonb
);

comment on type tidegate.message is
'A message as it travels between places, and as a lease carries it. payload is null where the body holds it.';

create type tidegate.sent as (message_id bigint, outcome text);

comment on type tidegate.sent is
'Answer to a put or a send. outcome: inserted | deduplicated (message_id is then the first one).';

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
    topic text,
    group_key text,
    job_key text,
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
    topic text,
    group_key text,
    job_key text,
    run_id text,
    tenant text,
    errors jsonb,
    constraint scheduled_pkey primary key (channel_id, due_at, message_id)
);

comment on table tidegate.scheduled is
'Messages with a future: delayed sends and retries. A tick moves what is due to ready.';

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
    topic text,
    group_key text,
    job_key text,
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
    topic text,
    group_key text,
    job_key text,
    run_id text,
    tenant text,
    errors jsonb,
    constraint dead_letter_reason_is_known check (
        reason in ('exhausted', 'not_retryable', 'expired', 'malformed', 'unknown_handler', 'cancelled', 'purged')
    ),
    constraint dead_letter_state_is_known check (state in ('dead', 'requeued', 'resolved', 'discarded')),
    constraint dead_letter_notes_are_a_list check (jsonb_typeof(notes) = 'array'),
    constraint dead_letter_exhausted_was_attempted check (reason <> 'exhausted' or attempts > 0)
);

create index dead_letter_for_channel on tidegate.dead_letter (channel_id, dead_letter_id desc);
create index dead_letter_for_triage on tidegate.dead_letter (dead_at) where state = 'dead';

comment on table tidegate.dead_letter is
'Messages that ended in failure, from topics and queues alike. No foreign keys: forensics outlive their owners.';
comment on column tidegate.dead_letter.dead_letter_id is 'What the dead_letter_* functions take; a requeued message carries it as requeued_from.';
comment on column tidegate.dead_letter.state is 'dead | requeued (its child is alive) | resolved (its child succeeded) | discarded.';
comment on column tidegate.dead_letter.failure_count is 'How often it landed here: 1, and one more for each child that died.';

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
values ('0003_create_places', 'b2661841912d0ff25ba7b8f9ae6ccf012071a14d3be813c3b5cd60bfc0ba7476', 'VERSION');

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
    p_base interval, p_cap interval, p_jitter double precision, p_attempts integer
) returns interval
language sql volatile parallel safe
return make_interval(
    secs => least(
        extract(epoch from p_cap)::double precision,
        extract(epoch from p_base)::double precision * 2 ^ least(greatest(p_attempts, 0), 30)
    ) * (1 + p_jitter * (2 * random() - 1))
);

comment on function tidegate._backoff(interval, interval, double precision, integer) is
'Delay after the failure that follows p_attempts earlier ones: least(cap, base * 2^least(attempts, 30)), give or take the jitter. In seconds as double precision, so no count of attempts overflows.';

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
            scheduled_from, lease_from
        )
        select
            f.channel_id, f.ticked_at, f.took, f.position, false, f.has_more, f.move_limit, _priorities(p_channel_id),
            f.floors, f.hints, f.scheduled_from, f.lease_from
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
        (select max(d.message_id) from dead_letter d)
    ) into v_highest;
    delete from tide where ctid = any(array(select t.ctid from tide t for update skip locked));
    insert into floor (
        channel_id, ticked_at, took, position, is_quiet, has_more, move_limit, priorities, floors, hints,
        scheduled_from, lease_from
    )
    select
        c.channel_id, 'epoch', '0', 0, false, true, 1000, _priorities(c.channel_id),
        array_fill(0::bigint, array[10]), array_fill(0::bigint, array[10]), '-infinity', '-infinity'
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
        scheduled_from, lease_from
)
select
    f.channel_id, 'epoch', '0', f.position, false, true, f.move_limit, f.priorities, f.floors, f.hints,
        '-infinity', '-infinity'
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
        'lease', 'max_runtime', 'max_attempts', 'backoff_base', 'backoff_cap', 'jitter', 'retention', 'archive',
        'max_in_flight', 'inline_limit', 'tenant_required'
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

-- functions/place/_message_return.sql
create or replace function tidegate._message_return(
    p_channel_id integer, p_messages tidegate.message[], p_delay interval, p_max_batch integer default null
) returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
begin
    if p_delay > '0' then
        insert into scheduled (due_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, topic, group_key, job_key, run_id, tenant, errors)
        select
            clock_now() + greatest(p_delay, '1 microsecond'), p_channel_id,
            m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, least(m.max_batch, p_max_batch), m.requeued_from, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors
        from unnest(p_messages) m;
    else
        insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, topic, group_key, job_key, run_id, tenant, errors)
        select
            nextval('position_seq'), p_channel_id,
            m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, least(m.max_batch, p_max_batch), m.requeued_from, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors
        from unnest(p_messages) m;
    end if;
end;
$$;

comment on function tidegate._message_return(integer, tidegate.message[], interval, integer) is
'Put messages back uncharged: into ready behind what waits there, or into scheduled when a delay is given. p_max_batch limits the batches they may be claimed in.';

-- functions/place/_message_fail.sql
create or replace function tidegate._message_fail(
    p_channel_id integer,
    p_messages tidegate.message[],
    p_errors text[],
    p_is_final boolean[],
    p_delays interval[],
    p_reason text default 'exhausted',
    out retried integer,
    out dead_lettered integer
)
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * One statement: the charge, the error and the next place of each message change together, whatever crashes.
 * The arrays after p_messages run beside it; null stands for: retryable, and the delay of the channel's policy.
 * A verdict of its own ends a message's max_batch. One that came from a dead letter goes back into that same entry.
 */
declare
    v_now timestamptz := clock_now();
begin
    with failed as (
        select
            least(m.attempts + 1, 32767) as attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, null::integer as max_batch, m.requeued_from, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, case
                    when jsonb_array_length(m.errors) >= 10 then m.errors - 0 else coalesce(m.errors, '[]')
                end
                || jsonb_build_object(
                    'at', v_now, 'attempt', m.attempts + 1, 'error', _error_text(p_errors[m.ordinality])
                ) as errors,
            _error_text(p_errors[m.ordinality]) as error,
            coalesce(p_is_final[m.ordinality], false) as is_final,
            m.attempts + 1 >= nullif(coalesce(m.max_attempts, c.max_attempts), 0) as is_exhausted,
            -- One absurd delay must not undo the settlement of the others.
            least(
                coalesce(p_delays[m.ordinality], _backoff(c.backoff_base, c.backoff_cap, c.jitter, m.attempts)),
                '100 years'
            ) as delay,
            m.ordinality as ordinal,
            c.kind,
            c.name as channel,
            c.event_prefix
        from unnest(p_messages) with ordinality m
        cross join channel c
        where c.channel_id = p_channel_id
    ), judged as (
        select f.*, f.is_final or f.is_exhausted is true as is_dead from failed f
    ), delayed as (
        insert into scheduled (due_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, topic, group_key, job_key, run_id, tenant, errors)
        select greatest(v_now + j.delay, clock_now() + interval '1 microsecond'), p_channel_id, j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, j.event_id, j.body_id, j.body_bytes, j.max_attempts, j.max_batch, j.requeued_from, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors
        from judged j
        where not j.is_dead and j.delay > '0'
        returning 1
    ), entered as (
        insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, topic, group_key, job_key, run_id, tenant, errors)
        select nextval('position_seq'), p_channel_id, j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, j.event_id, j.body_id, j.body_bytes, j.max_attempts, j.max_batch, j.requeued_from, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors
        from (select * from judged order by ordinal) j
        where not j.is_dead and j.delay <= '0'
        returning 1
    ), buried as (
        insert into dead_letter (
            dead_at, channel_id, kind, channel, reason, last_error, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, topic, group_key, job_key, run_id, tenant, errors
        )
        select
            v_now, p_channel_id, j.kind, j.channel,
            case when j.is_final then 'not_retryable' else p_reason end, j.error,
            j.attempts, j.priority, j.message_id, j.enqueued_at, j.payload, j.headers, coalesce(j.event_id, _event_id(j.event_prefix, j.message_id)), j.body_id, j.body_bytes, j.max_attempts, j.max_batch, j.requeued_from, j.topic, j.group_key, j.job_key, j.run_id, j.tenant, j.errors
        from judged j
        where j.is_dead
            and not exists (select from dead_letter d where d.dead_letter_id = j.requeued_from)
        returning 1
    ), buried_again as (
        update dead_letter d
        set state = 'dead', dead_at = v_now, failure_count = d.failure_count + 1,
            reason = case when j.is_final then 'not_retryable' else p_reason end,
            last_error = j.error, attempts = j.attempts, errors = j.errors
        from judged j
        where j.is_dead and d.dead_letter_id = j.requeued_from
        returning j.body_id
    ), freed as (
        delete from body b using buried_again a where b.body_id = a.body_id
        returning 1
    )
    select
        (select count(*) from delayed) + (select count(*) from entered),
        (select count(*) from buried) + (select count(*) from buried_again) + 0 * (select count(*) from freed)
    into retried, dead_lettered;
end;
$$;

comment on function tidegate._message_fail(
    integer, tidegate.message[], text[], boolean[], interval[], text
) is
'Charge messages with a failed delivery: each is retried after its delay or, when that was its last attempt or the error is final, buried. Returns how many of each.';

-- functions/place/_message_finish.sql
create or replace function tidegate._message_finish(
    p_channel_id integer, p_archive boolean, p_messages tidegate.message[]
) returns void
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/* What a success leaves behind: an archived copy where the channel wants one, and a resolved dead letter. */
begin
    if p_archive then
        insert into archive (settled_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, topic, group_key, job_key, run_id, tenant, errors)
        select
            clock_now(), p_channel_id,
            m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, coalesce(m.event_id, _event_id(i.event_prefix, m.message_id)), m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors
        from unnest(p_messages) m
        cross join installation i;
    else
        delete from body b using unnest(p_messages) m where b.body_id = m.body_id;
    end if;
    update dead_letter d set state = 'resolved', resolved_at = clock_now()
    from unnest(p_messages) m
    where d.dead_letter_id = m.requeued_from;
end;
$$;

comment on function tidegate._message_finish(integer, boolean, tidegate.message[]) is
'End messages that succeeded: archive them or drop their bodies, and resolve the dead letters they were requeued from.';

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
select coalesce(array_agg(row(m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors)::tidegate.message order by m.ordinality), '{}')
from unnest(p_lease.messages) with ordinality m
where m.ordinality <> all(coalesce(p_lease.settled, '{}'));
end;

comment on function tidegate._lease_left(tidegate.lease) is
'Messages of a lease that are not settled yet, in the order of the claim; an empty array when there are none.';

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
as $$
/*
 * The lock on the lease row decides every race: the later of two settlements, or a tick that takes the lease back,
 * waits (or skips), and then finds what is left, or nothing.
 * p_done, p_released: null = all that is left and not named elsewhere. Ids that are not in the lease change nothing.
 */
declare
    v_lease lease;
    v_channel channel;
    v_done message[];
    v_failed message[];
    v_released message[];
    v_settled integer[];
    v_errors text[];
    v_is_final boolean[];
    v_delays interval[];
    v_answer settled := row(0, 0, 0, false);
begin
    select * into v_lease from lease where lease_id = p_lease_id for update;
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
    -- All of a plain lease, named in the order of the claim: what a relay says when everything went well.
    if v_lease.is_plain and v_lease.settled is null and p_failed = '[]'
        and (p_done is null or p_done = array(select m.message_id from unnest(v_lease.messages) m))
    then
        delete from lease where lease_id = p_lease_id;
        insert into tally (amount, channel_id, outcome)
        values (v_lease.message_count, v_lease.channel_id, 'acked');
        v_answer.acked := v_lease.message_count;
        return v_answer;
    end if;

    select * into v_channel from channel where channel_id = v_lease.channel_id;
    -- A settlement that names a message both done and failed is refused before it comes here.
    with left_over as (
        select m.ordinality::integer as ordinal, m.message_id, row(m.attempts, m.priority, m.message_id, m.enqueued_at, m.payload, m.headers, m.event_id, m.body_id, m.body_bytes, m.max_attempts, m.max_batch, m.requeued_from, m.topic, m.group_key, m.job_key, m.run_id, m.tenant, m.errors)::message as message
        from unnest(v_lease.messages) with ordinality m
        where m.ordinality <> all(coalesce(v_lease.settled, '{}'))
    ), failure as (
        select distinct on (f.message_id) f.*
        from jsonb_to_recordset(p_failed)
            as f (message_id bigint, error text, retryable boolean, retry_in interval)
        order by f.message_id
    ), judged as (
        select
            l.*, f.error, f.retryable, f.retry_in,
            case
                when f.message_id is not null then 'failed'
                when l.message_id = any(p_done) then 'done'
                when l.message_id = any(p_released) then 'released'
                when p_done is null then 'done'
                when p_released is null then 'released'
            end as verdict
        from left_over l
        left join failure f on f.message_id = l.message_id
    )
    select
        array_agg(j.message order by j.ordinal) filter (where j.verdict = 'done'),
        array_agg(j.message order by j.ordinal) filter (where j.verdict = 'released'),
        array_agg(j.message order by j.ordinal) filter (where j.verdict = 'failed'),
        array_agg(j.error order by j.ordinal) filter (where j.verdict = 'failed'),
        array_agg(j.retryable is false order by j.ordinal) filter (where j.verdict = 'failed'),
        array_agg(j.retry_in order by j.ordinal) filter (where j.verdict = 'failed'),
        array_agg(j.ordinal order by j.ordinal) filter (where j.verdict is not null)
    into v_done, v_released, v_failed, v_errors, v_is_final, v_delays, v_settled
    from judged j;

    if v_settled is null then
        return v_answer;
    end if;
    if v_done is not null then
        if not v_lease.is_plain then
            perform _message_finish(v_channel.channel_id, v_channel.archive, v_done);
        end if;
        v_answer.acked := cardinality(v_done);
    end if;
    if v_released is not null then
        perform _message_return(v_channel.channel_id, v_released, p_retry_in);
    end if;
    if v_failed is not null then
        select f.retried, f.dead_lettered into v_answer.retried, v_answer.dead_lettered
        from _message_fail(v_channel.channel_id, v_failed, v_errors, v_is_final, v_delays) f;
    end if;

    if cardinality(v_settled) = v_lease.message_count then
        delete from lease where lease_id = p_lease_id;
    else
        update lease
        set settled = v_lease.settled || v_settled, message_count = v_lease.message_count - cardinality(v_settled)
        where lease_id = p_lease_id;
    end if;

    insert into tally (channel_id, outcome, amount)
    select v_channel.channel_id, o.outcome, o.amount
    from (values
        ('acked', v_answer.acked), ('retried', v_answer.retried), ('dead_lettered', v_answer.dead_lettered),
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
create or replace function tidegate._failed_check(p_done bigint[], p_failed jsonb) returns void
language plpgsql stable
set search_path = tidegate, pg_temp
as $$
declare
    v_entry jsonb;
begin
    if jsonb_typeof(p_failed) is distinct from 'array' then
        perform _bad_argument(
            'p_failed', p_failed::text, 'Give a JSON array: [{"message_id": 3, "error": "smtp 550"}]'
        );
    end if;
    for v_entry in select f.value from jsonb_array_elements(p_failed) f loop
        if jsonb_typeof(v_entry) <> 'object' or jsonb_typeof(v_entry -> 'message_id') is distinct from 'number' then
            perform _bad_argument(
                'an entry of p_failed', v_entry::text, 'Each entry is an object with a message_id, a number.'
            );
        end if;
        if exists (
            select from jsonb_object_keys(v_entry) k
            where k not in ('message_id', 'error', 'retryable', 'retry_in')
        ) then
            perform _bad_argument(
                'an entry of p_failed', v_entry::text, 'Its keys are message_id, error, retryable and retry_in.'
            );
        end if;
        if (v_entry ->> 'message_id')::numeric = any(p_done::numeric[]) then
            perform _bad_argument(
                'p_failed', v_entry::text, 'A message is either done or failed: this one is named in p_done too.'
            );
        end if;
        perform (v_entry ->> 'retryable')::boolean, (v_entry ->> 'retry_in')::interval;
    end loop;
end;
$$;

comment on function tidegate._failed_check(bigint[], jsonb) is
'Raise TG010 unless p_failed is a JSON array of failures that name no message of p_done. Values of the wrong type raise what their cast raises (22P02, 22007).';

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
    v_moved integer;
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
        ), entered as (
            insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, topic, group_key, job_key, run_id, tenant, errors)
            select nextval('position_seq'), d.channel_id, d.attempts, d.priority, d.message_id, d.enqueued_at, d.payload, d.headers, d.event_id, d.body_id, d.body_bytes, d.max_attempts, d.max_batch, d.requeued_from, d.topic, d.group_key, d.job_key, d.run_id, d.tenant, d.errors
            from (select * from due order by due_at, message_id) d
            returning 1
        )
        select count(*) into v_moved from entered;
        return v_moved;
    exception
        when others then
            perform _incident_note('_scheduled_promote', p_channel_id, sqlstate, sqlerrm);
    end;

    v_moved := 0;
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
            )
            insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, topic, group_key, job_key, run_id, tenant, errors)
            select nextval('position_seq'), d.channel_id, d.attempts, d.priority, d.message_id, d.enqueued_at, d.payload, d.headers, d.event_id, d.body_id, d.body_bytes, d.max_attempts, d.max_batch, d.requeued_from, d.topic, d.group_key, d.job_key, d.run_id, d.tenant, d.errors from due d;
        exception
            when others then
                update scheduled set due_at = greatest(v_now, clock_now()) + interval '1 minute'
                where channel_id = p_channel_id and due_at between p_from and v_now and message_id = v_message_id;
        end;
        v_moved := v_moved + 1;
    end loop;
    return v_moved;
end;
$$;

comment on function tidegate._scheduled_promote(integer, timestamptz, integer) is
'Move up to p_limit due messages of a channel from scheduled to ready, in order of becoming due. Returns how many were looked at; 0 when nothing is due.';

-- functions/place/_lease_expire.sql
create or replace function tidegate._lease_expire(p_channel_id integer, p_from timestamptz, p_limit integer)
returns integer
language plpgsql volatile
set search_path = tidegate, pg_temp
as $$
/*
 * Fairness: a message that was alone in its lease is charged; a crowd comes back unharmed in halved batches, so that
 * what kills its worker is cornered in log2(n) crashes. Nobody is charged or halved for an outage: when the server
 * restarted or failed over while the lease ran, and nothing ticked for longer than a lease, its holder never had a
 * chance to settle.
 *
 * Each lease is a subtransaction: one that cannot be taken back is put off by a minute and holds up no other.
 * A holder that settles at the same time holds the row's lock: it is skipped here, and wins.
 */
declare
    v_now timestamptz := clock_now();
    v_stop timestamptz := clock_timestamp() + interval '50 ms';
    v_tide tide;
    v_lease lease;
    v_left message[];
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
            if cardinality(v_lease.messages) = 1 and v_is_spared is not true then
                select f.retried, f.dead_lettered into v_retried, v_dead
                from _message_fail(
                    p_channel_id, v_left,
                    array[format('lease expired: worker %s did not settle', coalesce(v_lease.worker, '(unnamed)'))],
                    null, null, 'expired'
                ) f;
            else
                perform _message_return(
                    p_channel_id, v_left, '0',
                    case when v_is_spared is not true then greatest(cardinality(v_left) / 2, 1) end
                );
                v_retried := 0;
                v_dead := 0;
            end if;
            insert into tally (channel_id, outcome, amount)
            select p_channel_id, o.outcome, o.amount
            from (values
                ('expired', cardinality(v_left)), ('retried', v_retried), ('dead_lettered', v_dead)
            ) as o (outcome, amount)
            where o.amount > 0;
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
 * One turn of the machine for one channel: a tide, due messages to ready, expired leases taken back, and a new floor
 * row. Bounded in rows, and the taking back of leases in time too; it always gets its turn, however slow the rest is.
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
    v_live bigint;
    v_any_live boolean := false;
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

        v_floor.priorities := _priorities(p_channel_id);
        foreach v_priority in array v_floor.priorities loop
            v_live := (
                select r.position from ready r
                where r.channel_id = p_channel_id and r.priority = v_priority
                    and r.position > v_floor.floors[v_priority + 1]
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

        select s.due_at into v_deadline
        from scheduled s
        where s.channel_id = p_channel_id and s.due_at >= v_floor.scheduled_from - interval '1 minute'
        order by s.due_at
        limit 1;
        v_floor.scheduled_from := least(v_tide.quiet_since, v_deadline);

        select l.expires_at into v_deadline
        from lease l
        where l.channel_id = p_channel_id and l.expires_at >= v_floor.lease_from - interval '1 minute'
        order by l.expires_at
        limit 1;
        v_floor.lease_from := least(v_tide.quiet_since, v_deadline);

        v_floor.position := v_tide.position;
        v_floor.is_quiet := not v_any_live and cardinality(v_tide.holders) = 0;
        v_floor.move_limit := least(v_floor.move_limit * 2, 1000);
    exception
        when others or query_canceled then
            perform _incident_note('_tick', p_channel_id, sqlstate, sqlerrm);
            select * into v_floor from floor where channel_id = p_channel_id order by floor_id desc limit 1;
            v_floor.has_more := true;
            v_floor.move_limit := greatest(v_floor.move_limit / 8, 1);
    end;

    -- What counts as its duration is bounded: a tick that waited for somebody's lock must not silence the next ones.
    insert into floor (
        channel_id, ticked_at, took, position, is_quiet, has_more, move_limit, priorities, floors, hints,
        scheduled_from, lease_from
    ) values (
        p_channel_id, clock_now(), greatest('0', least(clock_timestamp() - v_started, '500 ms')),
        v_floor.position, v_floor.is_quiet, v_floor.has_more, v_floor.move_limit, v_floor.priorities, v_floor.floors,
        v_floor.hints, v_floor.scheduled_from, v_floor.lease_from
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
            insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, topic, group_key, job_key, run_id, tenant, errors)
            select nextval('position_seq'), s.channel_id, s.attempts, s.priority, s.message_id, s.enqueued_at, s.payload, s.headers, s.event_id, s.body_id, s.body_bytes, s.max_attempts, s.max_batch, s.requeued_from, s.topic, s.group_key, s.job_key, s.run_id, s.tenant, s.errors
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
    end loop;
    return v_total;
end;
$$;

comment on function tidegate._stranded_replace(integer) is
'Find messages at or below the floor of their channel, up to p_limit a priority, and let them enter ready anew. Returns how many; 0 is the ordinary case.';

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
    p_limit integer default 50
) returns setof tidegate.dead_letter
language plpgsql stable rows 50
security definer
set search_path = tidegate, pg_temp
as $$
begin
    if p_state not in ('dead', 'requeued', 'resolved', 'discarded') then
        perform _bad_argument('p_state', p_state, 'The states are dead, requeued, resolved and discarded; null is any.');
    end if;
    if p_reason not in (
        'exhausted', 'not_retryable', 'expired', 'malformed', 'unknown_handler', 'cancelled', 'purged'
    ) then
        perform _bad_argument('p_reason', p_reason, 'The reasons stand in dead_letter_summary; null is any.');
    end if;
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'List between 1 and 10000 entries at a time.');
    end if;
    return query
    select d.*
    from dead_letter d
    where (p_after_id is null or d.dead_letter_id < p_after_id)
        and (p_channel is null or d.channel = p_channel)
        and (p_reason is null or d.reason = p_reason)
        and (p_tenant is null or d.tenant = p_tenant)
        and (p_run_id is null or d.run_id = p_run_id)
        and (p_state is null or d.state = p_state)
        and (p_since is null or d.dead_at >= p_since)
        and (p_until is null or d.dead_at < p_until)
    order by d.dead_letter_id desc
    limit p_limit;
end;
$$;

comment on function tidegate.dead_letter_list(
    text, text, text, text, text, timestamptz, timestamptz, bigint, integer
) is
'Dead letters, newest first, by channel, reason, tenant, run, state (dead unless given; null = any) and time; a filter that is null matches all. Page on with p_after_id = the last dead_letter_id seen. No rows when nothing matches. A payload above the inline limit is null here: see dead_letter_payload. Errors: TG010 bad limit, unknown state or reason.';

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
        perform _bad_argument('p_state', p_state, 'The states are dead, requeued, resolved and discarded; null is any.');
    end if;
    if p_reason not in (
        'exhausted', 'not_retryable', 'expired', 'malformed', 'unknown_handler', 'cancelled', 'purged'
    ) then
        perform _bad_argument('p_reason', p_reason, 'The reasons stand in dead_letter_summary; null is any.');
    end if;
    return (
        select count(*) from dead_letter d
        where (p_channel is null or d.channel = p_channel)
        and (p_reason is null or d.reason = p_reason)
        and (p_tenant is null or d.tenant = p_tenant)
        and (p_run_id is null or d.run_id = p_run_id)
        and (p_state is null or d.state = p_state)
        and (p_since is null or d.dead_at >= p_since)
        and (p_until is null or d.dead_at < p_until)
    );
end;
$$;

comment on function tidegate.dead_letter_count(
    text, text, text, text, text, timestamptz, timestamptz
) is
'How many dead letters match the filters of dead_letter_list, whatever its page. Errors: TG010 unknown state or reason.';

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
#variable_conflict use_column
/*
 * The entry stays and its child carries its id: the state is requeued exactly while the child is alive. Only entries
 * that are dead are locked, in order of their ids: nobody settles a child of those, so no settlement is waited for, and
 * of two requeues at once the second finds nothing left to lock. The others are read afterwards, in a new snapshot.
 */
declare
    v_locked bigint[];
begin
    select array_agg(l.dead_letter_id) into v_locked
    from (
        select d.dead_letter_id from dead_letter d
        where d.dead_letter_id = any(p_dead_letter_ids) and d.state = 'dead'
        order by d.dead_letter_id
        for update
    ) l;

    return query
    with judged as (
        select
            w.ordinal, w.id,
            case
                when d.dead_letter_id is null then 'unknown'
                when d.dead_letter_id <> all(coalesce(v_locked, '{}'))
                    then 'already_' || case d.state when 'dead' then 'requeued' else d.state end
                when c.channel_id is null then 'no_channel'
                else 'requeued'
            end as outcome
        from (
            select i.id, min(i.ordinality) as ordinal
            from unnest(p_dead_letter_ids) with ordinality i (id, ordinality)
            group by i.id
        ) w
        left join dead_letter d on d.dead_letter_id = w.id
        left join channel c on c.channel_id = d.channel_id
    ), chosen as (
        select
            e.*, j.ordinal, nextval('position_seq') as drawn,
            case when e.body_id is not null then nextval('body_body_id_seq') end as own_body_id
        from judged j
        inner join dead_letter e on e.dead_letter_id = j.id
        where j.outcome = 'requeued'
        order by j.ordinal
    ), copied as (
        insert into body (body_id, payload) overriding system value
        select h.own_body_id, b.payload
        from chosen h
        inner join body b on b.body_id = h.body_id
        returning 1
    ), entered as (
        insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, topic, group_key, job_key, run_id, tenant, errors)
        select
            h.drawn, h.channel_id,
            case when p_reset_attempts then 0 else h.attempts end, h.priority, h.drawn, h.enqueued_at, h.payload, h.headers, coalesce(h.event_id, _event_id(i.event_prefix, h.message_id)), h.own_body_id, h.body_bytes, h.max_attempts, null, h.dead_letter_id, h.topic, h.group_key, h.job_key, h.run_id, h.tenant, h.errors
        from chosen h
        cross join installation i
        returning ready.requeued_from, ready.message_id, ready.channel_id
    ), marked as (
        update dead_letter d
        set state = 'requeued', requeued_count = d.requeued_count + 1, last_requeued_at = clock_now(),
            notes = d.notes || jsonb_build_object(
                'at', clock_now(), 'by', session_user, 'did', 'requeue', 'note', p_note
            )
        from chosen h
        where d.dead_letter_id = h.dead_letter_id
        returning 1
    ), counted as (
        insert into tally (channel_id, outcome, amount)
        select e.channel_id, 'requeued', count(*) from entered e group by e.channel_id
        returning 1
    )
    select j.id, e.message_id, j.outcome
    from judged j
    left join entered e on e.requeued_from = j.id
    order by j.ordinal;
end;
$$;

comment on function tidegate.dead_letter_requeue(bigint[], boolean, text) is
'Send dead letters back to where they died, in one transaction, with their priority, headers and identity; attempts start at 0 unless p_reset_attempts is false. One row an id: requeued, already_requeued (its message is still alive), already_resolved, already_discarded, no_channel, or unknown. The success of the message resolves the entry; its death returns it. Not for REPEATABLE READ: two requeues at once then raise 40001.';

-- functions/dead_letter/dead_letter_discard.sql
create or replace function tidegate.dead_letter_discard(
    p_dead_letter_ids bigint[], p_reason text, out dead_letter_id bigint, out outcome text
) returns setof record
language plpgsql volatile rows 100
security definer
set search_path = tidegate, pg_temp
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
        where d.dead_letter_id = any(p_dead_letter_ids) and d.state = 'dead'
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
    left join dead_letter d on d.dead_letter_id = w.id
    order by w.ordinal;
end;
$$;

comment on function tidegate.dead_letter_discard(bigint[], text) is
'Give up dead letters, with a reason that is kept; cleanup removes them after their retention. One row an id: discarded, already_requeued, already_resolved, already_discarded, or unknown. Errors: TG010 no reason.';

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
        scheduled_from,
            lease_from
        ) values (
            v_channel_id, clock_now(), '0', 0, false, false, 1000, '{0}',
            array_fill(0::bigint, array[10]), array_fill(0::bigint, array[10]), '-infinity', '-infinity'
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
    update channel set is_paused = false where kind = 'queue' and name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
end;
$$;

comment on function tidegate.queue_resume(text) is
'Hand out again what stands in a paused queue. A repeat changes nothing. Errors: TG020 no such queue.';

-- functions/queue/queue_drop.sql
create or replace function tidegate.queue_drop(p_queue text) returns void
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
    select (select count(*) from ready r where r.channel_id = v_channel_id)
        + (select count(*) from scheduled s where s.channel_id = v_channel_id)
        + (select coalesce(sum(l.message_count), 0) from lease l where l.channel_id = v_channel_id)
    into v_count;
    if v_count > 0 then
        raise exception using
            errcode = 'TG022',
            message = format('queue %L still holds %s message(s)', p_queue, v_count),
            hint = 'Let workers finish them first.';
    end if;
    delete from channel where channel_id = v_channel_id;
    delete from channel_priority where channel_id = v_channel_id;
    delete from floor where channel_id = v_channel_id;
    delete from idempotency_key where channel_id = v_channel_id;
end;
$$;

comment on function tidegate.queue_drop(text) is
'Drop an empty queue; dead letters and archived messages stay. Commit at once: until then every call of every channel waits. Errors: TG020 no such queue, TG022 it still holds messages or is routed to, TG030 not READ COMMITTED, 55P03 a transaction that has used a channel stayed open: try again.';

-- functions/queue/queue_send.sql
create or replace function tidegate.queue_send(
    p_queue text,
    p_payload jsonb,
    p_headers jsonb default null,
    p_run_at timestamptz default null,
    p_priority integer default 0,
    p_group_key text default null,
    p_idempotency_key text default null,
    p_event_id uuid default null,
    p_run_id text default null,
    p_tenant text default null,
    p_max_attempts integer default null
) returns tidegate.sent
language plpgsql volatile
security definer
set search_path = tidegate, pg_temp
as $$
declare
    v_channel record;
    v_sent sent;
    v_body_id bigint;
    v_size integer := _json_size(p_payload);
begin
    select c.channel_id, c.inline_limit, c.tenant_required into v_channel
    from channel c
    where c.kind = 'queue' and c.name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
    -- The ordinary message passes one test: each expression is set up anew in every transaction.
    if (
        p_priority = 0 and p_idempotency_key is null and current_setting('transaction_isolation') = 'read committed'
        and (p_tenant is not null or not v_channel.tenant_required)
        and (p_headers is null or (jsonb_typeof(p_headers) = 'object' and _json_size(p_headers) <= 8192))
        and (p_max_attempts is null or p_max_attempts between 0 and 32767)
    ) is not true then
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
        if octet_length(p_idempotency_key) > 512 then
            perform _bad_argument('p_idempotency_key', left(p_idempotency_key, 100), 'A key has at most 512 bytes; hash a longer one.');
        end if;
        if p_priority > 0 then
            perform _priority_declare(v_channel.channel_id, array[p_priority]::smallint[]);
        end if;
    end if;
    if p_payload is null then
        perform _bad_argument('p_payload', null, 'Give a JSON value; for an empty one, ''null''::jsonb.');
    end if;

    v_sent.message_id := nextval('position_seq');
    v_sent.outcome := 'inserted';
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
            body_bytes, max_attempts, group_key, run_id, tenant
        ) values (
            greatest(p_run_at, clock_now() + interval '1 microsecond'), v_channel.channel_id, 0, p_priority, v_sent.message_id, clock_now(),
            case when v_body_id is null then p_payload end, p_headers, p_event_id, v_body_id,
            case when v_body_id is not null then v_size end,
            p_max_attempts, p_group_key, p_run_id, p_tenant
        );
    else
        insert into ready (
            position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id,
            body_bytes, max_attempts, group_key, run_id, tenant
        ) values (
            v_sent.message_id, v_channel.channel_id, 0, p_priority, v_sent.message_id, clock_now(),
            case when v_body_id is null then p_payload end, p_headers, p_event_id, v_body_id,
            case when v_body_id is not null then v_size end,
            p_max_attempts, p_group_key, p_run_id, p_tenant
        );
    end if;
    return v_sent;
end;
$$;

comment on function tidegate.queue_send(
    text, jsonb, jsonb, timestamptz, integer, text, text, uuid, text, text, integer
) is
'Send a message to a queue, in the caller''s transaction. Answers inserted with its message_id, or, for an idempotency key used before on this queue, deduplicated with the first one. A run_at in the past or null means now. Errors: TG010 bad argument, TG020 no such queue.';

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
    p_max_attempts integer default null
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
    where c.kind = 'queue' and c.name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
    -- The ordinary message passes one test: each expression is set up anew in every transaction.
    if (
        p_priority = 0 and p_idempotency_key is null and current_setting('transaction_isolation') = 'read committed'
        and (p_tenant is not null or not v_channel.tenant_required)
        and (p_headers is null or (jsonb_typeof(p_headers) = 'object' and _json_size(p_headers) <= 8192))
        and (p_max_attempts is null or p_max_attempts between 0 and 32767)
    ) is not true then
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
        if octet_length(p_idempotency_key) > 512 then
            perform _bad_argument('p_idempotency_key', left(p_idempotency_key, 100), 'A key has at most 512 bytes; hash a longer one.');
        end if;
        if p_priority > 0 then
            perform _priority_declare(v_channel.channel_id, array[p_priority]::smallint[]);
        end if;
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
            max_attempts, group_key, run_id, tenant
        )
        select
            i.id, v_channel.channel_id, 0, p_priority, i.id, v_now,
            case when i.body_id is null then i.payload end, p_headers,
            i.body_id, case when i.body_id is not null then _json_size(i.payload) end,
            p_max_attempts, p_group_key, p_run_id, p_tenant
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
        p_run_id => p_run_id, p_tenant => p_tenant, p_max_attempts => p_max_attempts,
        p_idempotency_key => p_idempotency_key || ':' || u.ordinal
    ) s
    order by u.ordinal;
end;
$$;

comment on function tidegate.queue_send_many(
    text, jsonb[], jsonb, timestamptz, integer, text, text, text, text, integer
) is
'Send many messages to a queue, in the caller''s transaction: one answer an element, in order; no rows for an empty array. The options hold for all; with an idempotency key, each element''s key is that key, a colon and its place in the array. Errors: TG010 bad argument, TG020 no such queue.';

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
    v_may_tick boolean := current_setting('tidegate.tick', true) = 'on' or (
        pg_current_xact_id_if_assigned() is null
        and statement_timestamp() < transaction_timestamp() + interval '100 ms'
    );
    v_since interval;
    v_drawn bigint;
    v_lease_id uuid := p_lease_id;
    v_expires_at timestamptz;
    v_cap integer := p_limit;
    v_limit integer;
    v_in_flight bigint;
    v_priority smallint;
    v_messages message[];
    v_ctids tid[];
    v_batch integer;
    v_bytes bigint := 0;
    v_is_plain boolean;
begin
    -- The ordinary call passes one test: each expression is set up anew in every transaction.
    if (
        p_limit between 1 and 10000 and (p_lease is null or p_lease > '0')
        and current_setting('transaction_isolation') = 'read committed'
    ) is not true then
        if current_setting('transaction_isolation') <> 'read committed' then
            perform _require_read_committed('queue_claim');
        elsif p_lease <= '0' then
            perform _bad_argument('p_lease', p_lease::text, 'A lease lasts a positive time, for example interval ''1 minute''.');
        end if;
        perform _bad_argument('p_limit', p_limit::text, 'Claim between 1 and 10000 messages at a time.');
    end if;

    select * into v_channel from channel where kind = 'queue' and name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
    if p_lease > v_channel.max_runtime then
        perform _bad_argument(
            'p_lease', p_lease::text, format('It may not be above the channel''s max_runtime, %s.', v_channel.max_runtime)
        );
    end if;

    if v_lease_id is null then
        v_lease_id := gen_random_uuid();
    else
        -- A repeat may overtake its first attempt: it waits for it here and then looks, in a new snapshot.
        perform pg_advisory_xact_lock(hashtextextended(v_lease_id::text, 'lease'::regclass::oid::bigint));
        return query select * from _lease_deliveries(v_lease_id, v_channel.channel_id);
        if found then
            return;
        elsif exists (select from lease l where l.lease_id = v_lease_id) then
            perform _bad_argument('p_lease_id', p_lease_id::text, 'That lease stands elsewhere: give each claim an id of its own.');
        end if;
    end if;
    if v_channel.is_paused then
        return;
    end if;

    select * into v_floor from floor where channel_id = v_channel.channel_id order by floor_id desc limit 1;
    v_since := v_now - v_floor.ticked_at;
    v_drawn := coalesce(pg_sequence_last_value('position_seq'), 0) - v_floor.position;
    if (v_since > '250 ms' or v_since < '0' or v_drawn > 5000 or v_floor.has_more)
        and not v_since between '0' and 10 * v_floor.took
        and v_may_tick
    then
        if v_since < '0' or v_drawn <> 0 or not v_floor.is_quiet or v_floor.has_more
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

    v_is_plain := not v_channel.archive;
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
    v_now := clock_now(); -- after the locks: a lease begins when it is handed out
    v_limit := v_cap;

    foreach v_priority in array v_floor.priorities loop
        if v_cap = 1 then
            -- The default, in one statement, which is a tenth cheaper than the two of a batch.
            delete from ready where ctid = any(array(
                select r.ctid from ready r
                where r.channel_id = v_channel.channel_id and r.priority = v_priority
                    and r.position > v_floor.hints[v_priority + 1]
                order by r.position
                limit 1
                for update skip locked
            ))
            returning
                array[row(attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, topic, group_key, job_key, run_id, tenant, errors)::message], coalesce(body_bytes, 0),
                not v_channel.archive and body_bytes is null and requeued_from is null
            into v_messages, v_bytes, v_is_plain;
            exit when found;
            continue;
        end if;

        -- Messages are built where their rows are locked: the delete then returns nothing, and order is that of the index.
        select
            v_ctids || array_agg(c.ctid),
            v_messages || array_agg(c.message),
            least(v_batch, min(c.max_batch)),
            v_bytes + coalesce(sum(c.body_bytes), 0),
            v_is_plain and count(c.body_bytes) + count(c.requeued_from) = 0
        into v_ctids, v_messages, v_batch, v_bytes, v_is_plain
        from (
            select
                r.ctid, r.max_batch, r.body_bytes, r.requeued_from,
                row(r.attempts, r.priority, r.message_id, r.enqueued_at, r.payload, r.headers, r.event_id, r.body_id, r.body_bytes, r.max_attempts, r.max_batch, r.requeued_from, r.topic, r.group_key, r.job_key, r.run_id, r.tenant, r.errors)::message as message
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
    if v_cap > 1 then
        if v_batch < cardinality(v_messages) or v_bytes > 16777216 then
            v_limit := _batch_fit(v_messages);
            v_messages := v_messages[:v_limit];
            v_ctids := v_ctids[:v_limit];
        end if;
        delete from ready where ctid = any(v_ctids);
    end if;

    insert into lease (lease_id, claimed_at, expires_at, channel_id, message_count, is_plain, worker, messages)
    values (
        v_lease_id, v_now,
        greatest(v_now + coalesce(p_lease, v_channel.lease), clock_now() + interval '1 microsecond'),
        v_channel.channel_id, cardinality(v_messages), v_is_plain, p_worker, v_messages
    ) returning expires_at into v_expires_at;

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
        perform _failed_check(p_done, p_failed);
    end if;
    return _lease_settle(p_lease_id, coalesce(p_done, '{}'), p_failed);
end;
$$;

comment on function tidegate.queue_settle(uuid, bigint[], jsonb) is
'Settle messages of a lease one by one: p_done succeeded; p_failed is a JSON array of {"message_id", "error", "retryable", "retry_in"} and only these are charged. What is in neither stays leased; ids that are not in the lease, or settled before, change nothing and are not counted. Answers lost = true, and does nothing, when the lease is gone. Errors: TG010 bad p_failed, TG030 the lease is not to be seen in an older snapshot.';

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
        scheduled_from,
            lease_from
        ) values (
            v_channel_id, clock_now(), '0', 0, false, false, 1000, '{0}',
            array_fill(0::bigint, array[10]), array_fill(0::bigint, array[10]), '-infinity', '-infinity'
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
    v_size integer := _json_size(p_payload);
begin
    select c.channel_id, c.inline_limit, c.tenant_required into v_channel
    from channel c
    where c.kind = 'topic' and c.name = p_topic;
    if not found then
        perform _no_such_channel('topic', p_topic);
    end if;
    -- The ordinary message passes one test: each expression is set up anew in every transaction.
    if (
        p_priority = 0 and p_idempotency_key is null and current_setting('transaction_isolation') = 'read committed'
        and (p_tenant is not null or not v_channel.tenant_required)
        and (p_headers is null or (jsonb_typeof(p_headers) = 'object' and _json_size(p_headers) <= 8192))
    ) is not true then
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
    end if;
    if p_payload is null then
        perform _bad_argument('p_payload', null, 'Give a JSON value; for an empty one, ''null''::jsonb.');
    end if;

    v_sent.message_id := nextval('position_seq');
    v_sent.outcome := 'inserted';
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
    -- The ordinary message passes one test: each expression is set up anew in every transaction.
    if (
        p_priority = 0 and p_idempotency_key is null and current_setting('transaction_isolation') = 'read committed'
        and (p_tenant is not null or not v_channel.tenant_required)
        and (p_headers is null or (jsonb_typeof(p_headers) = 'object' and _json_size(p_headers) <= 8192))
    ) is not true then
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
    v_known constant text[] := array[
        'payload', 'group_key', 'headers', 'run_at', 'priority', 'run_id', 'tenant', 'event_id', 'idempotency_key'
    ];
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
        select k into v_unknown from jsonb_object_keys(v_spec) k where k <> all(v_known) limit 1;
        if found then
            perform _bad_argument(
                'a key of p_specs', v_unknown, 'The keys are ' || array_to_string(v_known, ', ') || '.'
            );
        end if;
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

-- functions/outbox/_handler_oid.sql
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

-- functions/outbox/_handler_name.sql
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

-- functions/outbox/_handler_call.sql
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
                || 'is gone, bring it back, or take the route away: outbox_unroute(topic, p_handler => ...).';
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
 * same event_id. Without a target the handlers were all there was to do, and the event ends.
 */
declare
    v_targets integer[] := coalesce(p_queues, '{}') || case when p_archive then array[null::integer] else '{}' end;
    v_moved integer;
begin
    if exists (select from ready r where r.ctid = any(p_ctids) and r.priority > 0) then
        perform _priority_declare(
            q.queue_id, array(select r.priority from ready r where r.ctid = any(p_ctids))
        )
        from unnest(p_queues) q (queue_id);
    end if;

    -- One queue and no archive, the ordinary case: nothing is copied.
    if cardinality(v_targets) = 1 and not p_archive then
        with taken as (
            delete from ready where ctid = any(p_ctids) returning *
        ), resolved as (
            update dead_letter d set state = 'resolved', resolved_at = clock_now()
            from taken t
            where d.dead_letter_id = t.requeued_from
        )
        insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, topic, group_key, job_key, run_id, tenant, errors)
        select nextval('position_seq'), v_targets[1], 0, t.priority, t.message_id, t.enqueued_at, t.payload, t.headers, t.event_id, t.body_id, t.body_bytes, null, null, null, p_topic, t.group_key, t.job_key, t.run_id, t.tenant, null
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
        insert into ready (position, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, topic, group_key, job_key, run_id, tenant, errors)
        select
            d.drawn, d.target,
            0, d.priority, case when d.is_copy then d.drawn else d.message_id end, d.enqueued_at, d.payload, d.headers, case
                    when d.is_copy then coalesce(d.event_id, _event_id(i.event_prefix, d.message_id)) else d.event_id
                end, d.own_body_id, d.body_bytes, null, null, null, p_topic, d.group_key, d.job_key, d.run_id, d.tenant, null
        from delivery d
        cross join installation i
        where d.target is not null
    ), archived as (
        insert into archive (settled_at, channel_id, attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, topic, group_key, job_key, run_id, tenant, errors)
        select
            clock_now(), p_topic_id,
            d.attempts, d.priority, d.message_id, d.enqueued_at, d.payload, d.headers, coalesce(d.event_id, _event_id(i.event_prefix, d.message_id)), d.own_body_id, d.body_bytes, d.max_attempts, d.max_batch, d.requeued_from, d.topic, d.group_key, d.job_key, d.run_id, d.tenant, d.errors
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
 * The events are locked by the caller. Without handlers they move in one statement. With handlers:
 * first all of them in one subtransaction; if any raises, each in one of its own, and only those that raise are
 * charged. Queues receive only what every handler took.
 *
 * A plain SET in a handler outlives it, so our search_path is set again before anything else is looked up.
 *
 * Deferred constraints are checked where they can still be told apart, but only when the sweep is the first to write in
 * its transaction (p_may_check): it would else fire the caller's own deferred triggers, before PostgreSQL 18 with our
 * rights. Unchecked, they fail the transaction at its commit.
 *
 * Time: each pass stops calling handlers after half of what is left of statement_timeout, and leaves the rest where
 * it stands, so slow handlers still make progress. A handler that is cancelled by the timeout has therefore had at
 * least that long for itself: it is charged, and ends the pass. So does any other cancel, which cannot be told from
 * one that a handler passes on from elsewhere, and would otherwise stop the topic for ever.
 */
declare
    v_queues integer[];
    v_handlers text[];
    v_calls text[] := '{}';
    v_call text;
    v_ctids tid[];
    v_messages message[];
    v_message message;
    v_ordinal integer := 0;
    v_reached integer;
    v_failed integer[] := '{}';
    v_errors text[] := '{}';
    v_is_isolated boolean := false;
    v_end timestamptz := 'infinity';
    v_stop timestamptz := 'infinity';
begin
    claimed := 0;
    dispatched := 0;
    retried := 0;
    dead_lettered := 0;
    select
        array_agg(distinct r.queue_id) filter (where r.queue_id is not null),
        array_agg(distinct r.handler) filter (where r.handler is not null)
    into v_queues, v_handlers
    from route r
    where _topic_matches(r.topic, p_topic);

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
        array_agg(row(r.attempts, r.priority, r.message_id, r.enqueued_at, coalesce(r.payload, (select b.payload from body b where b.body_id = r.body_id)), r.headers, coalesce(r.event_id, _event_id(i.event_prefix, r.message_id)), r.body_id, r.body_bytes, r.max_attempts, r.max_batch, r.requeued_from, p_topic, r.group_key, r.job_key, r.run_id, r.tenant, r.errors)::message order by r.priority, r.position)
    into v_ctids, v_messages
    from ready r
    cross join installation i
    where r.ctid = any(p_ctids);
    v_reached := cardinality(v_messages);

    if current_setting('statement_timeout') <> '0' then
        v_end := statement_timestamp() + current_setting('statement_timeout')::interval;
        v_stop := clock_timestamp() + (v_end - clock_timestamp()) / 2;
    end if;
    begin
        foreach v_message in array v_messages loop
            if clock_timestamp() > v_stop then
                v_reached := v_ordinal;
                exit;
            end if;
            v_ordinal := v_ordinal + 1;
            foreach v_call in array v_calls loop
                execute v_call using v_message;
                perform pg_catalog.set_config(
                    'search_path', pg_catalog.format('%I, pg_temp', 'tidegate'), true
                );
            end loop;
        end loop;
        if p_may_check then
            set constraints all immediate; -- what handlers deferred is checked while it can still be undone
        end if;
    exception
        when query_canceled then
            v_failed := array[v_ordinal];
            v_errors := array[sqlerrm];
            v_reached := 0; -- what the others did is undone, uncharged, and done again by a later sweep
        when others or assert_failure then
            v_is_isolated := true;
    end;

    if v_is_isolated then
        if v_end <> 'infinity' then
            v_stop := clock_timestamp() + (v_end - clock_timestamp()) / 2;
        end if;
        v_ordinal := 0;
        v_reached := cardinality(v_messages);
        foreach v_message in array v_messages loop
            if clock_timestamp() > v_stop and v_ordinal > 0 then
                v_reached := v_ordinal;
                exit;
            end if;
            v_ordinal := v_ordinal + 1;
            begin
                foreach v_call in array v_calls loop
                    execute v_call using v_message;
                    perform pg_catalog.set_config(
                        'search_path', pg_catalog.format('%I, pg_temp', 'tidegate'), true
                    );
                end loop;
                if p_may_check then
                    set constraints all immediate;
                end if;
            exception
                when query_canceled then
                    v_failed := v_failed || v_ordinal;
                    v_errors := v_errors || sqlerrm;
                    v_reached := v_ordinal;
                    exit;
                when others or assert_failure then
                    v_failed := v_failed || v_ordinal;
                    v_errors := v_errors || sqlerrm;
            end;
        end loop;
    end if;

    if v_failed <> '{}' then
        first_error := v_errors[1];
        with failed as (
            delete from ready where ctid = any(array(select v_ctids[f] from unnest(v_failed) f)) returning *
        )
        select
            array_agg(row(f.attempts, f.priority, f.message_id, f.enqueued_at, f.payload, f.headers, f.event_id, f.body_id, f.body_bytes, f.max_attempts, f.max_batch, f.requeued_from, f.topic, f.group_key, f.job_key, f.run_id, f.tenant, f.errors)::message order by f.priority, f.position)
        into v_messages
        from failed f;
        select f.retried, f.dead_lettered into retried, dead_lettered
        from _message_fail(p_topic_id, v_messages, v_errors, null, null) f;
        insert into tally (channel_id, outcome, amount)
        select p_topic_id, o.outcome, o.amount
        from (values ('retried', retried), ('dead_lettered', dead_lettered)) as o (outcome, amount)
        where o.amount > 0;
    end if;

    v_ctids := array(
        select v_ctids[o] from generate_series(1, v_reached) o where o <> all(v_failed) order by o
    );
    if v_ctids <> '{}' then
        dispatched := _topic_move(p_topic_id, p_topic, p_archive, v_queues, v_ctids);
    end if;
    claimed := dispatched + retried + dead_lettered;
end;
$$;

comment on function tidegate._topic_deliver(integer, text, boolean, tid[], boolean) is
'Deliver locked events of one topic to all its routes and settle each by its own outcome. All 0, with first_error, when a handler of the topic is missing or unsafe: the events then stay.';

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
    v_may_tick boolean := current_setting('tidegate.tick', true) = 'on' or (
        pg_current_xact_id_if_assigned() is null
        and statement_timestamp() < transaction_timestamp() + interval '100 ms'
    );
    v_since interval;
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
    if current_setting('tidegate.sweeping', true) = 'on' then
        raise exception using
            errcode = 'TG031',
            message = 'outbox_sweep was called inside a sweep',
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

    perform set_config('tidegate.sweeping', 'on', true);
    for v_channel in
        select * from channel c
        where c.kind = 'topic' and c.is_routed and not c.is_paused and (p_topic is null or c.name = p_topic)
        order by random()
    loop
        select * into v_floor from floor where channel_id = v_channel.channel_id order by floor_id desc limit 1;
        v_since := v_now - v_floor.ticked_at;
        v_drawn := coalesce(pg_sequence_last_value('position_seq'), 0) - v_floor.position;
        if (v_since > '250 ms' or v_since < '0' or v_drawn > 5000 or v_floor.has_more)
            and not v_since between '0' and 10 * v_floor.took
            and v_may_tick
        then
            if v_since < '0' or v_drawn <> 0 or not v_floor.is_quiet or v_floor.has_more
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
    perform set_config('tidegate.sweeping', 'off', true);
end;
$$;

comment on function tidegate.outbox_sweep(integer, text) is
'Deliver up to p_limit due events of routed topics, or of one of them, each to all its routes in this transaction: to queues as a set, to SQL handlers with a retry one by one, so that one that raises fails alone. claimed = dispatched + retried + dead_lettered; all 0 when nothing is due. first_error is the first failed event''s own, or that of a topic held back by a handler that is missing or unsafe. Errors: TG010 bad argument, TG020 no such topic, TG022 a topic without a route, TG030 not READ COMMITTED, TG031 inside a sweep.';

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
    v_may_tick boolean := current_setting('tidegate.tick', true) = 'on' or (
        pg_current_xact_id_if_assigned() is null
        and statement_timestamp() < transaction_timestamp() + interval '100 ms'
    );
    v_since interval;
    v_drawn bigint;
    v_lease_id uuid := p_lease_id;
    v_expires_at timestamptz;
    v_cap integer := p_limit;
    v_limit integer;
    v_in_flight bigint;
    v_priority smallint;
    v_messages message[];
    v_ctids tid[];
    v_batch integer;
    v_bytes bigint := 0;
    v_is_plain boolean;
begin
    -- The ordinary call passes one test: each expression is set up anew in every transaction.
    if (
        p_limit between 1 and 10000 and (p_lease is null or p_lease > '0')
        and current_setting('transaction_isolation') = 'read committed'
    ) is not true then
        if current_setting('transaction_isolation') <> 'read committed' then
            perform _require_read_committed('outbox_claim');
        elsif p_lease <= '0' then
            perform _bad_argument('p_lease', p_lease::text, 'A lease lasts a positive time, for example interval ''1 minute''.');
        end if;
        perform _bad_argument('p_limit', p_limit::text, 'Claim between 1 and 10000 messages at a time.');
    end if;

    select * into v_channel from channel where kind = 'topic' and name = p_topic;
    if not found then
        perform _no_such_channel('topic', p_topic);
    end if;
    if v_channel.is_routed then
        raise exception using
            errcode = 'TG022',
            message = format('topic %L is routed: its events go to its routes', p_topic),
            hint = 'Sweep it with outbox_sweep, or take its routes away with outbox_unroute before relaying it.';
    end if;
    if p_lease > v_channel.max_runtime then
        perform _bad_argument(
            'p_lease', p_lease::text, format('It may not be above the channel''s max_runtime, %s.', v_channel.max_runtime)
        );
    end if;

    if v_lease_id is null then
        v_lease_id := gen_random_uuid();
    else
        -- A repeat may overtake its first attempt: it waits for it here and then looks, in a new snapshot.
        perform pg_advisory_xact_lock(hashtextextended(v_lease_id::text, 'lease'::regclass::oid::bigint));
        return query select * from _lease_deliveries(v_lease_id, v_channel.channel_id);
        if found then
            return;
        elsif exists (select from lease l where l.lease_id = v_lease_id) then
            perform _bad_argument('p_lease_id', p_lease_id::text, 'That lease stands elsewhere: give each claim an id of its own.');
        end if;
    end if;
    if v_channel.is_paused then
        return;
    end if;

    select * into v_floor from floor where channel_id = v_channel.channel_id order by floor_id desc limit 1;
    v_since := v_now - v_floor.ticked_at;
    v_drawn := coalesce(pg_sequence_last_value('position_seq'), 0) - v_floor.position;
    if (v_since > '250 ms' or v_since < '0' or v_drawn > 5000 or v_floor.has_more)
        and not v_since between '0' and 10 * v_floor.took
        and v_may_tick
    then
        if v_since < '0' or v_drawn <> 0 or not v_floor.is_quiet or v_floor.has_more
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

    v_is_plain := not v_channel.archive;
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
    v_now := clock_now(); -- after the locks: a lease begins when it is handed out
    v_limit := v_cap;

    foreach v_priority in array v_floor.priorities loop
        if v_cap = 1 then
            -- The default, in one statement, which is a tenth cheaper than the two of a batch.
            delete from ready where ctid = any(array(
                select r.ctid from ready r
                where r.channel_id = v_channel.channel_id and r.priority = v_priority
                    and r.position > v_floor.hints[v_priority + 1]
                order by r.position
                limit 1
                for update skip locked
            ))
            returning
                array[row(attempts, priority, message_id, enqueued_at, payload, headers, event_id, body_id, body_bytes, max_attempts, max_batch, requeued_from, topic, group_key, job_key, run_id, tenant, errors)::message], coalesce(body_bytes, 0),
                not v_channel.archive and body_bytes is null and requeued_from is null
            into v_messages, v_bytes, v_is_plain;
            exit when found;
            continue;
        end if;

        -- Messages are built where their rows are locked: the delete then returns nothing, and order is that of the index.
        select
            v_ctids || array_agg(c.ctid),
            v_messages || array_agg(c.message),
            least(v_batch, min(c.max_batch)),
            v_bytes + coalesce(sum(c.body_bytes), 0),
            v_is_plain and count(c.body_bytes) + count(c.requeued_from) = 0
        into v_ctids, v_messages, v_batch, v_bytes, v_is_plain
        from (
            select
                r.ctid, r.max_batch, r.body_bytes, r.requeued_from,
                row(r.attempts, r.priority, r.message_id, r.enqueued_at, r.payload, r.headers, r.event_id, r.body_id, r.body_bytes, r.max_attempts, r.max_batch, r.requeued_from, r.topic, r.group_key, r.job_key, r.run_id, r.tenant, r.errors)::message as message
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
    if v_cap > 1 then
        if v_batch < cardinality(v_messages) or v_bytes > 16777216 then
            v_limit := _batch_fit(v_messages);
            v_messages := v_messages[:v_limit];
            v_ctids := v_ctids[:v_limit];
        end if;
        delete from ready where ctid = any(v_ctids);
    end if;

    insert into lease (lease_id, claimed_at, expires_at, channel_id, message_count, is_plain, worker, messages)
    values (
        v_lease_id, v_now,
        greatest(v_now + coalesce(p_lease, v_channel.lease), clock_now() + interval '1 microsecond'),
        v_channel.channel_id, cardinality(v_messages), v_is_plain, p_worker, v_messages
    ) returning expires_at into v_expires_at;

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
        perform _failed_check(p_done, p_failed);
    end if;
    return _lease_settle(p_lease_id, coalesce(p_done, '{}'), p_failed);
end;
$$;

comment on function tidegate.outbox_settle(uuid, bigint[], jsonb) is
'Settle events of a lease: p_done were published; p_failed is a JSON array of {"message_id", "error", "retryable", "retry_in"} and only these are charged. What is in neither stays leased; ids that are not in the lease, or settled before, change nothing and are not counted. Answers lost = true, and does nothing, when the lease is gone. Errors: TG010 bad p_failed.';

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
    r.ready,
    r.oldest_ready_at,
    s.scheduled,
    s.next_due_at,
    l.leased
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
        ('_backoff', '0d65a56eeec9e36016bdca6b95dad9726054bf890fd1d1354cb85146664a0065'),
        ('_bad_argument', 'af3c40a042ee2c84175cad08526b162e65e07c257ae12c0e2eec57816703e6ce'),
        ('_batch_fit', 'e2631162b50b68fc89b1e2ccff06d5057644b64fe75a0e85a97c0ca5324f6b6b'),
        ('_channel_configure', '87da208ad33471234602874f898e54c180ad5af26d29d14061686f32ad3a6980'),
        ('_error_text', '7f12f69ffaf3d6dff455683baed5f1abd597a68e4df21400d06f4cd26391f9b8'),
        ('_event_id', 'dbd5513a675ecce78e3b1b17eec10d37723ff6f17c93ebc0aa70a869a1135d51'),
        ('_failed_check', 'debc2c4328f580e6606f0a78a647775559db54a8051f50517bcaf9903ebf3651'),
        ('_handler_call', '6c74675e74bce652956ef6e59d2684165decf658d57c872ab22f5e9d01c37c15'),
        ('_handler_name', '9d7032806e7362f11643018ab17af62dea437bea8251acc612d9d75afeeda34e'),
        ('_handler_oid', 'a0645f49e9faddbe6c0c06f13877bb1edc26fb4c2132b04bb0cbfa832f0a2aed'),
        ('_incident_note', 'fcf58f249876c261084721a5fce178843f2a9fb6be48fc16482214eef7080758'),
        ('_json_size', '6062f431a4bcafe38a6cc68c50eae60bc7bc0e6e5c44791bbd17802a9eb4f093'),
        ('_lease_deliveries', '9325f66d8e52d3baf44619ad2c8befa9406beadb93798c793826c1d419d7139a'),
        ('_lease_expire', '287ae33b9f90a31767fbe40f40140aef5a66230b4ab2822dac4a98e846ce8a65'),
        ('_lease_left', '4bf455698f5d0732ffc1bbe9a739f7a86d64739f40247010e581b9600e38e73d'),
        ('_lease_settle', 'c9f0be7525d8a6dc7ee61df95aa0824a9e7d8620738b7b3073702adb55d7675f'),
        ('_lock_key', '25200ead6fd8ec53d7de24584aa0d649f5c99ca6e9f9b714efa3e2b99837f6ae'),
        ('_message_fail', '38eb7d30e1f9d7ab6b2774bb991158214ead53a0a5608fad6cab135276cf1833'),
        ('_message_finish', '6ec63dffdb2c4f0c734ed116c6c34735a6952435c11f35f0fb82bcbc8f3dfa68'),
        ('_message_return', '21ec18310509e999b9a97bd521b66b730f9d336cb4e1afe96e7425b235c1750f'),
        ('_no_such_channel', '4bcad0761436c478707f44cf1e2d7658c45bb8e381e3c908dc59919a44b557d3'),
        ('_priorities', '1052171ffcea120e559aa0c0680f15b51903b595d7d7a72b805002515ad0e876'),
        ('_priority_declare', 'a76f53903d1da8b652b02e6dae7296197e7f0a15b14bc6bec6a6f3fb0814e7e3'),
        ('_require_read_committed', 'd33119c3cb4627319b3075c109b67cfb57143e50db379889f1955224da36ba0b'),
        ('_scheduled_promote', '124fab28cedf1119f5749857cfd256f5d7089dfe341215d8a54acfedc78294ff'),
        ('_stranded_replace', 'b75e74185537fd0a26c77cf63fc4ea16ec4b08e7c99c936452898ea192f64a9a'),
        ('_tick', '1170fe7608169866e8caaf3114c241d8127f2d299ba39088866ccc18b5565840'),
        ('_tide_advance', 'eef70d953ccdcf426f7dccf6680359fd5c7b6ac829482b9b89d1d7d88f674c45'),
        ('_tide_forget', '4cb4b8c07805ec58676250f8d6ddbc21ce6596385dcbd4f16445b2d8d6c21c68'),
        ('_tide_forget_deadlines', '7be29da1813cabf481e4c579632d8f509ab8bf268bde1889e193232c67b492a9'),
        ('_topic_deliver', 'efe968095af0697f013425d5fadbd8c27e885acb6fb7b46cdd1f4bf42b747b33'),
        ('_topic_is_routed', '3c38a04becda1b8930f89d649c735a18a502992d383afd178576c22fac7e1f71'),
        ('_topic_matches', 'f195c07c02a6941e8b845e5698a609fa5fdc16cd3ea396772c8a235730d46be6'),
        ('_topic_move', '4bacd46f9545ab16d148b78c2c0880eb63deca01fbb84bcaf9b0a4daf04bcf0c'),
        ('archived', 'e4ead07f728b6087d048da37a7913e0d9661dfb7c3531ceafca08ec9f9707139'),
        ('backlog', '7dc0d1699bdf1dc7298604eade33dfcaf1eea3c7d236fd7e6843db46fb2ef34b'),
        ('cleanup_sweep', '69a4f7d7c84ce39f2722c51151c151bc4fea865180eb649d548359f1044a10c2'),
        ('clock_now', 'ddeefe2d6f3e3b6e3bcc63e7b223e578613d7393cb5f3253d06e700692700b10'),
        ('dead_letter_count', '8c4023b3c4601b94c923f2cc3d575a2884133a3404085bbfd06845d8292d51d5'),
        ('dead_letter_discard', '5277f4d34f25cd4bb7e7f9105d350403676ed3aa8c846c01385df823324fbd1e'),
        ('dead_letter_list', '9efaf493728179a6d4f89f2b986637be02b460fdda5b8e4cfadbb2edf59c8f6f'),
        ('dead_letter_payload', '869db0a56cdd605b3b7ebcaaff89960d2a7a8999c72dc7eadc6d1e97499093aa'),
        ('dead_letter_requeue', '2959f1518fa0c3b347cdec65516a2682a47fcceebd10453ff3d7df346dc564c0'),
        ('dead_letter_summary', 'afe15047875a213d9806fac6d3ec31f914a83cee9009403cd4ab4a10a3913e76'),
        ('guard_claim', 'd48bbde569a0f0e92f9aaf71721da4ca05d7eea1e244498fbf48fe7ffe46ec38'),
        ('guard_finish', '04e3e70b72c6caef12a245e6e599056c2b52a471b61db5c1271026cda8e0d982'),
        ('in_flight', '30cfd00e2b30a822973c457bebf264b918916962592d6baa0c236504c6036184'),
        ('inbox_accept', '1f742ded1e45dad7f96665fd5b8fc0c252b2b95d7d9e117f5ab64e55365003f5'),
        ('outbox_claim', '2ec82343d0c81248bc2d956eba7660b496534c6933d57c071dd0e83b65727d4e'),
        ('outbox_put', '593ff362fb4ed1d25a66463e687ce45074a7dff01befa5b3a99000fafd832960'),
        ('outbox_put_many', '95173393d5ee69a5b59e73836e48dc18cc6a7d6c08a85133b7512ab9f86beaff'),
        ('outbox_put_specs', '519616d91c4d986377ccd326753d4101b7e37be5cc19e63ae94fae7716b1e010'),
        ('outbox_release', '5f366fc983d189a344fd6a718b931afa37a4a19a24b59cef1da5d8a5363126ab'),
        ('outbox_route', '752e32d7a2265ff47ed97fecfea5eb859be13f3613b2ecc811c526942499711d'),
        ('outbox_settle', '79ac8b23d4d2a44c85ab7668d8b765caac1ab537841ffeb74a3bcc556dfbd52b'),
        ('outbox_sweep', '06fd91b1faff98812d5c9d7b22b87407180ee0fb6ba836e487838576284122cd'),
        ('outbox_unroute', '04ac6d72dea99092a478cc0fc5e2afd864869cab5100911e46c68b613874246e'),
        ('outcomes', '56979fce280726ebfa2be884067520965bd5a650dbf9051879d7678da118bba8'),
        ('queue_ack', '2fa0fb35f86ff3b0396cbd44fc65d1c43967aeb7395e982a1be5c404d4cca0b6'),
        ('queue_claim', 'e2bb38dab744f47774618458fe61a833e6dd600076188c147a058c850b28e3ff'),
        ('queue_configure', '428bdfc48e7128f13a88c307fa8f15b15675a08c0cba8462172f3d575b3460f4'),
        ('queue_create', 'a462642dd2063adfd7cbfa98dd09c757202b5c40b8c37f2d9c70c2c7adc5eebc'),
        ('queue_drop', '73dba2ff956232de440b2578589a355c4ae510f6816d04d8514de64643c107e9'),
        ('queue_nack', 'eab600cbd0723535c6386c44ebeb812c5c68ab0ee22cec74f52155423459e98e'),
        ('queue_pause', '3cf8ff0e3e945af2e9e7ea50524e1be6daf2a8c348ccfe54d65ef1643cb6e383'),
        ('queue_release', '5fde9639a2db58081d182e6cc7091eb032d8028e218e31d9c4f6a0d537d49860'),
        ('queue_resume', 'bbc09c92d3762702d5418e3233c93776829823adf61cb4a09e3a5e7c00f8a30d'),
        ('queue_send', '04e6edbc423c032d51b2945d69435c60b11b4d9df1adc921be16609bff45f7ab'),
        ('queue_send_many', 'b56810264bfea84e4c2bcc8631bbacea62e94f46dcedd26cbd4afa2c49dbffd9'),
        ('queue_settle', '6be5826bcc6c533de82e2011451aba3ca0e3845c1122d5e0e08217a8a0d5d8e5'),
        ('schema_version', '96c4a83da33dfa6ce71ca3f880c9c4b1a9b3f1344bb24ee54f23a250db3f81b4'),
        ('topic_configure', '49ac51426786b925adef8d30160253f7fa026838b0a99f9e92afd044b37bb128'),
        ('topic_create', 'dc54a2830bcdacf0bb17367e5240896e2f476064a34ca653e3219e03561450f3'),
        ('topic_drop', 'f982852cdb121864a032da3d772793d78421d1fd0842f1a78e941f721146f334'),
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
