-- R103: expired leases are taken back whatever barriers do; and the net below the floors, now and then
select plan(8);
select t.clock_stands();
select queue_create('q', '{"lease": "1 minute"}'), queue_create('p');
select queue_send('q', '1');
select count(*) from queue_claim('q');
select t.clock_moves('65 seconds');
select is((select leases_expired from recovery_sweep()), 0, 'a claim or a tick comes first');
select t.clock_moves('10 seconds');
-- given that a barrier cannot be recovered
select barrier_open('bad', 1, 'q', p_expires_in => '1 s', p_expire_queue => 'p');
select queue_drop('p');
select t.clock_moves('2 seconds');
select results_eq(
    'select s.leases_expired, s.kept, s.systemic from recovery_sweep() s', 'values (1, 1, false)', 'then it takes them back, whatever barriers do'
);
select is(t.places('q'), 'scheduled=1', 'the message comes back, charged');
select is((select leases_expired from recovery_sweep()), 0, 'once');
-- a lease that cannot be taken back holds up no barrier
select queue_send('q', '2');
select count(*) from queue_claim('q');
select barrier_open('good', 1, 'q', p_expires_in => '1 s');
create function pg_temp.refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
create trigger refuse before delete or update on tidegate.lease for each row execute function pg_temp.refuse();
select t.clock_moves('2 minutes');
select is((select (failed, errors <> '{}')::text from recovery_sweep()), '(1,t)', 'nor the other way round');
-- messages below a floor
select queue_send('q', '3');
update floor set floors = array_fill(nextval('position_seq'), array[10]);
select is((select stranded from recovery_sweep()), 0, 'it was looked at lately');
select t.clock_moves('5 minutes 1 second');
select cmp_ok((select stranded from recovery_sweep()), '>=', 1, 'every five minutes: it is put back');
select is((select stranded from recovery_sweep()), 0, 'once');
select * from finish();
