-- R7, R21: 500 messages, one that raises, one that raises for good; the others are done, once each
select plan(12);
select t.clock_stands();
create schema shop;
create table shop.mailed (n integer, nr integer generated always as identity);
create function shop.mail(p_payload jsonb) returns void language plpgsql
set search_path = shop, pg_temp as $$
begin
    if p_payload = '250' then
        raise exception 'smtp 450 for %', p_payload;
    elsif p_payload = '300' then
        raise exception using errcode = 'TG042', message = 'no such customer';
    end if;
    insert into mailed (n) values ((p_payload #>> '{}')::integer);
end;
$$;
select queue_create('mail', '{"backoff_base": "1 minute", "jitter": 0, "max_attempts": 2}');
select count(*) from queue_send_many('mail', array(select to_jsonb(n) from generate_series(1, 499) as n));
select queue_send('mail', '500', p_priority => 1);
select queue_send('mail', '501', p_run_at => clock_now() + interval '1 minute');

-- when all that is ready is worked on
select is((select w::text from queue_work('mail', 'shop.mail', 500) as w), '(498,1,1,f)', 'each has its own outcome');
select is((select count(*) from shop.mailed), 498::bigint, 'whatever raised left nothing behind');
select is((select n from shop.mailed order by nr desc limit 1), 500, 'priority goes before position');
select is((select count(*) from shop.mailed a, shop.mailed b where a.nr < b.nr and a.n >= b.n), 0::bigint, 'in order');
select results_eq(
    $$select payload, attempts::int, errors -> 0 ->> 'error', due_at from scheduled where attempts > 0$$,
    $$values ('250'::jsonb, 1, 'smtp 450 for 250', clock_now() + interval '1 minute')$$,
    'one waits for its retry with its own error'
);
select results_eq(
    $$select payload, attempts::int, reason, last_error from dead_letter$$,
    $$values ('300'::jsonb, 1, 'not_retryable', 'no such customer')$$,
    'and one that was not to be retried is dead'
);
select is(
    array[t.total('mail', 'acked'), t.total('mail', 'retried'), t.total('mail', 'dead_lettered')], '{498,1,1}',
    'counted as settlements are'
);

-- later: what has become due is worked on too
select t.clock_moves('2 minutes');
select is((select w::text from queue_work('mail', 'shop.mail(jsonb)') as w), '(1,0,1,f)', 'the last attempt is the last');
select results_eq(
    $$select reason, last_error from dead_letter where payload = '250'$$, $$values ('exhausted', 'smtp 450 for 250')$$,
    'its error is kept'
);
select is((select w::text from queue_work('mail', 'shop.mail') as w), '(0,0,0,f)', 'nothing is left');
select is(t.places('mail'), 'dead=2', 'nothing was lost');
select is((select count(*) from lease), 0::bigint, 'nothing was leased');

select * from finish();
