-- R55, R60
select plan(7);
select t.clock_stands();
select queue_create('work');
insert into dead_letter (
    dead_at, channel_id, kind, channel, reason, last_error, attempts, priority, message_id, enqueued_at, payload
)
select
    clock_now() - (100 - n) * interval '1 second', c.channel_id, 'queue', c.name,
    case when n % 2 = 0 then 'expired' else 'exhausted' end, 'e', 5, 0, n, clock_now(), to_jsonb(n)
from generate_series(1, 100) as n
inner join channel as c on c.name = 'work';

select is(dead_letter_discard_matching('a test', p_reason => 'expired', p_limit => 20, p_dry_run => true), 20::bigint, 'a dry run says how many');
select is(dead_letter_count(), 100::bigint, 'and discards none');
select is(dead_letter_discard_matching('a test', p_reason => 'expired', p_limit => 20), 20::bigint, 'a call takes as many as it may');
select results_eq(
    $$select (payload #>> '{}')::int, notes -> 0 ->> 'note', resolved_at from dead_letter where state = 'discarded' order by dead_at$$,
    $$select n, 'a test', clock_now() from generate_series(2, 40, 2) as n$$,
    'the oldest that match, with the reason'
);
select is(dead_letter_discard_matching('a test', p_reason => 'expired'), 30::bigint, 'a repeat takes the rest');
select is(t.total('work', 'discarded'), 50::bigint, 'each is counted');
select throws_ok($$select dead_letter_discard_matching(' ')$$, 'TG010', 'p_note is '' ''', 'none goes without a reason');

select * from finish();
