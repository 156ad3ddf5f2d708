-- R110, R114
select plan(24);
select t.clock_stands();
select queue_create('q', '{"lease": "1 minute"}');

-- given messages of a run that no cancel has seen
create function public.slip(p_run_id text) returns void
language sql
as $$
    insert into tidegate.run (run_id, state, opened_at, finished_at)
    values (p_run_id, 'stopped', tidegate.clock_now(), tidegate.clock_now())
$$;
select queue_send('q', to_jsonb(n), p_run_id => case when n % 2 = 1 then 'r' end) from generate_series(1, 10) n;
select public.slip('r');

-- a claim of one
select t.clock_moves('1 second');
select results_eq($$select payload from queue_claim('q')$$, $$values ('2'::jsonb)$$, 'a claim of one passes it over');
select is(t.places('q'), 'ready=8 lease=2', 'it is nobody''s');
select results_eq(
    $$select worker from in_flight where worker is not null$$, $$values ('(nobody: the run is stopped)')$$, 'as people see'
);
-- a claim of many
select results_eq(
    $$select payload from queue_claim('q', 3)$$, $$values ('4'::jsonb), ('6'), ('8')$$,
    'a claim of many is as many as there are, in order'
);
select results_eq($$select payload from queue_claim('q', 10)$$, $$values ('10'::jsonb)$$, 'to the last');
select is_empty($$select * from queue_claim('q')$$, 'then there are none');
set tidegate.tick = 'on';
do $$
begin
    for v_tick in 1 .. 10 loop -- each takes back as many as it can in 50 ms
        perform t.clock_moves('1 second');
        perform tidegate.queue_claim('q');
    end loop;
end;
$$;
reset tidegate.tick;
select is_empty($$select * from queue_claim('q')$$, 'with the next ticks');
select results_eq(
    $$select payload, reason, state from dead_letter order by 1$$,
    $$select to_jsonb(n), 'cancelled', 'discarded' from unnest(array[1, 3, 5, 7, 9]) n$$, 'they are cancelled'
);
select is(t.total('q', 'expired') + t.total('q', 'dead_lettered'), 0::bigint, 'which is neither an expiry nor a death');
select is(t.total('q', 'cancelled'), 5::bigint, 'and counted as what it is');

-- with a group, a key and a follow-up, whose turn and place are handed on
select queue_create('g', '{"lease": "1 minute"}');
select queue_send('g', '1', p_run_id => 'r2', p_group_key => 'g', p_job_key => 'k');
select queue_send('g', '2', p_group_key => 'g');
select public.slip('r2');
select t.clock_moves('1 second');
select is_empty($$select * from queue_claim('g')$$, 'the first of the group is refused');
select t.clock_moves('1 second');
select results_eq($$select payload from queue_claim('g')$$, $$values ('2'::jsonb)$$, 'the next one has the turn');
select is((select outcome from queue_send('g', '3', p_job_key => 'k')), 'inserted', 'the key is free');

-- a relay
select topic_create('relayed');
select outbox_put('relayed', to_jsonb(n), p_run_id => case when n < 3 then 'r3' end) from generate_series(1, 3) n;
select public.slip('r3');
select t.clock_moves('1 second');
select results_eq($$select payload from outbox_claim('relayed')$$, $$values ('3'::jsonb)$$, 'a relay gets none');

-- a sweep to a queue, and to a handler
create table public.seen (payload jsonb);
create function public.see(p_payload jsonb) returns void
language sql set search_path = public, pg_temp
as $$ insert into seen values (p_payload) $$;
select topic_create('swept');
select outbox_route('swept', p_queue => 'q');
select outbox_put('swept', to_jsonb(n), p_run_id => case when n < 3 then 'r4' else 'fine' end) from generate_series(1, 3) n;
select public.slip('r4');
select t.clock_moves('1 second');
select results_eq(
    $$select claimed, dispatched from outbox_sweep()$$, $$values (1, 1)$$, 'a sweep delivers what is of others'
);
select is((select run_id from queue_peek('q')), 'fine', 'with its run');
select topic_create('handled');
select outbox_route('handled', p_handler => 'public.see');
select outbox_put('handled', to_jsonb(n), p_run_id => case when n < 3 then 'r5' end) from generate_series(1, 3) n;
select public.slip('r5');
select t.clock_moves('1 second');
select results_eq(
    $$select claimed, dispatched from outbox_sweep(p_topic => 'handled')$$, $$values (1, 1)$$, 'a handler gets what is of others'
);
select results_eq('select payload from public.seen', $$values ('3'::jsonb)$$, 'and nothing else');

-- a cancel after the sweep: delivered, then skipped
select queue_create('target');
select outbox_route('copied', p_queue => 'target') from topic_create('copied');
select outbox_put('copied', '1', p_run_id => 'r6');
select outbox_sweep(p_topic => 'copied');
select public.slip('r6');
select t.clock_moves('1 second');
select is_empty($$select * from queue_claim('target')$$, 'what was delivered already is skipped');

-- queue_work
delete from public.seen;
select queue_create('w');
select queue_send('w', to_jsonb(n), p_run_id => case when n % 2 = 1 then 'r7' end) from generate_series(1, 10) n;
select public.slip('r7');
select t.clock_moves('1 second');
select is((select acked from queue_work('w', 'public.see', 1)), 1, 'work goes on behind what is refused');
select is((select acked from queue_work('w', 'public.see')), 4, 'to the end');
select is((select array_agg(payload::int order by 1) from public.seen), '{2,4,6,8,10}', 'and calls no handler for it');

-- a claim that meets very many is short, and the next one goes on
select queue_create('m');
select queue_send_many('m', array(select to_jsonb(n) from generate_series(1, 250) n), p_run_id => 'r8');
select queue_send('m', '"behind"');
select public.slip('r8');
select t.clock_moves('1 second');
select is_empty($$select * from queue_claim('m')$$, 'a claim refuses 100 and leaves the rest');
select count(*) from queue_claim('m');
select results_eq($$select payload from queue_claim('m')$$, $$values ('"behind"'::jsonb)$$, 'so that none is overlooked');
select * from finish();
