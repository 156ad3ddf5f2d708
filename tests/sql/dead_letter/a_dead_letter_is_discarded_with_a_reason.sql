-- R55
select plan(4);
select t.clock_stands();
select topic_create('orders', '{"max_attempts": 1}');
select outbox_put('orders', '{}');
select lease_id, message_id from outbox_claim('orders') \gset
select outbox_settle(:'lease_id', '{}', jsonb_build_array(jsonb_build_object('message_id', :message_id)));
select dead_letter_id as id from dead_letter \gset

select results_eq(
    format($$select outcome from dead_letter_discard(array[%s, 999], 'a duplicate')$$, :id),
    $$values ('discarded'), ('unknown')$$,
    'one answer an id'
);
select is((select notes -> 0 ->> 'note' from dead_letter), 'a duplicate', 'the reason is kept');
select is(t.total('orders', 'discarded'), 1::bigint, 'and counted');
select results_eq(
    format($$select outcome from dead_letter_requeue(array[%s])$$, :id),
    $$values ('already_discarded')$$,
    'it does not come back'
);

select * from finish();
