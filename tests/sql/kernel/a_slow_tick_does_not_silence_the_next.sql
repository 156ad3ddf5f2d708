-- design 1.3: ticks keep a distance of ten times what the last one took, and that is bounded
select plan(3);
select t.clock_stands();
select queue_create('work');

-- given a tick that takes most of a second
create function public.dawdle() returns trigger language plpgsql as $$begin perform pg_sleep(0.7); return new; end;$$;
create trigger dawdle before insert on tidegate.ready for each row when (new.payload = '"slow"')
execute function public.dawdle();
select queue_send('work', '"slow"', p_run_at => clock_now() + interval '1 second');
select t.clock_moves('2 seconds');
select results_eq($$select payload from queue_claim('work')$$, $$values ('"slow"'::jsonb)$$, 'a slow tick moves its message');

-- then the next one comes soon
select is((select took from floor order by floor_id desc limit 1), '500 ms'::interval, 'it counts as half a second');
select queue_send('work', '"due"', p_run_at => clock_now() + interval '1 second');
select t.clock_stands(clock_now() + interval '5100 ms');
select results_eq($$select payload from queue_claim('work')$$, $$values ('"due"'::jsonb)$$, 'so the next comes after five');

select * from finish();
