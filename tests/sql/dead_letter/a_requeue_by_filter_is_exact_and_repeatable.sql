-- R60, must hold 8: one call, oldest death first; a repeat takes the next ones
select plan(11);
select t.clock_stands();
select queue_create('work', '{"max_attempts": 1}');
select queue_create('beside', '{"max_attempts": 1}');
insert into dead_letter (
    dead_at, channel_id, kind, channel, reason, last_error, attempts, priority, message_id, enqueued_at, payload, tenant
)
select
    clock_now() - (5000 - n) * interval '1 second', c.channel_id, c.kind, c.name, 'exhausted', 'e', 5, 0, n, clock_now(),
    to_jsonb(n), case when n % 2 = 0 then 'acme' end
from generate_series(1, 5000) as n
inner join channel as c on c.name = case when n % 5 = 0 then 'beside' else 'work' end;

select is(dead_letter_count(p_channel => 'work', p_tenant => 'acme'), 2000::bigint, 'given 2 000 that match, of 5 000');
select is(
    (select r.requeued from dead_letter_requeue_matching(p_channel => 'work', p_tenant => 'acme', p_limit => 1200, p_dry_run => true) as r),
    1200, 'a dry run says how many would go'
);
select is(t.places('work'), 'dead=4000', 'and moves none');
select is((select sum(requeued_count) from dead_letter) + t.total('work', 'requeued'), 0::bigint, 'nor counts any');

select is(
    (select r.requeued from dead_letter_requeue_matching(p_channel => 'work', p_tenant => 'acme', p_limit => 1200, p_note => 'fixed') as r),
    1200, 'a call takes as many as it may'
);
select results_eq(
    $$select (payload #>> '{}')::int from ready order by position$$,
    $$select n from generate_series(1, 5000) as n where n % 2 = 0 and n % 5 > 0 order by n limit 1200$$,
    'those that match, oldest first, and in that order'
);
select is((select count(*) from dead_letter where state = 'requeued' and notes -> 0 ->> 'note' = 'fixed'), 1200::bigint, 'each entry says so');
select is(
    (select r.requeued from dead_letter_requeue_matching(p_channel => 'work', p_tenant => 'acme', p_limit => 1200) as r),
    800, 'a repeat takes the next ones'
);
select is(
    (select r.requeued from dead_letter_requeue_matching(p_channel => 'work', p_tenant => 'acme', p_limit => 1200) as r),
    0, 'and then there are none'
);
select is((select count(distinct requeued_from) from ready), 2000::bigint, 'no entry went twice');
select is(t.places('beside'), 'dead=1000', 'nothing else was touched');

select * from finish();
