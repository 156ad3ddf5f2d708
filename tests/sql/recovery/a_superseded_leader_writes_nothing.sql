-- R89. Of origin r: "leadership step-down", the part of the database; tests/py/test_maintain_leader.py has that of the driver.
select plan(12);
select t.clock_stands();
select queue_create('q'), queue_create('failures');
select barrier_open('b' || n, 1, 'q', p_failure_queue => 'failures') from generate_series(1, 3) n;
select epoch as first from leader_acquire('maintain', 'one') \gset
select t.clock_moves('3 hours');
select epoch as second from leader_acquire('maintain', 'two') \gset
create function pg_temp.standing() returns text language sql
as $$ select string_agg(state || look_count, ' ') || t.places('failures') || (select count(*) from recovery_mark) from barrier $$;
select throws_ok(format('select recovery_sweep(100, %s)', :first), 'TG090', null, 'who was superseded is refused');
select is(pg_temp.standing(), 'open0 open0 open00', 'and has written nothing');
-- superseded in the middle of a pass: after the first row
create function pg_temp.depose() returns trigger language plpgsql as
$$ begin update tidegate.leader set epoch = epoch + 1, holder = 'three'; return new; end $$;
create trigger depose after update on tidegate.barrier for each row when (new.name = 'b1') execute function pg_temp.depose();
select throws_ok(format('select recovery_sweep(100, %s)', :second), 'TG090', null, 'its next write is refused');
select is(pg_temp.standing(), 'open0 open0 open00', 'and the pass is undone');
drop trigger depose on tidegate.barrier;
-- one that leads, one that resigned, and nobody
select is((select failed from recovery_sweep(1, :second)), 1, 'who leads recovers');
select leader_resign('maintain', :second);
select throws_ok(format('select recovery_sweep(100, %s)', :second), 'TG090', null, 'who has resigned is refused');
select is((select failed from recovery_sweep(1)), 1, 'without an epoch row locks are enough');
select throws_ok($$select recovery_sweep(100, 99)$$, 'TG090', null, 'an epoch that never was is refused');
-- superseded in the last write of all: nothing is left to be refused but the commit
select epoch as third from leader_acquire('maintain', 'four') \gset
select is((select failed from recovery_sweep(100, :third)), 1, 'the last one of the three');
select barrier_open('last', 1, 'q', p_failure_queue => 'failures', p_expires_in => '1 minute');
select t.clock_moves('2 minutes');
select epoch as fourth from leader_acquire('maintain', 'five') \gset
drop function pg_temp.depose cascade;
create function pg_temp.depose() returns trigger language plpgsql as
$$ begin update tidegate.leader set epoch = epoch + 1, holder = 'six'; return new; end $$;
create trigger depose after update on tidegate.barrier for each row when (new.name = 'last') execute function pg_temp.depose();
select throws_ok(format('select recovery_sweep(100, %s)', :fourth), 'TG090', null, 'the pass of who was superseded is undone');
select is((select state from barrier where name = 'last'), 'open', 'whole');
drop trigger depose on tidegate.barrier;
-- and each row asks by itself, in its own writes
select throws_ok(
    format('select _barrier_recover(''last'', %s, %s)', (select epoch from barrier where name = 'last'), :third),
    'TG090', null, 'a row'
);
select * from finish();
