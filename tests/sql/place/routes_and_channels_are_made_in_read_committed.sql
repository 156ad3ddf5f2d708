-- an old snapshot would not see the route, or the topic, that was committed meanwhile
select plan(6);
select topic_create('orders');
select queue_create('work');
begin isolation level repeatable read;
select throws_ok($$select topic_create('other')$$, 'TG030', null, 'a topic');
select throws_ok($$select outbox_route('orders', 'work')$$, 'TG030', null, 'a route');
select throws_ok($$select outbox_unroute('orders', 'work')$$, 'TG030', null, 'a route taken away');
select throws_ok($$select topic_drop('orders')$$, 'TG030', null, 'a topic dropped');
select throws_ok($$select queue_drop('work')$$, 'TG030', null, 'a queue dropped');
rollback;
select is((select count(*) from channel), 2::bigint, 'nothing has changed');

select * from finish();
