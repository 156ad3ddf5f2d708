-- R48
select plan(13);
select t.clock_stands();
select queue_create('q', '{"backoff_base": "0"}'), queue_create('other'), topic_create('o'), topic_create('free');
select outbox_route('o', 'q'), outbox_route('o', 'other'), outbox_route('free', 'other');
select queue_send('q', '1', p_job_key => 'k');
select t.clock_moves('1 second');
select lease_id from queue_claim('q') \gset
select queue_send('q', '2', p_job_key => 'k');
select queue_drain('q');
select lives_ok($$select queue_drain('q')$$, 'a repeat changes nothing');

select throws_ok($$select queue_send('q', '3')$$, 'TG023', null, 'a send is refused');
select throws_ok($$select queue_send_many('q', array['3']::jsonb[])$$, 'TG023', null, 'so are many');
select throws_ok($$select queue_send_specs('q', '[{"payload": 3}]')$$, 'TG023', null, 'with options too');
select throws_ok($$select queue_drain('nowhere')$$, 'TG020', null, 'no such queue');

select outbox_put('o', '1'), outbox_put('free', '1');
select t.clock_moves('1 second');
select results_eq(
    $$select dispatched, first_error from outbox_sweep()$$,
    $$values (1, 'queue ''q'' is draining: the events of topic ''o'' wait')$$, 'events that are routed there wait, others do not'
);
select is(t.places('o'), 'ready=1', 'undelivered, uncharged');
select is((select attempts::int from ready r inner join channel c using (channel_id) where c.name = 'o'), 0, 'for nobody');

select queue_nack(:'lease_id');
select t.clock_moves('1 second');
select results_eq($$select payload from queue_claim('q', 10)$$, $$values ('1'::jsonb)$$, 'workers get the retry');
select queue_ack(lease_id) from lease;
select t.clock_moves('1 second');
select results_eq($$select payload from queue_claim('q', 10)$$, $$values ('2'::jsonb)$$, 'and what follows');

select queue_resume('q');
select is((select outcome from queue_send('q', '3')), 'inserted', 'a resume ends it');
select is((select s.dispatched from outbox_sweep() s), 1, 'and the event arrives');
select is(t.places('other'), 'ready=2', 'everywhere');
select * from finish();
