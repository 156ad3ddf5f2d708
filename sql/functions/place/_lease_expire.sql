{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._lease_expire(p_channel_id integer, p_from timestamptz, p_limit integer)
returns integer
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
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
                    array_agg(row({{ message_names("m") }})::message) filter (where m.message_id = any(v_unwanted)),
                    array_agg(row({{ message_names("m") }})::message order by m.ordinality)
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

comment on function {{ schema }}._lease_expire(integer, timestamptz, integer) is
'Take back expired leases of a channel. Returns how many were looked at; 0 when none has expired.';
