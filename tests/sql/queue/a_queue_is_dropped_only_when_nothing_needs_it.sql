select plan(7);
select queue_create('work', '{"max_attempts": 1}');
select topic_create('orders');
select outbox_route('orders', 'work');

select throws_ok($$select queue_drop('work')$$, 'TG022', null, 'one that is routed to is not');
select outbox_unroute('orders', 'work');
select queue_send('work', '1', p_idempotency_key => 'k');
select throws_ok($$select queue_drop('work')$$, 'TG022', null, 'nor one that holds a message');
select lease_id from queue_claim('work') \gset
select throws_ok($$select queue_drop('work')$$, 'TG022', null, 'nor one whose message is being worked on');
select queue_nack(:'lease_id', p_error => 'no');
select lives_ok($$select queue_drop('work')$$, 'an empty one is');
select throws_ok($$select queue_send('work', '1')$$, 'TG020', null, 'then it is gone');
select results_eq($$select channel::text collate "default" from dead_letter$$, $$values ('work')$$, 'its dead letters stay');
select results_eq(
    $$select outcome from dead_letter_requeue(array(select dead_letter_id from dead_letter))$$, $$values ('no_channel')$$,
    'and cannot go back'
);

select * from finish();
