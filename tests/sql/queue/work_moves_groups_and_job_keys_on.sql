-- a work ends messages as a settlement does: the next of a group, and what follows a job key, come in
select plan(13);
select t.clock_stands();
create schema shop;
create table shop.ran (nr integer generated always as identity, n integer);
create function shop.mail(p_payload jsonb) returns void language plpgsql
set search_path = shop, pg_temp as $$
begin
    if p_payload = '2' and not exists (select from ran where n = 0) then
        raise exception 'not before 0';
    end if;
    insert into ran (n) values ((p_payload #>> '{}')::integer);
end;
$$;
select queue_create('mail', '{"backoff_base": "1 minute", "backoff_cap": "1 minute", "jitter": 0}');

-- given three of one group, the second of which fails at first
select queue_send('mail', to_jsonb(n), p_group_key => 'g') from generate_series(1, 3) as n;
select t.clock_moves('1 second');
select is((select w::text from queue_work('mail', 'shop.mail') as w), '(1,0,0,f)', 'the first');
select t.clock_moves('1 second');
select is((select w::text from queue_work('mail', 'shop.mail') as w), '(0,1,0,f)', 'the second fails');
select t.clock_moves('1 second');
select is((select w::text from queue_work('mail', 'shop.mail') as w), '(0,0,0,f)', 'the third waits for it');
select t.clock_moves('2 minutes');
select queue_send('mail', '0');
select is((select w::text from queue_work('mail', 'shop.mail') as w), '(2,0,0,f)', 'until its retry, which succeeds');
select t.clock_moves('1 second');
select is((select w::text from queue_work('mail', 'shop.mail') as w), '(1,0,0,f)', 'then comes the third');
select results_eq($$select n from shop.ran order by nr$$, $$values (1), (0), (2), (3)$$, 'in order');

-- given a handler that sends with its own job key
create function shop.again(p_payload jsonb) returns void language sql
set search_path = shop, pg_temp as $$
insert into ran (n) values ((p_payload #>> '{}')::integer);
insert into ran (n)
select -1
from tidegate.queue_send('mail', to_jsonb((p_payload #>> '{}')::integer + 1), p_job_key => 'k') as s
where s.outcome <> 'follow_up';
$$;
truncate shop.ran;
select queue_send('mail', '10', p_job_key => 'k');
select is((select w::text from queue_work('mail', 'shop.again') as w), '(1,0,0,f)', 'it is done');
select results_eq($$select n from shop.ran$$, $$values (10)$$, 'what it sends is a follow-up');
select results_eq($$select payload, job_key collate "default" from ready$$, $$values ('11'::jsonb, 'k')$$, 'which comes in when it ends');
select is((select w::text from queue_work('mail', 'shop.mail') as w), '(1,0,0,f)', 'and is worked on');
select is((select count(*) from job_key), 0::bigint, 'the key is free');

-- one whose death is final hands on too
select queue_send('mail', '2', p_job_key => 'k', p_max_attempts => 1);
truncate shop.ran;
select is((select w::text from queue_work('mail', 'shop.mail') as w), '(0,0,1,f)', 'a death');
select is((select count(*) from job_key), 0::bigint, 'frees the key');

select * from finish();
