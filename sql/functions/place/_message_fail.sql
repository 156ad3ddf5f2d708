{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._message_fail(
    p_channel_id integer,
    p_messages {{ schema }}.message[],
    p_errors text[],
    p_is_final boolean[],
    p_delays interval[],
    p_reason text default 'exhausted',
    out retried integer,
    out dead_lettered integer
)
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
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
            {{ message_names("m", {
                "max_batch": "null::integer as max_batch",
                "attempts": "least(m.attempts + 1, 32767) as attempts",
                "errors": "case
                    when jsonb_array_length(m.errors) >= 10 then m.errors - 0 else coalesce(m.errors, '[]')
                end
                || jsonb_build_object(
                    'at', v_now, 'attempt', m.attempts + 1, 'error', _error_text(p_errors[m.ordinality])
                ) as errors",
            }) }},
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
        insert into scheduled (due_at, channel_id, {{ message_names() }})
        select greatest(v_now + j.delay, clock_now() + interval '1 microsecond'), p_channel_id, {{ message_names("j") }}
        from judged j
        where not j.is_dead and j.delay > '0'
        returning 1
    ), entered as (
        insert into ready (position, channel_id, {{ message_names() }})
        select nextval('position_seq'), p_channel_id, {{ message_names("j") }}
        from (select * from judged order by ordinal) j
        where not j.is_dead and j.delay <= '0'
        returning 1
    ), buried as (
        insert into dead_letter (
            dead_at, channel_id, kind, channel, reason, last_error, {{ message_names() }}
        )
        select
            v_now, p_channel_id, j.kind, j.channel,
            case when j.is_final then 'not_retryable' else p_reason end, j.error,
            {{ message_names("j", {"event_id": "coalesce(j.event_id, _event_id(j.event_prefix, j.message_id))"}) }}
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

comment on function {{ schema }}._message_fail(
    integer, {{ schema }}.message[], text[], boolean[], interval[], text
) is
'Charge messages with a failed delivery: each is retried after its delay or, when that was its last attempt or the error is final, buried. Returns how many of each.';
