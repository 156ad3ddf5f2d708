-- the net below the proof: whatever let a message of a group pass unseen, a cleanup lets the next tick look again
select plan(7);
select t.clock_stands();
select queue_create('q', '{"lease": "1 hour"}');
-- given two groups, one with a message at work, and a mark that has run ahead of what was seen
select queue_send('q', '"h1"', p_group_key => 'held');
select t.clock_moves('1 second');
select is((select count(*) from queue_claim('q')), 1::bigint, 'one is in work');
select count(*) from queue_send_many('q', array['"h2"', '"h3"']::jsonb[], p_group_key => 'held');
select count(*) from queue_send_many('q', array['"f1"', '"f2"']::jsonb[], p_group_key => 'free');
update floor set grouped_to = (select last_value from position_seq);
select t.clock_moves('1 second');
select is_empty($$select * from queue_claim('q', 10)$$, 'nobody sees the group that nobody holds');
select is((select stranded_replaced from cleanup_sweep()), 1, 'a cleanup does');
select is(t.total('q', 'stranded'), 1::bigint, 'and counts it');
select t.clock_moves('1 second');
select results_eq($$select payload from queue_claim('q', 10)$$, $$values ('"f1"'::jsonb)$$, 'its first goes first');
select is((select stranded_replaced from cleanup_sweep()), 0, 'whoever waits for a holder is not stranded');
select queue_ack(lease_id) from lease;
select results_eq($$select payload from queue_claim('q', 10) order by 1$$, $$values ('"f2"'::jsonb), ('"h2"')$$, 'all go on');
select * from finish();
