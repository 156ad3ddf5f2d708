-- R153
select plan(10);
select t.clock_stands();
select topic_create('orders', '{"max_attempts": 2, "backoff_base": "0"}');
create table big as
    select jsonb_build_object('text', string_agg(md5(n::text), '')) as payload from generate_series(1, 300) as n;
select outbox_put('orders', payload, p_idempotency_key => 'k') from big;
select outbox_put('orders', payload, p_idempotency_key => 'k') from big;

-- given a payload above the inline limit
select is((select count(*) from body), 1::bigint, 'it is written to body, once');
select is((select payload from ready), null, 'the place carries its number only');
select xmin::text as written, body_id from body \gset

-- when it is claimed, fails, is claimed again and dies
select lease_id, message_id, payload = (select payload from big) as is_whole from outbox_claim('orders') \gset
select ok(:'is_whole', 'a claim reads it');
select outbox_settle(:'lease_id', '{}', jsonb_build_array(jsonb_build_object('message_id', :message_id)));
select t.clock_moves('1 second');
select lease_id from outbox_claim('orders') \gset
select outbox_settle(:'lease_id', '{}', jsonb_build_array(jsonb_build_object('message_id', :message_id)));
select is(t.places('orders'), 'dead=1', 'it has been through every place');
select is((select xmin::text from body), :'written'::text, 'and was never written again');
select is(
    (select dead_letter_payload(dead_letter_id) from dead_letter), (select payload from big),
    'its dead letter still shows it'
);

-- and when nobody needs the dead letter any more
select dead_letter_discard(array(select dead_letter_id from dead_letter), 'a test');
select t.clock_moves('31 days');
select is((select s.dead_letters_removed from cleanup_sweep() as s), 1, 'it is removed');
select is_empty($$select * from body$$, 'then nothing of it is left');

-- nor is anything after a hundred that were acked, released, expired or archived
select topic_configure('orders', '{"max_attempts": 0, "archive": true, "retention": "1 day"}');
select count(outbox_put('orders', payload)) from big, generate_series(1, 100);
select lease_id, array_agg(message_id) as ids from outbox_claim('orders', 10) group by 1 \gset
select outbox_settle(:'lease_id', :'ids');
select lease_id from outbox_claim('orders', 10) limit 1 \gset
select outbox_release(:'lease_id');
select count(*) from outbox_claim('orders', 10);
select t.clock_moves('1 hour');
create function pg_temp.drain() returns void language plpgsql as $$
declare
    v_claim record;
begin
    set local tidegate.tick = 'on';
    for round in 1 .. 200 loop
        perform t.clock_moves('1 second');
        select lease_id, array_agg(message_id) as ids into v_claim from outbox_claim('orders', 100) group by 1;
        exit when not found;
        perform outbox_settle(v_claim.lease_id, v_claim.ids);
    end loop;
end;
$$;
select pg_temp.drain();
select is((select count(*) from body), 100::bigint, 'the archive keeps what was settled');
select t.clock_moves('2 days');
select cleanup_sweep();
select is_empty($$select * from body$$, 'and its end is the end of the bodies');

select * from finish();
