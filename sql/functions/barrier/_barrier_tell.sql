{% from "macros/channel.sql" import ring %}
{% from "macros/message.sql" import message_names %}
{% from "macros/run.sql" import fails_run_at %}
create or replace function {{ schema }}._barrier_tell(p_barrier {{ schema }}.barrier, p_queue text) returns text
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * In a subtransaction: what cannot be said must not undo the arrival that brought it about, as every repeat of that
 * arrival would fail in the same way. The message is kept as a dead letter, without results, which stay in the barrier;
 * where even that fails, a callback is in its barrier only, for recovery to fire again. What a repeat may mend
 * (deadlocks, locks, resources, shutdown) is raised, and the arrival with it.
 */
declare
    v_channel channel;
    v_message message;
    v_size integer;
    v_error text;
begin
    begin
        select * into v_channel from channel c where c.kind = 'queue' and c.name = p_queue;
        if not found then
            perform _no_such_channel('queue', p_queue);
        end if;
        v_message := _barrier_message(p_barrier, true);
        v_size := _json_size(v_message.payload);
        if v_size > v_channel.inline_limit then
            insert into body (payload) values (v_message.payload) returning body_id into v_message.body_id;
            v_message.payload := null;
            v_message.body_bytes := v_size;
        end if;
        perform _priority_declare(v_channel.channel_id, array[v_message.priority]);
        perform _message_enter(v_channel.channel_id, array[v_message]);
        {{ ring("'queue'", "v_channel.name") | indent }}
        return null;
    exception
        when others then
            if left(sqlstate, 2) in ('40', '53', '55', '57', '58') then
                raise;
            end if;
            v_error := format('[%s] %s', sqlstate, sqlerrm);
    end;

    begin
        v_message := _barrier_message(p_barrier, false);
        if v_channel.channel_id is not null then
            perform _message_bury(v_channel.channel_id, array[v_message], array['not_retryable'], array[v_error]);
        else
            insert into dead_letter (
                dead_at, channel_id, kind, channel, reason, last_error, fails_run_at, {{ message_names() }}
            )
            select
                clock_now(), 0, 'queue', p_queue, 'not_retryable', _error_text(v_error),
                {{ fails_run_at("v_message.run_id", "clock_now()") }},
                {{ message_names("v_message") }};
        end if;
    exception
        when others then
            if left(sqlstate, 2) in ('40', '53', '55', '57', '58') then
                raise;
            end if;
            v_error := format('%s; nor could it be kept: [%s] %s', v_error, sqlstate, sqlerrm);
    end;
    return v_error;
end;
$$;

comment on function {{ schema }}._barrier_tell({{ schema }}.barrier, text) is
'Let what a barrier says into its queue. Returns null, or the error that made it a dead letter instead; the error says so where it is none. Errors: those that a repeat may mend (classes 40, 53, 55, 57, 58).';
