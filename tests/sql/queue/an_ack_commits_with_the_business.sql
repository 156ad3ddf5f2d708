-- design 1.3: the settlement joins the business transaction
select plan(3);
select queue_create('work');
select queue_send('work', '{"invoice": 1}');
create table invoice (n integer);
select lease_id from queue_claim('work') \gset

begin;
insert into invoice values (1);
select queue_ack(:'lease_id');
rollback;
select is(t.places('work'), 'lease=1', 'an ack that is rolled back has not happened');
begin;
insert into invoice values (1);
select queue_ack(:'lease_id');
commit;
select is(t.places('work'), '', 'it is done with the business');
select is((select count(*) from invoice), 1::bigint, 'once');

select * from finish();
