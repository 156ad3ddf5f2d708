{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}.queue_purge(p_queue text, p_to text default 'dead_letter') returns bigint
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
/*
 * In batches, so that memory stays bounded, in one transaction. From behind: first the follow-ups, then what waits in
 * blocked, so that nothing is handed a turn only to be purged in its turn. What others hold at the moment is skipped:
 * a message, its job key, the turn of its group, who is to have that next, or the barrier of its member. So a purge
 * waits for nobody, and no two can wait for each other.
 */
declare
    v_channel_id integer;
    v_messages message[];
    v_purged bigint := 0;
begin
    if p_to is null or p_to not in ('dead_letter', 'discard') then
        perform _bad_argument('p_to', p_to, 'Messages go to dead_letter, or, to lose them, discard.');
    end if;
    select c.channel_id into v_channel_id from channel c where c.kind = 'queue' and c.name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;

{% for place in ["job_key", "blocked", "scheduled", "ready"] %}
    loop
{%- if place == "job_key" %}
        with taken as (
            select j.key, j.follow_up from job_key j
            where j.channel_id = v_channel_id and j.follow_up is distinct from null
            order by j.key
            limit 1000
            for update skip locked
        ), emptied as (
            update job_key j set follow_up = null, follow_up_due_at = null
            from taken t
            where j.channel_id = v_channel_id and j.key = t.key
        )
        select array_agg(t.follow_up) into v_messages from taken t;
{%- else %}
        with taken as (
            delete from {{ place }} where ctid = any(array(
                select p.ctid from {{ place }} p
                where p.channel_id = v_channel_id
                    and (
                        p.job_key is null
                        or not exists (
                            select from job_key j where j.channel_id = v_channel_id and j.key = p.job_key
                        )
                        or exists (
                            select from job_key j where j.channel_id = v_channel_id and j.key = p.job_key
                            for update skip locked
                        )
                    )
                    and (p.group_key is null or _turn_seize(v_channel_id, p.group_key, p.message_id))
                    and (p.barrier is null or _member_seize(p.barrier, p.epoch, p.member))
                limit 1000
                for update skip locked
            )) returning *
        )
        select array_agg(row({{ message_names("t") }})::message order by t.message_id) into v_messages from taken t;
{%- endif %}
        exit when v_messages is null;
        if p_to = 'dead_letter' then
            perform _message_bury(
                v_channel_id, v_messages,
                array_fill('purged'::text, array[cardinality(v_messages)]),
                array_fill('the queue was purged'::text, array[cardinality(v_messages)])
            );
        else
            perform _message_drop(v_channel_id, v_messages);
        end if;
        v_purged := v_purged + cardinality(v_messages);
    end loop;
{% endfor %}
    if v_purged > 0 then
        insert into tally (channel_id, outcome, amount) values (v_channel_id, 'purged', v_purged);
    end if;
    return v_purged;
end;
$$;

comment on function {{ schema }}.queue_purge(text, text) is
'Empty a queue of all that waits: into dead letters with reason purged, from where it can be requeued, or, with p_to discard, for good. Leased messages stay. Returns how many were purged; 0 when nothing waits. Errors: TG010 bad p_to, TG020 no such queue, TG030 a message has a group key, and the caller is not READ COMMITTED.';
