-- setval is not undone by a rollback: who notices and then fails must not hide it from the next
select plan(6);
select t.clock_stands();
select queue_create('work');
select count(*) from queue_send_many('work', array_fill('"old"'::jsonb, array[100]));
select t.clock_moves('1 second');
select lease_id from queue_claim('work', 100) limit 1 \gset
select queue_ack(:'lease_id');
select t.clock_moves('1 second');
select is_empty($$select * from queue_claim('work')$$, 'all is done');
select is((select floors[1] from floor order by floor_id desc limit 1), 100::bigint, 'the floor has risen');

select setval('position_seq', 1);
select count(*) from queue_send_many('work', array_fill('"new"'::jsonb, array[10]));
select t.clock_moves('1 second');
begin;
select is((select count(*) from queue_claim('work', 100)), 10::bigint, 'a claim notices, and rolls back');
rollback;
select t.clock_moves('1 second');
select is((select count(*) from queue_claim('work', 100)), 10::bigint, 'the next notices too');

-- and ids do not repeat
select t.clock_moves('1 second');
select count(*) from queue_claim('work');
select queue_send('work', '"newest"') as sent \gset
select cmp_ok((:'sent'::sent).message_id, '>', 100::bigint, 'the sequence moves past what was drawn before');
select t.clock_moves('1 second');
select results_eq($$select payload from queue_claim('work')$$, $$values ('"newest"'::jsonb)$$, 'and what it gives is found');

select * from finish();
