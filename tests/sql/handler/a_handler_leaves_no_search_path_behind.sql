-- a plain SET outlives the function that runs it; only a rollback takes it back
select plan(8);
create schema shop;
create schema "odd path";
create table shop.ran (n integer);
create function shop.setter(p_payload jsonb) returns void language plpgsql
set search_path = shop, pg_temp as $$
begin
    insert into ran values ((p_payload #>> '{}')::integer);
    if p_payload = '2' then
        perform set_config('search_path', '"odd path", pg_catalog', false);
    elsif p_payload = '3' then
        set local search_path = public;
    end if;
end;
$$;
select topic_create('orders', '{"backoff_base": "1 hour", "backoff_cap": "1 hour"}');
select outbox_route('orders', p_handler => 'shop.setter');
select queue_create('mail', '{"backoff_base": "1 hour", "backoff_cap": "1 hour"}');
select current_setting('search_path') as path \gset

select count(*) from outbox_put_many('orders', array['1', '2', '3', '4']::jsonb[]);
select count(*) from queue_send_many('mail', array['1', '2', '3', '4']::jsonb[]);
begin;
select is((select row(s.claimed, s.dispatched, s.retried)::text from outbox_sweep() as s), '(4,3,1)', 'a sweep charges who did it');
select is(current_setting('search_path'), :'path', 'its caller''s path is his own, in the transaction');
commit;
select is(current_setting('search_path'), :'path', 'and after it');
begin;
select is((select w::text from queue_work('mail', 'shop.setter') as w), '(3,1,0,f)', 'so does a work');
select is(current_setting('search_path'), :'path', 'in the transaction');
commit;
select is(current_setting('search_path'), :'path', 'and after it');
select matches(min(errors -> 0 ->> 'error'), 'search_path for good', 'the error says what to do') from scheduled;
select results_eq($$select n from shop.ran order by n$$, $$values (1), (1), (3), (3), (4), (4)$$, 'the others are done, set local or not');

select * from finish();
