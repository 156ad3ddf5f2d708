{% from "macros/message.sql" import message_names %}
{#- Where due messages enter: of a group only whose turn it is. Each is looked at once, as it leaves scheduled. -#}
{% macro promote(due) -%}
with due as (
            {{ due }}
        ), judged as (
            select
                d.*,
                d.group_key is not null and v_is_queue
                and not _has_turn(d.channel_id, d.group_key, d.message_id) as must_wait
            from (select * from due order by due_at, message_id) d
        ), entered as (
            insert into ready (position, channel_id, {{ message_names() }})
            select nextval('position_seq'), j.channel_id, {{ message_names("j") }}
            from judged j
            where not j.must_wait
            returning 1
        ), waiting as (
            insert into blocked (position, channel_id, {{ message_names() }})
            select nextval('position_seq'), j.channel_id, {{ message_names("j") }}
            from judged j
            where j.must_wait
            returning 1
        )
        select (select count(*) from entered) + (select count(*) from waiting) into v_moved
{%- endmacro %}
create or replace function {{ schema }}._scheduled_promote(p_channel_id integer, p_from timestamptz, p_limit integer)
returns integer
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * Rows that others hold are skipped. If the set cannot be moved as one, its rows are moved one by one, and one that
 * still cannot be is put off by a minute, so that it never stands in the way of the others.
 */
declare
    v_now timestamptz := clock_now();
    v_is_queue constant boolean := exists (
        select from channel c where c.channel_id = p_channel_id and c.kind = 'queue'
    );
    v_moved integer;
    v_looked_at integer;
    v_message_id bigint;
begin
    begin
        {{ promote("delete from scheduled where ctid = any(array(
                select s.ctid from scheduled s
                where s.channel_id = p_channel_id and s.due_at >= p_from and s.due_at <= v_now
                order by s.due_at, s.message_id
                limit p_limit
                for update skip locked
            )) returning *") }};
        return v_moved;
    exception
        when others then
            perform _incident_note('_scheduled_promote', p_channel_id, sqlstate, sqlerrm);
    end;

    v_looked_at := 0;
    for v_message_id in
        select s.message_id from scheduled s
        where s.channel_id = p_channel_id and s.due_at >= p_from and s.due_at <= v_now
        order by s.due_at, s.message_id
        limit least(p_limit, 100)
        for update skip locked
    loop
        begin
            {{ promote("delete from scheduled
                where channel_id = p_channel_id and due_at between p_from and v_now and message_id = v_message_id
                returning *") | indent }};
        exception
            when others then
                update scheduled set due_at = greatest(v_now, clock_now()) + interval '1 minute'
                where channel_id = p_channel_id and due_at between p_from and v_now and message_id = v_message_id;
                perform _incident_note(
                    '_scheduled_promote', p_channel_id, sqlstate,
                    format('message %s was put off by a minute: %s', v_message_id, sqlerrm)
                );
        end;
        v_looked_at := v_looked_at + 1;
    end loop;
    return v_looked_at;
end;
$$;

comment on function {{ schema }}._scheduled_promote(integer, timestamptz, integer) is
'Move up to p_limit due messages of a channel from scheduled to ready, or to blocked where others of their group go first, in order of becoming due. Returns how many were looked at; 0 when nothing is due.';
