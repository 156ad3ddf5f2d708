select plan(14);
select t.clock_stands();
select queue_create(n, '{"lease": "1 minute"}') from unnest(array['a', 'b', 'c']) as n;
select count(*) from maintenance_tick();
select t.clock_moves('2 minutes');
select count(*) from maintenance_tick();
select t.clock_moves('2 minutes');
-- given idle channels
select is((select m.ticked from maintenance_tick() m), 0, 'what is idle is not ticked');
select is((select count(*) from floor), 3::bigint, 'and writes nothing');
-- given a delayed message, and a lease of somebody who died
select count(*) from queue_send('a', '1', p_run_at => clock_now() + '10 minutes');
select count(*) from queue_send('b', '1');
select count(*) from queue_claim('b');
select is((select m.ticked from maintenance_tick() m), 2, 'where positions were drawn, floors follow once a minute');
select t.clock_moves('30 seconds');
select is((select m.ticked from maintenance_tick() m), 0, 'nothing is due');
select t.clock_moves('60 seconds');
select count(*) from maintenance_tick();
select is(t.places('b'), 'scheduled=1', 'a lease that expired is taken back, without a claim');
select is(t.places('a'), 'scheduled=1', 'nothing comes early');
select t.clock_moves('9 minutes');
select count(*) from maintenance_tick();
select is(t.places('a'), 'ready=1', 'a delayed message becomes ready, without a claim');
-- bounded, whichever has waited longest first
select queue_send(q, '2', p_run_at => clock_now() + '1 minute') from unnest(array['a', 'b', 'c']) as q;
select t.clock_moves('30 minutes');
select is((select row(m.ticked, m.has_more)::text from maintenance_tick(2) m), '(2,t)', 'a bound');
select is((select row(m.ticked, m.has_more)::text from maintenance_tick(2) m), '(1,f)', 'the rest at the next call');
-- R95: one channel that cannot be ticked does not hold up the others
select queue_send(q, '3', p_run_at => clock_now() + '1 minute') from unnest(array['a', 'b', 'c']) as q;
create function pg_temp.breaks() returns trigger language plpgsql
as $$ begin raise 'this floor is broken'; end $$;
create trigger breaks before insert on tidegate.floor for each row
when (new.channel_id = 2) execute function pg_temp.breaks();
select t.clock_moves('30 minutes');
select is(
    (select row(m.ticked, m.failed, m.first_error)::text from maintenance_tick() m),
    '(2,1,"queue b: this floor is broken")', 'the others are ticked, and the error is told'
);
select is(t.places('a') || ' ' || t.places('c'), 'ready=3 ready=2', 'theirs are ready');
-- an error that a tick goes on from is told too
drop trigger breaks on tidegate.floor;
create trigger breaks before insert on tidegate.ready for each row when (new.channel_id = 2) execute function pg_temp.breaks();
select count(*) from maintenance_tick();
select t.clock_moves('10 minutes');
delete from incident;
select matches((select m.first_error from maintenance_tick() m), 'this floor is broken', 'what a tick noted is told');
select throws_ok($$select maintenance_tick(0)$$, 'TG010', null, 'a limit of none');
begin isolation level repeatable read;
select throws_ok($$select maintenance_tick()$$, 'TG030', null, 'ticks see what others committed');
rollback;
select * from finish();
