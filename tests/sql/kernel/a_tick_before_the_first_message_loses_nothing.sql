-- Must hold 4
select plan(4);
select t.clock_stands();
select topic_create('orders');

-- given a tick before any position was ever drawn
select is((select is_called from position_seq), false, 'no position was drawn yet');
select _tick((select channel_id from channel));
select is((select floors[1] from floor order by floor_id desc limit 1), 0::bigint, 'the floor stays at 0');

-- then the very first message is found
select outbox_put('orders', '"first"');
select t.clock_moves('1 second');
select results_eq($$select payload from outbox_claim('orders')$$, $$values ('"first"'::jsonb)$$, 'the first message is found');
select is((select m.message_id from lease, unnest(messages) as m), 1::bigint, 'with the first id of all');

select * from finish();
