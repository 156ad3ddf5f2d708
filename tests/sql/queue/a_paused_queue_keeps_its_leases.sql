-- R48
select plan(5);
select queue_create('work');
select count(*) from queue_send_many('work', array['1', '2']::jsonb[]);
select lease_id from queue_claim('work') \gset

select queue_pause('work');
select is_empty($$select * from queue_claim('work')$$, 'nothing is handed out');
select lives_ok($$select queue_send('work', '3')$$, 'sends are taken');
select is((select a.acked from queue_ack(:'lease_id') as a), 1, 'what is out may be settled');
select queue_resume('work');
select is((select count(*) from queue_claim('work', 10)), 2::bigint, 'then it goes on');
select throws_ok($$select queue_pause('wrk')$$, 'TG020', null, 'an unknown queue is told');

select * from finish();
