-- TG042 is the handler's own word for: do not try again
select plan(6);
create schema shop;
create table shop.ran (n integer);
create function shop.judge(p_payload jsonb) returns void language plpgsql
set search_path = shop, pg_temp as $$
begin
    if p_payload = '2' then
        raise exception using errcode = 'TG042', message = 'no such customer';
    elsif p_payload = '3' then
        begin
            raise exception using errcode = 'TG042', message = 'caught';
        exception
            when sqlstate 'TG042' then null;
        end;
    elsif p_payload = '4' then
        raise exception 'busy';
    end if;
    insert into ran values ((p_payload #>> '{}')::integer);
end;
$$;
select topic_create('orders', '{"max_attempts": 0}');
select outbox_route('orders', p_handler => 'shop.judge');
select queue_create('mail', '{"max_attempts": 0}');

select count(*) from outbox_put_many('orders', array['1', '2', '3', '4']::jsonb[]);
select is((select s::text from outbox_sweep() as s), '(4,2,1,1,"no such customer")', 'in a sweep');
select count(*) from queue_send_many('mail', array['1', '2', '3', '4']::jsonb[]);
select is((select w::text from queue_work('mail', 'shop.judge') as w), '(2,1,1,f)', 'and in a work');
select results_eq(
    $$select channel collate "default", payload, attempts::int, reason, last_error from dead_letter order by 1$$,
    $$values ('mail', '2'::jsonb, 1, 'not_retryable', 'no such customer'), ('orders', '2', 1, 'not_retryable', 'no such customer')$$,
    'whoever says it is dead, also where attempts have no end'
);
select results_eq($$select payload from scheduled$$, $$values ('4'::jsonb), ('4')$$, 'whoever does not is tried again');
select results_eq($$select n from shop.ran order by n$$, $$values (1), (1), (3), (3)$$, 'and the others are done');

-- alone, it is the first of the isolated pass
select queue_send('mail', '2');
select is((select w::text from queue_work('mail', 'shop.judge') as w), '(0,0,1,f)', 'also when it is alone');

select * from finish();
