select plan(6);
select queue_create('q');

select throws_ok($$select queue_send('q', '1', p_run_at => 'infinity')$$, 'TG010', null, 'never is no time');
select throws_ok(
    $$select queue_send('q', '1', p_run_at => now() + interval '101 years')$$, 'TG010', null, 'nor is the next century'
);
select lives_ok($$select queue_send('q', '1', p_run_at => '-infinity')$$, 'long ago is now');
select throws_ok($$select queue_send('q', '1', p_key_mode => 'bogus')$$, 'TG010', null, 'an unknown mode');
select throws_ok($$select queue_send('q', '1', p_key_mode => 'dedupe')$$, 'TG010', null, 'a mode without a key');
select throws_ok(
    $$select queue_configure('q', '{"backoff_base": "10 min"}')$$, 'TG010', null, 'a base above the cap'
);

select * from finish();
