create or replace function {{ schema }}._tide_forget_deadlines() returns void
language sql volatile
begin atomic
insert into {{ schema }}.floor (
    channel_id, ticked_at, took, position, is_quiet, has_more, move_limit, priorities, floors, hints,
        scheduled_from, lease_from, tick_at, grouped_to
)
select
    f.channel_id, 'epoch', '0', f.position, false, true, f.move_limit, f.priorities, f.floors, f.hints,
        '-infinity', '-infinity', 'epoch', f.grouped_to
from {{ schema }}.channel c
cross join lateral (
    select * from {{ schema }}.floor n where n.channel_id = c.channel_id order by n.floor_id desc limit 1
) f;
select {{ schema }}._incident_note(
    '_tide_forget_deadlines', null, 'TG033', 'the clock was set back: all deadlines are looked at again'
);
end;

comment on function {{ schema }}._tide_forget_deadlines() is
'Start over after the clock was set back: every scan of deadlines begins at the very first.';
