-- set back by less than what is drawn until the next tick: no tick can tell, and the net below the floors catches it
select plan(6);
select t.clock_stands();
select queue_create('work', '{"lease": "1 hour", "max_runtime": "1 day"}');
select count(*) from queue_send_many('work', array_fill('"old"'::jsonb, array[100]));
select t.clock_moves('1 second');
select lease_id from queue_claim('work', 100) limit 1 \gset
select queue_ack(:'lease_id');
select t.clock_moves('1 second');
select is_empty($$select * from queue_claim('work')$$, 'all is done');
select is((select floors[1] from floor order by floor_id desc limit 1), 100::bigint, 'the floor has risen');

select setval('position_seq', 80);
select count(*) from queue_send_many('work', array_fill('"new"'::jsonb, array[40]));
select t.clock_moves('1 second');
select is((select count(*) from queue_claim('work', 100)), 20::bigint, 'what stands below the floor is not seen');

select is((select stranded_replaced from cleanup_sweep()), 20, 'cleanup finds it');
select is((select count(*) from queue_claim('work', 100)), 20::bigint, 'and it is delivered');
select results_eq(
    $$select sqlstate from incident$$, $$values ('TG034')$$, 'whoever looks after the database is told'
);

select * from finish();
