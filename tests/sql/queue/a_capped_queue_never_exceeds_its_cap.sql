-- R40, R121
select plan(5);
select t.clock_stands();
select queue_create('work', '{"max_in_flight": 3, "lease": "1 minute"}');
select count(*) from queue_send_many('work', array_fill('1'::jsonb, array[10]));
select is((select count(*) from queue_claim('work', 2)), 2::bigint, 'below the cap');
select lease_id from lease \gset
select is((select count(*) from queue_claim('work', 10)), 1::bigint, 'up to the cap');
select is_empty($$select * from queue_claim('work', 10)$$, 'and no further');
select queue_ack(:'lease_id');
select is((select count(*) from queue_claim('work', 10)), 2::bigint, 'what is settled makes room');

-- the cap may be lifted
select queue_configure('work', '{"max_in_flight": null}');
select is((select count(*) from queue_claim('work', 10)), 5::bigint, 'null lifts it');

select * from finish();
