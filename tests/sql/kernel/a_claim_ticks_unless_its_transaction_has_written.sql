-- design 1.3, R148: what a tick moves is unseen until the commit
select plan(4);
select t.clock_stands();
select topic_create('orders');
select outbox_put('orders', '"later"', p_run_at => clock_now() + interval '1 second');
select t.clock_moves('1 minute');

begin;
create table business (n integer);
select is_empty($$select * from outbox_claim('orders')$$, 'after a write a claim does not tick');
commit;
begin;
insert into business values (1);
set local tidegate.tick = 'on';
select isnt_empty($$select * from outbox_claim('orders')$$, 'unless it is asked to');
rollback;
select isnt_empty($$select * from outbox_claim('orders')$$, 'as the first of its transaction it does');

-- and a claim that could not see what others commit is refused
begin isolation level repeatable read;
select throws_ok($$select * from outbox_claim('orders')$$, 'TG030', null, 'REPEATABLE READ is refused');
rollback;

select * from finish();
