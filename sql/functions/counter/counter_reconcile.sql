create or replace function {{ schema }}.counter_reconcile(
    p_by text[] default '{channel,run,tenant}',
    p_prefix text default 'leased'
) returns setof {{ schema }}.counted
language plpgsql volatile rows 100
security definer
set search_path = {{ schema }}, pg_temp
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

comment on function {{ schema }}.counter_reconcile(text[], text) is
'Set the counters leased.channel.<kind>.<name>, leased.run.<run_id> and leased.tenant.<tenant> to what is leased now; those of which nothing is leased any more become 0. Returns a row a counter, as counter_sync does; outcome kept, once for the kind, where leases could not be read: the error is in incident. No rows when nothing is and was leased, or somebody else is at it. Errors: TG010 bad argument, TG030 not READ COMMITTED.';
