-- R5, R26, R35
select plan(5);
select t.clock_stands();
select topic_create('orders', '{"lease": "5 hours", "max_runtime": "5 hours"}');

-- given events of three priorities, and two that are due later
select outbox_put('orders', '"late"', p_run_at => clock_now() + interval '1 hour');
select outbox_put('orders', '"soon"', p_run_at => clock_now() + interval '1 minute');
select outbox_put('orders', '"last"', p_priority => 9);
select outbox_put('orders', '"b"', p_priority => 0);
select outbox_put('orders', '"a"', p_priority => 3);
select outbox_put('orders', '"c"', p_priority => 0);
select outbox_put('orders', '"past"', p_run_at => clock_now() - interval '1 hour');

select results_eq(
    $$select payload #>> '{}' from outbox_claim('orders', 3)$$,
    $$values ('b'), ('c'), ('past')$$,
    'lower priorities first, then in order of becoming due, at most p_limit'
);
select results_eq(
    $$select payload #>> '{}' from outbox_claim('orders', 100)$$,
    $$values ('a'), ('last')$$,
    'then the others'
);

-- when their time comes
select t.clock_moves('59 seconds');
select is_empty($$select * from outbox_claim('orders')$$, 'never early');
select t.clock_moves('1 second');
select results_eq(
    $$select payload #>> '{}' from outbox_claim('orders')$$, $$values ('soon')$$, 'but on time'
);
select t.clock_moves('1 hour');
select results_eq(
    $$select payload #>> '{}' from outbox_claim('orders') where payload = '"late"'$$,
    $$values ('late')$$,
    'each at its own'
);

select * from finish();
