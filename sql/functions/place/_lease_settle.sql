{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._lease_settle(
    p_lease_id uuid, p_done bigint[], p_failed jsonb, p_released bigint[] default '{}', p_retry_in interval default '0',
    p_result jsonb default null
) returns {{ schema }}.settled
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
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
    v_cancelled message[];
    v_settled integer[];
    v_unwanted bigint[] := '{}';
    v_errors text[];
    v_final text[];
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
    if exists (select from cancel_request r where r.channel_id = v_lease.channel_id) then
        v_unwanted := _cancelled(v_lease.channel_id, v_lease.messages);
    end if;
    -- A settlement that names a message both done and failed is refused before it comes here.
    with left_over as (
        select m.ordinality::integer as ordinal, m.message_id, row({{ message_names("m") }})::message as message
        from unnest(v_lease.messages) with ordinality m
        where m.ordinality <> all(coalesce(v_lease.settled, '{}'))
    ), failure as (
        select distinct on (f.message_id) f.*
        from jsonb_to_recordset(p_failed)
            as f (message_id bigint, error text, retryable boolean, retry_in interval, reason text)
        order by f.message_id
    ), named as (
        select
            l.*, f.error, f.retry_in,
            coalesce(f.reason, case when not f.retryable then 'not_retryable' end) as final,
            case
                when f.message_id is not null then 'failed'
                when l.message_id = any(p_done) then 'done'
                when l.message_id = any(p_released) then 'released'
                when p_done is null then 'done'
                when p_released is null then 'released'
            end as verdict
        from left_over l
        left join failure f on f.message_id = l.message_id
    ), judged as (
        -- What somebody wants stopped does not come back.
        select
            n.ordinal, n.message, n.error, n.retry_in, n.final,
            case
                when n.verdict in ('failed', 'released') and n.message_id = any(v_unwanted) then 'cancelled'
                else n.verdict
            end as verdict
        from named n
    )
    select
        array_agg(j.message order by j.ordinal) filter (where j.verdict = 'done'),
        array_agg(j.message order by j.ordinal) filter (where j.verdict = 'released'),
        array_agg(j.message order by j.ordinal) filter (where j.verdict = 'failed'),
        array_agg(j.error order by j.ordinal) filter (where j.verdict = 'failed'),
        array_agg(j.final order by j.ordinal) filter (where j.verdict = 'failed'),
        array_agg(j.retry_in order by j.ordinal) filter (where j.verdict = 'failed'),
        array_agg(j.message order by j.ordinal) filter (where j.verdict = 'cancelled'),
        array_agg(j.ordinal order by j.ordinal) filter (where j.verdict is not null)
    into v_done, v_released, v_failed, v_errors, v_final, v_delays, v_cancelled, v_settled
    from judged j;

    if v_settled is null then
        return v_answer;
    end if;
    if not v_lease.is_plain and (v_failed is not null or v_cancelled is not null)
        and exists (select from unnest(v_done || v_failed || v_cancelled) m where m.barrier is not null)
    then
        perform _member_lock(v_done || v_failed || v_cancelled, true);
    end if;
    if v_done is not null then
        if not v_lease.is_plain then
            perform _message_finish(v_channel.channel_id, v_channel.archive, v_done, p_result);
        end if;
        v_answer.acked := cardinality(v_done);
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

comment on function {{ schema }}._lease_settle(uuid, bigint[], jsonb, bigint[], interval, jsonb) is
'Settle messages of a lease as done, failed or released, those of members with p_result; what is named in none of them stays leased. Answers lost when the lease is gone, and then changes nothing.';
