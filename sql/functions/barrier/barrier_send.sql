{% from "macros/barrier.sql" import options, passed, types %}
{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}.barrier_send(
    p_name text,
    p_queue text,
    p_payloads jsonb[],
    {{ options() }},
    p_headers jsonb default null,
    p_priority integer default 0,
    p_max_attempts integer default null
) returns {{ schema }}.barrier_opened
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
/* Counted in and sent in one transaction: nobody can arrive at a barrier that does not expect him. */
declare
    v_opened record;
    v_answer barrier_opened;
begin
    if p_payloads is null or array_ndims(p_payloads) > 1 then
        perform _bad_argument('p_payloads', left(p_payloads::text, 200), 'Give a flat array of JSON values.');
    end if;
    select * into v_opened
    from _barrier_open(
        p_name, cardinality(p_payloads),
        {{ passed() }}
    );
    v_answer := row(v_opened.epoch, v_opened.outcome);
    if not v_opened.is_repeat and v_opened.outcome <> 'cancelled' then
        perform _members_send(
            p_name, v_opened.epoch, 1, p_queue, p_payloads, p_headers, p_priority, p_max_attempts, p_run_id, p_tenant
        );
    end if;
    return v_answer;
end;
$$;

comment on function {{ schema }}.barrier_send(
    text, text, jsonb[], {{ types() }}, jsonb, integer, integer
) is
'Open a barrier and send a message for each member to p_queue: payload n is member n. A member arrives when its message is acked, with the result of queue_ack, and fails when its message dies or is cancelled. p_headers, p_priority and p_max_attempts are the messages''; the other options are those of barrier_open. Errors: TG010 bad argument, TG020 no such queue, TG023 the queue is draining, TG030 not READ COMMITTED.';
