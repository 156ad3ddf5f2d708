-- R28: sessions of several zones tick in turn; a lease that runs out meanwhile is nobody's outage
select plan(3);
select t.clock_stands();
select queue_create('work', '{"lease": "1 second", "max_attempts": 2, "backoff_base": "0"}');
select queue_send('work', '1');

set timezone = 'UTC';
select t.clock_moves('10 seconds');
select is((select attempt from queue_claim('work')), 1, 'the first delivery dies with its worker');
set timezone = 'Asia/Tokyo';
set datestyle = 'German';
select t.clock_moves('10 seconds');
select is((select attempt from queue_claim('work')), 2, 'it is charged');
set timezone = 'America/Lima';
select t.clock_moves('10 seconds');
select count(*) from queue_claim('work');
select results_eq(
    $$select reason, attempts::int from dead_letter$$, $$values ('expired', 2)$$, 'and so is the second: poison dies'
);

select * from finish();
