create or replace function {{ schema }}._doctor_look_server(p_check text) returns setof {{ schema }}.diagnosis
language plpgsql volatile rows 3
set search_path = {{ schema }}, pg_temp
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

comment on function {{ schema }}._doctor_look_server(text) is
'What one check of doctor() finds in the server: locks, open_claims, horizon, autovacuum, sequence, settings.';
