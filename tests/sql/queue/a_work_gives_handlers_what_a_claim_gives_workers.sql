-- large payloads, identities, halves of a crashed lease, archives and dead letters
select plan(17);
select t.clock_stands();
create schema shop;
create table shop.seen (message_id bigint, event_id uuid, size integer, attempts integer, headers jsonb);
create table shop.mood (fails boolean);
insert into shop.mood values (true);
create function shop.see(p_message message) returns void language plpgsql
set search_path = shop, pg_temp as $$
begin
    if (select fails from mood) then
        raise exception 'not today';
    end if;
    insert into seen values (
        p_message.message_id, p_message.event_id, length(p_message.payload ->> 'text'), p_message.attempts, p_message.headers
    );
end;
$$;
select queue_create('mail', '{"backoff_base": "0", "max_attempts": 2, "archive": true, "max_in_flight": 1}');

-- given a message of 10 kB whose handler raises
select message_id from queue_send('mail', jsonb_build_object('text', repeat('x', 10000)), p_headers => '{"trace": "t"}') \gset
select event_id from queue_claim('mail') \gset
select lease_id from lease \gset
select queue_release(:'lease_id');
select is((select w::text from queue_work('mail', 'shop.see(tidegate.message)') as w), '(0,1,0,f)', 'it fails');
select ok((select payload is null and body_id is not null from ready), 'it still stands by its body');
select is((select count(*) from body), 1::bigint, 'which was not copied');
select is((select w::text from queue_work('mail', 'shop.see') as w), '(0,0,1,f)', 'and dies');
select is((select count(*) from body), 1::bigint, 'with its body');

-- when it is requeued and succeeds
update shop.mood set fails = false;
select count(*) from dead_letter_requeue(array(select dead_letter_id from dead_letter), p_reset_attempts => false);
select is((select state from dead_letter), 'requeued', 'while its child is alive');
select is((select w::text from queue_work('mail', 'shop.see') as w), '(1,0,0,f)', 'it is worked on again');
select results_eq(
    $$select event_id, size, attempts, headers from shop.seen$$,
    format($$values (%L::uuid, 10000, 2, '{"trace": "t"}'::jsonb)$$, :'event_id'),
    'the handler sees what a worker would see'
);
select is((select state from dead_letter), 'resolved', 'its dead letter is resolved');
select results_eq($$select event_id from archive$$, format('values (%L::uuid)', :'event_id'), 'and it is archived');

-- messages of a lease that crashed come in halves
select count(*) from queue_send_many('mail', array_fill('{}'::jsonb, array[8]));
select queue_configure('mail', '{"max_in_flight": null}');
select count(*) from queue_claim('mail', 8);
select t.clock_moves('2 minutes');
select is((select w::text from queue_work('mail', 'shop.see') as w), '(4,0,0,f)', 'half of them');
select is((select count(*) from ready), 4::bigint, 'the others stay');
-- a full queue is no reason not to work: nothing is leased
select queue_configure('mail', '{"max_in_flight": 1}');
select count(*) from queue_claim('mail');
select is((select w::text from queue_work('mail', 'shop.see') as w), '(3,0,0,f)', 'max_in_flight counts leases only');
select is(t.places('mail'), 'lease=1', 'which nobody touched');

-- bodies of one call are together at most 16 MB
delete from lease;
select queue_configure('mail', '{"max_in_flight": null, "archive": false}');
select count(*) as bodies from body \gset
select count(*) from queue_send_many('mail', array_fill(jsonb_build_object('text', repeat('x', 7000000)), array[3]));
select is((select w::text from queue_work('mail', 'shop.see') as w), '(2,0,0,f)', 'what is too much waits for the next call');
select is((select w::text from queue_work('mail', 'shop.see') as w), '(1,0,0,f)', 'which takes it');
select is((select count(*) from body), :bodies::bigint, 'their bodies went with them');

select * from finish();
