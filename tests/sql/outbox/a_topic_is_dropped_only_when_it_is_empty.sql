select plan(8);
select topic_create('orders', '{"max_attempts": 1}');
select queue_create('work');
select outbox_route('orders', 'work');
select outbox_put('orders', '1', p_idempotency_key => 'k');

select throws_ok($$select topic_drop('orders')$$, 'TG022', null, 'one that holds an event is not');
select outbox_sweep();
select lives_ok($$select topic_drop('orders')$$, 'an empty one is');
select throws_ok($$select outbox_put('orders', '1')$$, 'TG020', null, 'then it is gone');
select throws_ok($$select topic_drop('orders')$$, 'TG020', null, 'also for a second drop');
select is_empty($$select * from route$$, 'with its routes');
select is(t.places('work'), 'ready=1', 'what it sent stays');
select topic_create('orders');
select is(
    (select p.outcome from outbox_put('orders', '1', p_idempotency_key => 'k') as p), 'inserted', 'a new one knows nothing of the old'
);
select results_eq($$select topic from queue_claim('work')$$, $$values ('orders')$$, 'what it sent still names it');

select * from finish();
