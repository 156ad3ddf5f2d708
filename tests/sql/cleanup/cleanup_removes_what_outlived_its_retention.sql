-- R105, R106
select plan(10);
select t.clock_stands();
select topic_create('orders', '{"archive": true, "retention": "7 days"}');
select count(*) from outbox_put_many(
    'orders', array(select to_jsonb(n) from generate_series(1, 5) as n), p_idempotency_key => 'k'
);
select lease_id, array_agg(message_id) as ids from outbox_claim('orders') group by 1 \gset
select outbox_settle(:'lease_id', :'ids');
select inbox_accept('mailer', '11111111-1111-4111-8111-111111111111');

-- given that everything is young
select is(
    (select row(c.archived_removed, c.keys_removed, c.guards_removed, c.dead_letters_removed)::text from cleanup_sweep() as c),
    '(0,0,0,0)',
    'nothing is removed'
);
-- a day later
select t.clock_moves('25 hours');
select is((select c.keys_removed from cleanup_sweep(3) as c), 3, 'keys go after 24 hours, at most p_limit of them');
select is((select c.keys_removed from cleanup_sweep(3) as c), 2, 'the rest at the next call');
select is((select count(*) from archive), 5::bigint, 'the archive stays');
-- a week later
select t.clock_moves('7 days');
select is((select c.archived_removed from cleanup_sweep() as c), 5, 'it goes by its channel''s retention');
select is_empty($$select * from guard$$, 'so do tombstones');

-- counters are folded, never changed
select is(t.total('orders', 'acked'), 5::bigint, 'a total survives folding');
select cleanup_sweep();
select is((select count(*) from tally where outcome = 'acked'), 1::bigint, 'in one row');

-- R107: a bad retention is named
select throws_like($$select cleanup_sweep(p_key_retention => '0')$$, '%p_key_retention%', 'a retention of no time');
select throws_like($$select cleanup_sweep(p_guard_retention => '-1 day')$$, '%p_guard_retention%', 'a negative one');

select * from finish();
