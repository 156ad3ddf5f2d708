{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._message_fail(
    p_channel_id integer,
    p_messages {{ schema }}.message[],
    p_errors text[],
    p_final text[],
    p_delays interval[],
    p_reason text default 'exhausted',
    out retried integer,
    out dead_lettered integer
)
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
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
            {{ message_names("m", {
                "max_batch": "null::integer as max_batch",
                "attempts": "least(m.attempts + 1, 32767)::smallint as attempts",
                "errors": "case
                    when jsonb_array_length(m.errors) >= 10 then m.errors - 0 else coalesce(m.errors, '[]')
                end
                || jsonb_build_object(
                    'at', v_now, 'attempt', m.attempts + 1, 'error', _error_text(p_errors[m.ordinality])
                ) as errors",
            }) }},
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
    )
    select
        (select count(*) from delayed) + (select count(*) from entered),
        array_agg(row({{ message_names("j") }})::message), array_agg(coalesce(j.final, p_reason)), array_agg(j.error)
    into retried, v_dead, v_reasons, v_errors
    from (select * from judged where is_dead order by ordinal) j;
    dead_lettered := coalesce(cardinality(v_dead), 0);
    if dead_lettered > 0 then
        perform _message_bury(p_channel_id, v_dead, v_reasons, v_errors);
    end if;
end;
$$;

comment on function {{ schema }}._message_fail(
    integer, {{ schema }}.message[], text[], text[], interval[], text
) is
'Charge messages with a failed delivery: each is retried after its delay or, when that was its last attempt or the error is final, buried. Returns how many of each.';
