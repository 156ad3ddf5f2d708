-- R106, R107
select plan(14);
select t.clock_stands();
create function pg_temp.statement(p_job text) returns text language sql
as $$ select d.statement from maintenance_due() d where d.job = p_job $$;
-- when arguments and an interval are given
select maintenance_configure('cleanup', '1 minute', '{"p_dead_letter_retention": "1 year", "p_limit": 50}');
-- then the statement carries them, and runs
select matches(
    pg_temp.statement('cleanup'), 'cleanup_sweep\(p_dead_letter_retention => ''1 year'', p_limit => ''50''\)', 'arguments'
);
create function pg_temp.run(p_statement text) returns void language plpgsql as $$ begin execute p_statement; end $$;
select lives_ok($$select pg_temp.run(pg_temp.statement('cleanup'))$$, 'it runs');
select is((select d.every from maintenance_due() d where d.job = 'cleanup'), '1 minute'::interval, 'its interval');
select maintenance_start('cleanup');
select is(maintenance_finish('cleanup'), '1 minute'::interval, 'holds');
-- what is not said stays
select maintenance_configure('cleanup', p_arguments => '{"p_limit": 70}');
select is((select d.every from maintenance_due() d where d.job = 'cleanup'), '1 minute'::interval, 'an interval stays');
select matches(pg_temp.statement('cleanup'), 'cleanup_sweep\(p_limit => ''70''\)', 'arguments are replaced');
-- paused
select maintenance_configure('counters', p_paused => true);
select ok((select d.due_in is null from maintenance_due() d where d.job = 'counters'), 'a paused job is not due');
select ok(not maintenance_start('counters'), 'nobody gets it');
select maintenance_configure('counters', p_paused => false);
select ok(maintenance_start('counters'), 'until it goes on');
-- mistakes
select throws_like($$select maintenance_configure('nap')$$, '%''nap''%', 'an unknown job');
select throws_like($$select maintenance_configure('cleanup', '0')$$, '%p_every%', 'no interval');
select throws_like($$select maintenance_configure('cleanup', null, '{"p_limitt": 5}')$$, '%''p_limitt''%', 'no argument of it');
select throws_like($$select maintenance_configure('cleanup', null, '{"p_limit": "many"}')$$, '%p_limit: many%', 'no value of it');
select throws_like($$select maintenance_configure('cleanup', null, '[]')$$, '%[]%', 'no names');
select * from finish();
