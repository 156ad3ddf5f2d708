{% from "macros/channel.sql" import ring %}
{% macro unpacked() -%}
select unnest(l.messages) as message, generate_series(1, cardinality(l.messages)) as ordinal
                from lease l where l.lease_id = p_lease_id
{%- endmacro -%}
create or replace function {{ schema }}._lease_settle(
    p_lease_id uuid, p_done bigint[], p_failed jsonb, p_released bigint[] default '{}', p_retry_in interval default '0',
    p_result jsonb default null, p_results jsonb default null
) returns {{ schema }}.settled
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
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
            from ({{ unpacked() }}) u
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
            from ({{ unpacked() }}) u
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
            {{ ring("v_channel.kind", "v_channel.name", "p_retry_in <= '0'") | indent(8) }}
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

comment on function {{ schema }}._lease_settle(uuid, bigint[], jsonb, bigint[], interval, jsonb, jsonb) is
'Settle messages of a lease as done, failed or released, those of members with their element of p_results, by message_id, or else with p_result; what is named in none of them stays leased. Answers lost when the lease is gone, and then changes nothing.';
