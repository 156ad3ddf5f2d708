{% from "macros/metric.sql" import reasons, routines %}
create or replace function {{ schema }}._metrics_probe(
    p_probe text, p_limit integer, p_until timestamptz, out name text, out labels jsonb, out value double precision
) returns setof record
language plpgsql volatile rows 100
set search_path = {{ schema }}, pg_temp
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
{%- for place, range in [
    ("ready", "unnest(_priorities(v_channel.channel_id)) p (priority)
                        cross join lateral (
                            select from ready r
                            where r.channel_id = v_channel.channel_id and r.priority = p.priority
                                and r.position > v_channel.floors[p.priority + 1]
                        ) r"),
    ("scheduled", "scheduled s
                        where s.channel_id = v_channel.channel_id
                            and s.due_at >= v_channel.scheduled_from - interval '1 minute'"),
    ("blocked", "blocked b where b.channel_id = v_channel.channel_id"),
] %}
                v_count := null;
                if clock_timestamp() < p_until then
                    select count(*) into v_count
                    from (
                        select from {{ range }}
                        limit p_limit + 1
                    ) n;
                end if;
                if v_count is null or v_count > p_limit then
                    if not v_estimates ? '{{ place }}' then
                        v_estimates := v_estimates || jsonb_build_object('{{ place }}', _place_estimate('{{ place }}'));
                    end if;
                    v_count := greatest(
                        v_count, (v_estimates -> '{{ place }}' ->> v_channel.channel_id::text)::bigint
                    );
                    v_estimated := v_estimated + 1;
                end if;
                -- Neither counted nor met in the sample: absent.
                if v_count is not null then
                    return query
                    select 'tidegate_depth', v_channel.labels || '{"place": "{{ place }}"}', v_count::double precision;
                end if;
{%- endfor %}

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
                cross join unnest(array[{{ reasons }}]) r (reason)
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
            from unnest(array[{{ routines }}, 'other']) as r (routine)
            left join (
                select case when i.routine in ({{ routines }}) then i.routine else 'other' end as routine,
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

comment on function {{ schema }}._metrics_probe(text, integer, timestamptz) is
'The samples of one part of a snapshot: channel, dead_letter, barrier, guard, incident, table, horizon.';
