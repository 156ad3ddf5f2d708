-- Must hold 4: both at once, another server and a clock set back
select plan(4);
select t.clock_stands();
select queue_create('work', '{"lease": "2 seconds"}');
select count(*) from queue_send_many('work', array['1', '2']::jsonb[]);
select t.clock_moves('1 second');
select is((select count(*) from queue_claim('work', 10)), 2::bigint, 'given a lease');

-- when the next tick runs elsewhere, ten minutes before
update tide set timeline = 'elsewhere';
select t.clock_moves('-10 minutes');
select is_empty($$select * from queue_claim('work', 10)$$, 'the lease still runs');

-- then it is taken back when that clock has passed it
select t.clock_moves('11 minutes');
select is((select count(*) from queue_claim('work', 10)), 1::bigint, 'it is taken back, in halves');
select is_empty($$select message from incident where routine = '_lease_expire'$$, 'without an incident');

select * from finish();
