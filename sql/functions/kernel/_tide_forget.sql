create or replace function {{ schema }}._tide_forget() returns bigint
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * The sequence stands below the newest tide: a logical copy carries no sequences, or somebody called setval. What
 * was drawn since may lie below every floor, so they all become 0. The sequence must then move past everything seen,
 * so that positions and message ids stay unique. That is not undone by a rollback, where forgetting is: so it is left
 * to the next tide, which finds the number to move past committed.
 */
declare
    v_highest bigint;
begin
    select greatest(
        (select max(t.position) from tide t),
        (select max(greatest(r.position, r.message_id)) from ready r),
        (select max(s.message_id) from scheduled s),
        (select max(greatest(b.position, b.message_id)) from blocked b),
        (select max(d.message_id) from dead_letter d)
    ) into v_highest;
    delete from tide where ctid = any(array(select t.ctid from tide t for update skip locked));
    insert into floor (
        channel_id, ticked_at, took, position, is_quiet, has_more, move_limit, priorities, floors, hints,
        scheduled_from, lease_from, tick_at, grouped_to
    )
    select
        c.channel_id, 'epoch', '0', 0, false, true, 1000, _priorities(c.channel_id),
        array_fill(0::bigint, array[10]), array_fill(0::bigint, array[10]), '-infinity', '-infinity',
        'epoch', 0
    from channel c;
    perform _incident_note(
        '_tide_forget', null, 'TG032',
        'position_seq was set back: all floors were forgotten, and it moves on from ' || v_highest
    );
    return v_highest;
end;
$$;

comment on function {{ schema }}._tide_forget() is
'Start over after position_seq was set back: forget all tides, and set every floor and hint to 0. Returns the highest position seen before, past which the sequence is to be moved.';
