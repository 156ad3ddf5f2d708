-- R8: the inner one would deliver what the outer one has locked, and both would commit
select plan(7);
create schema shop;
create table shop.ran (n integer);
select topic_create('orders', '{"backoff_base": "1 hour", "backoff_cap": "1 hour"}');
create function shop.swallows(p_payload jsonb) returns void language plpgsql
set search_path = shop, pg_temp as $$
begin
    insert into ran values ((p_payload #>> '{}')::integer);
    begin
        perform tidegate.outbox_sweep();
    exception
        when sqlstate 'TG031' then null;
    end;
end;
$$;
select outbox_route('orders', p_handler => 'shop.swallows');
select count(*) from outbox_put_many('orders', array['1', '2', '3']::jsonb[]);
select is((select s::text from outbox_sweep() as s), '(3,3,0,0,)', 'a handler may survive the refusal');
select results_eq($$select n from shop.ran order by n$$, $$values (1), (2), (3)$$, 'each event runs once');

create function shop.raises(p_payload jsonb) returns void language plpgsql
set search_path = shop, pg_temp as $$
begin
    perform tidegate.outbox_sweep(500, 'orders');
end;
$$;
select outbox_unroute('orders', p_handler => 'shop.swallows');
select outbox_route('orders', p_handler => 'shop.raises');
select count(*) from outbox_put_many('orders', array['4', '5']::jsonb[]);
select is(
    (select s::text from outbox_sweep() as s), '(2,0,2,0,"outbox_sweep was called by a handler")',
    'one that does not is charged'
);

-- the mark of a sweep ends with it, however it ends
begin;
select count(*) from outbox_sweep();
select lives_ok($$select outbox_sweep()$$, 'two in one transaction are no recursion');
create function public.refuse() returns trigger language plpgsql as $$begin raise exception 'no entry'; end;$$;
create trigger refuse before insert on tidegate.tally for each row execute function public.refuse();
select topic_create('other');
select queue_create('work');
select outbox_route('other', 'work');
select outbox_put('other', '1');
select is((select first_error from outbox_sweep()), 'no entry', 'when one is rolled back');
drop trigger refuse on tidegate.tally;
select lives_ok($$select outbox_sweep()$$, 'the next may run');
select is(t.places('work'), 'ready=1', 'and delivers');
commit;

select * from finish();
