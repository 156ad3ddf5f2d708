create or replace function {{ schema }}._priority_declare(p_channel_id integer, p_priorities smallint[]) returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * The first message of a priority announces it, once in the life of a channel. Nothing here is unique, so two first
 * messages do not wait for each other. Claims read priorities off the newest floor: it is repeated with the new one,
 * and a tick that overtakes this transaction takes it up from channel_priority after the commit.
 */
begin
    insert into channel_priority (channel_id, priority)
    select p_channel_id, n.priority
    from (select distinct u.priority from unnest(p_priorities) as u (priority)) n
    where n.priority > 0 and not exists (
        select from channel_priority p where p.channel_id = p_channel_id and p.priority = n.priority
    );
    if found then
        insert into floor (
            channel_id, ticked_at, took, position, is_quiet, has_more, move_limit, priorities, floors, hints,
            scheduled_from, lease_from, tick_at, grouped_to
        )
        select
            f.channel_id, f.ticked_at, f.took, f.position, false, f.has_more, f.move_limit, _priorities(p_channel_id),
            f.floors, f.hints, f.scheduled_from, f.lease_from, f.tick_at, f.grouped_to
        from floor f
        where f.channel_id = p_channel_id
        order by f.floor_id desc
        limit 1;
    end if;
end;
$$;

comment on function {{ schema }}._priority_declare(integer, smallint[]) is
'Make priorities known to the claims of a channel before its first messages of them enter.';
