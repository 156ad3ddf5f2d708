{% from "macros/message.sql" import message_names %}
{% from "macros/run.sql" import fails_run_at %}
create or replace function {{ schema }}._message_bury(
    p_channel_id integer,
    p_messages {{ schema }}.message[],
    p_reasons text[],
    p_errors text[],
    p_state text default 'dead'
) returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
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
            {{ fails_run_at("f.run_id", "v_now", " and p_state = 'dead' and f.reason <> 'purged'") }} as fails_run_at
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
        {{ message_names() }}
    )
    select
        v_now, p_channel_id, j.kind, j.channel, j.reason, j.error,
        p_state, case when p_state = 'discarded' then v_now end, j.fails_run_at,
        {{ message_names("j", {
            "event_id": "coalesce(j.event_id, _event_id(j.event_prefix, j.message_id, j.enqueued_at))",
            "requeued_from": "null",
        }) }}
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

comment on function {{ schema }}._message_bury(integer, {{ schema }}.message[], text[], text[], text) is
'Make messages dead letters, each with its reason and error, which run beside them, and fail the members they belong to; p_state is dead or, where nobody needs to look at them, discarded.';
