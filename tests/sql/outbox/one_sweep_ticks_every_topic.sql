-- R6: a plain SELECT outbox_sweep() must not take one call for each topic
select plan(2);
select t.clock_stands();
select queue_create('work');
select topic_create('orders.' || n) from generate_series(1, 12) as n;
select outbox_route('orders.*', 'work');
select outbox_put('orders.' || n, to_jsonb(n), p_run_at => clock_now() + interval '1 second')
from generate_series(1, 12) as n;
select t.clock_moves('2 seconds');
select is((select s.dispatched from outbox_sweep() as s), 12, 'one sweep finds what fell due in all of them');
select is(t.places('work'), 'ready=12', 'and delivers it');

select * from finish();
