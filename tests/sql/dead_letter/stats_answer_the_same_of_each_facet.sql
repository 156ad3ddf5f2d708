-- R61
select plan(7);
select t.clock_stands();
select results_eq(
    'select facet, entries, dead, dead_since from dead_letter_stats()',
    $$values ('total', 0::bigint, 0::bigint, null::timestamptz)$$,
    'without dead letters there is a total of none'
);
insert into dead_letter (
    dead_at, channel_id, kind, channel, reason, last_error, state, resolved_at, attempts, priority, message_id, enqueued_at, requeued_count
)
select
    clock_now() - n * interval '1 minute', 1, case when n % 2 = 0 then 'queue' else 'topic' end, 'q' || n % 4,
    case when n % 3 = 0 then 'expired' else 'exhausted' end,
    case when n > 30 then 'error of ' || chr(64 + n) else 'timeout after ' || n || E' ms\nat line ' || n end,
    case when n = 40 then 'discarded' when n > 35 then 'resolved' when n > 30 then 'requeued' else 'dead' end,
    case when n > 35 then clock_now() end, 1, 0, n, clock_now(), (n > 30)::int
from generate_series(1, 40) as n;

select results_eq(
    $$select entries, dead, requeued, resolved, discarded, requeues, oldest_at, newest_at, dead_since
    from dead_letter_stats() where facet = 'total'$$,
    $$values (
        40::bigint, 30::bigint, 5::bigint, 4::bigint, 1::bigint, 10::bigint, clock_now() - interval '40 minutes',
        clock_now() - interval '1 minute', clock_now() - interval '30 minutes'
    )$$,
    'the total, the oldest and the newest, and since when somebody has been waiting for care'
);
select results_eq(
    $$select name, entries, dead, dead_since from dead_letter_stats() where facet = 'reason'$$,
    $$values
        ('exhausted', 27::bigint, 20::bigint, clock_now() - interval '29 minutes'),
        ('expired', 13, 10, clock_now() - interval '30 minutes')$$,
    'by reason'
);
select results_eq(
    $$select facet, name, entries, dead from dead_letter_stats() where facet in ('queue', 'topic')$$,
    $$values ('topic', 'q1', 10::bigint, 8::bigint), ('queue', 'q2', 10, 8), ('queue', 'q0', 10, 7), ('topic', 'q3', 10, 7)$$,
    'by channel, most dead first'
);
select is((select count(*) from dead_letter_stats() where facet = 'error'), 10::bigint, 'the ten commonest errors');
select results_eq(
    $$select name, entries from dead_letter_stats() where facet = 'error' limit 2$$,
    $$values ('timeout after # ms', 30::bigint), ('error of _', 1)$$,
    'without their numbers and further lines, or each would be its own'
);
select is(
    (select sum(entries) from dead_letter_stats() where facet in ('queue', 'topic')), 40::numeric, 'the facets add up'
);

select * from finish();
