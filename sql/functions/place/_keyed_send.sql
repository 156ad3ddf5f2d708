{% from "macros/message.sql" import message_names %}
{#- What a replaced message keeps: its id, when it was first sent, where it came from; its event_id, unless the new one
    brings its own. -#}
{% set renewed = {
    "message_id": "v_old.message_id", "enqueued_at": "v_old.enqueued_at", "requeued_from": "v_old.requeued_from",
    "topic": "v_old.topic", "event_id": "coalesce(p_message.event_id, v_old.event_id)",
} -%}
create or replace function {{ schema }}._keyed_send(
    p_channel_id integer, p_mode text, p_due_at timestamptz, p_message {{ schema }}.message
) returns {{ schema }}.sent
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * Sends with one job key, and the end of its message, take turns by the lock of the key's row. Claims and ticks do not
 * take it: so where the message stands is asked of all places in one statement, which sees it in exactly one, and if it
 * has gone from there when its row is reached, asked again. If it stands in none of them it is leased, or about to
 * come back from a lease: a follow-up is then in order too.
 */
declare
    v_key job_key;
    v_old message;
    v_new message;
    v_place text;
    v_from timestamptz;
    v_due_at timestamptz;
    v_position bigint;
    v_stays boolean;
begin
    if octet_length(p_message.job_key) > 512 then
        perform _bad_argument(
            'p_job_key', left(p_message.job_key, 100), 'A key has at most 512 bytes; hash a longer one.'
        );
    end if;
    loop
        insert into job_key (channel_id, key, message_id)
        values (p_channel_id, p_message.job_key, p_message.message_id)
        on conflict do nothing;
        if found then
            if p_due_at > clock_now() then
                insert into scheduled (due_at, channel_id, {{ message_names() }})
                select
                    greatest(p_due_at, clock_now() + interval '1 microsecond'), p_channel_id,
                    {{ message_names("p_message") }};
            else
                perform _message_enter(p_channel_id, array[p_message]);
            end if;
            return row(p_message.message_id, 'inserted')::sent;
        end if;
        select * into v_key from job_key
        where channel_id = p_channel_id and key = p_message.job_key
        for update;
        exit when found;
    end loop;

    if p_mode = 'dedupe' then
        delete from body where body_id = p_message.body_id;
        return row(v_key.message_id, 'deduplicated')::sent;
    end if;

    loop
        select w.place, w.due_at, w.due_at, w.position, {{ message_names("(w.message)") }}
        into v_place, v_from, v_due_at, v_position, {{ message_names("v_old") }}
        from (
{%- for place in ["ready", "scheduled", "blocked"] %}
            {{ "union all" if not loop.first }}
            select
                '{{ place }}' as place, row({{ message_names("p") }})::message as message,
                {{ "p.due_at, null::bigint as position" if place == "scheduled"
                    else "null::timestamptz as due_at, p.position" }}
            from {{ place }} p
            where p.channel_id = p_channel_id and p.job_key = p_message.job_key and p.message_id = v_key.message_id
{%- endfor %}
        ) w;
        exit when not found;
        if v_old.group_key is distinct from p_message.group_key then
            perform _bad_argument(
                'p_group_key', p_message.group_key,
                format('The waiting message of job key %L is in %s: one key, one group.', p_message.job_key,
                    coalesce(format('group %L', v_old.group_key), 'no group'))
            );
        end if;

        v_new := row({{ message_names("p_message", renewed) }})::message;
        if p_mode = 'replace' then
            v_stays := p_due_at is null or p_due_at <= clock_now();
            v_due_at := p_due_at;
        else
            v_stays := true;
        end if;
        -- A place is left only where it does not fit any more: who is replaced again and again keeps his turn.
        if v_place = 'ready' and v_stays and v_new.priority = v_old.priority then
            update ready set ({{ message_names() }}) = (select {{ message_names("v_new") }})
            where channel_id = p_channel_id and priority = v_old.priority and position = v_position;
        elsif v_place = 'blocked' and v_stays then
            update blocked set ({{ message_names() }}) = (select {{ message_names("v_new") }})
            where channel_id = p_channel_id and group_key = v_old.group_key and position = v_position;
        else
            if v_place = 'ready' then
                delete from ready
                where channel_id = p_channel_id and priority = v_old.priority and position = v_position;
            elsif v_place = 'blocked' then
                delete from blocked
                where channel_id = p_channel_id and group_key = v_old.group_key and position = v_position;
            else
                delete from scheduled
                where channel_id = p_channel_id and due_at = v_from and message_id = v_old.message_id;
            end if;
            if found then
                if v_due_at > clock_now() then
                    insert into scheduled (due_at, channel_id, {{ message_names() }})
                    select
                        greatest(v_due_at, clock_now() + interval '1 microsecond'), p_channel_id,
                        {{ message_names("v_new") }};
                elsif v_place = 'ready' or _has_turn(p_channel_id, v_new.group_key, v_new.message_id) then
                    perform _message_return(p_channel_id, array[v_new], '0');
                else
                    perform _message_enter(p_channel_id, array[v_new]);
                end if;
                delete from body where body_id = v_old.body_id;
                return row(v_old.message_id, 'replaced')::sent;
            end if;
            continue;
        end if;
        if found then
            delete from body where body_id = v_old.body_id;
            return row(v_old.message_id, 'replaced')::sent;
        end if;
    end loop;

    v_new := p_message;
    if v_key.follow_up is distinct from null then
        v_new.message_id := (v_key.follow_up).message_id;
        delete from body where body_id = (v_key.follow_up).body_id;
    end if;
    update job_key
    set follow_up = v_new,
        follow_up_due_at = case
            when p_mode = 'preserve_run_at' and follow_up is distinct from null then follow_up_due_at else p_due_at
        end
    where channel_id = p_channel_id and key = p_message.job_key;
    return row(v_new.message_id, 'follow_up')::sent;
end;
$$;

comment on function {{ schema }}._keyed_send(integer, text, timestamptz, {{ schema }}.message) is
'Send a message with a job key: inserted when no message of that key is alive; else, by mode and by where that one stands, replaced, deduplicated or kept as its follow_up. A payload given up is one that the outcome says was replaced.';
