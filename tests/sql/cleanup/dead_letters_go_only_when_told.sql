-- R54, R55, R106: capture stays until somebody deals with it, or an option says otherwise
select plan(8);
select t.clock_stands();
select queue_create('mail', '{"max_attempts": 1}');
select count(*) from queue_send_many('mail', array_fill('{}'::jsonb, array[3]));
select lease_id from queue_claim('mail', 10) limit 1 \gset
select queue_nack(:'lease_id', p_error => 'smtp 550');
select t.clock_moves('10 years');
-- without being told
select is((select c.dead_letters_removed + c.dead_letters_discarded from cleanup_sweep() c), 0, 'nobody''s dead letters go by themselves');
select is(t.places('mail'), 'dead=3', 'all are there');
-- when told, bounded
select is((select c.dead_letters_discarded from cleanup_sweep(2, p_discard_dead_after => '1 year') c), 2, 'at most p_limit');
select is((select row(c.dead_letters_discarded, c.has_more)::text from cleanup_sweep(2, p_discard_dead_after => '1 year') c), '(1,f)', 'the rest');
-- then they are discarded with a reason, counted, and removed after their retention
select is((select count(*) from dead_letter d where d.state = 'discarded' and d.notes::text like '%cleanup_sweep%'), 3::bigint, 'it says so');
select is(t.total('mail', 'discarded'), 3::bigint, 'and is counted');
select t.clock_moves('31 days');
select is((select c.dead_letters_removed from cleanup_sweep() c), 3, 'then they go');
select throws_like($$select cleanup_sweep(p_discard_dead_after => '-1 day')$$, '%p_discard_dead_after%', 'a bad option is named');
select * from finish();
