{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._stranded_replace(p_limit integer) returns integer
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * The net below the proof. By it nothing stands at or below a floor; but a sequence that was set back by less than
 * what was drawn until the next tick cannot be told from one that was not, nor can a clock that was set back, and right
 * again by the next tick. What is found enters anew. This walks over what vacuum has not removed yet, so it is no
 * claim's work but that of a cleanup every few minutes.
 */
declare
    v_floor floor;
    v_priority smallint;
    v_found integer;
    v_total integer := 0;
begin
    for v_floor in
        select f.*
        from channel c
        cross join lateral (
            select * from floor n where n.channel_id = c.channel_id order by n.floor_id desc limit 1
        ) f
    loop
        foreach v_priority in array v_floor.priorities loop
            with stranded as (
                delete from ready where ctid = any(array(
                    select r.ctid from ready r
                    where r.channel_id = v_floor.channel_id and r.priority = v_priority
                        and r.position <= v_floor.floors[v_priority + 1]
                    order by r.position
                    limit p_limit
                    for update skip locked
                )) returning *
            )
            insert into ready (position, channel_id, {{ message_names() }})
            select nextval('position_seq'), s.channel_id, {{ message_names("s") }}
            from (select * from stranded order by position) s;
            get diagnostics v_found = row_count;
            if v_found > 0 then
                insert into tally (amount, channel_id, outcome) values (v_found, v_floor.channel_id, 'stranded');
                perform _incident_note(
                    '_stranded_replace', v_floor.channel_id, 'TG034',
                    'messages stood below the floor and were put back: was position_seq set back?'
                );
                v_total := v_total + v_found;
            end if;
        end loop;

        -- The same for groups: by the proof, the first that waits in each, where it stands at or below grouped_to,
        -- stands above the mark of a holder. Else the next tick looks at all of them again.
        with recursive waiting as (
            (
                select b.group_key, b.position from blocked b
                where b.channel_id = v_floor.channel_id
                order by b.group_key, b.position
                limit 1
            )
            union all
            select n.group_key, n.position
            from waiting w
            cross join lateral (
                select b.group_key, b.position from blocked b
                where b.channel_id = v_floor.channel_id and b.group_key > w.group_key
                order by b.group_key, b.position
                limit 1
            ) n
        )
        select count(*) into v_found
        from waiting w
        where w.position <= v_floor.grouped_to
            and not coalesce((
                select t.message_id is not null and t.position < w.position from group_turn t
                where t.channel_id = v_floor.channel_id and t.group_key = w.group_key
                order by t.turn desc
                limit 1
            ), false);
        if v_found > 0 then
            insert into floor (
                channel_id, ticked_at, took, position, is_quiet, has_more, move_limit, priorities, floors, hints,
                scheduled_from, lease_from, tick_at, grouped_to
            ) values (
                v_floor.channel_id, 'epoch', '0', v_floor.position, false, true, v_floor.move_limit,
                v_floor.priorities, v_floor.floors, v_floor.hints, v_floor.scheduled_from, v_floor.lease_from,
                'epoch', 0
            );
            insert into tally (amount, channel_id, outcome) values (v_found, v_floor.channel_id, 'stranded');
            perform _incident_note(
                '_stranded_replace', v_floor.channel_id, 'TG034',
                'groups waited for nobody and are looked at again: was position_seq set back?'
            );
            v_total := v_total + v_found;
        end if;

        -- And for deadlines: what is due, or has run out, below the marks from which ticks look for it.
{%- for place, deadline, move in [
    ("scheduled", "due_at", "_scheduled_promote"), ("lease", "expires_at", "_lease_expire")
] %}
        select count(*) into v_found
        from (
            select from {{ place }} p
            where p.channel_id = v_floor.channel_id and p.{{ deadline }} <= clock_now()
                and p.{{ deadline }} < v_floor.{{ place }}_from - interval '1 minute'
            limit p_limit
        ) n;
        if v_found > 0 then
            v_found := {{ move }}(v_floor.channel_id, '-infinity', v_found);
            insert into tally (amount, channel_id, outcome) values (v_found, v_floor.channel_id, 'stranded');
            perform _incident_note(
                '_stranded_replace', v_floor.channel_id, 'TG033',
                'what was due stood below the mark of {{ place }} and was moved: was the clock set back?'
            );
            v_total := v_total + v_found;
        end if;
{%- endfor %}
    end loop;
    return v_total;
end;
$$;

comment on function {{ schema }}._stranded_replace(integer) is
'Find messages at or below the floor of their channel, up to p_limit a priority, and let them enter ready anew; find groups whose next one was overlooked, and let the next tick look again; find what is due, and leases that have run out, below the marks of deadlines, and move them as a tick does. Returns how many; 0 is the ordinary case.';
