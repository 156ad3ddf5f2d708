-- R56: the reasons and states that a page looks through are those that the table admits
select plan(3);
select t.clock_stands();
create function pg_temp.admitted(p_constraint text) returns setof text language sql as $$
    select (regexp_matches(pg_get_constraintdef(c.oid), '''(\w+)''', 'g'))[1] from pg_constraint c
    where c.conname = p_constraint
$$;
insert into dead_letter (
    dead_at, channel_id, kind, channel, reason, last_error, state, resolved_at, attempts, priority, message_id, enqueued_at
)
select
    clock_now(), 1, 'queue', 'work', r.reason, 'e', s.state,
    case when s.state in ('resolved', 'discarded') then clock_now() end, 1, 0, 1, clock_now()
from pg_temp.admitted('dead_letter_reason_is_known') as r (reason), pg_temp.admitted('dead_letter_state_is_known') as s (state);

select set_eq(
    $$select reason, state from dead_letter_list(p_state => null, p_limit => 1000)$$,
    $$select reason, state from dead_letter$$,
    'every reason in every state is on the list'
);
select is_empty(
    $$select d.reason from dead_letter as d where not exists (select from dead_letter_list(p_reason => d.reason))$$,
    'and may be asked for'
);
select throws_like(
    $$insert into dead_letter (
        dead_at, channel_id, kind, channel, reason, last_error, state, attempts, priority, message_id, enqueued_at
    ) values (clock_now(), 1, 'queue', 'work', 'purged', 'e', 'discarded', 1, 0, 1, clock_now())$$,
    '%dead_letter_is_resolved_or_discarded_at%',
    'what is over says since when, or cleanup would never take it'
);

select * from finish();
