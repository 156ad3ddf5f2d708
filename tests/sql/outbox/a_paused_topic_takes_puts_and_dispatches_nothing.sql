-- R22
select plan(6);
select topic_create('orders');
select topic_create('relayed');
select queue_create('work');
select outbox_route('orders', 'work');

-- given a paused topic
select topic_pause('orders');
select topic_pause('relayed');
select lives_ok($$select outbox_put('orders', '{}')$$, 'puts are taken');
select outbox_put('relayed', '{}');

select is((select s::text from outbox_sweep() as s), '(0,0,0,0,)', 'a sweep takes nothing');
select is_empty($$select * from outbox_claim('relayed')$$, 'nor does a relay');
select is(t.places('orders'), 'ready=1', 'the event waits');

-- when it is resumed
select topic_resume('orders');
select topic_resume('relayed');
select is((select s::text from outbox_sweep() as s), '(1,1,0,0,)', 'what waited is delivered');
select isnt_empty($$select * from outbox_claim('relayed')$$, 'by the relay too');

select * from finish();
