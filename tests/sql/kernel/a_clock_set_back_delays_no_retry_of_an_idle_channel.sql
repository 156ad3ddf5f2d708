-- design 1.3: when the clock stands before the newest tide, deadlines are looked for from the very first
select plan(3);
select t.clock_stands();
select queue_create('work');
select queue_send('work', '1');
select t.clock_moves('1 second');
select lease_id, message_id from queue_claim('work') \gset

-- given a channel in which nothing stands, at two o'clock
select t.clock_moves('2 hours');
update lease set expires_at = clock_now() + interval '1 hour';
select is_empty($$select * from queue_claim('work')$$, 'nothing stands in it');
select t.clock_moves('1 second');
select is_empty($$select * from queue_claim('work')$$, 'still nothing');

-- when the clock is set back to noon, and a retry draws no position
select t.clock_moves('-2 hours');
select outbox_settle(
    :'lease_id', '{}', jsonb_build_array(jsonb_build_object('message_id', :message_id, 'retry_in', '1 second'))
);
select t.clock_moves('2 seconds');
select isnt_empty($$select * from queue_claim('work')$$, 'it comes when it is due');

select * from finish();
