{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._run_remove(p_run_id text) returns bigint
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/*
 * In one pass, from behind, as queue_purge does: follow-ups, then blocked, scheduled and ready. What others hold at
 * the moment is skipped: a message, its job key, the turn of its group, or who is to have that next. So this waits for
 * nobody; what it does not see, and what comes in later, is refused where it is about to be delivered.
 */
declare
    v_batch record;
    v_found integer;
    v_removed bigint := 0;
begin
{% for place in ["job_key", "blocked", "scheduled", "ready"] %}
    loop
        v_found := 0;
        for v_batch in
            with taken as (
{%- if place == "job_key" %}
                select j.channel_id, j.key, j.follow_up, (j.follow_up).message_id from job_key j
                where (j.follow_up).run_id = p_run_id
                limit 1000
                for update skip locked
            ), emptied as (
                update job_key j set follow_up = null, follow_up_due_at = null
                from taken t
                where j.channel_id = t.channel_id and j.key = t.key
            )
            select t.channel_id, array_agg(t.follow_up order by t.message_id) as messages
{%- else %}
                delete from {{ place }} where ctid = any(array(
                    select p.ctid from {{ place }} p
                    where p.run_id = p_run_id
                        and (
                            p.job_key is null
                            or not exists (
                                select from job_key j where j.channel_id = p.channel_id and j.key = p.job_key
                            )
                            or exists (
                                select from job_key j where j.channel_id = p.channel_id and j.key = p.job_key
                                for update skip locked
                            )
                        )
                        and (p.group_key is null or _turn_seize(p.channel_id, p.group_key, p.message_id))
                    limit 1000
                    for update skip locked
                )) returning *
            )
            select
                t.channel_id,
                array_agg(row({{ message_names("t") }})::message order by t.message_id) as messages
{%- endif %}
            from taken t
            group by t.channel_id
            order by t.channel_id
        loop
            perform _message_cancel(v_batch.channel_id, v_batch.messages, 'the run was cancelled');
            v_found := v_found + cardinality(v_batch.messages);
        end loop;
        exit when v_found = 0;
        v_removed := v_removed + v_found;
    end loop;
{% endfor %}
    return v_removed;
end;
$$;

comment on function {{ schema }}._run_remove(text) is
'Cancel the events and messages of a run that wait, in whatever channel, but for those that somebody holds at the moment. Returns how many; 0 when there are none.';
