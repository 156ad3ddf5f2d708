-- R27, R31
select plan(7);
select t.clock_stands();
select queue_create('work');
select count(*) from queue_send_many('work', array['1', '2', '3', '4']::jsonb[]);

select lease_id, array_agg(message_id order by message_id) as ids from queue_claim('work', 4) group by 1 \gset
select is(
    (select a::text from queue_ack(:'lease_id', (:'ids'::bigint[])[1:1]) as a), '(1,0,0,f)', 'one may be acked'
);
select is(
    (select a::text from queue_ack(:'lease_id', (:'ids'::bigint[])[1:2]) as a),
    '(1,0,0,f)',
    'one that is acked already counts no more'
);
select is((select a::text from queue_ack(:'lease_id', array[999]) as a), '(0,0,0,f)', 'nor does a stranger');
select is(t.places('work'), 'lease=2', 'the rest stays leased');
select is((select a::text from queue_ack(:'lease_id') as a), '(2,0,0,f)', 'null acks all that is left');
select is((select a::text from queue_ack(:'lease_id') as a), '(0,0,0,t)', 'a repeat answers lost, and is no error');
select is(
    (select a::text from queue_ack('00000000-0000-4000-8000-000000000000') as a), '(0,0,0,t)', 'so does a lease that never was'
);

select * from finish();
