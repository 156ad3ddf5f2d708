-- mistakes raise, before anything is taken
select plan(19);
create schema shop;
create function shop.mail(p_payload jsonb) returns void language sql set search_path = shop, pg_temp as $$select$$;
create function shop.loose(p_payload jsonb) returns void language sql as $$select$$;
create function shop.answers(p_payload jsonb) returns integer language sql set search_path = shop, pg_temp as $$select 1$$;
select queue_create('mail', '{"backoff_base": "1 hour", "backoff_cap": "1 hour"}');
select topic_create('orders', '{"backoff_base": "1 hour", "backoff_cap": "1 hour"}');
select queue_send('mail', '1');

select throws_ok($$select queue_work('mail', 'shop.mail', 0)$$, 'TG010', null, 'a limit of 0');
select throws_ok($$select queue_work('mail', 'shop.mail', null)$$, 'TG010', null, 'no limit');
select throws_ok($$select queue_work('mail', 'shop.mail', 10001)$$, 'TG010', null, 'a limit above 10000');
select throws_ok($$select queue_work('none', 'shop.mail')$$, 'TG020', null, 'an unknown queue');
select throws_ok($$select queue_work('orders', 'shop.mail')$$, 'TG020', null, 'a topic');
select throws_ok($$select queue_work('mail', 'shop.none')$$, 'TG041', null, 'an unknown handler');
select throws_ok($$select queue_work('mail', null)$$, 'TG041', null, 'no handler');
select throws_ok($$select queue_work('mail', 'shop.answers')$$, 'TG041', null, 'one that returns something');
select throws_ok($$select queue_work('mail', 'shop.loose')$$, 'TG040', null, 'one without a search_path');
begin isolation level repeatable read;
select throws_ok($$select queue_work('mail', 'shop.mail')$$, 'TG030', null, 'a snapshot that stands still');
rollback;

-- a mistake is one when the queue is paused, too; otherwise a paused queue hands out nothing
select queue_pause('mail');
select throws_ok($$select queue_work('mail', 'shop.none')$$, 'TG041', null, 'also while it is paused');
select is((select w::text from queue_work('mail', 'shop.mail') as w), '(0,0,0,f)', 'a paused queue hands out nothing');
select is(t.places('mail'), 'ready=1', 'and keeps what it has');
select queue_resume('mail');

-- given handlers that would work or sweep themselves
create function shop.works(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$select tidegate.queue_work('mail', 'shop.mail')$$;
create function shop.sweeps(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$select tidegate.outbox_sweep()$$;
select is((select w::text from queue_work('mail', 'shop.works') as w), '(0,1,0,f)', 'work within work fails the message');
select is((select errors -> 0 ->> 'error' from scheduled), 'queue_work was called by a handler', 'which knows why');
select queue_send('mail', '2');
select is((select w::text from queue_work('mail', 'shop.sweeps') as w), '(0,1,0,f)', 'so does a sweep within work');
select outbox_route('orders', p_handler => 'shop.works');
select outbox_put('orders', '1');
select is(
    (select s::text from outbox_sweep() as s), '(1,0,1,0,"queue_work was called by a handler")', 'and work within a sweep'
);
-- the mark ends with the call
begin;
select queue_work('mail', 'shop.mail');
select lives_ok($$select outbox_sweep()$$, 'a sweep may follow a work in one transaction');
select lives_ok($$select queue_work('mail', 'shop.mail')$$, 'and a work a sweep');
commit;

select * from finish();
