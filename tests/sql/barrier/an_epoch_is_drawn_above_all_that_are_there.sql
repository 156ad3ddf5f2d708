-- In a logical copy sequences begin again: openings go on, above all epochs that are there.
select plan(5);
select t.clock_stands();
select count(barrier_open('b' || n, 1)) from generate_series(1, 50) n;
select max(epoch) as last from barrier_epoch \gset
select setval('barrier_epoch_seq', 1, false);
select is((select outcome from barrier_open('b20', 1)), 'opened', 'one that is there is opened anew');
select cmp_ok((select epoch from barrier where name = 'b20'), '>', :last::bigint, 'above all');
select setval('barrier_epoch_seq', 1, false);
select is((select outcome from barrier_open('new', 1)), 'opened', 'so is a new name');
select setval('barrier_epoch_seq', 1, false);
select is((select outcome from barrier_open('b3', 1)), 'opened', 'and one with a low epoch of its own');
select is((select count(*) from barrier where epoch > :last), 3::bigint, 'each with an epoch of its own');
select * from finish();
