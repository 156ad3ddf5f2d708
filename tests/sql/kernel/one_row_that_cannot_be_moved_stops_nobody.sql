-- design 1.3, R14, R95: the tick falls back to row by row, notes the error and lets the claim go on
select plan(8);
select t.clock_stands();
select topic_create('orders', '{"lease": "1 minute", "max_attempts": 0}');

-- given that one payload may not enter ready
create function public.refuse() returns trigger language plpgsql as $$begin raise exception 'no entry'; end;$$;
create trigger refuse before insert on tidegate.ready for each row
when (new.payload = '"bad"') execute function public.refuse();

-- a due message that cannot be moved, among others
select outbox_put('orders', to_jsonb(p), p_run_at => clock_now() + interval '1 second')
from unnest(array['a', 'bad', 'b']) as p;
select t.clock_moves('2 seconds');
select results_eq(
    $$select payload from outbox_claim('orders')$$, $$values ('"a"'::jsonb), ('"b"')$$, 'the others are delivered'
);
select is(t.places('orders'), 'scheduled=1 lease=2', 'it stays where it is');
select isnt_empty($$select from incident where message = 'no entry'$$, 'the error is noted');
select ok((select due_at > clock_now() from scheduled), 'and it is put off, so that it stands in nobody''s way');

-- an expired lease that cannot be taken back, beside one that can
alter table tidegate.ready disable trigger refuse;
select outbox_put('orders', '"bad"');
select outbox_put('orders', '"c"');
select t.clock_moves('1 second');
select count(*) from outbox_claim('orders', 1, '10 seconds');
select count(*) from outbox_claim('orders', 1, '10 seconds');
alter table tidegate.ready enable trigger refuse;
create trigger refuse before insert on tidegate.scheduled for each row
when (new.payload = '"bad"') execute function public.refuse();
select t.clock_moves('11 seconds');
select is_empty($$select * from outbox_claim('orders')$$, 'the one that can is taken back and waits its backoff');
select t.clock_moves('10 seconds');
select results_eq($$select payload from outbox_claim('orders')$$, $$values ('"c"'::jsonb)$$, 'and comes again');
select is((select count(*) from lease where (messages[1]).payload = '"bad"'), 1::bigint, 'the other stays leased');

-- when the cause is mended
drop trigger refuse on tidegate.scheduled;
drop trigger refuse on tidegate.ready;
create function pg_temp.drain() returns setof jsonb language plpgsql as $$
declare
    v_delivery record;
begin
    set local tidegate.tick = 'on';
    for round in 1 .. 30 loop
        perform t.clock_moves('1 minute');
        for v_delivery in select * from outbox_claim('orders', 100) loop
            perform outbox_settle(v_delivery.lease_id, array[v_delivery.message_id]);
            return next v_delivery.payload;
        end loop;
    end loop;
end;
$$;
select bag_eq(
    $$select * from pg_temp.drain()$$,
    $$values ('"a"'::jsonb), ('"b"'), ('"c"'), ('"bad"'), ('"bad"')$$,
    'then all of them end well'
);

select * from finish();
