-- R60: a pace is a due time each, so nobody sleeps
select plan(6);
select t.clock_stands();
select queue_create('work');
select queue_create('beside');
insert into dead_letter (
    dead_at, channel_id, kind, channel, reason, last_error, attempts, priority, message_id, enqueued_at, payload, group_key, job_key
)
select
    clock_now() - (1500 - n) * interval '1 second', c.channel_id, 'queue', c.name, 'exhausted', 'e', 5, 0, n, clock_now(), to_jsonb(n),
    case when n % 3 = 0 then 'g' end, case when n % 7 = 0 then 'k' || n end
from generate_series(1, 1500) as n
inner join channel as c on c.name = case when n % 5 = 0 then 'beside' else 'work' end;

select is(
    (select r::text from dead_letter_requeue_matching(p_limit => 1500, p_per_second => 10, p_dry_run => true) as r),
    '(1500,0,0,0,"2026-01-01 12:02:29.9+00")', 'a dry run says when the last would be due'
);
select is(
    (select r::text from dead_letter_requeue_matching(p_limit => 1500, p_per_second => 10) as r),
    '(1500,0,0,0,"2026-01-01 12:02:29.9+00")', '1 500 go back at ten a second'
);
select is((select array_agg(payload) from ready), array['1']::jsonb[], 'the first at once');
select is_empty(
    $$select n.n from generate_series(2, 1500) as n (n)
    where not exists (
        select from scheduled as s where s.payload = to_jsonb(n.n) and s.due_at = clock_now() + (n.n - 1) * interval '0.1 s'
    )$$,
    'the others one step after the other, over all channels'
);
select t.clock_moves('10 seconds');
select cmp_ok(
    (select count(*) from queue_claim('work', 1000)), '>=', 54::bigint, 'what is due may be claimed'
);
select is((select count(*) from scheduled), 1499 - 80::bigint, 'and no more: the 20 of the other queue are its own ticks'' matter');

select * from finish();
